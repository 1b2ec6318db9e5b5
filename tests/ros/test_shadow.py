"""A policy in shadow: it sees the robot and says what it would do, and there is nothing through which it could do it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rclpy.node import Node
from ros.robot import PATIENT, WAIT_S, RobotDouble
from std_msgs.msg import Float64MultiArray

from ddpg_robot.policy import OnnxPolicy
from ddpg_robot.recording import Recording
from ddpg_robot.replay import replay
from ddpg_robot_ros.processes import Deployment, wait_until
from ddpg_robot_ros.transport import COMMAND_QOS, EFFORT_TOPIC, GUARDED_TOPIC

TARGET = (0.5, 0.2, 0.4)
SHADOW = "policy_node/shadow_effort"


def heard_on(robot: RobotDouble, topic: str) -> list[np.ndarray]:
    """What arrives on a topic from now on."""
    found: list[np.ndarray] = []
    robot.node.create_subscription(Float64MultiArray, topic, lambda m: found.append(np.array(m.data)), COMMAND_QOS)
    return found


def effort_publishers(node: Node) -> list[str]:
    """Who publishes where on every topic of the graph that carries efforts, but for the shadow's own."""
    return [
        f"{one.node_name} on {topic}"
        for topic, types in node.get_topic_names_and_types()
        if "std_msgs/msg/Float64MultiArray" in types and not topic.endswith(SHADOW)
        for one in node.get_publishers_info_by_topic(topic)
    ]


def test_a_policy_in_shadow_publishes_on_its_own_topic_and_no_publisher_of_commands_exists(
    spring: Path, robot: RobotDouble, tmp_path: Path
) -> None:
    heard = heard_on(robot, SHADOW)
    guarded = heard_on(robot, GUARDED_TOPIC)
    pytest.importorskip("mcap")
    with Deployment(spring, plant=False, shadow=True, record=tmp_path, policy_parameters=PATIENT) as deployment:
        assert list(deployment.nodes) == ["policy_node"]

        def acts() -> bool:
            robot.send_target(TARGET)
            return bool(heard) and heard[-1].any() and not robot.is_damping(heard[-1])

        assert wait_until(acts, WAIT_S)
        assert robot.node.count_publishers(SHADOW) == 1  # discovery has come so far
        assert robot.node.count_publishers(EFFORT_TOPIC) == 0
        assert robot.node.count_publishers(GUARDED_TOPIC) == 0
        assert effort_publishers(robot.node) == []
        assert robot.trigger("policy_node/estop").success  # not even to damp
        assert wait_until(lambda: robot.is_damping(heard[-1]), WAIT_S)
        assert effort_publishers(robot.node) == []
    assert robot.commands == guarded == []
    (path,) = tmp_path.glob("*.mcap")
    with Recording(path) as recording:
        assert recording.session.shadow
        assert replay(OnnxPolicy.open(spring), recording, 0.0).equal


def test_the_same_check_sees_a_publisher_when_the_policy_is_not_in_shadow(spring: Path, robot: RobotDouble) -> None:
    with Deployment(spring, plant=False, policy_parameters=PATIENT):
        wanted = {f"policy_node on /{GUARDED_TOPIC}", f"effort_guard on /{EFFORT_TOPIC}"}
        assert wait_until(lambda: wanted <= set(effort_publishers(robot.node)), WAIT_S)


def test_shadow_and_guard_contradict_each_other(spring: Path, robot: RobotDouble, start) -> None:
    node = start("policy_node", policy=str(spring), autostart=True, shadow=True, guarded=True)
    assert wait_until(lambda: node.exit_status is not None, WAIT_S)
    assert node.exit_status == 2
    assert not robot.commands


def test_deploy_in_shadow_starts_no_guard(spring: Path, robot: RobotDouble) -> None:
    heard = heard_on(robot, SHADOW)
    command = [sys.executable, "-m", "ddpg_robot.cli", "deploy", str(spring), "--no-plant", "--shadow"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: bool(heard), WAIT_S)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 1
        assert effort_publishers(robot.node) == []
    finally:
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(WAIT_S) == 0
