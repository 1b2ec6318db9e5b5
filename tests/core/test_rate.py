from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from core.robots import POINT, TERMS, two_joint_interface

from ddpg_robot.controller import PolicyController, ticks_per_action
from ddpg_robot.errors import RateError
from ddpg_robot.observation import observation_spec
from ddpg_robot.rate import PeriodicLoop, TimingStats
from ddpg_robot.safety import SafetyLimits
from ddpg_robot.state import Command, RobotState


class CountingPolicy:
    """A real policy in miniature: torque proportional to the target error."""

    def __init__(self, mode: str = "effort") -> None:
        self.interface = two_joint_interface(mode)
        self.runs = 0

    def bind(self, builder) -> None:
        self._terms = builder.terms

    def run(self) -> np.ndarray:
        self.runs += 1
        return self._terms["target_direction_joints"][0] * 10


def test_deadlines_are_absolute_so_work_does_not_add_up():
    loop = PeriodicLoop(0.01)
    start = time.monotonic()
    loop.start()
    for _ in range(30):
        loop.wait()
        time.sleep(0.002)
    elapsed = time.monotonic() - start
    # 30 deadlines (more when the machine was busy and some were lost), never 30 * (10 + 2) ms.
    assert 0.3 <= elapsed - loop.lost * 0.01 < 0.33


def test_deadlines_that_passed_are_counted_and_not_replayed():
    loop = PeriodicLoop(0.005)
    loop.start()
    loop.wait()
    time.sleep(0.033)
    lateness = loop.wait()
    assert lateness >= 0.02
    assert loop.lost >= 5
    before = loop.ticks
    start = time.monotonic()
    loop.wait()
    assert time.monotonic() - start > 0.0005
    assert loop.ticks == before + 1


def test_statistics_keep_the_newest_samples():
    stats = TimingStats(capacity=4)
    for value in (9.0, 1.0, 2.0, 3.0, 4.0):
        stats.add(value)
    assert stats.samples().tolist() == [1.0, 2.0, 3.0, 4.0]
    assert stats.summary()["max"] == 4.0
    assert stats.summary()["p50"] == 2.5
    assert stats.count == 5


@pytest.mark.parametrize(("rate", "ticks"), [(50, 1), (100, 2), (250, 5), (1000, 20)])
def test_whole_multiples_of_the_policy_rate_are_taken(rate, ticks):
    assert ticks_per_action(rate, 0.02) == ticks


@pytest.mark.parametrize("rate", [0, -50, 25, 60, 75, 50.1, 499, float("nan")])
def test_other_rates_are_refused(rate):
    with pytest.raises(RateError, match="whole multiple of the policy's 50 Hz"):
        ticks_per_action(rate, 0.02)


def test_policy_runs_once_per_period_and_its_output_is_held():
    policy = CountingPolicy()
    controller = PolicyController(policy, SafetyLimits(), rate=500)
    state, command = RobotState(2), Command(3)
    command.values[:] = [0.5, 0.2, 0.0]
    efforts = []
    for _ in range(30):
        assert not controller.step(state, command, 0.0).tripped
        efforts.append(controller.effort.copy())
    assert policy.runs == 3
    assert efforts[-1].tolist() == efforts[-2].tolist()


def test_pd_target_meets_the_newest_state_at_every_tick():
    policy = CountingPolicy("pd")
    controller = PolicyController(policy, SafetyLimits(), rate=500)
    state, command = RobotState(2), Command(3)
    command.values[:] = [0.75, 0.0, 0.0]  # where the hand is: the target pose is zero
    controller.step(state, command, 0.0)
    state.position[:] = [0.1, -0.1]
    state.velocity[:] = [0.5, 0.0]
    for _ in range(3):  # within the slew limit of 2 N·m per tick
        controller.step(state, command, 0.0)
    assert controller.effort == pytest.approx([20 * -0.1 - 2 * 0.5, 10 * 0.1])
    assert policy.runs == 1


def test_policy_runs_at_the_first_tick_after_rearm():
    policy = CountingPolicy()
    controller = PolicyController(policy, SafetyLimits(), rate=250)
    state, command = RobotState(2), Command(3)
    controller.step(state, command, 1.0)
    assert controller.safety.tripped
    controller.rearm()
    controller.step(state, command, 0.0)
    assert policy.runs == 2


def test_an_episode_begins_without_a_memory_of_efforts():
    policy = CountingPolicy()
    terms = observation_spec((*TERMS, "previous_effort"), policy.interface.robot, POINT)
    policy.interface = dataclasses.replace(policy.interface, observation=terms)
    controller = PolicyController(policy, SafetyLimits())
    state, command = RobotState(2), Command(3)
    command.values[:] = [0.5, 0.5, 0.0]

    def run(ticks: int) -> tuple[list[float], ...]:
        state.position[0] += 0.1
        for _ in range(ticks):
            controller.step(state, command, 0.0)
        return tuple(controller.builder.terms[name][0].tolist() for name in ("last_effort", "previous_effort"))

    first, second, third = run(1), run(5), run(5)
    assert first[1] == [0.0, 0.0]
    assert second[0] == third[1] != third[0]
    controller.rearm()
    assert run(1)[1] == [0.0, 0.0]
