"""CDR, the serialization of ROS 2 messages: as much of it as recordings and bags need, without ROS."""

from __future__ import annotations

import struct

import numpy as np

from ddpg_robot.state import Array

CDR_HEADER = b"\x00\x01\x00\x00"
"""Encapsulation of little-endian CDR; alignment counts from its end."""


class CdrReader:
    """Reads the fields of one little-endian message in order.

    Raises:
        ValueError: the message is of another encapsulation, or ends too early.
    """

    def __init__(self, data: bytes) -> None:
        if data[:2] != CDR_HEADER[:2] or len(data) < len(CDR_HEADER):
            raise ValueError("not a message in little-endian CDR")
        self._data = memoryview(data)[len(CDR_HEADER) :]
        self._at = 0

    def unpack(self, kind: str) -> int:
        """An integer of a `struct` kind, aligned to its size."""
        size = struct.calcsize(kind)
        self._at += -self._at % size
        (value,) = struct.unpack_from(f"<{kind}", self._take(size))
        return int(value)

    def time(self) -> float:
        """builtin_interfaces/Time, s."""
        return self.unpack("i") + self.unpack("I") * 1e-9

    def string(self) -> str:
        """A string."""
        return bytes(self._take(self.unpack("I"))).rstrip(b"\x00").decode("utf-8", "replace")

    def strings(self) -> tuple[str, ...]:
        """A sequence of strings."""
        return tuple(self.string() for _ in range(self._count(4)))

    def doubles(self, count: int | None = None) -> Array:
        """An array of float64, or a sequence when `count` is None."""
        count = self._count(8) if count is None else count
        if count:
            self._at += -self._at % 8
        return np.frombuffer(self._take(8 * count), "<f8")

    def skip_layout(self) -> None:
        """std_msgs/MultiArrayLayout."""
        for _ in range(self._count(12)):
            self.string()
            self.unpack("I")
            self.unpack("I")
        self.unpack("I")

    def _count(self, least: int) -> int:
        """Length of a sequence whose elements take at least so many bytes."""
        count = self.unpack("I")
        if count * least > len(self._data) - self._at:
            raise ValueError("truncated")
        return count

    def _take(self, size: int) -> memoryview:
        part = self._data[self._at : self._at + size]
        if len(part) < size:
            raise ValueError("truncated")
        self._at += size
        return part


def cdr_string(body: bytes, text: str) -> bytes:
    """`body` (without header) with a string at its end."""
    data = text.encode() + b"\x00"
    return body + bytes(-len(body) % 4) + struct.pack("<I", len(data)) + data
