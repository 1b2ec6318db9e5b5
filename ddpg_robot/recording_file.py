"""Writes a recording, a block of ticks at a time: nothing here looks at a single tick.

Whoever holds the interpreter holds up the loop, and the mcap package's own writer holds it for some 20 µs a tick. So the
ring keeps each tick as the MCAP record that it will be, and a block of them becomes a chunk as it is; compression and
disk let go of the interpreter.
"""

from __future__ import annotations

import importlib
import json
import struct
import zlib
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ddpg_robot.cdr import CDR_HEADER, cdr_string
from ddpg_robot.mcap_file import MAGIC, mcap_library
from ddpg_robot.recording import METADATA, TICK_TYPE, TRIP_MESSAGE, TRIP_TYPE, Session, TickLayout
from ddpg_robot.safety import TripReason
from ddpg_robot.spec_json import to_dict

TICK_CHANNEL, TRIP_CHANNEL = 1, 2
MESSAGE_OPCODE, INDEX_OPCODE = 0x05, 0x07
FRAME = struct.Struct("<BQHIQQ4s")
"""What stands before a message: opcode, length, channel, sequence, log time, publish time; and the head of its CDR."""
Trip = tuple[TripReason, str, int, int]  # reason, detail, time in ns, tick


def frame(channel: int, size: int, time_ns: int, tick: int) -> tuple[int, int, int, int, int, int, bytes]:
    """The values of `FRAME` for a CDR body of `size` bytes."""
    length = FRAME.size - 9 + size  # what follows opcode and length
    return MESSAGE_OPCODE, length, channel, tick, time_ns, time_ns, CDR_HEADER


class RecordingWriter:
    """Writes a recording.

    Args:
        file: binary file, at its beginning.
        session: what is recorded.
        layout: fields of a tick.

    Raises:
        MissingExtraError: the mcap package is not installed.
    """

    def __init__(self, file: IO[bytes], session: Session, layout: TickLayout) -> None:
        self._known = known = mcap_library("records")
        self._build = mcap_library("data_stream").RecordBuilder()
        self._compress = importlib.import_module("zstandard").compress  # mcap needs it too
        self._file, self._at = file, 0
        self._tick_size = FRAME.size + layout.dtype.itemsize
        kinds = ((TICK_CHANNEL, "/tick", TICK_TYPE, layout.message), (TRIP_CHANNEL, "/trip", TRIP_TYPE, TRIP_MESSAGE))
        self._schemas = [
            known.Schema(id=i, name=kind, encoding="ros2msg", data=text.encode()) for i, _, kind, text in kinds
        ]
        self._channels = [
            known.Channel(id=i, topic=topic, message_encoding="cdr", metadata={}, schema_id=i) for i, topic, *_ in kinds
        ]
        self._chunk_index = bytearray()  # packed: objects would be 0.6 kB each, and the collector walk through them
        self._chunks, self._begin, self._end = 0, 2**64 - 1, 0
        self._counts = {TICK_CHANNEL: 0, TRIP_CHANNEL: 0}
        self._put(MAGIC)
        session_text = json.dumps(to_dict(session))
        self._write(
            known.Header(profile="ros2", library="ddpg_robot"),
            known.Metadata(name=METADATA, metadata={"session": session_text}),
            *self._schemas,
            *self._channels,
        )
        file.flush()

    def add(self, block: bytes, trips: list[Trip]) -> None:
        """Writes ticks as one chunk and hands it to the operating system: it survives the process.

        Args:
            block: one after the other, `FRAME` and a row of the layout's dtype.
            trips: the trips among them.
        """
        said = [_trip_record(trip) for trip in trips]
        ends = np.cumsum([len(one) for one in said], dtype=np.uint64)
        before = int(ends[-1]) if said else 0
        step = self._tick_size
        times = np.ndarray(len(block) // step, "<u8", block, FRAME.size - 20, step)  # log times
        offsets = np.arange(len(times), dtype=np.uint64) * step + before
        data = b"".join([*said, block])
        packed = self._compress(data)
        index = {TICK_CHANNEL: np.stack([times, offsets], axis=1)}
        if said:
            when = np.array([time_ns for _, _, time_ns, _ in trips], np.uint64)
            index[TRIP_CHANNEL] = np.stack([when, ends - np.array([len(one) for one in said], np.uint64)], axis=1)
        start = self._at
        first, last = int(times.min()), int(times.max())
        self._write(
            self._known.Chunk(
                compression="zstd",
                data=packed,
                message_start_time=first,
                message_end_time=last,
                uncompressed_crc=zlib.crc32(data),
                uncompressed_size=len(data),
            )
        )
        length, index_at = self._at - start, {}
        for channel, entries in index.items():
            index_at[channel] = self._at
            self._counts[channel] += len(entries)
            self._put_index(channel, entries)
        self._file.flush()
        self._chunks += 1
        self._begin, self._end = min(self._begin, first), max(self._end, last)
        self._chunk_index += self._pack(
            self._known.ChunkIndex(
                chunk_length=length,
                chunk_start_offset=start,
                compression="zstd",
                compressed_size=len(packed),
                message_end_time=last,
                message_index_length=self._at - start - length,
                message_index_offsets=index_at,
                message_start_time=first,
                uncompressed_size=len(data),
            )
        )

    def finish(self) -> None:
        """Writes index and footer."""
        known = self._known
        self._write(known.DataEnd(data_section_crc=0))
        summary = self._at
        self._write(
            *self._schemas,
            *self._channels,
            known.Statistics(
                attachment_count=0,
                channel_count=len(self._channels),
                channel_message_counts=self._counts,
                chunk_count=self._chunks,
                message_count=sum(self._counts.values()),
                message_end_time=self._end,
                message_start_time=self._begin if self._chunks else 0,
                metadata_count=1,
                schema_count=len(self._schemas),
            ),
        )
        self._put(self._chunk_index)
        self._write(known.Footer(summary_start=summary, summary_offset_start=0, summary_crc=0))
        self._put(MAGIC)
        self._file.flush()

    def _put_index(self, channel: int, entries: NDArray[np.uint64]) -> None:
        data = np.ascontiguousarray(entries, "<u8").tobytes()
        self._put(struct.pack("<BQHI", INDEX_OPCODE, 6 + len(data), channel, len(data)) + data)

    def _write(self, *records: Any) -> None:
        self._put(self._pack(*records))

    def _pack(self, *records: Any) -> bytes:
        for record in records:
            record.write(self._build)
        packed: bytes = self._build.end()
        return packed

    def _put(self, data: bytes | bytearray) -> None:
        self._file.write(data)
        self._at += len(data)


def _trip_record(trip: Trip) -> bytes:
    reason, detail, time_ns, tick = trip
    body = cdr_string(cdr_string(struct.pack("<QI", time_ns, tick), reason.value), detail)
    return FRAME.pack(*frame(TRIP_CHANNEL, len(body), time_ns, tick)) + body
