"""A recording: everything that decided one deployment's torques, tick by tick, in one MCAP file.

Each tick is one ``ddpg_robot/msg/Tick`` message in CDR, whose definition (``ros2msg``) is in the file: what reads ROS 2
bags reads this too. All its arrays have fixed sizes, so a message is a row of a numpy array, and is written without being
taken apart. Each trip is a ``ddpg_robot/msg/Trip``. The metadata record `METADATA` holds the `Session` as JSON.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpg_robot.cdr import CDR_HEADER, CdrReader
from ddpg_robot.errors import RecordingError, SpecError, mismatch
from ddpg_robot.mcap_file import MAGIC, McapFile
from ddpg_robot.safety import SafetyLimits, TripReason
from ddpg_robot.spec import PolicyInterface
from ddpg_robot.spec_json import from_dict

SCHEMA = "ddpg_robot.recording/1"
METADATA = "ddpg_robot.recording"
TICK_TYPE, TRIP_TYPE = "ddpg_robot/msg/Tick", "ddpg_robot/msg/Trip"
TRIP_MESSAGE = "uint64 time\nuint32 tick\nstring reason\nstring detail\n"
TERM_PREFIX = "observation_"
REASONS: tuple[TripReason, ...] = tuple(TripReason)
"""A tick's ``reason`` is 0 for none, or 1 + the index here."""
ADDED = ("reward", "mode", "mark")
"""Fields that recordings of earlier versions do not have."""
_TYPES = {
    "uint64": "<u8",
    "float64": "<f8",
    "float32": "<f4",
    "uint32": "<u4",
    "uint16": "<u2",
    "uint8": "u1",
    "bool": "?",
}
_FIELD = re.compile(r"^(\w+)(?:\[(\d+)\])? ([a-z]\w*)(?:\s*#.*)?$")


class Mode(IntEnum):
    """Who drove in a tick that was neither tripped nor waiting; `STOPPING` also where it was."""

    POLICY = 0
    TAKEOVER = 1
    """A person, over the topic ``takeover``."""
    RESET = 2
    """The reset procedure."""
    STOPPING = 3
    """Nobody any more: the session ends, damped, then at zero effort."""


class Mark(IntEnum):
    """What somebody said of the episode in a tick."""

    NONE = 0
    SUCCESS = 1
    FAILURE = 2


@dataclass
class Marks:
    """What is recorded of a tick beside its numbers; whoever drives writes it, the recorder reads it."""

    mode: Mode = Mode.POLICY
    mark: Mark = Mark.NONE
    reward: float = math.nan
    """What a reward topic said since the policy ran last; NaN for nothing."""


@dataclass(frozen=True)
class Session:
    """What the ticks of a recording belong to."""

    schema: str
    policy: str
    """Name of the policy."""
    weights_sha256: str
    """Hash of the policy's graph."""
    joints: tuple[str, ...]
    """Joints in the order of all arrays."""
    rate: float
    """Ticks per second."""
    period: float
    """Time between two runs of the policy, s."""
    limits: SafetyLimits
    """Settings of the safety filter."""
    shadow: bool
    """The efforts went to nobody."""
    code_version: str


class TickLayout:
    """The fields of a tick.

    Args:
        message: definition in the form of a .msg file, arrays of fixed size only.

    Attributes:
        message: the definition.
        dtype: a tick as CDR lays it out, without the 4 bytes of encapsulation.
        terms: names of the observation terms, in the policy's order.

    Raises:
        RecordingError: it is no such definition.
    """

    def __init__(self, message: str) -> None:
        self.message = message
        fields: list[tuple[str, str, tuple[int, ...]]] = []
        for line in message.splitlines():
            found = _FIELD.match(line)
            if found is None or found[1] not in _TYPES:
                raise RecordingError(mismatch("field of a tick", repr(line[:80]), "a number or a fixed array of them"))
            fields.append((found[3], _TYPES[found[1]], (int(found[2]),) if found[2] else ()))
        try:
            self.dtype = np.dtype(fields)  # packed: largest types come first, so CDR needs no padding either
        except ValueError as error:
            raise RecordingError(mismatch("fields of a tick", error, "names that differ")) from None
        self.terms = tuple(name[len(TERM_PREFIX) :] for name, _, _ in fields if name.startswith(TERM_PREFIX))

    @classmethod
    def of(cls, interface: PolicyInterface) -> TickLayout:
        """The layout of a policy's ticks."""
        n, c = interface.robot.n_joints, interface.command.size
        lines = [
            "uint64 time # ns since 1970, when the effort was published",
            "float64 stamp # s, of the joint state",
            "float64 age # s, of the joint state when it was read",
            "float64 lateness # s, the thread woke after its deadline",
            "float64 work # s, from waking to the published effort",
            "float64 state_to_command # s",
            "float64 gain # of the soft start",
            "float64 reward # of a reward topic, NaN for none",
            f"float64[{n}] position # rad",
            f"float64[{n}] velocity # rad/s",
            f"float64[{c}] command # {interface.command.unit}, frame {interface.command.frame}",
            f"float64[{n}] proposed_effort # N*m, of the control law",
            f"float64[{n}] applied_effort # N*m, after the safety filter",
        ]
        if interface.robot.floating_base:
            lines += ["float64[4] orientation_wxyz", "float64[3] angular_velocity # rad/s"]
        if m := len(interface.robot.passive_joints):
            lines += [f"float64[{m}] passive_position # rad or m", f"float64[{m}] passive_velocity # rad/s or m/s"]
        if more := interface.robot.more_state:
            lines += ["float64[1] motion_age # s, of the joint state alone"]
            lines += [f"float64[{size}] {name} # {unit}" for name, (size, unit) in more.items()]
        lines.append(f"float32[{n}] output # of the policy, when it ran last")
        lines += [
            f"float32[{term.size}] {TERM_PREFIX}{term.name} # {term.unit}" for term in interface.observation.terms
        ]
        lines += [
            "uint32 tick",
            "uint32 rearms # so far",
            "uint16 phase # ticks since the policy ran, after this one",
            "uint8 reason",
            "uint8 mode # who drove: 0 the policy, 1 a takeover, 2 the reset procedure, 3 nobody: the session ends",
            "uint8 mark # the episode ended: 1 in success, 2 in failure",
            *(f"bool {name}" for name in ("tripped", "barrier", "clamped", "slewed", "waiting")),
        ]
        return cls("\n".join(lines) + "\n")


