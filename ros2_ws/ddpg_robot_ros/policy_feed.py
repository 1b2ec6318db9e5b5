"""Policy files from a learner to robots: in checked chunks of a standard message, kept for whoever comes late.

A chunk says of which version it is, the file's hash and size, and where in the file it belongs. A file is handed on when
all of it is there and has its hash; an older version than the newest that was seen is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import MultiArrayDimension, String, UInt8MultiArray

from ddpg_robot.errors import ConfigError, MessageError, mismatch
from ddpg_robot.policy import MAX_FILE_BYTES
from ddpg_robot.versions import VersionId, sha256

POLICIES_TOPIC, VERDICTS_TOPIC = "learner/policies", "learner/verdicts"
SCHEMA, VERDICT_SCHEMA = "ddpg_robot.version/1", "ddpg_robot.verdict/1"
CHUNK = 65_536


def latched(depth: int) -> QoSProfile:
    """Quality of service of messages that are kept for whoever comes late."""
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


FEED_QOS, VERDICT_QOS = latched(MAX_FILE_BYTES // CHUNK), latched(1)
"""Room for the largest policy file there may be; for one verdict."""
_HASH = re.compile(r"[0-9a-f]{64}")

Offer = Callable[[VersionId, bytes], None]
Verdict = Callable[[VersionId, bool, str], None]
Complain = Callable[[str], None]


def chunks(version: VersionId, data: bytes) -> list[UInt8MultiArray]:
    """The messages that carry a policy file."""
    label = f"{SCHEMA} {version} {sha256(data)}"
    messages = []
    for offset in range(0, len(data), CHUNK):
        message = UInt8MultiArray()
        message.layout.dim.append(MultiArrayDimension(label=label, size=len(data), stride=CHUNK))
        message.layout.data_offset = offset
        message.data.frombytes(data[offset : offset + CHUNK])
        messages.append(message)
    return messages


class Assembler:
    """Puts chunks together, one version at a time: the newest of the learner that spoke last."""

    def __init__(self) -> None:
        self._version: VersionId | None = None
        self._hash = ""
        self._data = np.zeros(0, np.uint8)
        self._missing: set[int] = set()

    def add(self, message: UInt8MultiArray) -> tuple[VersionId, bytes] | None:
        """A version whose last chunk this is; None otherwise.

        Raises:
            MessageError: another schema, sizes that do not fit together, or a whole file without its hash.
        """
        version, digest, size, offset = self._header(message)
        known = self._version
        if known is not None and known.learner == version.learner and version.number < known.number:
            return None
        if version != known or digest != self._hash or size != len(self._data):
            self._version, self._hash = version, digest
            self._data = np.zeros(size, np.uint8)
            self._missing = set(range(0, size, CHUNK))
        if offset not in self._missing:
            return None  # it came before
        self._data[offset : offset + CHUNK] = np.frombuffer(message.data, np.uint8)
        self._missing.discard(offset)
        if self._missing:
            return None
        data = self._data.tobytes()
        if sha256(data) != digest:
            self._version = None  # its sender may try again
            raise MessageError(mismatch(f"sha256 of version {version}", sha256(data), digest))
        return version, data

    def _header(self, message: UInt8MultiArray) -> tuple[VersionId, str, int, int]:
        layout = message.layout
        words = layout.dim[0].label.split(" ") if len(layout.dim) == 1 else []
        if len(words) != 3 or words[0] != SCHEMA or not _HASH.fullmatch(words[2]):
            found = repr(layout.dim[0].label[:80]) if len(layout.dim) == 1 else f"{len(layout.dim)} dimensions"
            raise MessageError(mismatch("chunk of a policy", found, f"'{SCHEMA} VERSION SHA256'"))
        try:
            version = VersionId.parse(words[1])
        except ConfigError as error:
            raise MessageError(str(error)) from None
        size, offset = layout.dim[0].size, layout.data_offset
        here = min(CHUNK, size - offset)
        fits = 0 < size <= MAX_FILE_BYTES and layout.dim[0].stride == CHUNK and offset % CHUNK == 0
        if not fits or here <= 0 or len(message.data) != here:
            found = f"{len(message.data)} bytes at {offset} of {size}"
            raise MessageError(mismatch("chunk of a policy", found, f"{CHUNK} bytes or the rest, of {MAX_FILE_BYTES}"))
        return version, words[2], size, offset


class PolicySender:
    """The learner's end. Whoever comes late gets the newest policy, and no other.

    Args:
        node: owner.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._files: Publisher | None = None
        self._depth = 0
        self._verdicts = node.create_publisher(String, VERDICTS_TOPIC, VERDICT_QOS)

    def send(self, version: VersionId, data: bytes) -> None:
        """Publishes a policy file."""
        messages = chunks(version, data)
        if self._files is None or len(messages) != self._depth:
            if self._files is not None:
                self._node.destroy_publisher(self._files)
            self._depth = len(messages)
            self._files = self._node.create_publisher(UInt8MultiArray, POLICIES_TOPIC, latched(self._depth))
        for message in messages:
            self._files.publish(message)

    def judge(self, version: VersionId, keep: bool, why: str) -> None:
        """Says whether a version that is on probation shall stay."""
        self._verdicts.publish(String(data=f"{VERDICT_SCHEMA} {version} {'keep' if keep else 'back'} {why}"[:400]))


class PolicyReceiver:
    """The robot's end.

    Args:
        node: owner.
        offer: takes a version that has arrived whole (the executor's thread).
        judge: takes what the learner says of one.
        complain: takes one line about a message that makes no sense.
    """

    def __init__(self, node: Node, offer: Offer, judge: Verdict, complain: Complain) -> None:
        self._node, self._offer, self._judge, self._complain = node, offer, judge, complain
        self._assembler = Assembler()
        self._subscriptions = [
            node.create_subscription(UInt8MultiArray, POLICIES_TOPIC, self._on_chunk, FEED_QOS),
            node.create_subscription(String, VERDICTS_TOPIC, self._on_verdict, VERDICT_QOS),
        ]

    def destroy(self) -> None:
        """Ends the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _on_chunk(self, message: UInt8MultiArray) -> None:
        try:
            arrived = self._assembler.add(message)
        except MessageError as error:
            self._complain(str(error))
            return
        if arrived is not None:
            self._offer(*arrived)

    def _on_verdict(self, message: String) -> None:
        words = message.data.split(" ", 3)
        try:
            if len(words) != 4 or words[0] != VERDICT_SCHEMA or words[2] not in ("keep", "back"):
                raise ConfigError(
                    mismatch("verdict", repr(message.data[:80]), f"'{VERDICT_SCHEMA} VERSION keep|back WHY'")
                )
            version = VersionId.parse(words[1])
        except ConfigError as error:
            self._complain(str(error))
            return
        why = "".join(char if char.isprintable() else "?" for char in words[3])
        self._judge(version, words[2] == "keep", why)
