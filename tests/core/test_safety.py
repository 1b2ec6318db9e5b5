from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from core.robots import TABLE, two_joint_robot

from ddpg_robot.errors import ConfigError
from ddpg_robot.safety import SafetyFilter, SafetyLimits, TripReason
from ddpg_robot.state import RobotState

TICK = 0.004
NO_EFFORT = np.zeros(2)


def make_filter(**limits) -> SafetyFilter:
    return SafetyFilter(two_joint_robot(), SafetyLimits(**limits), TICK)


def state(position=(0.0, 0.0), velocity=(0.0, 0.0)) -> RobotState:
    made = RobotState(2)
    made.position[:], made.velocity[:] = position, velocity
    return made


def settle(safety: SafetyFilter, proposed, at: RobotState):
    """Steps until the slew limit is out of the way."""
    for _ in range(20):
        verdict = safety.step(np.asarray(proposed, float), at, 0.0)
    return verdict


def test_effort_within_all_limits_passes_unchanged():
    safety = make_filter()
    verdict = settle(safety, [1.0, -2.0], state())
    assert verdict == (False, None, "", False, False, False)
    assert safety.effort.tolist() == [1.0, -2.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["position", "velocity", "proposed effort"])
def test_non_finite_anything_trips_and_says_which_joint(bad, field):
    safety, measured, proposed = make_filter(), state(velocity=(0.5, 0.5)), np.zeros(2)
    {"position": measured.position, "velocity": measured.velocity, "proposed effort": proposed}[field][1] = bad
    verdict = safety.step(proposed, measured, 0.0)
    assert verdict.tripped
    assert verdict.reason is TripReason.NOT_FINITE
    assert field in verdict.detail
    assert "elbow" in verdict.detail
    assert np.isfinite(safety.effort).all()


def test_stale_state_trips_to_zero_because_its_velocity_is_not_known():
    safety = make_filter(state_timeout=0.04)
    moving = state(velocity=(1.0, 1.0))
    assert not safety.step(NO_EFFORT, moving, 0.039).tripped
    verdict = safety.step(np.array([3.0, 3.0]), moving, 0.041)
    assert verdict.reason is TripReason.STALE_STATE
    assert safety.effort.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("age", [math.nan, -0.05, math.inf])
def test_age_that_makes_no_sense_counts_as_stale(age):
    safety = make_filter()
    assert safety.step(NO_EFFORT, state(), age).reason is TripReason.STALE_STATE


def test_trip_damps_against_the_motion_within_the_effort_limit():
    safety = make_filter()
    safety.trip(TripReason.ESTOP, "button")
    safety.step(np.array([9.0, 9.0]), state(velocity=(1.0, -30.0)), 0.0)
    assert safety.effort.tolist() == [-2.0, 5.0]


@pytest.mark.parametrize("velocity", [math.nan, math.inf, -math.inf])
def test_damping_is_zero_for_a_joint_whose_velocity_is_not_finite(velocity):
    safety = make_filter()
    safety.step(NO_EFFORT, state(velocity=(velocity, 1.0)), 0.0)
    assert safety.effort.tolist() == [0.0, -1.0]


def test_trip_is_latched_until_rearm_and_keeps_its_first_reason():
    safety = make_filter()
    safety.step(NO_EFFORT, state(), 1.0)
    verdict = safety.step(NO_EFFORT, state(position=(9.0, 0.0)), 0.0)
    assert verdict.reason is TripReason.STALE_STATE
    assert safety.tripped
    safety.rearm()
    assert not safety.step(NO_EFFORT, state(), 0.0).tripped


def test_rearm_starts_softly():
    safety = make_filter(soft_start=0.4)
    safety.trip(TripReason.ESTOP, "button")
    safety.rearm()
    efforts = []
    for _ in range(120):
        safety.step(np.array([4.0, 0.0]), state(), 0.0)
        efforts.append(safety.effort[0])
    assert efforts[0] == pytest.approx(0.04)
    assert efforts[49] == pytest.approx(2.0)
    assert efforts[-1] == 4.0
    assert np.all(np.diff(efforts) >= 0)


