"""Effort commands as bytes: a std_msgs/Float64MultiArray without layout is a constant head and the numbers behind it.

To build the Python message and to take it apart costs, at every tick and at both ends, as much as the control law.
"""

from __future__ import annotations

import struct

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray

from ddpg_robot.cdr import CDR_HEADER
from ddpg_robot.errors import CommandError, mismatch
from ddpg_robot.state import Array
from ddpg_robot_ros.convert import read_message
from ddpg_robot_ros.transport import COMMAND_QOS

HEAD = struct.Struct("<4sIII")
"""CDR's encapsulation; how many dimensions the layout has, its offset; how many numbers. They begin at a multiple of 8."""
NUMBERS_AT = 20


def _head(n: int) -> bytes:
    return HEAD.pack(CDR_HEADER, 0, 0, n)


def effort_values(raw: bytes, n: int) -> Array:
    """The efforts ``(n,)``, N·m, of a serialized Float64MultiArray.

    Raises:
        MessageError: as `read_message`.
        CommandError: there are not `n`, or one is not finite.
    """
    if len(raw) == NUMBERS_AT + 8 * n and raw.startswith(_head(n)):
        values = np.frombuffer(raw, "<f8", n, NUMBERS_AT)
    else:
        data = read_message(raw, Float64MultiArray, "effort command").data
        values = np.frombuffer(data) if len(data) else np.zeros(0)
    if len(values) != n or not np.isfinite(values).all():
        found = f"{len(values)} values: {values[:20].tolist()}"
        raise CommandError(mismatch("effort command", found, f"{n} finite values"))
    return values


class EffortPublisher:
    """Publishes efforts.

    Args:
        node: owner.
        topic: name, relative to the node's namespace.
        n: number of joints.

    Attributes:
        publisher: rclpy's.
    """

    def __init__(self, node: Node, topic: str, n: int) -> None:
        self.publisher = node.create_publisher(Float64MultiArray, topic, COMMAND_QOS)
        self._publish_raw = self.publisher.handle.publish_raw  # rclpy's own wrapper costs a third of a publish
        self._head = _head(n).ljust(NUMBERS_AT, b"\x00")

    def publish(self, effort: Array) -> None:
        """Publishes ``(n,)`` float64, N·m."""
        self._publish_raw(self._head + np.asarray(effort, "<f8").tobytes())
