"""What is fitted: a factor of the model's own value for each link or joint, and one delay."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.state import Array
from ddpg_robot_sim.draw import Draw, draw
from ddpg_robot_sim.hardware import Hardware
from ddpg_robot_sim.randomization import Randomization, kinds

FACTORS = ("link_mass", "joint_damping", "joint_friction", "armature", "motor_strength")
"""Fields of a `Draw` that are fitted, each as factors."""
DELAY = "effort_delay_ms"
UNIFORM = math.sqrt(3.0)
"""Half the width of a uniform distribution, in its standard deviations."""


@dataclass(frozen=True)
class Parameter:
    """One number that is fitted."""

    field: str
    """Of a `Draw`."""
    index: int
    """Which link or joint."""
    name: str
    """Of the link or joint, or of the delay."""
    nominal: float
    """The model's own value: kg, N·m·s/rad, N·m, kg·m², 1, ms."""
    unit: str
    start: float
    """Mean of the prior: the logarithm of a factor, or ms."""
    spread: float
    """Standard deviation of the prior, likewise."""
    lower: float
    """Least value that is looked at, likewise."""
    upper: float

    @property
    def is_factor(self) -> bool:
        """True for the logarithm of a factor, False for a delay in ms."""
        return self.field != DELAY

    def value(self, number: float) -> float:
        """The factor, or ms, of a fitted number."""
        return math.exp(number) if self.is_factor else number


class Plants:
    """A copy of a task's model that becomes one robot after the other, by the very code that makes a drawn robot.

    Args:
        model: of the task, at its own values.
        velocity_limit: of each actuated joint ``(n,)``, rad/s.
    """

    def __init__(self, model: mujoco.MjModel, velocity_limit: Array) -> None:
        self._model = copy.copy(model)
        self._hardware = Hardware(self._model, mujoco.MjData(self._model), velocity_limit, lambda state: None)
        self.link_names = self._hardware.link_names
        self._nominal = draw(Randomization(), np.random.default_rng(0), len(self.link_names), model.nu)

    def become(self, parameters: Sequence[Parameter], numbers: Array) -> mujoco.MjModel:
        """The model with the physics of fitted numbers ``(p,)``; the same object at every call."""
        self._hardware.fit(draw_of(self._nominal, parameters, numbers))
        return self._model


def draw_of(nominal: Draw, parameters: Sequence[Parameter], numbers: Array) -> Draw:
    """A robot with fitted numbers ``(p,)``; what is not fitted as in `nominal`."""
    values = {field: list(getattr(nominal, field)) for field in FACTORS}
    delay = 0.0
    for parameter, number in zip(parameters, numbers):
        if parameter.is_factor:
            values[parameter.field][parameter.index] = parameter.value(float(number))
        else:
            delay = max(0.0, float(number))
    return dataclasses.replace(nominal, **{field: tuple(v) for field, v in values.items()}, effort_delay_ms=delay)


def parameters_of(
    model: mujoco.MjModel, links: Sequence[str], joints: Sequence[str], prior: Randomization
) -> list[Parameter]:
    """Everything that is fitted of a model, with priors as wide as a randomisation's ranges.

    Raises:
        ConfigError: a range of the prior is a single value, so that nothing of it could be fitted.
    """
    dofs = model.jnt_dofadr[model.actuator_trnid[:, 0]]
    own = {
        "link_mass": ("kg", links, np.array([model.body(name).mass[0] for name in links])),
        "joint_damping": ("N·m·s/rad", joints, model.dof_damping[dofs].ravel()),
        "joint_friction": ("N·m", joints, model.dof_frictionloss[dofs].ravel()),
        "armature": ("kg·m²", joints, model.dof_armature[dofs].ravel()),
        "motor_strength": ("", joints, np.ones(len(joints))),
    }
    found = []
    for field, (unit, names, nominal) in own.items():
        kind = kinds()[field]
        lower, upper = getattr(prior, field)
        spread = max(abs(math.log(lower)), abs(math.log(upper))) / UNIFORM if lower > 0 else 0.0
        if not spread > 0:
            raise ConfigError(mismatch(f"prior {field}", (lower, upper), "a range around 1, with 0 < lower"))
        low, high = math.log(max(kind.lowest, 0.02)), math.log(min(kind.highest, 50.0))
        for index, name in enumerate(names):
            if nominal[index] > 0:  # a factor of nothing is nothing
                found.append(Parameter(field, index, name, float(nominal[index]), unit, 0.0, spread, low, high))
    lower, upper = prior.effort_delay_ms
    spread = max(upper - lower, 1.0) / (2 * UNIFORM)
    found.append(Parameter(DELAY, 0, "effort delay", 0.0, "ms", (lower + upper) / 2, spread, 0.0, 50.0))
    return found


def delay_of(parameters: Sequence[Parameter], numbers: Array) -> float:
    """The delay among fitted numbers, s."""
    return sum(float(x) for p, x in zip(parameters, numbers) if p.field == DELAY) * 1e-3
