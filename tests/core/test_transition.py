"""Transitions are made of ticks that belong together, and of no others."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from core.robots import TABLE, two_joint_interface

from ddpg_robot.controller import PolicyController
from ddpg_robot.errors import ConfigError
from ddpg_robot.policy import OnnxPolicy, shipped_policy
from ddpg_robot.recorder import Ring
from ddpg_robot.recording import Mark, Marks, Mode, TickLayout
from ddpg_robot.recording_file import FRAME
from ddpg_robot.safety import SafetyLimits, TripReason
from ddpg_robot.state import Command, RobotState
from ddpg_robot.transition import Counts, TransitionMaker

HOME = np.array([0.0, -0.785398, 0.0, -2.356194, 0.0, 1.570796, 0.785398])
TICKS = 5  # of 4 ms per run of the policy


class Session:
    """A controller in control of a slow swing; its ticks as the recorder keeps them."""

    def __init__(self, policy: str) -> None:
        opened = OnnxPolicy.open(shipped_policy(policy))
        self.interface = opened.interface
        self.layout = TickLayout.of(opened.interface)
        self.controller = PolicyController(opened, SafetyLimits(soft_start=0.0))
        self.state, self.command = RobotState(7), Command(3)
        self.command.values[:] = 0.5, 0.1, 0.4
        self.marks = Marks()
        self.ring = Ring(self.controller, self.state, self.command, self.marks, self.layout, 4096)
        self.k = self.rearms = 0
        self.clock = 100.0

    def maker(self) -> TransitionMaker:
        return TransitionMaker(self.interface, self.layout, TICKS)

    def tick(self, waiting: bool = False, takeover: np.ndarray | None = None) -> None:
        self.k += 1
        self.clock += 0.004
        self.state.position[:] = HOME + 0.05 * np.sin(self.k / 50 + np.arange(7))
        self.state.velocity[:] = 0.05 * np.cos(self.k / 50 + np.arange(7))
        self.state.stamp = self.clock
        if takeover is None:
            verdict = self.controller.drive(self.state, self.command, 0.0, waiting)
        else:
            verdict = self.controller.obey(takeover, self.state, self.command, 0.0)
        self.ring.add(self.clock, (0.0, 0.0, 0.0, 0.0), self.k, self.rearms, waiting, verdict)

    def rows(self, ticks: int = 0) -> np.ndarray:
        """Runs so many ticks, and gives all that were not given yet."""
        for _ in range(ticks):
            self.tick()
        block, _ = self.ring.take()
        size = FRAME.size + self.layout.dtype.itemsize
        bodies = [block[i + FRAME.size : i + size] for i in range(0, len(block), size)]
        return np.frombuffer(b"".join(bodies), self.layout.dtype)


@pytest.fixture(params=["arm_reach", "arm_reach_pd"])
def session(request: pytest.FixtureRequest) -> Session:
    return Session(request.param)


def test_every_run_of_the_policy_becomes_a_transition_to_the_next(session: Session) -> None:
    rows, maker = session.rows(1 + 20 * TICKS), session.maker()
    made = maker.add(rows)
    # The first run has no tick before it, whose effort would belong to its state.
    assert maker.counts == Counts(transitions=19)
    runs = rows[TICKS::TICKS]
    assert made["tick"].tolist() == [TICKS * i + 1 for i in range(1, 20)]
    terms = [f"observation_{name}" for name in session.layout.terms]
    observed = np.concatenate([runs[name].reshape(len(runs), -1) for name in terms], axis=1)
    np.testing.assert_array_equal(made["observation"], observed[:-1])
    np.testing.assert_array_equal(made["next_observation"], observed[1:])
    np.testing.assert_array_equal(made["after"]["position"], runs["position"][1:])
    np.testing.assert_array_equal(made["before"]["effort"], rows["applied_effort"][TICKS - 1 : -1 : TICKS][:19])
    np.testing.assert_array_equal(made["after"]["effort"], rows["applied_effort"][2 * TICKS - 1 :: TICKS][:19])
    np.testing.assert_allclose(made["applied_effort"][0], rows["applied_effort"][TICKS : 2 * TICKS].mean(0))
    assert not made["terminated"].any()


def test_blocks_may_be_cut_anywhere(session: Session) -> None:
    rows = session.rows(100)
    whole = session.maker().add(rows)
    maker = session.maker()
    parts = [maker.add(part) for part in np.split(rows, [1, 2, 17, 18, 50, 93])]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


@pytest.mark.parametrize("at", range(20, 27))
def test_a_missing_doubled_or_late_tick_costs_its_transition_and_makes_no_false_one(session: Session, at: int) -> None:
    rows = session.rows(100)
    true = {one["tick"]: one.tobytes() for one in session.maker().add(rows)}
    swapped = rows.copy()
    swapped[[at, at + 1]] = swapped[[at + 1, at]]
    for damaged, lost, doubled in (
        (np.delete(rows, at), 1, 0),
        (np.delete(rows, slice(at, at + 12)), 12, 0),
        (np.insert(rows, at, rows[at]), 0, 1),
        (np.insert(rows, at, rows[at - 9]), 0, 1),
        (swapped, 1, 1),
    ):
        maker = session.maker()
        made = maker.add(damaged)
        assert (maker.counts.lost, maker.counts.doubled) == (lost, doubled)
        assert len(true) - 4 <= len(made) <= len(true)
        assert all(true[one["tick"]] == one.tobytes() for one in made)


def test_nothing_leads_across_a_rearm_another_command_an_emergency_stop_or_lost_deadlines(session: Session) -> None:
    maker, begin = session.maker(), session.rows(23)
    session.controller.rearm()
    session.rearms += 1
    rearmed = session.rows(24)
    session.command.values[0] += 0.1
    another = session.rows(24)
    session.controller.safety.trip(TripReason.ESTOP, "asked for")
    stopped = session.rows(10)
    session.controller.rearm()
    session.rearms += 1
    again = session.rows(24)
    session.clock += 0.5
    late = session.rows(24)
    made = maker.add(np.concatenate([begin, rearmed, another, stopped, again, late]))
    assert maker.counts.broken == 4  # the emergency stop ended what the rearm after it would have broken
    assert not made["terminated"].any()
    borders = np.cumsum([23, 24, 24, 10, 24])
    for tick in made["tick"]:
        assert not any(tick <= border < tick + TICKS for border in borders), tick


@pytest.mark.parametrize(("reason", "ends"), [(TripReason.VELOCITY_LIMIT, True), (TripReason.STALE_STATE, False)])
def test_a_trip_that_the_policy_brought_about_ends_an_episode_and_another_only_the_transition(
    session: Session, reason: TripReason, ends: bool
) -> None:
    maker = session.maker()
    maker.add(session.rows(32))
    session.controller.safety.trip(reason, "")
    made = maker.add(session.rows(20))
    assert made["terminated"].tolist() == ([True] if ends else [])
    assert maker.counts.broken == (0 if ends else 1)


def test_where_the_filter_held_back_the_executed_output_is_what_was_applied(session: Session) -> None:
    quiet = session.maker().add(session.rows(100))[2:]  # at first the slew limit holds back
    np.testing.assert_array_equal(quiet["executed_output"], quiet["output"])
    held = Session(session.controller._policy.manifest.name)
    rows = held.rows(100).copy()
    rows["clamped"] = True
    rows["applied_effort"] *= 0.5
    made = held.maker().add(rows)
    if held.interface.control.mode == "effort":
        np.testing.assert_allclose(made["executed_output"], made["applied_effort"], rtol=1e-6)
    else:
        kp, kd = (np.array(getattr(held.interface.control, gain)) for gain in ("kp", "kd"))
        target, mean = made["executed_output"][0], rows[TICKS : 2 * TICKS]
        effort = kp * (target - mean["position"].mean(0)) - kd * mean["velocity"].mean(0)
        np.testing.assert_allclose(effort, mean["applied_effort"].mean(0), atol=1e-3)


def test_a_takeover_is_learnt_from_as_it_was_applied_and_no_transition_leads_into_it_or_out_of_it(
    session: Session,
) -> None:
    maker = session.maker()
    begin = session.rows(31)
    session.marks.mode = Mode.TAKEOVER
    pull = np.full(7, 2.0)
    for _ in range(30):
        session.tick(takeover=pull)
    taken = session.rows()
    session.marks.mode = Mode.RESET
    for _ in range(30):
        session.tick(takeover=-pull)
    reset = session.rows()
    session.marks.mode = Mode.POLICY
    made = maker.add(np.concatenate([begin, taken, reset, session.rows(31)]))
    by = made[made["taken_over"]]
    assert len(by) == 5
    assert all(31 < tick and tick + TICKS <= 62 for tick in by["tick"])
    np.testing.assert_allclose(by["applied_effort"][2:], [pull] * 3)
    if session.interface.control.mode == "effort":
        np.testing.assert_allclose(by["executed_output"][2:], [pull] * 3)
    else:
        kp, kd = (np.array(getattr(session.interface.control, gain)) for gain in ("kp", "kd"))
        effort = kp * (by["executed_output"] - by["before"]["position"]) - kd * by["before"]["velocity"]
        np.testing.assert_allclose(effort[2:], [pull] * 3, atol=0.2)
    assert not any(62 <= tick < 92 or tick < 62 < tick + TICKS or tick < 92 < tick + TICKS for tick in made["tick"])


@pytest.mark.parametrize("at", range(30, 35))
@pytest.mark.parametrize("mark", [Mark.SUCCESS, Mark.FAILURE])
def test_a_mark_ends_the_episode_with_its_transition_and_a_failure_is_final(
    session: Session, mark: Mark, at: int
) -> None:
    rows = session.rows(61).copy()
    rows["mark"][at] = mark
    made = session.maker().add(rows)
    assert len(made) == 11
    (one,) = np.flatnonzero(made["ended"])
    tick = made["tick"][one]
    assert tick < rows["tick"][at] <= tick + TICKS
    assert made["terminated"].tolist() == [i == one and mark == Mark.FAILURE for i in range(11)]


def test_the_reward_of_a_transition_is_what_was_said_until_its_end(session: Session) -> None:
    rows = session.rows(31).copy()
    rows["reward"] = rows["tick"]
    made = session.maker().add(rows)
    np.testing.assert_array_equal(made["reward"], made["tick"] + TICKS)


def test_a_transition_with_a_number_that_is_none_is_left_out(session: Session) -> None:
    rows = session.rows(100).copy()
    rows["proposed_effort"][50, 3] = np.nan
    maker = session.maker()
    assert np.isfinite(maker.add(rows)["proposed_effort"]).all()
    assert maker.counts.not_finite == 1


def test_a_recording_on_disk_becomes_transitions(tmp_path: Path) -> None:
    pytest.importorskip("mcap")
    from recorded_session import record

    from ddpg_robot.recording import Recording

    with Recording(record(tmp_path)) as recording:
        policy = OnnxPolicy.open(shipped_policy("arm_reach"))
        maker = None
        for rows in recording.blocks():
            maker = maker or TransitionMaker(policy.interface, recording.layout, TICKS)
            rows = rows.copy()
            rows["stamp"] /= TICKS  # that session's ticks are 20 ms apart
            made = maker.add(rows)
    assert maker.counts.transitions == len(made) > 20


def test_a_robot_whose_state_has_more_than_joints_and_imu_is_not_learnt_from() -> None:
    interface = two_joint_interface()
    seeing = dataclasses.replace(interface, robot=dataclasses.replace(interface.robot, object=TABLE))
    with pytest.raises(ConfigError, match="online learning: found object_position"):
        TransitionMaker(seeing, TickLayout.of(seeing), TICKS)
