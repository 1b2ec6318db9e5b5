"""The plant: a robot behind topics, in real time."""

from __future__ import annotations

import dataclasses
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import mujoco
import numpy as np
import pytest
from ros.robot import HOME, WAIT_S
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64MultiArray

from ddpg_robot.errors import ConfigError, JointMappingError
from ddpg_robot.spec import PolicyManifest
from ddpg_robot.state import RobotState
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.convert import ImuReader
from ddpg_robot_ros.models import find_model, model_of
from ddpg_robot_ros.plant import Plant, read_draw
from ddpg_robot_ros.processes import wait_until
from ddpg_robot_ros.transport import COMMAND_QOS, STATE_QOS

SHUFFLED = ["joint4", "joint2", "joint7", "joint1", "joint3", "joint6", "joint5"]
PUSH = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0]  # N·m on the last joint


@pytest.fixture
def watcher(manifest: PolicyManifest) -> Iterator[Operator]:
    with Operator(manifest.robot) as operator:
        yield operator


def test_the_arm_stands_where_it_is_when_gravity_is_compensated() -> None:
    plant = Plant(find_model("arm_reach"))
    plant.advance(1.0)
    assert np.abs(plant.position - HOME).max() < 1e-3


def test_the_arm_sinks_slowly_under_hold_damping_without_gravity_compensation() -> None:
    plant = Plant(find_model("arm_reach"), gravity_compensation=False)
    plant.advance(0.5)
    assert np.abs(plant.position - HOME).max() > 0.05
    assert np.abs(plant.velocity).max() < 3.0