@pytest.mark.parametrize(
    ("position", "velocity", "reason", "joint"),
    [
        ((1.52, 0.0), (0.0, 0.0), TripReason.POSITION_LIMIT, "shoulder"),
        ((0.0, -2.02), (0.0, 0.0), TripReason.POSITION_LIMIT, "elbow"),
        ((0.0, 0.0), (-2.2, 0.0), TripReason.VELOCITY_LIMIT, "shoulder"),
        ((0.0, 0.0), (0.0, 3.2), TripReason.VELOCITY_LIMIT, "elbow"),
    ],
)
def test_position_or_velocity_beyond_its_limit_trips(position, velocity, reason, joint):
    verdict = make_filter().step(NO_EFFORT, state(position, velocity), 0.0)
    assert verdict.reason is reason
    assert joint in verdict.detail


def test_encoder_noise_at_an_end_stop_does_not_trip():
    assert not make_filter().step(NO_EFFORT, state(position=(1.505, 0.0)), 0.0).tripped


def test_proposed_effort_is_clamped_to_the_joint():
    safety = make_filter()
    verdict = settle(safety, [100.0, -100.0], state())
    assert verdict.clamped
    assert safety.effort.tolist() == [10.0, -5.0]


def test_barrier_fades_effort_towards_a_limit_but_not_away_from_it():
    safety = make_filter(position_margin=0.2)
    near = state(position=(1.4, 0.0))
    verdict = settle(safety, [10.0, 0.0], near)
    assert verdict.barrier
    assert safety.effort[0] == pytest.approx(5.0)  # half the margin is left
    verdict = settle(safety, [-10.0, 0.0], near)
    assert not verdict.barrier
    assert safety.effort[0] == -10.0


def test_barrier_looks_ahead_along_the_velocity():
    safety = make_filter(position_margin=0.2, lookahead=0.1)
    settle(safety, [10.0, 0.0], state(position=(1.2, 0.0), velocity=(1.0, 0.0)))
    still = make_filter(position_margin=0.2, lookahead=0.1)
    settle(still, [10.0, 0.0], state(position=(1.2, 0.0)))
    assert safety.effort[0] < still.effort[0] == 10.0


def test_barrier_brakes_a_joint_near_its_velocity_limit():
    safety = make_filter()
    settle(safety, [10.0, 0.0], state(velocity=(1.9, 0.0)))
    assert safety.effort[0] < 0


def test_effort_changes_no_faster_than_the_joint_allows():
    safety = make_filter()
    verdict = safety.step(np.array([10.0, 0.0]), state(), 0.0)
    assert verdict.slewed
    assert safety.effort[0] == pytest.approx(4.0)  # 1000 N·m/s for 4 ms


def test_tilt_of_a_floating_base_trips():
    safety = SafetyFilter(two_joint_robot(floating_base=True), SafetyLimits(tilt_limit=0.5), TICK)
    leaning = RobotState(2, floating_base=True)
    leaning.orientation_wxyz[:] = [math.cos(0.24), math.sin(0.24), 0, 0]
    assert not safety.step(NO_EFFORT, leaning, 0.0).tripped
    leaning.orientation_wxyz[:] = [math.cos(0.26), math.sin(0.26), 0, 0]
    assert safety.step(NO_EFFORT, leaning, 0.0).reason is TripReason.TILT


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_angular_velocity_that_is_not_finite_trips_although_the_policy_swallowed_it(bad):
    safety = SafetyFilter(two_joint_robot(floating_base=True), SafetyLimits(), TICK)
    spinning = RobotState(2, floating_base=True)
    spinning.angular_velocity[1] = bad
    assert safety.step(NO_EFFORT, spinning, 0.0).reason is TripReason.NOT_FINITE


