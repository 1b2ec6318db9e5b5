"""Gymnasium tasks by id alone, the whole way: train, export, plant, guard and policy node over real DDS."""

from __future__ import annotations

import math
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest

pytest.importorskip("mcap")

from geometry_msgs.msg import PointStamped
from nav_msgs.msg import Odometry
from ros.robot import WAIT_S, RobotDouble
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64MultiArray

from ddpg_robot.cli.evaluate import over_ros
from ddpg_robot.cli.sources import actor_of
from ddpg_robot.learn.config import TrainConfig
from ddpg_robot.learn.evaluate import evaluate
from ddpg_robot.learn.trainer import train
from ddpg_robot.policy import OnnxPolicy, read_manifest
from ddpg_robot.recording import Recording
from ddpg_robot.replay import replay
from ddpg_robot_export.exporter import export_run
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.inputs import StateInput
from ddpg_robot_ros.models import model_of
from ddpg_robot_ros.plant import Plant
from ddpg_robot_ros.processes import Deployment, wait_until
from ddpg_robot_ros.transport import COMMAND_QOS, STATE_QOS
from ddpg_robot_sim.gymnasium_robot import robot_of

pytestmark = pytest.mark.filterwarnings("ignore")  # Gymnasium's about its own models
TASKS = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Swimmer-v5", "Reacher-v5", "Pusher-v5", "Ant-v5", "Humanoid-v5")
OPTIONS = {
    "Ant-v5": {"include_cfrc_ext_in_observation": False},
    "Humanoid-v5": {
        f"include_{part}_in_observation": False for part in ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")
    },
}
PERIODS = 30


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Task -> policy file of a training of a few steps, in episodes of `PERIODS` steps."""
    folder, files = tmp_path_factory.mktemp("gymnasium"), {}
    for task in TASKS:
        settings = {"warmup_steps": 60, "batch_size": 32}
        kwargs = {"max_episode_steps": PERIODS, **OPTIONS.get(task, {})}
        config = TrainConfig(
            task=task,
            task_kwargs=kwargs,
            steps=200,
            out=folder / task,
            overrides=settings,
            eval_every=200,
            eval_episodes=1,
            final_eval_episodes=1,
        )
        run = train(config)
        files[task] = folder / f"{task}.onnx"
        export_run(run, files[task], samples=400, robot_of=robot_of)
    return files


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_over_ros_is_worth_what_it_is_in_process(policies: dict[str, Path], task: str) -> None:
    act, found, kwargs = actor_of(str(policies[task]), None, {"max_episode_steps": PERIODS})
    assert found == task
    assert OPTIONS.get(task, {}).items() <= kwargs.items()  # nobody need say them again
    here = evaluate(act, task, kwargs, episodes=2, seed=5)
    there = over_ros(policies[task], task, kwargs, here, 0.0)
    for one, other in zip(here["per_episode"], there["per_episode"]):
        assert 3 < other["length"] == one["length"] <= PERIODS
        assert other["seed"] == one["seed"]
        assert other["return"] == pytest.approx(one["return"], rel=2e-3, abs=1e-2)
    assert there["return_mean"] == pytest.approx(here["return_mean"], rel=2e-3, abs=1e-2)


@pytest.mark.parametrize("task", ["HalfCheetah-v5", "Pusher-v5", "Ant-v5"])
def test_a_deployed_robot_moves_under_torques_within_its_gears(
    policies: dict[str, Path], tmp_path: Path, task: str
) -> None:
    """In real time, by itself: the policy takes no command. Its recording replays bit for bit, with all that it saw."""
    manifest = read_manifest(policies[task])
    limits = np.array([joint.effort_limit for joint in manifest.robot.joints])
    efforts: list[np.ndarray] = []
    patient = {"state_timeout_periods": 100.0, "stall_periods": 100.0, "guard_timeout_periods": 100.0}
    deployment = Deployment(policies[task], policy_parameters=patient, record=tmp_path)
    with deployment, Operator(manifest.robot) as operator:
        operator.node.create_subscription(
            Float64MultiArray, "effort_controller/commands", lambda m: efforts.append(np.array(m.data)), COMMAND_QOS
        )
        assert wait_until(operator.watch, WAIT_S)
        assert operator.state.measured.shape == (2, len(manifest.robot.measured_joints))

        def moved() -> bool:
            deployment.check()
            operator.watch()
            away = np.abs(operator.state.measured[0]) > 0.02  # from the models' reference pose, in which it began
            return bool(len(efforts) > 20 and away.sum() >= 5)

        assert wait_until(moved, WAIT_S)
        assert not operator.trip()
    sent = np.abs(efforts)
    assert (sent <= limits).all()
    assert (sent.max(axis=0) > 0.01 * limits).any()
    (path,) = tmp_path.glob("*.mcap")
    with Recording(path) as recording:
        report = replay(OnnxPolicy.open(policies[task]), recording, 0.0)
    assert report.equal, report
    assert report.in_control > 20


def test_the_plant_exerts_gear_times_ctrl_and_moves_as_the_task_does(policies: dict[str, Path]) -> None:
    robot = read_manifest(policies["HalfCheetah-v5"]).robot
    plant = Plant(model_of(robot), passive_joints=robot.passive_joints)
    env = gymnasium.make("HalfCheetah-v5").unwrapped
    env.reset(seed=3)
    names = [env.model.joint(j).name for j in range(env.model.njnt)]
    plant.place(names, env.data.qpos, env.data.qvel)
    gear, rng = env.model.actuator_gear[:, 0], np.random.default_rng(3)
    for _ in range(20):
        action = rng.uniform(-1.0, 1.0, env.model.nu)
        plant.command(gear * action)
        plant.advance(env.dt)
        env.step(action)
        assert plant.applied == pytest.approx(gear * action)
    plant.measure()
    order = [plant.measured_joints.index(name) for name in names]
    assert plant.measured.measured[:, order] == pytest.approx(np.stack([env.data.qpos, env.data.qvel]), abs=1e-6)


def test_a_planar_walker_hangs_still_until_the_first_command() -> None:
    env = gymnasium.make("Walker2d-v5")
    robot = robot_of(env).interface.robot
    assert model_of(robot).stem == "walker2d_v5"  # not the walker of version 4, whose feet slip
    plant = Plant(model_of(robot), passive_joints=robot.passive_joints)
    before = plant.position.copy()
    plant.advance(2.0)
    plant.measure()
    assert plant.time == pytest.approx(2.0)
    assert (plant.position == before).all()
    assert not plant.measured.measured[1].any()
    plant.command(np.zeros(6))
    plant.advance(2.0)
    assert np.abs(plant.position - before).max() > 0.1


def test_a_camera_that_goes_silent_or_blind_stops_the_pusher(policies: dict[str, Path], start) -> None:
    robot = read_manifest(policies["Pusher-v5"]).robot
    place, frame = [0.45, -0.05, -0.275], "base"

    def look() -> None:
        message = PointStamped()
        message.header.frame_id, message.header.stamp = frame, double.node.get_clock().now().to_msg()
        message.point.x, message.point.y, message.point.z = place
        if not silent:
            objects.publish(message)

    with RobotDouble(robot) as double:
        objects, silent = double.node.create_publisher(PointStamped, "object", STATE_QOS), True
        double.node.create_timer(0.02, look)
        start("policy_node", policy=str(policies["Pusher-v5"]), autostart=True, state_timeout_periods=20.0)
        time.sleep(3.0)
        assert not double.commands  # nobody has said where the object is: it does not start
        silent = False
        assert double.hears(lambda effort: effort.any() and not double.is_damping(effort))
        for broken, words in (
            (lambda: place.__setitem__(1, math.nan), "object position is [0.45, nan, -0.275]"),
            (lambda: None, "old, limit 1000.0 ms"),
        ):
            broken()
            silent = words.startswith("old")
            assert double.reports(words)
            assert double.hears_damping()  # how fast the joints are is known all the same
            place[1], silent = -0.05, False
            assert wait_until(lambda: double.trigger("policy_node/rearm").success, WAIT_S)
        frame = "camera"
        assert double.reports("object frame: found 'camera', expected 'base'")


def test_a_state_is_as_old_as_its_odometry(policies: dict[str, Path]) -> None:
    robot = read_manifest(policies["Ant-v5"]).robot
    with Operator(robot) as operator:
        node, state = operator.node, StateInput(operator.node, robot, "refuse", "stamp")
        joints, imus, odometries = (
            node.create_publisher(kind, topic, STATE_QOS)
            for kind, topic in ((JointState, "joint_states"), (Imu, "imu"), (Odometry, "odom"))
        )

        def heard(odometry: bool) -> bool:
            now, still = node.get_clock().now().to_msg(), [0.0] * robot.n_joints
            messages = [JointState(name=robot.joint_names, position=still, velocity=still), Imu(), Odometry()]
            messages[1].orientation.w = messages[2].pose.pose.orientation.w = 1.0
            messages[2].pose.pose.position.z = 0.75
            for message, publisher in zip(messages, (joints, imus, odometries)):
                message.header.stamp = now
                if odometry or publisher is not odometries:
                    publisher.publish(message)
            state.take()
            return state.age() < math.inf

        assert not wait_until(lambda: heard(odometry=False), 2.0)
        assert "/odom (1 publishers)" in state.describe()
        assert wait_until(lambda: heard(odometry=True), WAIT_S)
        assert state.state.base_position[2] == 0.75
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            heard(odometry=False)
        assert state.age() > 0.9
        assert state.state.motion_age[0] < 0.5
        state.destroy()
