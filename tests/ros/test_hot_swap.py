"""A policy is changed under control: at rest, after its checks, and the former one comes back when the new one trips."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rcl_interfaces.srv import GetParameters
from ros.robot import PATIENT, WAIT_S, RobotDouble, set_parameter
from ros.spring_policy import write_spring_policy
from sensor_msgs.msg import JointState

from ddpg_robot.policy import OnnxPolicy
from ddpg_robot.recording import Recording
from ddpg_robot.replay import replay
from ddpg_robot_ros.processes import wait_until

TARGET = (0.5, 0.2, 0.4)
OLD_MARK, NEW_MARK = 0.4, 0.8  # N·m


class Swapped(RobotDouble):
    """A robot that tells by the mark on its commands which policy drives, and that can stand still."""

    def stand_still(self, message: JointState) -> JointState:
        message.velocity = [0.0] * len(message.name)
        return message

    def driven_by(self, mark: float) -> bool:
        return self.hears(lambda effort: abs(abs(effort[-1]) - mark) < 1e-3)

    def swap_to(self, policy: Path | str) -> str:
        """Sets the parameter; returns why it was refused, empty where it was not."""
        return set_parameter(self, "policy_node", "policy", str(policy))

    def policy_parameter(self) -> str:
        answer = self.call(GetParameters, "policy_node/get_parameters", GetParameters.Request(names=["policy"]))
        return answer.values[0].string_value

    def says(self, key: str) -> str:
        status = self.status("control loop")
        return next((pair.value for pair in status.values if pair.key == key), "") if status else ""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policies") / "old.onnx"
    write_spring_policy(path, "old", OLD_MARK)
    return path


@pytest.fixture(scope="module")
def new(old: Path) -> Path:
    path = old.with_name("new.onnx")
    write_spring_policy(path, "new", NEW_MARK)
    return path


@pytest.fixture
def swapped(manifest) -> Iterator[Swapped]:
    with Swapped(manifest.robot) as one:
        yield one


def in_control(robot: Swapped, start, policy: Path, **parameters: object):
    node = start("policy_node", policy=str(policy), autostart=True, **PATIENT, **parameters)
    robot.puts_in_control(TARGET)
    assert robot.driven_by(OLD_MARK)
    return node


def test_a_new_policy_waits_until_the_robot_is_at_rest_and_no_effort_leaps(
    start, swapped: Swapped, old: Path, new: Path
) -> None:
    in_control(swapped, start, old)
    assert swapped.swap_to(new) == ""  # the robot moves
    assert wait_until(lambda: swapped.says("next policy") == str(new), WAIT_S)
    assert swapped.driven_by(OLD_MARK)
    begin = len(swapped.commands)
    swapped.alter = swapped.stand_still
    assert swapped.driven_by(NEW_MARK)
    assert swapped.reports("running")
    assert wait_until(lambda: swapped.says("policy") == "new" and float(swapped.says("probation left (s)")) > 0, WAIT_S)
    efforts = np.array([effort for _, effort in swapped.commands[begin:]])
    limits = np.array([joint.effort_rate_limit for joint in swapped.robot.joints]) * 0.004
    assert (np.abs(np.diff(efforts, axis=0)) <= limits + 1e-9).all()
    assert (np.abs(efforts[:, 0]) > 0).all()  # no soft start from zero either: an arm without compensation would fall


def test_a_trip_on_probation_brings_the_former_policy_back_but_not_into_control(
    start, swapped: Swapped, old: Path, new: Path
) -> None:
    swapped.alter = swapped.stand_still
    in_control(swapped, start, old)
    assert swapped.swap_to(new) == ""
    assert swapped.driven_by(NEW_MARK)
    assert swapped.policy_parameter() == str(new)
    assert swapped.trigger("policy_node/estop").success
    assert swapped.reports("tripped")
    assert wait_until(lambda: swapped.policy_parameter() == str(old), WAIT_S)
    assert not swapped.efforts(0.3).any()  # damping of a robot that stands still
    assert swapped.trigger("policy_node/rearm").success
    assert swapped.driven_by(OLD_MARK)
    assert swapped.swap_to(new) == ""  # it may try again
    assert swapped.driven_by(NEW_MARK)


def test_a_policy_that_has_passed_its_probation_stays(start, swapped: Swapped, old: Path, new: Path) -> None:
    swapped.alter = swapped.stand_still
    in_control(swapped, start, old, swap_probation=0.2)
    assert swapped.swap_to(new) == ""
    assert swapped.driven_by(NEW_MARK)
    assert wait_until(lambda: (swapped.says("policy"), swapped.says("probation left (s)")) == ("new", "0"), WAIT_S)
    assert swapped.trigger("policy_node/estop").success
    assert swapped.reports("tripped")
    assert swapped.trigger("policy_node/rearm").success
    assert swapped.driven_by(NEW_MARK)
    assert swapped.policy_parameter() == str(new)


def test_a_policy_that_does_not_fit_is_refused_and_the_former_one_goes_on(
    start, swapped: Swapped, old: Path, new: Path, spring: Path, tmp_path: Path
) -> None:
    in_control(swapped, start, old)
    truncated = tmp_path / "truncated.onnx"
    truncated.write_bytes(new.read_bytes()[:-100])
    assert "found nothing" in swapped.swap_to(tmp_path / "none.onnx")
    assert str(truncated) in swapped.swap_to(truncated)
    assert "found 0.008 s, expected 0.02 s" in swapped.swap_to(spring)
    assert swapped.policy_parameter() == str(old)
    assert swapped.driven_by(OLD_MARK)
    assert swapped.swap_to(new) == ""
    assert wait_until(lambda: swapped.says("next policy") == str(new), WAIT_S)
    assert swapped.swap_to(old) == ""  # thought better of it
    assert wait_until(lambda: swapped.says("next policy") == "", WAIT_S)


def test_every_policy_has_a_recording_of_its_own_and_both_replay(
    start, swapped: Swapped, old: Path, new: Path, tmp_path: Path
) -> None:
    pytest.importorskip("mcap")
    swapped.alter = swapped.stand_still
    node = in_control(swapped, start, old, record=str(tmp_path))
    assert swapped.swap_to(new) == ""
    assert swapped.driven_by(NEW_MARK)
    swapped.efforts(0.5)
    assert node.end() == 0
    paths = sorted(tmp_path.glob("*.mcap"))
    assert [path.stem.split("_")[-1] for path in paths] == ["old", "new"]
    for path, policy in zip(paths, (old, new), strict=True):
        with Recording(path) as recording:
            assert not recording.truncated
            report = replay(OnnxPolicy.open(policy), recording, 0.0)
        assert report.equal, report
        assert report.in_control > 20
