"""MCAP files, read to where they end well: a process that was killed leaves one without a footer, cut off anywhere."""

from __future__ import annotations

import importlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from ddpg_robot.errors import MissingExtraError, RecordingError, mismatch

MAGIC = b"\x89MCAP0\r\n"
MAX_RECORD_BYTES = 2**28
"""Largest record that is read, bytes; chunks are a thousand times smaller."""


def mcap_library(module: str) -> Any:
    """A module of the ``mcap`` package, which only recordings need.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(f"mcap.{module}")
    except ImportError:
        hint = 'pip install "ddpg-robot[bag]"'
        raise MissingExtraError(mismatch("installed packages", "no mcap", "extra bag", hint=hint)) from None


class McapFile:
    """The records of an MCAP file in order, schemas and channels known by id; a context manager.

    Attributes:
        truncated: the file ends inside a record or without a footer (known when `records` has ended).
        schemas: schema records by id, as far as they have been read.
        channels: channel records by id, as far as they have been read.

    Raises:
        RecordingError: there is no such file, or it is not MCAP.
    """

    def __init__(self, path: str | Path) -> None:
        self._library = mcap_library("records")
        self._stream_reader = mcap_library("stream_reader")
        self._failures = (mcap_library("exceptions").McapError, ValueError, RuntimeError, MemoryError, struct.error)
        self.path = Path(path)
        self.truncated = False
        self.schemas: dict[int, Any] = {}
        self.channels: dict[int, Any] = {}
        try:
            self._file = self.path.open("rb")
        except OSError as error:
            raise RecordingError(mismatch(str(path), error.strerror, "a readable file")) from None
        self._size = os.fstat(self._file.fileno()).st_size
        magic = self._file.read(len(MAGIC))
        self._file.seek(0)
        if magic != MAGIC:
            self._file.close()
            raise RecordingError(mismatch(str(path), "no MCAP file", "an .mcap file"))

    def __enter__(self) -> McapFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def records(self) -> Iterator[Any]:
        """Metadata and message records, in the order of the file; a damaged chunk is left out when the file ends there.

        Raises:
            RecordingError: the file is damaged in the middle.
        """
        known = self._library
        for record in self._outer():
            inner = self._unpacked(record) if isinstance(record, known.Chunk) else (record,)
            for one in inner:
                if isinstance(one, known.Schema):
                    self.schemas[one.id] = one
                elif isinstance(one, known.Channel):
                    self.channels[one.id] = one
                elif isinstance(one, (known.Message, known.Metadata)):
                    yield one

    def _outer(self) -> Iterator[Any]:
        """The file's own records, chunks unopened; ends quietly where the file was cut off."""
        reader = self._stream_reader.StreamReader(self._file, emit_chunks=True, record_size_limit=MAX_RECORD_BYTES)
        records = iter(reader.records)
        while True:
            try:
                record = next(records, None)
            except self._failures as error:
                self._excuse(error)
                return
            if record is None or isinstance(record, self._library.DataEnd):
                return
            yield record

    def _unpacked(self, chunk: Any) -> list[Any]:
        try:
            found: list[Any] = self._stream_reader.breakup_chunk(chunk, validate_crc=True)
        except Exception as error:  # each compression library has exceptions of its own
            self._excuse(error)
            return []
        return found

    def _excuse(self, error: Exception) -> None:
        """Damage at the very end is a recorder that was killed, or a disk that was full; elsewhere it is damage."""
        at = self._file.tell()
        if at < self._size:
            text = " ".join(str(error).split())[:200] or type(error).__name__
            raise RecordingError(mismatch(f"{self.path}: byte {at:,} of {self._size:,}", text, "an intact MCAP file"))
        self.truncated = True
