"""Robots that differ in a known way, and the reference that knows how."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import mujoco
import numpy as np
import pytest

from ddpg_robot.errors import ConfigError
from ddpg_robot_sim.arm_reach import ArmReach
from ddpg_robot_sim.changes import AXES, GRIDS, STRESS, as_option, changed, corner, stressed
from ddpg_robot_sim.computed_torque import DAMPING, SPEED
from ddpg_robot_sim.quadruped_walk import QuadrupedWalk
from ddpg_robot_sim.randomization import PRESETS, kinds


def arm(ranges, mode: str = "effort", **options) -> ArmReach:
    return ArmReach(mode, randomization=as_option(ranges), **options)


@pytest.mark.parametrize("name", AXES)
def test_an_axis_rises_through_its_nominal_level_which_changes_nothing(name: str) -> None:
    axis = AXES[name]
    assert list(axis.levels) == sorted(set(axis.levels))
    assert axis.nominal in axis.levels
    assert changed(**{name: axis.nominal}).changes_nothing
    assert not changed(**{name: axis.levels[-1]}).changes_nothing
    assert set(axis.coarse) <= set(axis.levels)


def test_every_level_and_every_pair_of_a_grid_is_a_robot() -> None:
    for name, axis in AXES.items():
        for level in axis.levels:
            arm(changed(**{name: level})).reset(seed=0)
    for one, other in GRIDS:
        for x, y in itertools.product(AXES[one].coarse, AXES[other].coarse):
            arm(changed(**{one: x, other: y})).reset(seed=0)


def test_a_fifth_more_mass_is_a_fifth_more_of_every_link() -> None:
    plain, heavy = arm(changed()), arm(changed(mass=1.2))
    heavy.reset(seed=0)
    links = slice(plain.model.body("link1").id, None)
    np.testing.assert_allclose(heavy.model.body_mass[links], 1.2 * plain.model.body_mass[links])


def test_sixteen_milliseconds_pass_from_a_measurement_to_its_torque() -> None:
    env = arm(stressed("delay"))
    env.reset(seed=0)
    drawn = env.reset(seed=0)[1]["randomization"]
    assert drawn["state_delay_ms"] + drawn["effort_delay_ms"] == 16
    assert drawn["state_delay_ms"] / 1e3 % env.model.opt.timestep == pytest.approx(0)
    env.step(np.zeros(7))
    assert env.data.time - env.state.stamp == pytest.approx(0.008)


@pytest.mark.parametrize(
    ("task", "apart"),
    [(ArmReach, ()), (QuadrupedWalk, ()), (functools.partial(QuadrupedWalk, "pd"), ("delay",))],
)
def test_the_default_setting_covers_the_stress_but_for_the_delay_of_legs_under_a_pd_law(
    task: Any, apart: tuple[str, ...]
) -> None:
    default, stress = task().presets["default"], stressed()
    for part in set(STRESS) - set(apart):
        for name in STRESS[part]:
            (lower, upper), (least, most) = getattr(stress, name), getattr(default, name)
            assert least <= lower, (part, name)
            assert upper <= most, (part, name)


def test_strong_is_wider_than_default() -> None:
    default, strong = PRESETS["default"], PRESETS["strong"]
    about_time = {"push_interval", "corner_speed"}  # a shorter interval, a lower corner are the harder ones
    for name in set(kinds()) - about_time:
        assert getattr(strong, name)[0] <= getattr(default, name)[0], name
        assert getattr(strong, name)[1] >= getattr(default, name)[1], name


def test_a_corner_has_no_chance_left_in_it() -> None:
    for side, mass in enumerate((0.8, 1.2)):
        ranges = corner(side)
        assert ranges.link_mass == (mass, mass)
        assert all(getattr(ranges, n)[0] == getattr(ranges, n)[1] for n in kinds())


@pytest.mark.parametrize("call", [lambda: changed(weight=1.0), lambda: stressed("wind"), lambda: changed(mass=-1.0)])
def test_what_cannot_be_is_refused_in_one_line(call) -> None:
    with pytest.raises(ConfigError) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1


def test_computed_torque_gives_the_hand_the_acceleration_that_it_wants() -> None:
    env = arm(changed(mass=1.3, motor=0.8))
    env.reset(seed=1)
    env.model.dof_frictionloss[:] = 0.0
    env.data.ctrl[:] = env._teacher.effort(env.command.values)
    mujoco.mj_forward(env.model, env.data)
    jacobian = np.zeros((3, env.model.nv))
    mujoco.mj_jacSite(env.model, env.data, jacobian, None, env._site)
    found = jacobian @ env.data.qacc  # at rest nothing else accelerates it
    way = env.command.values - env.data.site_xpos[env._site]
    wanted = DAMPING * SPEED * way / np.linalg.norm(way)
    assert np.linalg.norm(way) > 0.2  # the speed's limit holds
    np.testing.assert_allclose(found, wanted, atol=0.1)


@pytest.mark.parametrize(("mode", "gains"), [("effort", "high"), ("pd", "low")])
def test_the_reference_reaches_its_targets_under_the_whole_stress(mode: str, gains: str) -> None:
    env = arm(stressed(), mode, gains=gains)
    for seed in range(3):
        env.reset(seed=seed)
        over = False
        while not over:
            *_, terminated, over, info = env.step(env.teacher_action())
            assert not terminated
        assert info["is_success"]


def test_unknown_gains_are_refused() -> None:
    with pytest.raises(ConfigError, match="low"):
        ArmReach("pd", gains="medium")


def test_low_gains_are_known_from_a_policys_interface() -> None:
    for gains in ("high", "low"):
        env = ArmReach("pd", gains=gains)
        assert ArmReach(**ArmReach.keywords_of(env.interface)).interface == env.interface
