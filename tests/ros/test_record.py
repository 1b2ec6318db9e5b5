"""Recording on a live node: what is in the file is what went out, and no disk can hold up the robot."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from ros.robot import PATIENT, WAIT_S, RobotDouble

from ddpg_robot.policy import OnnxPolicy
from ddpg_robot.recording import Mode, Recording
from ddpg_robot.replay import replay
from ddpg_robot.safety import TripReason
from ddpg_robot_ros.control_loop import ZERO_TICKS
from ddpg_robot_ros.processes import wait_until

pytest.importorskip("mcap")

TARGET = (0.5, 0.2, 0.4)


def one_file(directory: Path) -> Path:
    (path,) = directory.glob("*.mcap")
    return path


def test_a_deployment_with_an_estop_replays_bit_for_bit(
    spring: Path, robot: RobotDouble, start, tmp_path: Path
) -> None:
    node = start("policy_node", policy=str(spring), autostart=True, record=str(tmp_path / "bags"), **PATIENT)
    robot.puts_in_control(TARGET)
    robot.efforts(1.0)
    assert robot.trigger("policy_node/estop").success
    assert robot.hears_damping()
    assert wait_until(lambda: robot.trigger("policy_node/rearm").success, WAIT_S)
    robot.efforts(1.0)
    assert node.end() == 0
    heard = {tuple(effort) for _, effort in robot.commands}
    with Recording(one_file(tmp_path / "bags")) as recording:
        rows = np.concatenate(list(recording.blocks()))
        assert not recording.truncated
        assert TripReason.ESTOP in [reason for reason, _ in recording.trips.values()]
    recorded = {tuple(row) for row in rows["applied_effort"]}
    assert heard <= recorded  # what the robot heard, and nothing that went to nobody
    assert (np.diff(rows["tick"].astype(int)) == 1).all()
    stops = rows["mode"] == Mode.STOPPING
    assert (np.diff(stops.astype(int)) >= 0).all()  # to the very end
    at_zero = ~rows["applied_effort"][stops].any(axis=1)
    assert 10 < at_zero.argmax() == stops.sum() - ZERO_TICKS  # damped, then zero
    assert np.median(rows["work"]) < 0.01
    with Recording(one_file(tmp_path / "bags")) as recording:
        report = replay(OnnxPolicy.open(spring), recording, 0.0)
    assert report.equal, report
    assert report.in_control > 100


def test_a_policy_that_raised_and_one_that_hung_replay_with_their_trips(
    spring: Path, robot: RobotDouble, start, tmp_path: Path
) -> None:
    settings = {**PATIENT, "stall_periods": 20.0}
    node = start("faults.faulty_policy_node", policy=str(spring), autostart=True, record=str(tmp_path), **settings)
    for number, reason in ((signal.SIGUSR1, "asked to fail"), (signal.SIGUSR2, "ms late")):
        robot.puts_in_control(TARGET)
        os.kill(node.pid, number)
        assert robot.reports(reason)
        assert wait_until(lambda: robot.trigger("policy_node/rearm").success, WAIT_S)
    assert node.end() == 0
    with Recording(one_file(tmp_path)) as recording:
        report = replay(OnnxPolicy.open(spring), recording, 0.0)
        said = list(recording.trips.values())
    assert (TripReason.FAULT, "asked to fail") in said
    assert TripReason.STALL in [reason for reason, _ in said]
    assert report.equal, report


def test_a_node_that_is_killed_leaves_a_recording_that_replays(
    spring: Path, robot: RobotDouble, start, tmp_path: Path
) -> None:
    node = start("policy_node", policy=str(spring), autostart=True, record=str(tmp_path), **PATIENT)
    robot.puts_in_control(TARGET)
    robot.efforts(2.0)
    os.kill(node.pid, signal.SIGKILL)
    node.end()
    with Recording(one_file(tmp_path)) as recording:
        report = replay(OnnxPolicy.open(spring), recording, 0.0)
        assert recording.truncated
    assert report.equal
    assert report.in_control > 100


def test_a_full_disk_ends_the_recording_and_not_the_control(
    spring: Path, robot: RobotDouble, start, small_disk: Path
) -> None:
    with (small_disk / "ballast").open("wb") as ballast:
        ballast.write(bytes(230_000))
    node = start("policy_node", policy=str(spring), autostart=True, record=str(small_disk), **PATIENT)
    robot.puts_in_control(TARGET)
    used = [0]

    def full() -> bool:
        before, used[0] = used[0], one_file(small_disk).stat().st_size
        robot.efforts(1.0)
        return before == used[0] > 0

    assert wait_until(full, WAIT_S)
    efforts = robot.efforts(1.0)
    assert len(efforts) > 20
    assert not any(robot.is_damping(effort) for effort in efforts)
    assert node.end() == 0


def test_a_directory_that_cannot_be_made_is_refused_before_the_robot_moves(
    spring: Path, robot: RobotDouble, start, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    node = start("policy_node", policy=str(spring), autostart=True, record=str(tmp_path / "file" / "bags"))
    assert wait_until(lambda: node.exit_status is not None, WAIT_S)
    assert node.exit_status == 2
    assert not robot.commands
