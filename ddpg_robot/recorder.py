"""Records a running controller: the loop copies numbers into a ring, a thread of its own writes them to disk.

The loop never waits for the writer: when the ring is full, because the disk is slower than the robot, ticks are dropped
and counted. What goes wrong with the disk ends the recording, in one line, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpg_robot import __version__
from ddpg_robot.cdr import CDR_HEADER
from ddpg_robot.controller import PolicyController
from ddpg_robot.errors import RecordingError, mismatch
from ddpg_robot.mcap_file import mcap_library
from ddpg_robot.recording import REASONS, SCHEMA, TERM_PREFIX, Marks, Mode, Session, TickLayout
from ddpg_robot.recording_file import FRAME, TICK_CHANNEL, RecordingWriter, Trip, frame
from ddpg_robot.safety import SafetyLimits, TripReason, Verdict
from ddpg_robot.spec import PolicyManifest
from ddpg_robot.state import Command, RobotState

RING_SECONDS = 8.0
FLUSH_S = 0.5
"""A process that is killed loses so much of its recording, s."""
NICE = 5
CLOSE_WAIT_S = 5.0
SEQUENCE_AT = 11  # behind opcode, length and channel
_NUMBERS: dict[TripReason | None, int] = {reason: i for i, reason in enumerate((None, *REASONS))}


class Ring:
    """Ticks on their way from the loop's thread to the writer's: one of each, no locks.

    Args:
        controller: whose numbers are copied; likewise `state`, `command` and `marks`.
        layout: fields of a tick.
        capacity: ticks that it holds.

    Attributes:
        dropped: ticks that found it full.
    """

    def __init__(
        self,
        controller: PolicyController,
        state: RobotState,
        command: Command,
        marks: Marks,
        layout: TickLayout,
        capacity: int,
    ) -> None:
        size, fields = FRAME.size + layout.dtype.itemsize, layout.dtype.fields
        assert fields is not None
        self._capacity, self._size = capacity, size
        # Each tick lies there as the MCAP record that it will be in the file.
        self._bytes = bytearray(capacity * size)
        for slot in range(capacity):
            FRAME.pack_into(self._bytes, slot * size, *frame(TICK_CHANNEL, layout.dtype.itemsize, 0, 0))
        self._memory = memoryview(self._bytes)
        self._verdicts: list[Verdict | None] = [None] * capacity
        self._head = self._tail = 0  # rows ever written, and read; each has one writer
        self.dropped = 0
        at = {name: FRAME.size + field[1] for name, field in fields.items()}

        def rows(name: str, source: Any) -> Any:
            """A view of all rows' part that begins with a field and has the shape of `source`."""
            strides = (size, *np.empty(source.shape, source.dtype).strides)
            return np.ndarray((capacity, *source.shape), source.dtype, self._bytes, at[name], strides)

        sources = [
            ("position", state.motion),  # and velocity, the next field
            ("command", command.values),
            ("proposed_effort", controller.proposed),
            ("applied_effort", controller.effort),
            (TERM_PREFIX + layout.terms[0], controller.builder.flat()),  # and all terms that follow
        ]
        if state.floating_base:
            sources += [("orientation_wxyz", state.orientation_wxyz), ("angular_velocity", state.angular_velocity)]
        if state.passive.size:
            sources.append(("passive_position", state.passive))  # and velocity, the next field
        if state.more:
            sources += [("motion_age", state.motion_age), *state.more]
        self._copies = [(rows(name, source), source) for name, source in sources]
        self._output = rows("output", controller.output)
        self._controller, self._state, self._marks = controller, state, marks
        self._head_at, self._tail_at = SEQUENCE_AT, at["tick"]
        self._pack_head = struct.Struct("<IQQ4sQddddddd").pack_into
        self._pack_tail = struct.Struct("<IIHBBBBBBBB").pack_into

    def add(
        self,
        published: float,
        timing: tuple[float, float, float, float],
        tick: int,
        rearms: int,
        waiting: bool,
        verdict: Verdict,
    ) -> None:
        """Copies one tick (the loop's thread).

        Args:
            published: when the effort went out, s since 1970.
            timing: lateness, work, age of the state, state to command, s.
            tick: its number.
            rearms: rearms so far.
            waiting: no command had been given.
            verdict: of the safety filter.
        """
        head = self._head
        if head - self._tail >= self._capacity:
            self.dropped += 1
            return
        slot = head % self._capacity
        begin = slot * self._size
        lateness, work, age, to_command = timing
        controller, marks = self._controller, self._marks
        gain, stamp = controller.safety.gain, self._state.stamp
        head_at, tail_at = begin + self._head_at, begin + self._tail_at
        now = int(published * 1e9)
        self._pack_head(
            self._bytes,
            head_at,
            *(tick, now, now, CDR_HEADER, now),
            *(stamp, age, lateness, work, to_command, gain, marks.reward),
        )
        for ring, source in self._copies:
            ring[slot] = source
        self._output[slot] = controller.output
        reason = _NUMBERS[verdict.reason]
        tripped, _, _, barrier, clamped, slewed = verdict
        flags = (tripped, barrier, clamped, slewed, waiting)
        self._pack_tail(self._bytes, tail_at, tick, rearms, controller.phase, reason, marks.mode, marks.mark, *flags)
        self._verdicts[slot] = verdict
        self._head = head + 1  # only now may the writer look at it

    def take(self) -> tuple[bytes, list[Verdict | None]] | None:
        """The oldest ticks and their verdicts (the writer's thread), as many as lie in a row; None when there are none."""
        tail, head = self._tail, self._head
        if tail == head:
            return None
        slot = tail % self._capacity
        count = min(head - tail, self._capacity - slot)
        block = bytes(self._memory[slot * self._size : (slot + count) * self._size])
        verdicts = self._verdicts[slot : slot + count]
        self._tail = tail + count
        return block, verdicts

    def stamp(self, block: bytes, i: int) -> tuple[int, int]:
        """Time (ns) and number of a block's tick `i`."""
        tick, time_ns = struct.unpack_from("<IQ", block, i * self._size + SEQUENCE_AT)
        return time_ns, tick


