"""A robot's ticks on their way to the learner: the rows of the recording, in standard messages, once they are on disk.

The node looks at none of them: whoever holds its interpreter holds up the loop. What is lost, doubled or out of order shows
in the ticks' own numbers, and the learner, which makes transitions of them, counts it (`ddpg_robot.transition`).
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import MultiArrayDimension, UInt8MultiArray

from ddpg_robot.errors import MessageError, mismatch
from ddpg_robot.policy import OnnxPolicy
from ddpg_robot.recording import SCHEMA, TickLayout
from ddpg_robot.spec import PolicyInterface

TICKS_TOPIC = "~/ticks"
TICKS_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
"""Half a second of ticks each: a learner may look away for most of a minute."""
LARGEST_BLOCK = 16 * 2**20
"""Bytes of ticks in one message."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,120}")


class Block(NamedTuple):
    """Ticks of one message."""

    session: str
    """What tells this recording from every other: its file's name."""
    weights: str
    """Hash of the policy that drove."""
    rows: NDArray[Any]
    """Ticks ``(k,)``."""


class TickStream:
    """Publishes ticks.

    Args:
        node: owner.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(UInt8MultiArray, TICKS_TOPIC, TICKS_QOS)

    def send(self, rows: NDArray[Any], policy: OnnxPolicy, session: str) -> None:
        """Publishes rows ``(k,)`` of a recording.

        Args:
            rows: with the fields of its layout.
            policy: who drives.
            session: what tells this recording from every other.
        """
        label = f"{SCHEMA} {policy.manifest.weights_sha256} {session}"
        dimension = MultiArrayDimension(label=label, size=len(rows), stride=rows.dtype.itemsize)
        message = UInt8MultiArray()
        message.layout.dim.append(dimension)
        message.data.frombytes(np.ascontiguousarray(rows).tobytes())
        self._publisher.publish(message)

    def destroy(self) -> None:
        """Ends the publisher."""
        self._node.destroy_publisher(self._publisher)


class TickReader:
    """Reads what a `TickStream` sent.

    Args:
        interface: of the policy whose ticks are expected.

    Attributes:
        layout: fields of a tick.
    """

    def __init__(self, interface: PolicyInterface) -> None:
        self.layout = TickLayout.of(interface)

    def read(self, message: UInt8MultiArray) -> Block:
        """What a message holds.

        Raises:
            MessageError: another version, another robot's ticks, or sizes that do not fit together.
        """
        if len(message.layout.dim) != 1:
            raise MessageError(mismatch("ticks", f"{len(message.layout.dim)} dimensions", "1"))
        (dimension,) = message.layout.dim
        words = dimension.label.split(" ")
        if len(words) != 3 or words[0] != SCHEMA or not _NAME.fullmatch(words[2]):
            raise MessageError(mismatch("ticks", repr(dimension.label[:80]), f"'{SCHEMA} WEIGHTS SESSION'"))
        if dimension.stride != self.layout.dtype.itemsize:
            raise MessageError(mismatch("size of a tick", dimension.stride, f"{self.layout.dtype.itemsize} bytes"))
        if not len(message.data) == dimension.size * dimension.stride <= LARGEST_BLOCK:
            expected = f"{dimension.size} ticks of {dimension.stride} bytes, at most {LARGEST_BLOCK} bytes"
            raise MessageError(mismatch("ticks", f"{len(message.data)} bytes", expected))
        return Block(words[2], words[1], np.frombuffer(message.data.tobytes(), self.layout.dtype))