def test_no_input_makes_the_output_leave_the_joint_limits():
    rng = np.random.default_rng(0)
    safety = make_filter()
    limit = np.array([10.0, 5.0])
    last = np.zeros(2)
    for _ in range(3000):
        measured = state(rng.normal(0, 1.5, 2), rng.normal(0, 2.5, 2))
        measured.motion.flat[rng.integers(4)] *= rng.choice([1, 1, 1, math.nan, math.inf, 1e300])
        verdict = safety.step(rng.normal(0, 1, 2) * 10.0 ** rng.integers(-2, 200), measured, rng.choice([0, 0, 0, 9]))
        assert np.isfinite(safety.effort).all()
        assert (np.abs(safety.effort) <= limit).all()
        if verdict.tripped:
            safety.rearm()
            last[:] = 0
        else:
            assert (np.abs(safety.effort - last) <= 4.0 + 1e-12).all()
            last[:] = safety.effort


@pytest.mark.parametrize("setting", ["position_margin", "state_timeout", "lookahead"])
def test_settings_that_make_no_sense_are_refused(setting):
    with pytest.raises(ConfigError, match=setting):
        SafetyLimits(**{setting: -1.0})


def test_a_passive_joint_that_is_not_finite_trips():
    robot = dataclasses.replace(two_joint_robot(), passive_joints=("slide",))
    safety, measured = SafetyFilter(robot, SafetyLimits(), TICK), RobotState.of(robot)
    assert not safety.step(NO_EFFORT, measured, 0.0).tripped
    measured.passive[1] = math.nan
    verdict = safety.step(NO_EFFORT, measured, 0.0)
    assert verdict.reason is TripReason.NOT_FINITE
    assert verdict.detail == "passive joints are at [[0.0], [nan]]"


@pytest.mark.parametrize("proposed", [0.0, math.nan])
def test_an_object_that_is_nowhere_trips_by_its_name_whatever_the_policy_makes_of_it(proposed):
    robot = dataclasses.replace(two_joint_robot(), object=TABLE)
    safety, seen = SafetyFilter(robot, SafetyLimits(), TICK), RobotState.of(robot)
    assert not safety.step(NO_EFFORT, seen, 0.0).tripped
    seen.object_position[1] = math.nan
    verdict = safety.step(np.full(2, proposed), seen, 0.0)
    assert verdict.reason is TripReason.NOT_FINITE
    assert "object position is" in verdict.detail


def test_an_odometry_that_is_not_finite_trips_by_its_name():
    robot = dataclasses.replace(two_joint_robot(floating_base=True), odometry=True)
    safety, told = SafetyFilter(robot, SafetyLimits(), TICK), RobotState.of(robot)
    assert not safety.step(NO_EFFORT, told, 0.0).tripped
    told.base_velocity[2] = math.inf
    assert "base velocity is [0.0, 0.0, inf]" in safety.step(NO_EFFORT, told, 0.0).detail


def test_a_trip_damps_joints_whose_velocity_is_known_although_another_part_of_the_state_is_old():
    robot = dataclasses.replace(two_joint_robot(), object=TABLE)
    safety, seen = SafetyFilter(robot, SafetyLimits(state_timeout=0.04), TICK), RobotState.of(robot)
    seen.velocity[:] = 1.0, 1.0
    assert safety.step(NO_EFFORT, seen, 9.0).reason is TripReason.STALE_STATE
    assert safety.effort.tolist() == [-2.0, -1.0]
    seen.motion_age[0] = 9.0
    safety.step(NO_EFFORT, seen, 9.0)
    assert not safety.effort.any()


def test_a_base_may_lie_on_its_back_where_no_tilt_is_too_much():
    safety = SafetyFilter(two_joint_robot(floating_base=True), SafetyLimits(tilt_limit=math.pi), TICK)
    lying = RobotState(2, floating_base=True)
    lying.orientation_wxyz[:] = [0.0, math.nextafter(1.0, 2.0), 0.0, 0.0]
    assert not safety.step(NO_EFFORT, lying, 0.0).tripped
