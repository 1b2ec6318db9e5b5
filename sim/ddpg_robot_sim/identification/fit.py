"""Maximum a posteriori fit of a robot's parameters, with intervals: SciPy's least squares over multiple shooting.

The residuals are what the simulator gets wrong of position and velocity, in standard deviations of the measurement, and
how far each parameter is from the model, in standard deviations of its prior. What the motion tells overrules the prior;
what it does not tell stays where the model has it, with the prior's own width, and is reported as such.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.optimize import least_squares

from ddpg_robot.state import Array
from ddpg_robot_sim.identification.motion import Motion
from ddpg_robot_sim.identification.parameters import Parameter, Plants, delay_of
from ddpg_robot_sim.identification.shooting import Noise, Shooting

FACTOR_STEP, DELAY_STEP_MS = 0.01, 0.25
"""Steps of the finite differences: of a factor's logarithm, and of the delay."""
ROUGH = 15
"""Simulations of the first pass, which only has to come near; the second has them all, and the noise that the first left."""
SAME_POINT = 0.1
"""A Jacobian still holds where no parameter has moved by more than this part of its prior's deviation."""
MOST = 80
EVALUATIONS = 15
TOLERANCE = 1e-4
LEAST_NOISE = (2e-6, 2e-5)
"""rad and rad/s: a simulation in steps of 2 ms, read between them, is not better than that."""
CONFIDENCE = 1.96
"""Half the width of a 95 % interval, in standard deviations."""
TOLD = 0.5
"""A parameter is told by the data where its interval is at most this part of its prior's."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Fit:
    """What was found."""

    parameters: list[Parameter]
    numbers: Array
    """Logarithms of factors, ms ``(p,)``."""
    deviation: Array
    """Their standard deviations ``(p,)``."""
    noise: Noise
    """Of the measurement, as the fit leaves it."""
    simulations: int
    evaluations: int

    def told(self) -> list[bool]:
        """Whether the data, and not the prior, say each parameter."""
        return [bool(d <= TOLD * p.spread) for p, d in zip(self.parameters, self.deviation)]

    def intervals(self) -> list[tuple[float, float, float]]:
        """Value and 95 % interval of each parameter: factors, ms."""
        rows = []
        for parameter, number, deviation in zip(self.parameters, self.numbers, self.deviation):
            ends = np.clip(
                [number - CONFIDENCE * deviation, number + CONFIDENCE * deviation], parameter.lower, parameter.upper
            )
            rows.append((parameter.value(float(number)), *(parameter.value(float(end)) for end in ends)))
        return rows


class _Problem:
    """Residuals and their Jacobian for the optimiser."""

    def __init__(self, shooting: Shooting, plants: Plants, parameters: list[Parameter]) -> None:
        self.shooting, self.plants, self.parameters = shooting, plants, parameters
        self.start = np.array([p.start for p in parameters])
        self.spread = np.array([p.spread for p in parameters])
        self.evaluations = 0
        self._at: tuple[bytes, Array] | None = None
        self._tangent: tuple[Array, Array] | None = None

    def linearise(self, numbers: Array, noise: Noise) -> None:
        """From now on weighs with this noise, and discounts what a wrong start does near these numbers."""
        self.noise = noise
        model = self.plants.become(self.parameters, numbers)
        self._effects = self.shooting.start_effects(model, delay_of(self.parameters, numbers), noise)
        self._at = self._tangent = None

    def states(self, numbers: Array) -> Array:
        return self.shooting.simulate(self.plants.become(self.parameters, numbers), delay_of(self.parameters, numbers))

    def _base(self, numbers: Array) -> Array:
        if self._at is None or self._at[0] != numbers.tobytes():
            self._at = (numbers.tobytes(), self.states(numbers))
        return self._at[1]

    def residuals(self, numbers: Array) -> Array:
        """``(samples * 2 n + p,)``."""
        self.evaluations += 1
        off = (self._base(numbers) - self.shooting.measured) / self.noise.both
        return np.concatenate([self.shooting.whiten(off, self._effects), (numbers - self.start) / self.spread])

    def jacobian(self, numbers: Array) -> Array:
        """``(samples * 2 n + p, p)``; costs as much as p simulations and hardly changes: an old one is taken where it will do."""
        if self._tangent is None or np.abs((numbers - self._tangent[0]) / self.spread).max() > SAME_POINT:
            self._tangent = (numbers.copy(), self._differences(numbers))
        return self._tangent[1]

    def _differences(self, numbers: Array) -> Array:
        base, columns = self._base(numbers), []
        for i, parameter in enumerate(self.parameters):
            step = FACTOR_STEP if parameter.is_factor else DELAY_STEP_MS
            if numbers[i] + step > parameter.upper:
                step = -step
            moved = numbers.copy()
            moved[i] += step
            change = (self.states(moved) - base) / (self.noise.both * step)
            columns.append(self.shooting.whiten(change, self._effects))
        return np.concatenate([np.stack(columns, axis=1), np.diag(1 / self.spread)])


def fit(
    model: mujoco.MjModel,
    plants: Plants,
    motion: Motion,
    parameters: list[Parameter],
    horizon: float,
    part: tuple[float, float] = (0.0, 1.0),
    say: Say | None = None,
) -> Fit:
    """Fits parameters to a motion.

    Args:
        model: of the task, at its own values.
        plants: a copy of the model.
        motion: what the robot did.
        parameters: what is fitted.
        horizon: length of a simulation, s.
        part: (from, to) of the motion's usable time that is fitted, 0 to 1.
        say: takes a line of progress.

    Raises:
        RecordingError: no stretch of the motion is as long as a simulation.
    """
    numbers, noise = np.array([p.start for p in parameters]), _neighbours_noise(motion)
    lower, upper = (np.array([getattr(p, side) for p in parameters]) for side in ("lower", "upper"))
    evaluations = 0
    for most in (ROUGH, MOST):
        problem = _Problem(Shooting(model, motion, horizon, most, part), plants, parameters)
        problem.linearise(numbers, noise)
        found = least_squares(
            problem.residuals,
            np.clip(numbers, lower + 1e-6, upper - 1e-6),
            problem.jacobian,
            (lower, upper),
            x_scale=problem.spread,
            ftol=TOLERANCE,
            xtol=TOLERANCE,
            max_nfev=EVALUATIONS,
        )
        numbers, noise = found.x, _residual_noise(problem, found.x)
        evaluations += problem.evaluations
        if say is not None:
            say(f"{problem.shooting.count} simulations, {found.nfev} evaluations, cost {found.cost:.4g}")
    return Fit(parameters, numbers, _deviation(problem, numbers), noise, problem.shooting.count, evaluations)


def _neighbours_noise(motion: Motion) -> Noise:
    """Noise that third differences of neighbouring states show; motion has hardly any."""
    found = []
    for values, least in ((motion.position, LEAST_NOISE[0]), (motion.velocity, LEAST_NOISE[1])):
        third = np.diff(values, 3, axis=0)
        found.append(np.maximum(1.4826 * np.median(np.abs(third), axis=0) / np.sqrt(20.0), least))
    return Noise(*found)


def _residual_noise(problem: _Problem, numbers: Array) -> Noise:
    """Noise that explains what the fit leaves; errors of the start are taken out first."""
    off = (problem.states(numbers) - problem.shooting.measured) / problem.noise.both
    white = problem.shooting.whiten(off, problem._effects).reshape(off.shape)
    scale = 1.4826 * np.median(np.abs(white), axis=0) * problem.noise.both
    n = len(scale) // 2
    return Noise(np.maximum(scale[:n], LEAST_NOISE[0]), np.maximum(scale[n:], LEAST_NOISE[1]))


def _deviation(problem: _Problem, numbers: Array) -> Array:
    """Standard deviations of the estimate ``(p,)``: the sandwich estimator, one cluster per simulation.

    Within a simulation residuals may depend on one another (clocks, whatever no parameter describes); between them not. So
    the spread of the simulations' own gradients, not a belief in white noise, says how sure the fit is.
    """
    jacobian, residual = problem.jacobian(numbers), problem.residuals(numbers)
    p = len(numbers)
    prior = np.diag(1 / problem.spread**2)
    data, errors = jacobian[:-p], residual[:-p]
    bread = np.linalg.inv(data.T @ data + prior)
    rows = np.repeat(problem.shooting.segment, problem.shooting.measured.shape[1])
    gradients = np.zeros((problem.shooting.count, p))
    np.add.at(gradients, rows, data * errors[:, None])
    gradients -= gradients.mean(axis=0)
    count = problem.shooting.count
    meat = gradients.T @ gradients * (count / max(1, count - 1))
    sandwich = bread @ (meat + prior) @ bread
    return np.sqrt(np.maximum(np.diag(sandwich), np.diag(bread)))
