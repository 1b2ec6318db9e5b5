"""Plant, guard and policy node together, as `deploy` starts them: it reaches, and it survives what dies."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros.robot import HOME, WAIT_S, alive, children
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from ddpg_robot.errors import ConfigError, PolicyFileError, RateError
from ddpg_robot.kinematics import ChainKinematics
from ddpg_robot.spec import PolicyManifest
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.deploy import deploy
from ddpg_robot_ros.processes import Deployment, wait_until
from ddpg_robot_ros.transport import EFFORT_TOPIC
from ddpg_robot_ros.trial import Reacher, run_trial
from ddpg_robot_sim.draw import draw
from ddpg_robot_sim.randomization import Randomization

SHUFFLED = ["joint4", "joint2", "joint7", "joint1", "joint3", "joint6", "joint5"]
PATIENCE = ("state_timeout_periods", "stall_periods", "guard_timeout_periods")
PATIENT = {"policy_parameters": dict.fromkeys(PATIENCE, 100.0)}
TARGET, MIRRORED = np.array([0.5, 0.2, 0.4]), np.array([0.5, -0.2, 0.4])


@pytest.fixture
def operator(manifest: PolicyManifest) -> Iterator[Operator]:
    with Operator(manifest.robot) as one:
        yield one


def active(deployment: Deployment, operator: Operator) -> bool:
    def up() -> bool:
        deployment.check()
        return operator.active() and operator.ready()

    return wait_until(up, WAIT_S)


def lead(operator: Operator, target: np.ndarray) -> None:
    """Sends a target, to be called again and again: a reader may not know a new writer yet, a busy machine may trip."""
    operator.send_target(target)
    status = operator.status(f"{operator.node.get_namespace()}/policy_node: control loop".lstrip("/"))
    if status is not None and status.message.startswith("tripped"):
        operator.trigger("policy_node/rearm")


def reaches(operator: Operator, manifest: PolicyManifest, target: np.ndarray) -> bool:
    kinematics = ChainKinematics(manifest.robot.chain)

    def near() -> bool:
        lead(operator, target)
        if not operator.watch():
            return False
        kinematics.update(operator.state.position)
        return bool(np.linalg.norm(kinematics.tip - target) < 0.03)

    return wait_until(near, WAIT_S)


def test_two_arms_reach_each_in_its_namespace_with_the_joints_of_one_published_in_another_order(
    spring: Path, manifest: PolicyManifest
) -> None:
    plant = {"joint_order": SHUFFLED}
    with (
        Deployment(spring, namespace="left", plant_parameters=plant, **PATIENT) as left,
        Deployment(spring, namespace="right", **PATIENT) as right,
        Operator(manifest.robot, namespace="left") as of_left,
        Operator(manifest.robot, namespace="right") as of_right,
    ):
        assert active(left, of_left)
        assert active(right, of_right)
        assert reaches(of_left, manifest, TARGET)
        assert reaches(of_right, manifest, MIRRORED)
        assert reaches(of_left, manifest, TARGET)  # what one was told is nothing to the other
        topics = {name for name, _ in of_left.node.get_topic_names_and_types()}
        assert {"/left/joint_states", "/right/target", "/left/policy/commands"} <= topics
        assert "/joint_states" not in topics
        assert wait_until(
            lambda: {*of_left.diagnostics} >= {f"{one}/policy_node: control loop" for one in ("left", "right")}, WAIT_S
        )
        left.check()
        right.check()


def test_a_target_can_be_sent_without_a_ros_installation(spring: Path, manifest: PolicyManifest) -> None:
    with Deployment(spring, **PATIENT) as deployment, Operator(manifest.robot) as operator:
        assert active(deployment, operator)
        send = [sys.executable, "-m", "ddpg_robot_ros.send_target"]
        subprocess.run([*send, "0.5", "0.2", "0.4"], check=True, timeout=WAIT_S)
        assert wait_until(lambda: operator.status("control loop").message == "running", WAIT_S)
        assert subprocess.run([*send, "0.5", "up"], stderr=subprocess.DEVNULL, timeout=WAIT_S).returncode == 2


def test_simulated_time_drives_ages_when_all_nodes_use_it(spring: Path, manifest: PolicyManifest) -> None:
    simulated = {"use_sim_time": True}
    with (
        Deployment(
            spring,
            policy_parameters={**simulated, **PATIENT["policy_parameters"]},
            guard_parameters=simulated,
            plant_parameters={"publish_clock": True},
        ) as deployment,
        Operator(manifest.robot) as operator,
    ):
        assert active(deployment, operator)
        assert reaches(operator, manifest, TARGET)


def test_when_the_policy_process_is_killed_the_guard_damps_and_the_arm_comes_to_rest(
    spring: Path, manifest: PolicyManifest, operator: Operator
) -> None:
    commands: list[tuple[float, np.ndarray]] = []
    velocities: list[list[float]] = []
    states = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)

    def keep(message: Float64MultiArray, info: dict) -> None:
        commands.append((info["source_timestamp"] * 1e-9, np.array(message.data)))  # when it was published

    operator.node.create_subscription(Float64MultiArray, EFFORT_TOPIC, keep, 1000)
    operator.node.create_subscription(JointState, "joint_states", lambda m: velocities.append(list(m.velocity)), states)
    with Deployment(spring, **PATIENT) as deployment:
        assert active(deployment, operator)

        def moving() -> bool:
            lead(operator, TARGET if time.monotonic() % 2 < 1 else MIRRORED)
            return bool(commands and velocities) and np.abs(velocities[-1]).max() > 0.2

        assert wait_until(moving, WAIT_S)
        deployment.nodes["policy_node"].send(signal.SIGKILL)
        killed = time.time()
        time.sleep(1.0)
        assert wait_until(lambda: np.abs(velocities[-1]).max() < 0.02, WAIT_S)

    def damped() -> bool:
        """Whether the guard damped: from a published joint state, so the products are equal to the last bit."""
        damping = -np.array([joint.damping for joint in manifest.robot.joints]) * np.array(velocities)
        return any((effort == damping).all(axis=1).any() for when, effort in list(commands) if when > killed)

    assert wait_until(damped, WAIT_S)  # how soon: tests/faults


def test_ctrl_c_on_deploy_ends_every_process_in_order(spring: Path) -> None:
    program = f"import sys; from ddpg_robot_ros.deploy import deploy; sys.exit(deploy({str(spring)!r}))"
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    assert wait_until(lambda: len(children(process.pid)) == 3, WAIT_S)
    family = children(process.pid)
    time.sleep(2.0)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, text
    assert not any(alive(pid) for pid in family)


def test_a_guard_that_dies_is_started_again(spring: Path) -> None:
    program = f"import sys; from ddpg_robot_ros.deploy import deploy; sys.exit(deploy({str(spring)!r}))"
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    assert wait_until(lambda: len(children(process.pid)) == 3, WAIT_S)
    guard = children(process.pid)[1]
    os.kill(guard, signal.SIGKILL)
    assert wait_until(lambda: guard not in children(process.pid) and len(children(process.pid)) == 3, WAIT_S)
    process.send_signal(signal.SIGTERM)
    _, text = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    assert "effort_guard ended by itself" in text


def test_no_process_outlives_a_deploy_that_is_killed(spring: Path) -> None:
    program = f"import sys; from ddpg_robot_ros.deploy import deploy; sys.exit(deploy({str(spring)!r}))"
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    assert wait_until(lambda: len(children(process.pid)) == 3, WAIT_S)
    family = children(process.pid)
    process.kill()
    process.wait()
    assert wait_until(lambda: not any(alive(pid) for pid in family), WAIT_S)


def test_deploy_refuses_before_it_starts_anything(spring: Path, tmp_path: Path) -> None:
    with pytest.raises(RateError, match="a whole multiple of the policy's 125 Hz"):
        deploy(spring, rate=333.0)
    with pytest.raises(PolicyFileError):
        deploy(tmp_path / "missing.onnx")


def test_a_trial_measures_what_evaluation_measures(spring: Path, tmp_path: Path) -> None:
    starts = np.array([[0.2, -0.7, 0.0, -2.2, 0.0, 1.5, 0.8], [-0.2, -0.7, 0.0, -2.2, 0.0, 1.5, 0.8]])
    finished: list[int] = []
    targets = np.array([TARGET, [0.6, -0.2, 0.3]])
    out = tmp_path / "trial.json"
    result = run_trial(spring, targets, 3.0, out, starts, progress=lambda done, total: finished.append(done), **PATIENT)
    assert result["episodes"] == 2
    assert finished == [1, 2]
    assert result["within_5cm_rate"] == 1.0
    assert result["final_error_median_m"] < 0.03
    assert result["limit_hit_rate"] == 0.0
    assert out.stat().st_size > 1000
    for row, start in zip(result["per_episode"], starts):
        assert np.abs(np.array(row["start"]) - start).max() < 0.1
        assert len(row["time"]) == len(row["position"]) > 50  # 150 on a free machine
    assert result["timing"]["work"]["p50"] > 0
    assert len(result["samples"]["lateness"]) > 500


def test_a_noisy_encoder_does_not_change_what_an_arm_is_judged_to_have_done(
    start, operator: Operator, manifest: PolicyManifest
) -> None:
    ranges = Randomization(position_noise=(0.02, 0.02), state_delay_ms=(8.0, 8.0), state_dropout=(0.5, 0.5))
    noisy = dataclasses.asdict(draw(ranges, np.random.default_rng(0), links=7, joints=7))
    start("plant_node", draw=json.dumps(noisy))  # nobody commands it: it stands
    assert wait_until(operator.watch, WAIT_S)
    kinematics = ChainKinematics(manifest.robot.chain)
    kinematics.update(np.array(HOME))
    target, heard, reacher = kinematics.tip.copy(), [], Reacher(operator, manifest)
    row = reacher.reach(target, 1.0)
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        if operator.watch():
            kinematics.update(operator.state.position)
            heard.append(np.linalg.norm(kinematics.tip - target))
    assert max(heard) > 0.02  # its sensors say that the hand is elsewhere
    assert row["success"]
    assert max(row["distance"]) < 0.001
    assert len(row["time"]) > 10


def test_targets_of_the_wrong_shape_are_refused(spring: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected an array \(m, 3\)"):
        run_trial(spring, np.zeros((3, 2)))
