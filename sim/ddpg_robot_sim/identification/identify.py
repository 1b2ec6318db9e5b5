"""From a recording to a fitted robot: what `ddpg-robot identify` does."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.state import Array
from ddpg_robot_sim.base import RobotTask
from ddpg_robot_sim.identification.fit import Fit, Say, fit
from ddpg_robot_sim.identification.motion import Motion, read_motion
from ddpg_robot_sim.identification.parameters import FACTORS, Plants, delay_of, parameters_of
from ddpg_robot_sim.identification.shooting import Shooting
from ddpg_robot_sim.randomization import Randomization, kinds, ranges_of

HORIZON_S = 0.3
"""Length of a simulation that is fitted: long enough for torque to show in motion, short enough to follow it."""
FITTED_PART = 0.8
"""Part of the motion that is fitted; the gap is measured on the rest."""
GAP_S = 1.0
"""Length of the simulations from which the gap is measured."""
LEAST_WIDTH = {"factor": 0.01, "ms": 0.25}
"""No range of the randomisation is closer to its value than that: robots warm up, and no model is exact."""


@dataclass(frozen=True)
class Gap:
    """How far simulations of `GAP_S` from measured states end up from what was recorded."""

    seconds: float
    simulations: int
    before: Array
    """Root mean square of each joint with the model as it is: positions, rad, then velocities, rad/s ``(2 n,)``."""
    after: Array
    """With the fitted model."""
    time: Array
    """Of each compared state ``(samples,)``, s."""
    segment: Array
    """Which simulation it belongs to."""
    recorded: Array
    """``(samples, 2 n)``."""
    simulated: tuple[Array, Array]
    """Before and after, likewise."""

    def overall(self, which: str) -> tuple[float, float]:
        """Root mean square over all joints: position, rad, and velocity, rad/s."""
        one, other = np.split(getattr(self, which), 2)
        return float(np.sqrt(np.mean(one**2))), float(np.sqrt(np.mean(other**2)))


@dataclass(frozen=True)
class Identified:
    """What is known of a robot after a recording."""

    task: str
    motion: Motion
    prior: Randomization
    fit: Fit
    gap: Gap
    seconds: float
    """That the fit took."""


def open_robot(task: str, kwargs: Mapping[str, Any]) -> RobotTask:
    """Opens a task whose robot can be identified.

    Args:
        task: Gymnasium id.
        kwargs: of the task.

    Raises:
        ConfigError: it has no robot of this package, or one whose base moves.
    """
    try:
        env = gymnasium.make(task, **kwargs).unwrapped
    except TypeError as error:  # unknown keyword
        raise ConfigError(mismatch(f"options of task '{task}'", error, "its keyword arguments")) from None
    if not isinstance(env, RobotTask):
        raise ConfigError(mismatch(f"task '{task}'", "no robot with torque motors", "a task of a robot, as arm_reach"))
    if env.interface.robot.floating_base:
        found = "a robot on a floating base, whose contacts no recording holds"
        raise ConfigError(mismatch(f"task '{task}'", found, "a robot with a fixed base, as arm_reach"))
    return env


def identify(
    path: str | Path,
    task: str,
    kwargs: Mapping[str, Any] | None = None,
    prior: str | Randomization = "strong",
    namespace: str = "",
    say: Say | None = None,
) -> Identified:
    """Fits the robot of a task to a recording.

    Args:
        path: a recording, or a plain bag.
        task: Gymnasium id of the task.
        kwargs: its keyword arguments.
        prior: how far the robot may be from its model: a preset of the task, or ranges.
        namespace: of a plain bag's topics.
        say: takes lines of progress.

    Raises:
        DdpgRobotError: the recording or the task does not do; says why.
    """
    began = time.perf_counter()
    env = open_robot(task, kwargs or {})
    robot, model = env.interface.robot, env.model
    ranges = ranges_of(prior, env.presets)
    plants = Plants(model, np.array([joint.velocity_limit for joint in robot.joints]))
    parameters = parameters_of(model, plants.link_names, robot.joint_names, ranges)
    motion = read_motion(path, robot, namespace)
    held_out = Shooting(model, motion, GAP_S, part=(FITTED_PART, 1.0))  # refuses, where it has to, before the work
    found = fit(model, plants, motion, parameters, HORIZON_S, (0.0, FITTED_PART), say)
    gap = measure_gap(held_out, plants, found)
    env.close()
    return Identified(task, motion, ranges, found, gap, time.perf_counter() - began)


def measure_gap(shooting: Shooting, plants: Plants, found: Fit) -> Gap:
    """Simulates a motion with the model as it is and as it was fitted.

    Args:
        shooting: over a part of the motion that was not fitted.
        plants: a copy of the model.
        found: the fit.
    """
    nominal = np.zeros(len(found.numbers))
    before, after = (
        shooting.simulate(plants.become(found.parameters, numbers), delay_of(found.parameters, numbers))
        for numbers in (nominal, found.numbers)
    )
    rms = [np.sqrt(np.mean((one - shooting.measured) ** 2, axis=0)) for one in (before, after)]
    return Gap(GAP_S, shooting.count, *rms, shooting.time, shooting.segment, shooting.measured, (before, after))


def randomization_of(found: Fit, preset: str = "default") -> dict[str, Any]:
    """A setting for the task option `randomization`: each fitted value's interval, the rest as in a preset."""
    setting: dict[str, Any] = {"preset": preset, "payload": [0.0, 0.0], "gravity_compensation": [1.0, 1.0]}
    count = {field: sum(p.field == field for p in found.parameters) for field in ("link_mass", "motor_strength")}
    each = {field: [[1.0, 1.0]] * count.get(field, count["motor_strength"]) for field in FACTORS}
    for parameter, (value, low, high) in zip(found.parameters, found.intervals()):
        least = LEAST_WIDTH["factor"] * value if parameter.is_factor else LEAST_WIDTH["ms"]
        kind = kinds()[parameter.field]
        ends = [max(kind.lowest, min(low, value - least)), min(kind.highest, max(high, value + least))]
        ends = [round(end, 5) for end in ends]
        if parameter.is_factor:
            each[parameter.field][parameter.index] = ends
        else:
            setting[parameter.field] = ends
    return {**setting, "each": each}


def as_json(found: Identified) -> dict[str, Any]:
    """Everything that was found, as JSON."""
    rows = []
    for parameter, (value, low, high), told in zip(found.fit.parameters, found.fit.intervals(), found.fit.told()):
        scale = parameter.nominal if parameter.is_factor else 1.0
        rows.append(
            {
                "field": parameter.field,
                "of": parameter.name,
                "value": value,
                "interval95": [low, high],
                "told_by_data": told,
                "in_units": [value * scale, low * scale, high * scale],
                "unit": parameter.unit,
            }
        )
    gap = {
        "simulation_s": found.gap.seconds,
        "simulations": found.gap.simulations,
        **{
            when: {
                "position_rad": found.gap.overall(when)[0],
                "velocity_rad_s": found.gap.overall(when)[1],
                "per_joint": getattr(found.gap, when).tolist(),
            }
            for when in ("before", "after")
        },
    }
    return {
        "task": found.task,
        "source": found.motion.source,
        "recorded_s": found.motion.usable_seconds,
        "prior": dataclasses.asdict(found.prior),
        "parameters": rows,
        "noise": {
            "position_rad": found.fit.noise.position.tolist(),
            "velocity_rad_s": found.fit.noise.velocity.tolist(),
        },
        "gap": gap,
        "simulations": found.fit.simulations,
        "evaluations": found.fit.evaluations,
        "fit_s": found.seconds,
    }