class Recording:
    """A recording, read from its beginning; a context manager.

    Attributes:
        session: what was recorded.
        layout: fields of a tick; None when there is none.
        trips: tick -> reason and detail, as far as `blocks` has read.

    Raises:
        RecordingError: the file is not a recording, or of another version. MissingExtraError: no mcap package.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = McapFile(path)
        self._records = self._file.records()
        self.trips: dict[int, tuple[TripReason, str]] = {}
        self.layout: TickLayout | None = None
        self.session = self._read_session()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.__exit__(None, None, None)

    @property
    def truncated(self) -> bool:
        """The file was cut off (known when `blocks` has ended)."""
        return self._file.truncated

    def blocks(self, rows: int = 4096) -> Iterator[NDArray[Any]]:
        """The ticks in order, in arrays of up to `rows`, with the fields of `layout`.

        Raises:
            RecordingError: the file is damaged.
        """
        messages: list[bytes] = []
        for record in self._records:
            kind = self._kind(record)
            if kind == TRIP_TYPE:
                self._read_trip(record.data)
            elif kind == TICK_TYPE:
                messages.append(self._body(record))
                if len(messages) == rows:
                    yield self._array(messages)
                    messages.clear()
        if messages:
            yield self._array(messages)

    def _read_session(self) -> Session:
        path = self._file.path
        first = next(self._records, None)
        text = getattr(first, "metadata", {}).get("session") if getattr(first, "name", "") == METADATA else None
        if text is None:
            hint = "Another program's? `ddpg-robot replay` takes rosbag2 bags as well"
            raise RecordingError(mismatch(str(path), "no recording of a policy node", SCHEMA, hint=hint))
        try:
            data = json.loads(text)
            schema = data.get("schema") if isinstance(data, dict) else None
            if schema != SCHEMA:
                raise RecordingError(mismatch(f"{path}: schema", repr(schema)[:80], repr(SCHEMA)))
            return from_dict(Session, data)
        except (ValueError, SpecError) as error:
            raise RecordingError(f"{path}: {' '.join(str(error).split())[:300]}") from None

    def _kind(self, record: Any) -> str:
        channel = self._file.channels.get(getattr(record, "channel_id", 0))
        schema = None if channel is None else self._file.schemas.get(channel.schema_id)
        if schema is None:
            return ""
        if schema.name == TICK_TYPE and self.layout is None:
            self.layout = TickLayout(schema.data.decode("utf-8", "replace"))
        return str(schema.name)

    def _body(self, record: Any) -> bytes:
        assert self.layout is not None
        data: bytes = record.data
        expected = len(CDR_HEADER) + self.layout.dtype.itemsize
        if len(data) != expected or not data.startswith(CDR_HEADER):
            found = f"{len(data)} bytes"
            raise RecordingError(mismatch(f"{self._file.path}: tick {record.sequence}", found, f"{expected} of CDR"))
        return data[len(CDR_HEADER) :]

    def _read_trip(self, data: bytes) -> None:
        try:
            reader = CdrReader(data)
            _, tick = reader.unpack("Q"), reader.unpack("I")
            self.trips[tick] = (TripReason(reader.string()), reader.string())
        except (ValueError, struct.error) as error:
            raise RecordingError(mismatch(f"{self._file.path}: trip", error, "reason and detail")) from None

    def _array(self, messages: list[bytes]) -> NDArray[Any]:
        assert self.layout is not None
        return np.frombuffer(b"".join(messages), self.layout.dtype)


def is_recording(path: str | Path) -> bool:
    """True for an MCAP file that begins like a recording of a policy node.

    Raises:
        MissingExtraError: it is an MCAP file, and the mcap package is not installed.
    """
    try:
        with Path(path).open("rb") as raw:
            if raw.read(len(MAGIC)) != MAGIC:
                return False
        with McapFile(path) as file:
            return getattr(next(file.records(), None), "name", "") == METADATA
    except (OSError, RecordingError):
        return False
