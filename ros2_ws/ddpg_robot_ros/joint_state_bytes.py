"""Reads joint states straight from their serialized bytes, as long as their layout stays the same.

Building a Python message costs more than all else in a tick: seven names become seven strings, 500 times a second, to be
compared with what they were before. The names of a robot do not change, so the bytes before the numbers do not either:
they are compared as bytes, and the numbers are read where they were last time. Any other layout is left to rclpy.
"""

from __future__ import annotations

import struct

import numpy as np

from ddpg_robot.cdr import CDR_HEADER

STAMP = struct.Struct("<iI")
COUNT = struct.Struct("<I")
HEAD = len(CDR_HEADER) + STAMP.size


class JointStateLayout:
    """Where the numbers are in a serialized sensor_msgs/JointState with one position and one velocity per name.

    Attributes:
        n: number of joints.
    """

    def __init__(self, raw: bytes) -> None:
        """Learns the layout of `raw`.

        Raises:
            ValueError, struct.error, IndexError: it is not a message of that kind.
        """
        if raw[: len(CDR_HEADER)] != CDR_HEADER:
            raise ValueError("not little-endian CDR")
        at = _after_string(raw, HEAD)  # frame_id
        self.n, at = _count(raw, at)
        for _ in range(self.n):
            at = _after_string(raw, at)
        positions, at = _count(raw, at)
        self._position_at = _aligned(at, 8)
        self._constant = raw[HEAD:at]  # frame_id, names, and how many positions follow
        self._velocity_count_at = self._position_at + 8 * positions
        velocities, at = _count(raw, self._velocity_count_at)
        self._velocity_at = _aligned(at, 8)
        self._effort_count_at = self._velocity_at + 8 * velocities
        if not self.n == positions == velocities or self.n == 0:
            raise ValueError("not one position and one velocity per name")
        _count(raw, self._effort_count_at)
        self._effort_count = raw[self._effort_count_at : self._effort_count_at + COUNT.size]
        self._size = len(raw)
        self._count_bytes = COUNT.pack(self.n)
        self._strides = (self._velocity_at - self._position_at, 8)

    def read(self, raw: bytes) -> tuple[float, np.ndarray] | None:
        """Stamp (s), and positions and velocities ``(2, n)`` as a view of `raw`; None when the layout is another."""
        if not (
            raw.startswith(self._constant, HEAD)
            and raw.startswith(self._count_bytes, self._velocity_count_at)
            and raw.startswith(self._effort_count, self._effort_count_at)
            and raw.startswith(CDR_HEADER)
            and len(raw) == self._size
        ):
            return None
        seconds, nanoseconds = STAMP.unpack_from(raw, len(CDR_HEADER))
        return seconds + nanoseconds * 1e-9, np.ndarray((2, self.n), "<f8", raw, self._position_at, self._strides)


def _aligned(at: int, size: int) -> int:
    """The next offset that is a multiple of `size`, counted from the end of the encapsulation header."""
    origin = len(CDR_HEADER)
    return origin + -(-(at - origin) // size) * size


def _count(raw: bytes, at: int) -> tuple[int, int]:
    at = _aligned(at, COUNT.size)
    return COUNT.unpack_from(raw, at)[0], at + COUNT.size


def _after_string(raw: bytes, at: int) -> int:
    length, at = _count(raw, at)
    if at + length > len(raw):
        raise ValueError("truncated")
    return at + length
