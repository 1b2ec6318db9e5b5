"""Who guards the guard: the policy node hears whether its effort is passed on, and speaks itself when it is not."""

from __future__ import annotations

import math
import time

from rclpy.node import Node
from std_msgs.msg import Float64MultiArray

from ddpg_robot.state import Array
from ddpg_robot_ros.effort_command import EffortPublisher
from ddpg_robot_ros.transport import EFFORT_READER_QOS, EFFORT_TOPIC, Newest


class GuardWatch:
    """Watches the topic that the guard commands the robot on.

    A guard that died cannot damp the robot, and its forward controller holds the last command for ever. The publisher that
    would take over is there from the beginning: it needs no discovery when it is wanted.

    Args:
        node: owner.
        n_joints: of the robot.
        timeout: silence of the guard after which it counts as dead, s.
    """

    def __init__(self, node: Node, n_joints: int, timeout: float) -> None:
        self._node = node
        self._timeout = timeout
        self._heard = Newest(node, Float64MultiArray, EFFORT_TOPIC, EFFORT_READER_QOS, raw=True)
        self._effort = EffortPublisher(node, EFFORT_TOPIC, n_joints)
        self.reset()

    def reset(self) -> None:
        """Trusts the guard again; the watch begins with the first effort that it passes on."""
        self._heard.take()
        self._heard_at = math.inf
        self.lost = False

    def check(self) -> str:
        """Looks, once per tick, whether the guard still passes effort on. Why it counts as dead; empty while it does not."""
        if self.lost:
            return ""
        now = time.monotonic()
        if self._heard.take() is not None:
            self._heard_at = now
        silence = now - self._heard_at
        if silence <= self._timeout:
            return ""
        self.lost = True
        return f"effort guard silent for {silence * 1e3:.0f} ms, limit {self._timeout * 1e3:.0f} ms"

    def publish(self, effort: Array) -> None:
        """Commands the robot in the guard's place: ``(n,)``, N·m."""
        self._effort.publish(effort)

    def destroy(self) -> None:
        """Ends subscription and publisher."""
        self._heard.destroy()
        self._node.destroy_publisher(self._effort.publisher)