def test_effort_is_clamped_and_reported_as_applied() -> None:
    plant = Plant(find_model("arm_reach"))
    plant.command(np.array([1e3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    plant.advance(plant.timestep)
    assert plant.applied[0] == 87.0


def test_a_moving_arm_comes_to_rest_when_commands_stop() -> None:
    plant = Plant(find_model("arm_reach"))
    plant.command(np.array([20.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    plant.advance(0.2)
    assert np.abs(plant.velocity).max() > 0.2
    plant.command(None)
    plant.advance(1.0)
    assert np.abs(plant.velocity).max() < 0.02


def test_a_quadruped_stands_by_itself_until_the_first_command_and_falls_when_nobody_holds_it() -> None:
    plant = Plant(find_model("quadruped_walk"))
    plant.advance(2.0)
    assert plant.base.pose[2] > 0.25
    assert plant.specific_force == pytest.approx([0.0, 0.0, 9.81], abs=0.3)
    plant.command(np.zeros(12))
    plant.command(None)
    plant.advance(2.0)
    assert plant.base.pose[2] < 0.15
    plant.place([], [])
    plant.advance(2.0)
    assert plant.base.pose[2] > 0.25


def test_the_imu_of_the_plant_tells_what_that_of_the_model_does() -> None:
    plant = Plant(find_model("quadruped_walk"))
    rng = np.random.default_rng(0)
    for _ in range(20):
        plant.command(rng.uniform(-10, 10, 12))
        plant.advance(0.1)
        mujoco.mj_forward(plant._model, plant._data)  # sensors of this very state, not of the step before
        plant.measure()
        imu = plant.measured
        assert imu.angular_velocity == pytest.approx(plant._data.sensor("angular_velocity").data, abs=1e-9)
        assert abs(imu.orientation_wxyz @ plant._data.sensor("orientation").data) == pytest.approx(1.0, abs=1e-9)


def test_velocity_of_the_base_is_told_in_the_frame_of_its_heading() -> None:
    plant = Plant(find_model("quadruped_walk"))
    plant._data.qpos[3:7] = (np.cos(np.pi / 4), 0.0, 0.0, np.sin(np.pi / 4))  # it looks to the world's y
    plant._data.qvel[:3] = (0.0, 1.0, 0.5)
    assert plant.base.heading_velocity == pytest.approx([1.0, 0.0, 0.5])


def test_a_robot_without_a_shipped_model_is_refused_with_what_to_do(manifest: PolicyManifest) -> None:
    assert model_of(manifest.robot).stem == "arm_reach"
    joints = tuple(dataclasses.replace(joint, name=f"other_{joint.name}") for joint in manifest.robot.joints)
    with pytest.raises(ConfigError, match="parameter model"):
        model_of(dataclasses.replace(manifest.robot, joints=joints, chain=None))


def test_a_pose_with_an_unknown_joint_is_refused() -> None:
    with pytest.raises(JointMappingError, match="elbow"):
        Plant(find_model("arm_reach")).place(["elbow"], [0.1])


def test_an_unknown_model_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="arm_reach"):
        find_model("no_such_model")


def drawn(**values: object) -> dict:
    """A draw in which these fields are known and nothing else differs from the model."""
    draw = pytest.importorskip("ddpg_robot_sim.draw")
    ranges = pytest.importorskip("ddpg_robot_sim.randomization").Randomization()
    same = draw.draw(ranges, np.random.default_rng(0), links=7, joints=7)
    return dataclasses.asdict(dataclasses.replace(same, **values))


def test_a_plant_with_a_draw_is_the_robot_that_the_task_had() -> None:
    gymnasium = pytest.importorskip("gymnasium")
    tasks = pytest.importorskip("ddpg_robot_sim").TASKS
    env = gymnasium.make(tasks["arm_reach"], randomization="strong").unwrapped
    _, info = env.reset(seed=3, options={"joint_position": HOME})
    plant = Plant(find_model("arm_reach"), draw=info["randomization"])
    plant.measure()
    assert plant.measured.position.tolist() == env.state.position.tolist()
    assert plant.measured.position.tolist() != plant.position.tolist()
    effort = np.array([3.0, -3.0, 3.0, -3.0, 1.0, -1.0, 1.0])
    for _ in range(40):
        env._hardware.command(effort)
        env._hardware.advance(2)
        env._hardware.measure(env.state)
        plant.command(effort)
        plant.advance(0.004)
        plant.measure()
        assert plant.position.tolist() == env.data.qpos.tolist()
        assert plant.measured.motion.tolist() == env.state.motion.tolist()


def test_a_drawn_plant_holds_by_damping_at_once_and_obeys_again() -> None:
    plant = Plant(find_model("arm_reach"), draw=drawn(effort_delay_ms=10.0))
    plant.command(np.array([20.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    plant.advance(0.2)
    assert plant.velocity[0] > 0.2
    plant.command(None)
    plant.advance(plant.timestep)
    assert plant.applied[0] < -3.0
    plant.advance(1.0)
    assert np.abs(plant.velocity).max() < 0.02
    plant.command(np.full(7, 2.0))
    plant.advance(0.010)
    assert plant.applied[0] < 1.0
    plant.advance(plant.timestep)
    assert plant.applied[0] == 2.0


def test_a_lost_measurement_is_no_measurement() -> None:
    plant = Plant(find_model("arm_reach"), draw=drawn(state_dropout=0.5))
    ages = []
    for _ in range(500):
        plant.advance(plant.timestep)
        ages.append(plant.measure())
    assert 150 < ages.count(None) < 350
    assert set(ages) == {None, 0.0}


@pytest.mark.parametrize("text", ["no_such_file.json", "{", "[1, 2]", '{"seed": 1}'])
def test_a_draw_that_is_none_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"[Dd]raw: found") as caught:
        Plant(find_model("arm_reach"), draw=read_draw(text))
    assert "\n" not in str(caught.value)


def test_joint_states_are_what_the_sensors_of_a_draw_say(start, watcher: Operator, tmp_path: Path) -> None:
    file = tmp_path / "draw.json"
    file.write_text(json.dumps(drawn(position_bias=(0.1, 0.0, 0.0, 0.0, 0.0, 0.0, -0.1), state_delay_ms=8.0)))
    start("plant_node", draw=str(file))
    assert wait_until(watcher.watch, WAIT_S)
    expected = np.add(HOME, [0.1, 0.0, 0.0, 0.0, 0.0, 0.0, -0.1])
    assert watcher.state.position == pytest.approx(expected, abs=1e-3)
    assert time.time() - watcher.state.stamp > 0.008  # stamped when it was measured, not when it was sent


def test_joint_states_come_in_real_time_in_the_order_that_was_asked_for(start, watcher: Operator) -> None:
    seen: list[JointState] = []
    watcher.node.create_subscription(JointState, "joint_states", seen.append, STATE_QOS)
    start("plant_node", joint_order=SHUFFLED)
    assert wait_until(lambda: len(seen) > 10, WAIT_S)

    def rate() -> float:
        begin, count = time.monotonic(), len(seen)
        time.sleep(1.0)
        return (len(seen) - count) / (time.monotonic() - begin)

    assert wait_until(lambda: 250 < rate() < 550, WAIT_S)  # 500 on a free machine
    assert seen[-1].name == SHUFFLED
    home = dict(zip(SHUFFLED, seen[-1].position))
    assert [home[f"joint{i + 1}"] for i in range(7)] == pytest.approx(HOME, abs=1e-3)
    age = time.time() - (seen[-1].header.stamp.sec + seen[-1].header.stamp.nanosec * 1e-9)
    assert 0 <= age < 1.0


def test_the_imu_of_a_quadruped_comes_with_its_joint_states(start, watcher: Operator) -> None:
    seen: list[Imu] = []
    joints: list[JointState] = []
    watcher.node.create_subscription(Imu, "imu", seen.append, STATE_QOS)
    watcher.node.create_subscription(JointState, "joint_states", joints.append, STATE_QOS)
    start("plant_node", model="quadruped_walk")

    def stamps(messages: list) -> set[tuple[int, int]]:
        return {(message.header.stamp.sec, message.header.stamp.nanosec) for message in list(messages)}

    assert wait_until(lambda: len(stamps(seen) & stamps(joints)) > 10, WAIT_S)  # one of each at every step

    def at_rest() -> bool:  # for 0.2 s: a robot that bounces turns back without turning, for a moment
        turning = [getattr(message.angular_velocity, axis) for message in seen[-100:] for axis in "xyz"]
        return len(turning) == 300 and np.abs(turning).max() < 0.01

    assert wait_until(at_rest, WAIT_S)
    state, message = RobotState(12, floating_base=True), seen[-1]
    ImuReader().fill(message, state)
    assert np.abs(state.angular_velocity).max() < 0.01
    assert state.orientation_wxyz == pytest.approx([1.0, 0.0, 0.0, 0.0], abs=0.02)
    assert message.linear_acceleration.z == pytest.approx(9.81, abs=0.3)


def test_commands_move_the_joint_they_mean_and_stop_when_they_stop(start, watcher: Operator) -> None:
    start("plant_node", joint_order=SHUFFLED)
    commands = watcher.node.create_publisher(Float64MultiArray, "effort_controller/commands", COMMAND_QOS)
    assert wait_until(lambda: commands.get_subscription_count() > 0 and watcher.watch(), WAIT_S)

    def pushed() -> bool:
        commands.publish(Float64MultiArray(data=PUSH))
        return watcher.watch() and watcher.state.position[6] > HOME[6] + 0.2

    assert wait_until(pushed, WAIT_S, period=0.005)
    assert np.abs(watcher.state.position[:6] - HOME[:6]).max() < 0.05
    for bad in ([1.0], [float("nan")] * 7):
        commands.publish(Float64MultiArray(data=bad))
    assert wait_until(lambda: watcher.watch() and np.abs(watcher.state.velocity).max() < 0.01, WAIT_S)


def test_a_pose_can_be_set(start, watcher: Operator) -> None:
    start("plant_node")
    assert wait_until(watcher.watch, WAIT_S)

    def placed() -> bool:
        watcher.place(["joint1"], [0.4])
        return watcher.watch() and abs(watcher.state.position[0] - 0.4) < 0.01

    assert wait_until(placed, WAIT_S, period=0.05)


def test_the_clock_is_simulated_time_when_asked_for(start, watcher: Operator) -> None:
    clocks: list[Clock] = []
    watcher.node.create_subscription(Clock, "/clock", clocks.append, COMMAND_QOS)
    start("plant_node", publish_clock=True)
    assert wait_until(lambda: len(clocks) > 10 and watcher.watch(), WAIT_S)
    assert clocks[0].clock.sec < 60
    assert watcher.state.stamp < 60


def test_the_plant_ends_on_sigterm(start, watcher: Operator) -> None:
    plant = start("plant_node")
    assert wait_until(watcher.watch, WAIT_S)
    plant.send(signal.SIGTERM)
    assert wait_until(lambda: plant.exit_status == 0, WAIT_S)
