"""Every policy that was learnt online, and what became of it: files and one line per event, in one directory.

Learner and robot each keep such a directory. A line is appended in one write and synced, so a process that is killed leaves
at most half a line at the end, which readers pass over.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ddpg_robot.errors import ConfigError, SpecError, mismatch
from ddpg_robot.spec import Scalar
from ddpg_robot.spec_json import from_dict

LOG = "versions.jsonl"
LEARNER = re.compile(r"[0-9a-f]{8}")
"""What a learner is called: chosen at random when it is made, kept when it is resumed."""
LAST_VERSION = 10**6
EVENTS = {
    "refused": "did not pass the learner's gate",
    "sent": "left the learner",
    "rejected": "the robot did not accept it",
    "arrived": "the robot has it, and waits for a safe point",
    "drives": "on probation",
    "kept": "passed its probation",
    "back": "did not pass it: the former policy is back",
    "withdrawn": "never drove",
}


@dataclass(frozen=True)
class VersionId:
    """Which policy of which learner."""

    learner: str
    number: int

    def __post_init__(self) -> None:
        if not LEARNER.fullmatch(self.learner):
            raise ConfigError(mismatch("learner", repr(self.learner[:40]), "8 hexadecimal digits"))
        if not 1 <= self.number <= LAST_VERSION:
            raise ConfigError(mismatch("version", self.number, f"1 to {LAST_VERSION}"))

    def __str__(self) -> str:
        return f"{self.learner}-v{self.number:06d}"

    @staticmethod
    def parse(text: str) -> VersionId:
        """Raises ConfigError where the text is none."""
        learner, _, number = text.partition("-v")
        if not (number.isascii() and number.isdecimal() and len(number) <= 9):
            raise ConfigError(mismatch("version", repr(text[:40]), "LEARNER-vNUMBER"))
        return VersionId(learner, int(number))


@dataclass(frozen=True)
class Event:
    """Something that happened to a version."""

    version: str
    event: str
    time: float
    """s since 1970."""
    detail: str
    figures: dict[str, Scalar]
    """What was measured, by name."""


class VersionStore:
    """The versions that one process knows.

    Args:
        directory: made if it is not there.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._log = self.directory / LOG
        self._mend()

    def keep(self, version: VersionId, data: bytes) -> Path:
        """Writes a policy file, whole or not at all."""
        path = self.directory / f"{version}.onnx"
        part = path.with_name(f".{path.name}.tmp")
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        return path

    def add(self, version: VersionId, event: str, detail: str = "", **figures: Scalar) -> None:
        """Notes what happened; on disk when this returns."""
        assert event in EVENTS, event
        line = " ".join(detail.split())[:255]
        row = Event(str(version), event, time.time(), line, figures)
        with self._log.open("ab", buffering=0) as file:
            file.write((json.dumps(asdict(row)) + "\n").encode())
            os.fsync(file.fileno())

    def events(self) -> list[Event]:
        """All events, oldest first."""
        return read_events([self.directory])

    def last(self, learner: str) -> int:
        """Number of the newest version of a learner that anything is known of; 0 for none."""
        numbers = [VersionId.parse(row.version).number for row in self.events() if row.version.startswith(learner)]
        return max(numbers, default=0)

    def _mend(self) -> None:
        """Ends the half line that a killed process may have left, so that the next one begins on its own."""
        if self._log.is_file():
            data = self._log.read_bytes()
            if data and not data.endswith(b"\n"):
                with self._log.open("ab") as file:
                    file.write(b"\n")


def read_events(directories: Sequence[Path]) -> list[Event]:
    """What several directories say, by time. Lines that make no sense are passed over.

    Raises:
        ConfigError: a directory without a log.
    """
    rows: list[Event] = []
    for directory in directories:
        log = Path(directory) / LOG
        if not log.is_file():
            if not Path(directory).is_dir():
                raise ConfigError(
                    mismatch(f"versions in '{directory}'", "no such directory", f"a directory with {LOG}")
                )
            continue
        for line in log.read_bytes().splitlines():
            try:
                row = from_dict(Event, json.loads(line))
                VersionId.parse(row.version)
            except (ValueError, SpecError, ConfigError):
                continue
            rows.append(row)
    return sorted(rows, key=lambda row: row.time)


def sha256(data: bytes) -> str:
    """Hash of a policy file, hexadecimal."""
    return hashlib.sha256(data).hexdigest()
