"""Noise on a robot: smooth, within its budget, none where a limit is near."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from core.robots import two_joint_interface
from hypothesis import given
from hypothesis import strategies as st

from ddpg_robot.controller import PolicyController
from ddpg_robot.errors import ConfigError
from ddpg_robot.exploration import ExplorationSettings, Explorer, ExploringController
from ddpg_robot.policy import OnnxPolicy
from ddpg_robot.safety import SafetyLimits, TripReason
from ddpg_robot.spec import ControlSpec, RobotSpec
from ddpg_robot.state import Command, RobotState

INTERFACE = two_joint_interface()
ROBOT = INTERFACE.robot
EFFORT = np.array([joint.effort_limit for joint in ROBOT.joints])
CONTROL = ControlSpec(0.02, "effort", 1)
CAP = 0.1
SETTINGS = ExplorationSettings()


def explorer(
    settings: ExplorationSettings = SETTINGS,
    control: ControlSpec = CONTROL,
    robot: RobotSpec = ROBOT,
    seed: int = 0,
) -> Explorer:
    return Explorer(robot, control, SafetyLimits(), settings, CAP, np.random.default_rng(seed))


def state(position: float = 0.5, velocity: float = 0.0, robot: RobotSpec = ROBOT) -> RobotState:
    """Every joint at this fraction of its range (0 to 1), and of its velocity limit."""
    one = RobotState(robot.n_joints, robot.floating_base)
    lower, upper = (
        np.array([getattr(joint, f"position_{end}") for joint in robot.joints]) for end in ("lower", "upper")
    )
    one.position[:] = lower + position * (upper - lower)
    one.velocity[:] = velocity * np.array([joint.velocity_limit for joint in robot.joints])
    return one


def draws(one: Explorer, where: RobotState, count: int = 20_000) -> np.ndarray:
    """Noise in units of the effort limits ``(count, n)``."""
    zero = np.zeros(len(EFFORT), np.float32)
    rows = []
    for _ in range(count):
        one.explore(zero, where)
        rows.append(one.noise / EFFORT)
    return np.array(rows)


def test_noise_stays_within_its_share_and_remembers_as_long_as_it_was_told_to():
    settings = ExplorationSettings(share=0.08, correlation_time=0.1)
    noise = draws(explorer(settings), state())
    assert np.abs(noise).max() == pytest.approx(0.08)
    assert noise.std() == pytest.approx(0.04, rel=0.1)
    assert abs(noise.mean()) < 0.004
    for lag in (1, 5, 10):
        correlation = np.corrcoef(noise[:-lag, 0], noise[lag:, 0])[0, 1]
        assert correlation == pytest.approx(math.exp(-lag * 0.02 / 0.1), abs=0.05)


@given(st.floats(0, 1), st.floats(-1, 1))
def test_no_noise_at_a_limit_and_all_of_it_far_from_every_one(position, velocity):
    freedom = explorer().freedom(state(position, velocity))
    assert ((freedom >= 0) & (freedom <= 1)).all()
    if position in (0, 1) or abs(velocity) >= ExplorationSettings().velocity_ceiling:
        assert not freedom.any()
    if abs(position - 0.5) < 0.1 and abs(velocity) < 0.1:
        assert (freedom == 1).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("quantity", ["position", "velocity"])
def test_a_joint_that_is_not_finite_or_beyond_its_limit_is_not_explored(quantity, bad):
    one = state()
    getattr(one, quantity)[1] = bad
    assert explorer().freedom(one).tolist() == [1, 0]
    assert not draws(explorer(), one, 10)[:, 1].any()
    assert not explorer().freedom(state(position=1.2)).any()


def test_noise_fades_as_a_base_tilts():
    robot = replace(ROBOT, floating_base=True)
    one, found = state(robot=robot), []
    for tilt in (0.0, 0.4, 0.65, 0.8, 1.5):  # the limit is 0.8, the margin 0.3
        one.orientation_wxyz[:] = math.cos(tilt / 2), math.sin(tilt / 2), 0.0, 0.0
        found.append(explorer(robot=robot).freedom(one)[0])
    assert found == pytest.approx([1, 1, 0.5, 0, 0])


def test_more_than_the_policy_file_allows_is_refused():
    with pytest.raises(ConfigError, match=r"found 0\.2, expected at most 0\.1"):
        explorer(ExplorationSettings(share=0.2))
    with pytest.raises(ConfigError, match="allows none"):
        Explorer(ROBOT, CONTROL, SafetyLimits(), ExplorationSettings(), 0.0, np.random.default_rng(0))


@pytest.mark.parametrize(("name", "value"), [("share", 0.0), ("correlation_time", math.nan), ("velocity_ceiling", 1.0)])
def test_settings_that_make_no_sense_are_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        ExplorationSettings(**{name: value})


def test_a_joint_target_moves_by_the_torque_over_the_stiffness():
    control = ControlSpec(0.02, "pd", 1, (50.0, 0.0), (2.0, 2.0))
    one = explorer(control=control)
    output = one.explore(np.array([0.3, 0.4], np.float32), state())
    assert output[0] - 0.3 == pytest.approx(one.noise[0] / 50, rel=1e-4)
    assert one.noise[0] != 0
    assert output[1] == np.float32(0.4)  # no stiffness: no target could move it


def test_a_controller_explores_behind_its_safety_filter_and_starts_quietly_after_a_rearm(policy_file):
    limits = SafetyLimits(soft_start=0.0)
    plain = PolicyController(OnnxPolicy.open(policy_file), limits)
    settings = ExplorationSettings(share=0.1, correlation_time=1.0)
    exploring = ExploringController(explorer(settings), OnnxPolicy.open(policy_file), limits)
    one, command = state(), Command(INTERFACE.command.size)
    apart = []
    for _ in range(200):
        plain.step(one, command, 0.0)
        exploring.step(one, command, 0.0)
        assert (np.abs(exploring.effort) <= EFFORT).all()
        apart.append(np.abs(exploring.output - plain.output).max())
    assert max(apart) > 0
    exploring.safety.trip(TripReason.ESTOP, "asked for")
    before = exploring.explorer.noise.copy()
    exploring.rearm()
    exploring.step(one, command, 0.0)
    assert np.abs(exploring.explorer.noise).max() < np.abs(before).max()
