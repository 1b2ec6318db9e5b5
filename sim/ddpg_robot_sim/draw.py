"""The robot of one episode, drawn from a `Randomization`: plain numbers that can be kept as JSON, and given back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot_sim.randomization import Kind, Randomization, decoded, kinds

Vector = tuple[float, ...]


@dataclass(frozen=True)
class Draw:
    """The robot of one episode: plain numbers, named and in units as the fields of `Randomization` they were drawn from."""

    seed: int
    """Of everything that is random within the episode: noise, drop-outs, jitter, directions of pushes."""
    link_mass: Vector
    link_inertia: Vector
    payload: float
    gravity_compensation: float
    joint_friction: Vector
    joint_damping: Vector
    armature: Vector
    contact_friction: float
    motor_strength: Vector
    corner_speed: float
    torque_drop: float
    effort_delay_ms: float
    effort_jitter_ms: float
    state_delay_ms: float
    state_jitter_ms: float
    state_dropout: float
    position_noise: float
    position_bias: Vector
    position_resolution: float
    velocity_noise: float
    orientation_noise: float
    orientation_bias: Vector
    angular_velocity_noise: float
    angular_velocity_bias: Vector
    push_interval: float
    push_impulse: float

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(mismatch("draw seed", self.seed, "a whole number >= 0"))
        for name, kind in kinds().items():
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                if not kind.lowest <= number <= kind.highest:
                    expected = f"{kind.lowest:g} to {kind.highest:g}"
                    raise ConfigError(mismatch(f"draw {name}", number, expected))

    def require(self, links: int, joints: int) -> None:
        """Raises ConfigError unless the draw is for a robot of so many links and joints."""
        for name, kind in kinds().items():
            size = _size(kind, links, joints)
            if size is not None and len(getattr(self, name)) != size:
                found = f"{len(getattr(self, name))} numbers"
                raise ConfigError(mismatch(f"draw {name}", found, f"{size}, one per {kind.per} of this robot"))


def draw(ranges: Randomization, np_random: np.random.Generator, links: int, joints: int) -> Draw:
    """Draws the robot of one episode, uniformly.

    Args:
        ranges: from which it is drawn.
        np_random: the episode's source of chance.
        links: number of links with mass of the robot.
        joints: number of its joints.
    """
    sizes = {name: _size(kind, links, joints) for name, kind in kinds().items()}
    numbers = iter(np_random.random(sum(size or 1 for size in sizes.values())).tolist())
    values: dict[str, Any] = {}
    for name, size in sizes.items():
        several = tuple(
            min(lower + (upper - lower) * next(numbers), upper) for lower, upper in ranges.of(name, size or 1)
        )
        values[name] = several[0] if size is None else several
    return Draw(seed=int(np_random.integers(2**32)), **values)


def draw_from(data: Draw | Mapping[str, Any]) -> Draw:
    """A draw, or its JSON form.

    Raises:
        ConfigError: a key is unknown or missing, or a value is no number or out of its bounds; says which.
    """
    return data if isinstance(data, Draw) else decoded(Draw, data)


def _size(kind: Kind, links: int, joints: int) -> int | None:
    return {"robot": None, "link": links, "joint": joints, "axis": 3}[kind.per]
