"""A person beside a robot that learns: takes over, says how it went, sends it home, pays it. All of it is in the ticks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ros.robot import HOME, PATIENT, WAIT_S, RobotDouble
from ros.spring_policy import write_spring_policy
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray, UInt8MultiArray

from ddpg_robot.policy import OnnxPolicy
from ddpg_robot.recording import Mark, Mode
from ddpg_robot.transition import TransitionMaker
from ddpg_robot_ros.processes import wait_until
from ddpg_robot_ros.tick_stream import TICKS_QOS, TickReader
from ddpg_robot_ros.transport import COMMAND_QOS

pytest.importorskip("mcap")

TARGET = (0.5, 0.2, 0.4)
PULL = (1.0, -2.0, 3.0, -4.0, 0.5, -0.5, 0.25)
DISPLACED = np.array([0.4, 0.2, 0.0, -0.3, 0.0, 0.2, -0.3])


class Teacher(RobotDouble):
    """A robot at rest whose position a test may set, and who hears its ticks."""

    def __init__(self, policy: Path) -> None:
        opened = OnnxPolicy.open(policy)
        super().__init__(opened.manifest.robot)
        self.interface, self.reader = opened.interface, TickReader(opened.interface)
        self.offset = np.zeros(7)
        self.alter = self.at_rest
        self.blocks: list[np.ndarray] = []
        self.node.create_subscription(UInt8MultiArray, "policy_node/ticks", self._on_ticks, TICKS_QOS)
        self.hand = self.node.create_publisher(Float64MultiArray, "takeover", COMMAND_QOS)
        self.pay = self.node.create_publisher(Float64, "reward", COMMAND_QOS)

    def at_rest(self, message: JointState) -> JointState:
        message.position = [float(one) for one in np.array(HOME) + self.offset]
        message.velocity = [0.0] * 7
        return message

    def ticks(self) -> np.ndarray:
        return np.concatenate(self.blocks) if self.blocks else np.zeros(0, self.reader.layout.dtype)

    def has_ticks(self, condition) -> bool:
        return wait_until(lambda: condition(self.ticks()), WAIT_S, 0.1)

    def takes_over(self, seconds: float, effort=PULL) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.hand.publish(Float64MultiArray(data=list(effort)))
            time.sleep(0.004)

    def _on_ticks(self, message: UInt8MultiArray) -> None:
        self.blocks.append(self.reader.read(message).rows)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy") / "pupil.onnx"
    write_spring_policy(path, "pupil", exploration_limit=0.1)
    return path


@pytest.fixture
def teacher(start, policy: Path, tmp_path: Path) -> Iterator[Teacher]:
    with Teacher(policy) as one:
        parameters = {"policy": str(policy), "autostart": True, "online": True, "record": str(tmp_path), **PATIENT}
        start("policy_node", **parameters, takeover_timeout=0.5)
        one.puts_in_control(TARGET)
        yield one


def test_a_takeover_overrides_the_policy_is_recorded_and_becomes_transitions(teacher: Teacher) -> None:
    teacher.takes_over(1.5)
    assert teacher.hears(lambda effort: not np.allclose(effort, PULL))  # the policy goes on
    assert teacher.has_ticks(lambda rows: (np.diff(rows["mode"].astype(int)) < 0).any())
    rows = teacher.ticks()
    taken = rows[rows["mode"] == Mode.TAKEOVER]
    assert len(taken) > 50
    np.testing.assert_allclose(taken["applied_effort"][-1], PULL)
    interface = teacher.interface
    made = TransitionMaker(interface, teacher.reader.layout, interface.control.ticks_per_action).add(rows)
    by = made[made["taken_over"]]
    assert len(by) > 20
    np.testing.assert_allclose(by["executed_output"][-1], PULL, atol=1e-5)


def test_a_takeover_that_makes_no_sense_is_refused_and_one_beyond_the_limits_is_clamped(teacher: Teacher) -> None:
    quiet = len(teacher.efforts(0.3))
    teacher.takes_over(0.3, [*PULL, 1.0])
    teacher.takes_over(0.3, [float("nan")] * 7)
    assert quiet > 10
    assert wait_until(lambda: refused(teacher) > 0, WAIT_S)
    teacher.takes_over(1.0, [1e6] * 7)
    limits = np.array([joint.effort_limit for joint in teacher.robot.joints])
    efforts = np.array([effort for _, effort in teacher.commands])
    assert (np.abs(efforts) <= limits + 1e-9).all()
    assert teacher.has_ticks(lambda rows: rows["clamped"].any())


def refused(teacher: Teacher) -> int:
    status = teacher.status("online learning")
    return int(next(pair.value for pair in status.values if pair.key == "refused")) if status else 0


def test_reset_brings_the_arm_home_with_a_bounded_pull_and_then_waits_for_a_command(teacher: Teacher) -> None:
    teacher.offset = DISPLACED
    assert teacher.hears(lambda effort: effort.any())
    damping, fastest = (np.array([getattr(j, n) for j in teacher.robot.joints]) for n in ("damping", "velocity_limit"))
    pull = -np.sign(DISPLACED) * damping * 0.2 * fastest

    def pulls_home() -> bool:
        teacher.trigger("policy_node/rearm")  # a machine that stands still trips the policy, which ends a reset
        reset = teacher.trigger("policy_node/reset").success
        return reset and teacher.hears(lambda effort: bool(np.allclose(effort, pull, atol=1e-6)), 5.0)

    assert wait_until(pulls_home, WAIT_S)
    teacher.offset = np.zeros(7)
    assert teacher.reports("no command yet")
    assert teacher.has_ticks(lambda rows: (rows["mode"] == Mode.RESET).any() and rows["waiting"][-1])
    made = TransitionMaker(teacher.interface, teacher.reader.layout, 2).add(teacher.ticks())
    reset = teacher.ticks()["tick"][teacher.ticks()["mode"] == Mode.RESET]
    assert not np.isin(made["tick"], reset).any()


def test_success_failure_and_rewards_are_in_the_ticks_and_in_the_transitions(teacher: Teacher) -> None:
    def transitions() -> np.ndarray:
        interface = teacher.interface
        return TransitionMaker(interface, teacher.reader.layout, interface.control.ticks_per_action).add(
            teacher.ticks()
        )

    def says(service: str, mark: Mark) -> bool:
        """Until it is in a transition: a tick that comes late costs the one in which it lies."""
        known = (teacher.ticks()["mark"] == mark).sum()
        assert teacher.trigger(f"policy_node/{service}").success
        assert teacher.has_ticks(lambda rows: (rows["mark"] == mark).sum() == known + 1)
        made = transitions()
        return bool((made["ended"] & (made["terminated"] == (mark == Mark.FAILURE))).any())

    assert wait_until(lambda: says("success", Mark.SUCCESS), WAIT_S)
    assert not transitions()["terminated"].any()
    assert wait_until(lambda: says("failure", Mark.FAILURE), WAIT_S)
    assert np.isnan(transitions()["reward"]).all()

    def paid() -> bool:
        teacher.pay.publish(Float64(data=0.75))
        return bool((transitions()["reward"] == 0.75).any())

    assert wait_until(paid, WAIT_S, 0.02)
