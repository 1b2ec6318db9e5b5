"""Robots that differ from the model in a known way: one quantity at a time, two at a time, or all of them together.

Randomisation is what a policy was trained on; these are the questions it is asked afterwards.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot_sim.randomization import Randomization, Range, kinds

Level = float


@dataclass(frozen=True)
class Axis:
    """One quantity by which a robot may differ."""

    label: str
    """Its name beside a scale, with the unit where it has one."""
    words: str
    """What it is, as a page says it."""
    unit: str
    nominal: Level
    """The model's own level."""
    levels: tuple[Level, ...]
    """Those that a policy is asked about, in rising order, the nominal one among them."""
    coarse: tuple[Level, ...]
    """Fewer levels, for a grid of two axes; none for an axis that is in no grid."""
    shares: dict[str, float]
    """Field of `Randomization` -> what part of the level it is."""

    def ranges(self, level: Level) -> dict[str, Range]:
        """The fields of `Randomization` at this level: everything of the robot has it, nothing is left to chance."""
        return {name: (share * level, share * level) for name, share in self.shares.items()}


AXES = {
    "mass": Axis(
        "mass", "mass of all links", "factor", 1.0, (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4), (0.7, 0.8, 1.0, 1.2, 1.3),
        {"link_mass": 1.0},
    ),
    "friction": Axis(
        "friction", "friction of joints and contacts", "factor", 1.0, (0.25, 0.5, 1.0, 2.0, 4.0), (0.25, 0.5, 1.0, 2.0, 4.0),
        {"joint_friction": 1.0, "contact_friction": 1.0},
    ),
    "motor": Axis(
        "motor", "strength of all motors", "factor", 1.0, (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2), (0.7, 0.8, 0.9, 1.0, 1.1),
        {"motor_strength": 1.0},
    ),
    "delay": Axis(
        "delay, ms", "delay, half of it before the policy, half after", "ms", 0.0, (0.0, 4.0, 8.0, 12.0, 16.0, 20.0, 24.0, 32.0),
        (0.0, 8.0, 16.0, 20.0, 24.0), {"state_delay_ms": 0.5, "effort_delay_ms": 0.5},
    ),
    "encoder": Axis(
        "encoder, rad", "noise of joint positions", "rad", 0.0, (0.0, 0.0025, 0.005, 0.01, 0.02), (),
        {"position_noise": 1.0},
    ),
    "dropout": Axis(
        "dropout", "measurements that are lost", "part", 0.0, (0.0, 0.05, 0.1, 0.2, 0.4), (),
        {"state_dropout": 1.0},
    ),
}  # fmt: skip
"""Name -> axis. Delays are whole physics steps of 2 ms on either side."""

GRIDS = (("mass", "friction"), ("delay", "motor"))
"""Axes that are varied two at a time."""

STRESS: dict[str, dict[str, Range]] = {
    "mass": {"link_mass": (0.8, 1.2)},
    "friction": {"joint_friction": (0.5, 2.0), "contact_friction": (0.5, 2.0)},
    "motor": {"motor_strength": (0.9, 1.1)},
    "delay": {"state_delay_ms": (8.0, 8.0), "effort_delay_ms": (8.0, 8.0)},
    "encoder": {"position_noise": (0.005, 0.005)},
    "dropout": {"state_dropout": (0.05, 0.05)},
}
"""The combined stress, part by part: masses, friction and motors drawn anew in each episode for each link and joint; delay,
noise (standard deviation) and drop-outs always in full. 15 ms are asked for, 16 ms are eight whole physics steps: four of
them before the policy and four after, as on a bus that takes as long either way."""


def changed(**levels: Level) -> Randomization:
    """A robot whose quantities are at these levels, the others at the model's own: axis -> level.

    Raises:
        ConfigError: an axis that there is not, or a level that cannot be.
    """
    fields: dict[str, Range] = {}
    for name, level in levels.items():
        if name not in AXES:
            raise ConfigError(mismatch("axis", repr(name), "a quantity of the robot", AXES))
        fields.update(AXES[name].ranges(level))
    return Randomization(**fields)


def stressed(*parts: str) -> Randomization:
    """The named parts of `STRESS` together; all of them where none is named. Raises ConfigError on an unknown part."""
    fields: dict[str, Range] = {}
    for name in parts or tuple(STRESS):
        if name not in STRESS:
            raise ConfigError(mismatch("part of the stress", repr(name), "one of", STRESS))
        fields.update(STRESS[name])
    return Randomization(**fields)


def corner(side: int) -> Randomization:
    """The stress at an end of its ranges: side 0, everything light, slippery and weak; side 1, heavy, stiff and strong."""
    whole = stressed()
    ends = {n: (v[side], v[side]) for n, v in asdict(whole).items() if n in kinds() and v[0] != v[1]}
    return replace(whole, **ends)


def as_option(ranges: Randomization) -> Any:
    """What `ranges` is as the value of a task's option `randomization`: nothing but what differs from the model."""
    if ranges.changes_nothing:
        return "off"
    plain = asdict(Randomization())
    return {name: list(value) for name, value in asdict(ranges).items() if name in kinds() and value != plain[name]}
