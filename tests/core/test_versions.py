"""Versions and what became of them outlive whoever wrote them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ddpg_robot.errors import ConfigError
from ddpg_robot.versions import LOG, VersionId, VersionStore, read_events

ID = VersionId("0123abcd", 7)


def test_a_version_reads_back_from_its_name() -> None:
    assert VersionId.parse(str(ID)) == ID


@pytest.mark.parametrize(
    "text", ["", "0123abcd", "0123ABCD-v1", "0123abcd-v0", "0123abcd-v1e3", "../../x-v1", "0123abcd-v9999999"]
)
def test_a_name_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        VersionId.parse(text)


def test_events_and_files_are_kept_and_listed_by_time(tmp_path: Path) -> None:
    learner, robot = VersionStore(tmp_path / "learner"), VersionStore(tmp_path / "robot")
    learner.add(ID, "sent", step=0.05)
    robot.add(ID, "arrived")
    robot.add(ID, "back", "tripped\non probation")
    assert robot.keep(ID, b"policy").read_bytes() == b"policy"
    events = read_events([tmp_path / "robot", tmp_path / "learner"])
    assert [event.event for event in events] == ["sent", "arrived", "back"]
    assert (events[0].figures, events[2].detail) == ({"step": 0.05}, "tripped on probation")
    assert VersionStore(tmp_path / "learner").last("0123abcd") == 7
    assert VersionStore(tmp_path / "learner").last("ffffffff") == 0


def test_half_a_line_is_passed_over_and_the_next_one_stands_alone(tmp_path: Path) -> None:
    store = VersionStore(tmp_path)
    store.add(ID, "sent")
    log = tmp_path / LOG
    log.write_bytes(log.read_bytes() + log.read_bytes()[:30] + b"\n{}\n[1]\n\xff\n" + log.read_bytes()[:30])
    again = VersionStore(tmp_path)
    again.add(ID, "back")
    assert [event.event for event in again.events()] == ["sent", "back"]


@pytest.mark.parametrize("moment", range(5))
def test_a_writer_that_is_killed_leaves_every_line_that_it_was_told_of(tmp_path: Path, moment: int) -> None:
    code = (
        "import sys; from pathlib import Path; from ddpg_robot.versions import VersionId, VersionStore\n"
        "store = VersionStore(Path(sys.argv[1]))\n"
        "for number in range(1, 10**6):\n"
        "    store.add(VersionId('0123abcd', number), 'sent'); print(number, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(3 + 7 * moment)]
    os.kill(process.pid, signal.SIGKILL)
    told += process.stdout.readlines()
    process.wait()
    kept = [VersionId.parse(event.version).number for event in VersionStore(tmp_path).events()]
    assert kept[: len(told)] == [int(one) for one in told]
    assert len(kept) - len(told) in (0, 1)
