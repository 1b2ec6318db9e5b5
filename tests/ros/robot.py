"""The robot's side of the topics, in the hands of a test: joint_state_broadcaster and effort controller."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from ddpg_robot.spec import RobotSpec
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.processes import NodeProcess, ros_arguments, wait_until
from ddpg_robot_ros.transport import COMMAND_QOS, STATE_QOS

HOME = (0.0, -0.785398, 0.0, -2.356194, 0.0, 1.570796, 0.785398)
VELOCITY = (0.1, 0.2, -0.1, 0.05, 0.3, -0.2, 0.15)  # rad/s: a slow drift, so that damping is not zero
PUBLISH_PERIOD_S = 0.004
WAIT_S = 60.0
PATIENT = {"state_timeout_periods": 100.0, "stall_periods": 100.0}
"""Parameters of a policy node that bears with a busy test machine."""


def started(
    module: str,
    parameters: dict[str, Any],
    remaps: dict[str, str] | None = None,
    environment: dict[str, str] | None = None,
) -> NodeProcess:
    """A node of this package, or another module with dots in its name, in a process of its own."""
    name = module if "." in module else f"ddpg_robot_ros.{module}"
    return NodeProcess(module, ["-m", name, *ros_arguments(parameters, remaps)], environment)


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(one) for one in text.split()]


def alive(pid: int) -> bool:
    """True while a process has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


class RobotDouble(Operator):
    """Publishes joint states 250 times a second, each through `alter`, and keeps every effort command that arrives.

    Attributes:
        alter: changes a message before it is published; returns None to keep silent.
        commands: (monotonic time s, effort) of every command.
    """

    def __init__(self, robot: RobotSpec, namespace: str = "") -> None:
        super().__init__(robot, namespace)
        self.robot = robot
        self.alter: Callable[[JointState], JointState | None] = lambda message: message
        self.commands: list[tuple[float, np.ndarray]] = []
        self.damping = np.array([-joint.damping for joint in robot.joints]) * VELOCITY
        self._states = self.node.create_publisher(JointState, "joint_states", STATE_QOS)
        self.node.create_subscription(Float64MultiArray, "effort_controller/commands", self._on_command, COMMAND_QOS)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._publish, daemon=True)

    def __enter__(self) -> RobotDouble:
        super().__enter__()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.set()
        self._thread.join()
        super().__exit__(*exception)

    def healthy(self) -> JointState:
        """A good message."""
        message = JointState(name=list(self.robot.joint_names), position=list(HOME), velocity=list(VELOCITY))
        message.header.stamp = self.node.get_clock().now().to_msg()
        return message

    def efforts(self, seconds: float) -> np.ndarray:
        """The commands that arrive during the next `seconds`, ``(k, n)``."""
        begin = len(self.commands)
        time.sleep(seconds)
        return np.array([effort for _, effort in self.commands[begin:]])

    def last(self) -> np.ndarray:
        """The newest command ``(n,)``."""
        return self.commands[-1][1]

    def hears(self, condition: Callable[[np.ndarray], bool], timeout: float = WAIT_S) -> bool:
        """Waits until the newest command fulfils the condition."""
        return wait_until(lambda: bool(self.commands) and condition(self.last()), timeout, 0.005)

    def hears_damping(self, timeout: float = WAIT_S) -> bool:
        """Waits until damping torque arrives."""
        return self.hears(self.is_damping, timeout)

    def puts_in_control(self, target: tuple[float, float, float]) -> None:
        """Sends a target until the policy acts on it: a reader may not know a new writer yet."""

        def acts(effort: np.ndarray) -> bool:
            self.send_target(target)
            return effort.any() and not self.is_damping(effort)

        assert self.hears(acts)

    def is_damping(self, effort: np.ndarray) -> bool:
        """True for the damping torque that belongs to `VELOCITY`."""
        return np.allclose(effort, self.damping, atol=1e-9)

    def reports(self, text: str, suffix: str = "control loop", timeout: float = WAIT_S) -> bool:
        """Waits until the diagnostics say so."""

        def said() -> bool:
            status = self.status(suffix)
            return status is not None and text in status.message

        return wait_until(said, timeout)

    def commander(self) -> Publisher:
        """A publisher of effort commands to the guard, as a policy is one."""
        return self.node.create_publisher(Float64MultiArray, "policy/commands", COMMAND_QOS)

    def _publish(self) -> None:
        while not self._ending.wait(PUBLISH_PERIOD_S):
            message = self.alter(self.healthy())
            if message is not None:
                self._states.publish(message)

    def _on_command(self, message: Float64MultiArray) -> None:
        self.commands.append((time.monotonic(), np.array(message.data)))


def set_parameter(robot: Operator, node: str, name: str, value: object) -> str:
    """Sets a node's parameter; returns why it was refused, empty where it was not."""
    request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
    (result,) = robot.call(SetParameters, f"{node}/set_parameters", request).results
    return "" if result.successful else result.reason
