"""A recording holds what decided each torque, survives what happens to processes and disks, and replays bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mcap")

from recorded_session import ESTOP_AT, STALE_AT, TARGET_AT, RecordedSession, record

from ddpg_robot.cdr import CdrReader
from ddpg_robot.errors import DdpgRobotError, RecordingError
from ddpg_robot.mcap_file import McapFile
from ddpg_robot.policy import OnnxPolicy, shipped_policy
from ddpg_robot.recorder import RING_SECONDS
from ddpg_robot.recording import Recording
from ddpg_robot.replay import ReplayReport, replay
from ddpg_robot.safety import TripReason

PROGRAM = [sys.executable, "-m", "recorded_session"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("recordings"))


def replayed(path: Path, policy: str = "arm_reach", tolerance: float = 0.0) -> ReplayReport:
    with Recording(path) as recording:
        return replay(OnnxPolicy.open(shipped_policy(policy)), recording, tolerance)


def rows_of(recording: Recording) -> np.ndarray:
    return np.concatenate(list(recording.blocks()))


@pytest.mark.parametrize("policy", ["arm_reach", "arm_reach_pd"])
def test_a_recording_replays_bit_for_bit(policy: str, tmp_path: Path) -> None:
    report = replayed(record(tmp_path, policy), policy)
    assert report.equal
    assert report.ticks == 300
    assert 100 < report.in_control < 290
    assert report.differences[-1].name == "applied_effort"
    assert report.differences[-1].ticks == 300
    assert not report.notes


def test_a_recording_holds_the_numbers_of_the_tick(tmp_path: Path) -> None:
    session = RecordedSession(tmp_path)
    session.recorder.start()
    for k in range(200):
        session.tick(k)
    session.recorder.close()
    with Recording(session.recorder.path) as recording:
        rows = rows_of(recording)
        assert not recording.truncated
        assert recording.session.joints == tuple(f"joint{i}" for i in range(1, 8))
        terms = session.controller.builder.terms
        assert recording.layout.terms == tuple(terms)
        assert {tick: reason for tick, (reason, _) in recording.trips.items()} == {
            ESTOP_AT: TripReason.ESTOP,
            STALE_AT: TripReason.STALE_STATE,
        }
        assert recording.trips[STALE_AT][1] == "state is 1000.0 ms old, limit 40.0 ms"
    assert rows["tick"].tolist() == list(range(200))
    assert (rows["applied_effort"] == np.array(session.efforts)).all()
    assert rows["waiting"].tolist() == [k < TARGET_AT for k in range(200)]
    last = rows[-1]
    assert (last["position"] == session.state.position).all()
    assert (last["velocity"] == session.state.velocity).all()
    assert (last["command"] == (0.5, 0.1, 0.4)).all()
    assert (last["output"] == session.controller.output).all()
    assert (last["proposed_effort"] == session.controller.proposed).all()
    for name, term in terms.items():
        assert (last[f"observation_{name}"] == term[0]).all()
    timing = ("stamp", "age", "lateness", "work", "state_to_command")
    assert [last[name] for name in timing] == [199 * 0.02, 0.001, 1e-4, 2e-4, 3e-4]


def test_the_messages_are_what_their_definition_says(recorded: Path) -> None:
    """Read by the definition in the file alone, field by field, as any ROS 2 tool does."""
    with McapFile(recorded) as file:
        messages = [record for record in file.records() if getattr(record, "channel_id", 0) == 1]
        schema = file.schemas[file.channels[1].schema_id]
    assert schema.encoding == "ros2msg"
    reader = CdrReader(messages[-1].data)
    found = {}
    kinds = {"uint64": "Q", "uint32": "I", "uint16": "H", "uint8": "B", "bool": "B"}
    for line in schema.data.decode().splitlines():
        kind, name = line.split(" #")[0].split()
        base, _, count = kind.rstrip("]").partition("[")
        if base == "float64":
            found[name] = reader.doubles(int(count or 1))
        elif base == "float32":
            found[name] = [reader.unpack("I") for _ in range(int(count or 1))]
        else:
            found[name] = reader.unpack(kinds[base])
    assert found["tick"] == messages[-1].sequence == 299
    assert found["time"] == messages[-1].log_time
    assert found["rearms"] == 3
    assert found["tripped"] == 1
    assert found["position"].shape == (7,)


def test_another_policy_differs_and_the_report_says_where(recorded: Path, tmp_path: Path) -> None:
    recording = Recording(recorded)
    with recording:
        policy = OnnxPolicy.open(shipped_policy("arm_reach"))
        original = policy.run

        def scaled() -> np.ndarray:
            return original() * np.float32(1.001)

        policy.run = scaled
        report = replay(policy, recording, 1e-6)
    assert not report.equal
    by_name = {one.name: one for one in report.differences}
    assert by_name["observation_joint_position"].beyond == 0
    assert by_name["output"].first_tick == TARGET_AT
    assert 0 < by_name["output"].max_abs < 1.0


def test_a_trip_that_does_not_come_again_is_one_difference_not_many(recorded: Path) -> None:
    """The filter of the replay has a wider limit: the trip at the end of the recording does not happen."""
    with Recording(recorded) as recording:
        recording.session = replace(recording.session, limits=replace(recording.session.limits, state_timeout=2.0))
        report = replay(OnnxPolicy.open(shipped_policy("arm_reach")), recording, 0.0)
    assert report.verdicts == 1
    assert report.first_verdicts[0].startswith(f"tick {STALE_AT}: recorded tripped (stale state), replayed ")


def test_dropped_ticks_are_counted_and_the_rest_is_still_equal(tmp_path: Path) -> None:
    report = replayed(record(tmp_path, dropped=range(100, 113)))
    assert report.equal
    assert report.notes == ["13 ticks are missing from the recording, in 1 places"]
    assert report.ticks == 300 - 13 - 1


def test_a_ring_that_is_full_drops_and_never_waits(tmp_path: Path) -> None:
    session = RecordedSession(tmp_path)  # never started: nobody empties the ring
    took = []
    for k in range(round(2 * RING_SECONDS * session.controller.rate)):
        began = time.perf_counter()
        session.tick(k)
        took.append(time.perf_counter() - began)
    assert session.recorder.dropped > 500
    assert np.median(took) < 0.005
    assert session.recorder.written == 0


def test_a_process_that_is_killed_leaves_a_recording_that_opens(tmp_path: Path) -> None:
    process = subprocess.Popen([*PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line == "1000\n":
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    (path,) = tmp_path.glob("*.mcap")
    report = replayed(path)
    assert report.equal
    assert report.ticks > 500
    assert report.notes == ["the recording has no end: its node was killed, or the disk was full"]


def test_a_recording_that_was_cut_anywhere_opens(recorded: Path, tmp_path: Path) -> None:
    data = recorded.read_bytes()
    longest = 0
    for size in np.linspace(1000, len(data) - 1, 40, dtype=int):
        cut = tmp_path / "cut.mcap"
        cut.write_bytes(data[:size])
        try:
            report = replayed(cut)
        except RecordingError as error:
            assert "no ticks" in str(error)
            continue
        assert report.equal
        longest = max(longest, report.ticks)
    assert longest == 300


def test_damage_in_the_middle_is_refused_in_one_line(recorded: Path, tmp_path: Path) -> None:
    data = bytearray(recorded.read_bytes())
    data[len(data) // 3] ^= 0xFF
    bad = tmp_path / "bad.mcap"
    bad.write_bytes(data)
    with pytest.raises(RecordingError, match="expected an intact MCAP file") as caught:
        replayed(bad)
    assert "\n" not in str(caught.value)


def test_no_damage_ends_in_anything_but_one_line(recorded: Path, tmp_path: Path) -> None:
    data, rng, bad = recorded.read_bytes(), np.random.default_rng(5), tmp_path / "bad.mcap"
    for _ in range(100):
        damaged = bytearray(data)
        for at in rng.integers(0, rng.choice([3000, len(data)]), rng.choice([1, 20])):
            damaged[at] = rng.integers(256)
        bad.write_bytes(damaged)
        try:
            replayed(bad)
        except DdpgRobotError as error:
            assert "\n" not in str(error)


def test_a_full_disk_ends_the_recording_in_one_line_and_the_ticks_go_on(small_disk: Path) -> None:
    with (small_disk / "ballast").open("wb") as ballast:
        ballast.write(bytes(200_000))
    process = subprocess.Popen([*PROGRAM, str(small_disk)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said: list[str] = []
    ticks_after = 0
    for line in process.stdout:
        if line.strip().isdigit():
            ticks_after += bool(said)
        else:
            said.append(line)
        if ticks_after == 5:
            break
    process.kill()
    process.wait()
    assert len(said) == 1
    assert "recording stopped after" in said[0]
    assert "No space left on device. The robot goes on" in said[0]
    (path,) = small_disk.glob("*.mcap")
    report = replayed(path)
    assert report.equal
    assert report.ticks > 50


def test_a_disk_that_hangs_costs_ticks_but_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that nobody reads stands in for the disk: a write to it blocks for as long as this test likes."""
    session = RecordedSession(tmp_path)
    session.recorder._make_path = lambda: tmp_path / "pipe"
    os.mkfifo(tmp_path / "pipe.part")  # its name until it has a head
    session.recorder.start()  # its thread waits in open() for a reader
    slowest = 0.0
    for k in range(round(2 * RING_SECONDS * session.controller.rate)):
        began = time.perf_counter()
        session.tick(k)
        slowest = max(slowest, time.perf_counter() - began)
    assert session.recorder.dropped > 500
    assert slowest < 0.5
    monkeypatch.setattr("ddpg_robot.recorder.CLOSE_WAIT_S", 0.2)
    session.recorder.close()
    assert "the disk does not answer" in session.complaints[0]
    with (tmp_path / "pipe.part").open("rb") as reader:  # lets the thread go
        reader.read(1)
    for thread in threading.enumerate():
        if thread.name == "recorder":
            thread.join(10.0)


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecordingError, match="expected a directory"):
        RecordedSession(tmp_path / "file" / "recordings")


def test_without_the_mcap_package_the_extra_is_named(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['mcap'] = None\n"
        "from pathlib import Path\nfrom recorded_session import RecordedSession\n"
        "from ddpg_robot.errors import MissingExtraError\n"
        f"try: RecordedSession(Path({str(tmp_path)!r}))\n"
        "except MissingExtraError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 'pip install "ddpg-robot[bag]"' in done.stdout


def test_the_core_loads_no_recording_library_until_one_is_asked_for() -> None:
    program = "import sys, ddpg_robot.controller, ddpg_robot.recorder, ddpg_robot.replay; print('mcap' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