class Recorder:
    """Writes one file per session: from `start` to `close`.

    Args:
        directory: where the file comes, made if it is not there.
        manifest: the policy's.
        controller: what is recorded.
        limits: settings of its safety filter.
        state: the buffers that it reads; likewise `command`.
        complain: takes one line when something went wrong (the writer's thread).
        shadow: the efforts go to nobody.
        stream: takes rows of the layout as soon as they are on disk (the writer's thread); None where nobody listens.
        marks: what else is recorded of a tick, a buffer too; None where the policy drives alone.

    Attributes:
        layout: fields of a tick.
        marks: what else is recorded of a tick.
        path: the file.
        written: ticks on disk, or on their way there.

    Raises:
        RecordingError: the directory cannot be made or written. MissingExtraError: no mcap package.
    """

    def __init__(
        self,
        directory: str | Path,
        manifest: PolicyManifest,
        controller: PolicyController,
        limits: SafetyLimits,
        state: RobotState,
        command: Command,
        complain: Callable[[str], None],
        shadow: bool = False,
        stream: Callable[[NDArray[Any]], None] | None = None,
        marks: Marks | None = None,
    ) -> None:
        mcap_library("writer")
        self._directory = Path(directory).expanduser()
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordingError(mismatch(f"record: {directory}", error.strerror, "a directory")) from None
        if not os.access(self._directory, os.W_OK):
            raise RecordingError(mismatch(f"record: {directory}", "no permission to write", "a directory to write in"))
        self.layout = TickLayout.of(manifest.interface)
        self._row = np.dtype([("frame", "V", FRAME.size), ("tick", self.layout.dtype)])
        self._stream = stream
        self._complain = complain
        capacity = max(256, round(RING_SECONDS * controller.rate))
        self.marks = marks or Marks()
        self._ring_of = (controller, state, command, self.marks, self.layout, capacity)
        self._name = "".join(char if char.isalnum() or char in "-_" else "_" for char in manifest.name)[:60]
        self._session = Session(
            SCHEMA,
            manifest.name,
            manifest.weights_sha256,
            manifest.robot.joint_names,
            controller.rate,
            manifest.control.period,
            limits,
            shadow,
            __version__,
        )
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._ring = Ring(*self._ring_of)
        self.add: Callable[..., None] = self._ring.add
        self.path = self._directory
        self.written = 0

    @property
    def dropped(self) -> int:
        """Ticks of this session that are not in the file."""
        return self._ring.dropped

    def start(self) -> None:
        """Begins a file; the thread opens it, so that no disk holds up the caller."""
        if self._thread is not None and self._thread.is_alive():
            self._complain(f"no recording: the disk still does not answer for {self.path}")
            return
        self._ring = Ring(*self._ring_of)
        self.add = self._ring.add
        self.marks.mode = Mode.POLICY
        self.written = 0
        self._closing.clear()
        self.path = self._make_path()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Writes what is left and ends the file; does not wait for a disk that hangs."""
        if self._thread is None:
            return
        self._closing.set()
        self._thread.join(CLOSE_WAIT_S)
        if self._thread.is_alive():
            self.add = _ignore
            self._complain(f"recording {self.path}: the disk does not answer, the file is left without its end")

    def _make_path(self) -> Path:
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
        return self._directory / f"{stamp}_{self._name}.mcap"

    def _run(self) -> None:
        _give_way()
        begun = self.path.with_suffix(".part")
        try:
            with begun.open("wb") as file:
                writer = RecordingWriter(file, self._session, self.layout)
                begun.rename(
                    self.path
                )  # only now: whatever has a recording's name opens, whenever its process is killed
                self._write(writer)
                file.flush()
                os.fsync(file.fileno())
        except Exception as error:  # whatever it is, it must not reach the robot
            self.add = _ignore
            why = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
            self._complain(f"recording stopped after {self.written} ticks, {self.path}: {why}. The robot goes on")

    def _write(self, writer: RecordingWriter) -> None:
        before: Verdict | None = None
        warned = closing = False
        while not closing:
            closing = self._closing.wait(FLUSH_S)
            before = self._drain(writer, before)
            if self._ring.dropped and not warned:
                warned = True
                self._complain(f"recording {self.path}: the disk is too slow, ticks are dropped. The robot goes on")
        writer.finish()

    def _drain(self, writer: RecordingWriter, before: Verdict | None) -> Verdict | None:
        ring = self._ring
        taken = ring.take()
        while taken is not None:
            block, verdicts = taken
            trips: list[Trip] = []
            for i, verdict in enumerate(verdicts):
                # While a trip is latched the verdict is one and the same object.
                if verdict is not before and verdict is not None and verdict.reason is not None:
                    trips.append((verdict.reason, verdict.detail, *ring.stamp(block, i)))
                before = verdict
            writer.add(block, trips)
            self.written += len(verdicts)
            if self._stream is not None:
                self._stream(np.frombuffer(block, self._row)["tick"])
            taken = ring.take()
        return before


def _ignore(*tick: object) -> None:
    """Takes the ticks of a recording that has stopped."""


def _give_way() -> None:
    """Lowers the priority of the calling thread below the loop's, real-time or not."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
