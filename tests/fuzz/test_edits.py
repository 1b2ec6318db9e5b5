"""Edits of good files and messages that Hypothesis chooses; what it finds it makes small, and keeps in `corpus/`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz.child import complaint
from fuzz.trials import COUNT
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

from ddpg_robot.errors import DdpgRobotError

CORPUS = DirectoryBasedExampleDatabase(Path(__file__).parent / "corpus")
OFTEN = settings(
    max_examples=COUNT, deadline=None, database=CORPUS, suppress_health_check=list(HealthCheck), print_blob=True
)
BYTES = st.binary(min_size=1, max_size=12)
WHERE = st.integers(0, 1_000_000)
EDITS: dict[str, Callable[[bytearray, int, bytes], bytearray]] = {
    "flip": lambda data, at, new: data[:at] + bytes([data[at] ^ 1 << new[0] % 8]) + data[at + 1 :],
    "overwrite": lambda data, at, new: data[:at] + new + data[at + len(new) :],
    "insert": lambda data, at, new: data[:at] + new + data[at:],
    "delete": lambda data, at, new: data[:at] + data[at + new[0] :],
    "repeat": lambda data, at, new: data[:at] + data[at : at + new[0]] * 2 + data[at + new[0] :],
    "truncate": lambda data, at, new: data[:at],
}
SCRIPT = st.lists(st.tuples(st.sampled_from(list(EDITS)), WHERE, BYTES), min_size=1, max_size=5)


def edited(data: bytes, script: list[tuple[str, int, bytes]]) -> bytes:
    """The data after each edit in turn; places count from the beginning, round and round."""
    changed = bytearray(data)
    for name, at, new in script:
        if changed:
            changed = EDITS[name](changed, at % len(changed), new)
    return bytes(changed)


def refused_or_right(attempt: Callable[[bytes], str], data: bytes) -> None:
    try:
        attempt(data)
    except DdpgRobotError as refusal:
        assert not complaint(refusal)


@OFTEN
@given(script=SCRIPT)
def test_an_edited_policy_file_is_refused_in_one_line_or_right(script: list[tuple[str, int, bytes]]) -> None:
    from fuzz.hostile_files import BASE
    from fuzz.try_file import attempt

    refused_or_right(attempt, edited(BASE, script))


@OFTEN
@example(kind=3, script=[("repeat", 166, b"\x85"), ("flip", 112607, b"\x00")])  # a name with a zero within its length
@given(kind=st.integers(0, 7), script=SCRIPT)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numbers that overflow: the control loop silences them too
def test_an_edited_message_is_refused_in_one_line_or_right(kind: int, script: list[tuple[str, int, bytes]]) -> None:
    pytest.importorskip("rclpy")
    from fuzz.hostile_messages import RAW
    from fuzz.try_message import attempt

    name = sorted(RAW)[kind % len(RAW)]
    refused_or_right(attempt, name + edited(RAW[name], script))
