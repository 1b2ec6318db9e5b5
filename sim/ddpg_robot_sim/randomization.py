"""Domain randomisation: how far the simulated robot may differ from its model.

Ranges are uniform; `draw` draws an episode's robot from them. docs/randomization.md says where the presets come from.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from ddpg_robot.errors import ConfigError, SpecError, mismatch
from ddpg_robot.spec_json import from_dict

Range = tuple[float, float]


class Kind(NamedTuple):
    """What a range is about."""

    nominal: float | None
    """The model's own value, which a curriculum begins at; None where it begins at the full range."""
    lowest: float
    highest: float
    per: str = "robot"
    """What has a value of its own in a draw: ``robot``, ``link``, ``joint`` or ``axis``."""


@dataclass(frozen=True)
class Randomization:
    """Ranges (lower, upper) from which a robot is drawn at the start of each episode. The default changes nothing."""

    link_mass: Annotated[Range, Kind(1.0, 0.1, 10.0, "link")] = (1.0, 1.0)
    """Mass of each link, and its inertia with it; a factor."""
    link_inertia: Annotated[Range, Kind(1.0, 0.1, 10.0, "link")] = (1.0, 1.0)
    """Inertia of each link at the same mass; a factor."""
    payload: Annotated[Range, Kind(0.0, 0.0, 100.0)] = (0.0, 0.0)
    """Mass that the robot's firmware knows nothing of, kg, in the model's body `payload` (the hand, the trunk)."""
    gravity_compensation: Annotated[Range, Kind(1.0, 0.0, 2.0)] = (1.0, 1.0)
    """Torque with which the firmware holds the nominal links against gravity; a factor."""
    joint_friction: Annotated[Range, Kind(1.0, 0.0, 100.0, "joint")] = (1.0, 1.0)
    """Friction loss of each joint; a factor."""
    joint_damping: Annotated[Range, Kind(1.0, 0.0, 100.0, "joint")] = (1.0, 1.0)
    """Damping of each joint; a factor."""
    armature: Annotated[Range, Kind(1.0, 0.1, 10.0, "joint")] = (1.0, 1.0)
    """Inertia of each joint's rotor as seen behind the gear; a factor."""
    contact_friction: Annotated[Range, Kind(1.0, 0.01, 10.0)] = (1.0, 1.0)
    """Friction of all contacts; a factor."""

    motor_strength: Annotated[Range, Kind(1.0, 0.01, 2.0, "joint")] = (1.0, 1.0)
    """Torque that each motor exerts of what it is asked for; a factor."""
    corner_speed: Annotated[Range, Kind(None, 0.0, 0.99)] = (0.6, 0.6)
    """Speed beyond which driving torque fails, a part of the velocity limit. Braking torque does not."""
    torque_drop: Annotated[Range, Kind(0.0, 0.0, 1.0)] = (0.0, 0.0)
    """Part of the effort limit that is gone at the velocity limit, linearly from the corner speed."""
    effort_delay_ms: Annotated[Range, Kind(0.0, 0.0, 100.0)] = (0.0, 0.0)
    """From a command to the motors, ms; to the nearest physics step."""
    effort_jitter_ms: Annotated[Range, Kind(0.0, 0.0, 100.0)] = (0.0, 0.0)
    """Up to this much is added to the delay of each command, ms; one that a newer one overtakes is lost."""

    state_delay_ms: Annotated[Range, Kind(0.0, 0.0, 100.0)] = (0.0, 0.0)
    """From a measurement to the policy, ms; to the nearest physics step."""
    state_jitter_ms: Annotated[Range, Kind(0.0, 0.0, 100.0)] = (0.0, 0.0)
    """Up to this much is added to the delay of each measurement, ms."""
    state_dropout: Annotated[Range, Kind(0.0, 0.0, 0.9)] = (0.0, 0.0)
    """Probability that a measurement is lost and the one before stands."""
    position_noise: Annotated[Range, Kind(0.0, 0.0, 0.5)] = (0.0, 0.0)
    """Standard deviation of joint positions, rad."""
    position_bias: Annotated[Range, Kind(0.0, -0.5, 0.5, "joint")] = (0.0, 0.0)
    """Error of each joint's zero, rad."""
    position_resolution: Annotated[Range, Kind(0.0, 0.0, 0.5)] = (0.0, 0.0)
    """Step of the joint encoders, rad; 0 for none."""
    velocity_noise: Annotated[Range, Kind(0.0, 0.0, 10.0)] = (0.0, 0.0)
    """Standard deviation of joint velocities, rad/s."""
    orientation_noise: Annotated[Range, Kind(0.0, 0.0, 0.5)] = (0.0, 0.0)
    """Standard deviation of the base's orientation about each of its axes, rad (floating base)."""
    orientation_bias: Annotated[Range, Kind(0.0, -0.5, 0.5, "axis")] = (0.0, 0.0)
    """Error of the IMU's mounting about each axis, rad (floating base)."""
    angular_velocity_noise: Annotated[Range, Kind(0.0, 0.0, 10.0)] = (0.0, 0.0)
    """Standard deviation of the base's angular velocity, rad/s (floating base)."""
    angular_velocity_bias: Annotated[Range, Kind(0.0, -1.0, 1.0, "axis")] = (0.0, 0.0)
    """Error of the gyroscope's zero about each axis, rad/s (floating base)."""

    push_interval: Annotated[Range, Kind(None, 0.1, 1e4)] = (2.0, 2.0)
    """Time from push to push, s."""
    push_impulse: Annotated[Range, Kind(0.0, 0.0, 1000.0)] = (0.0, 0.0)
    """Size of each push, N·s, on the model's body `payload`, in a direction of its own."""

    each: dict[str, tuple[Range, ...]] | None = None
    """Ranges of single links, joints or axes, by the name of a field, one for each; they take the place of the shared one."""
    curriculum: float = 0.0
    """Part of a training over which the ranges grow from the model's own values to the full ones; 0: full from the start."""

    def __post_init__(self) -> None:
        for name, kind in kinds().items():
            _check(name, kind, getattr(self, name))
        for name, ranges in (self.each or {}).items():
            if name not in (several := [n for n, kind in kinds().items() if kind.per != "robot"]):
                raise ConfigError(
                    mismatch("randomization each", repr(name), "what links, joints or axes have", several)
                )
            for index, one in enumerate(ranges):
                _check(f"each.{name}[{index}]", kinds()[name], one)
        if not 0 <= self.curriculum <= 1:
            raise ConfigError(mismatch("randomization curriculum", self.curriculum, "a part of a training, 0 to 1"))

    def scaled(self, fraction: float) -> Randomization:
        """The ranges drawn together around their nominal values: 0 is the model itself, 1 leaves them as they are.

        Raises:
            ConfigError: the fraction is not within 0 to 1.
        """
        if not 0 <= fraction <= 1:
            raise ConfigError(mismatch("fraction of randomization", fraction, "0 to 1"))
        if fraction == 1:
            return self

        def shrunk(one: Range, nominal: float) -> Range:
            lower, upper = (nominal + fraction * (bound - nominal) for bound in one)
            return lower, upper

        nominal = {name: kind.nominal for name, kind in kinds().items() if kind.nominal is not None}
        ranges = {name: shrunk(getattr(self, name), own) for name, own in nominal.items()}
        each = {
            name: tuple(shrunk(one, nominal[name]) for one in several) for name, several in (self.each or {}).items()
        }
        return dataclasses.replace(self, **ranges, each=each or None)

    def of(self, name: str, size: int) -> tuple[Range, ...]:
        """The ranges of a field's links, joints or axes ``(size)``.

        Raises:
            ConfigError: `each` has another number of them.
        """
        several = (self.each or {}).get(name)
        if several is None:
            return (getattr(self, name),) * size
        if len(several) != size:
            raise ConfigError(
                mismatch(f"randomization each.{name}", f"{len(several)} ranges", f"{size} for this robot")
            )
        return several

    def at(self, progress: float) -> Randomization:
        """The ranges at this part, 0 to 1, of a training."""
        return self if progress >= self.curriculum else self.scaled(progress / self.curriculum)

    @property
    def changes_nothing(self) -> bool:
        """True where every range is the model's own value."""
        return not self.each and all(
            getattr(self, n) == (k.nominal, k.nominal) for n, k in kinds().items() if k.nominal is not None
        )


def _check(name: str, kind: Kind, value: Range) -> None:
    if not (len(value) == 2 and kind.lowest <= value[0] <= value[1] <= kind.highest):
        expected = f"(lower, upper) with {kind.lowest:g} <= lower <= upper <= {kind.highest:g}"
        raise ConfigError(mismatch(f"randomization {name}", value, expected))


def ranges_of(setting: str | Mapping[str, Any] | Randomization, presets: Mapping[str, Randomization]) -> Randomization:
    """What a task's setting means.

    Args:
        setting: name of a preset; a JSON file, as `ddpg-robot identify` writes it; or fields of `Randomization`, with the
            key `preset` for those not given (`off` otherwise).
        presets: name -> ranges.

    Raises:
        ConfigError: an unknown preset or field, or a range that is none; says which.
    """
    if isinstance(setting, Randomization):
        return setting
    if isinstance(setting, str) and setting.endswith(".json"):
        setting = _read(Path(setting))
    fields = dict(setting) if isinstance(setting, Mapping) else {"preset": setting}
    name = fields.pop("preset", "off")
    if not isinstance(name, str) or name not in presets:
        expected = "a preset, a .json file, or an object of ranges"
        raise ConfigError(mismatch("randomization", repr(name), expected, presets))
    base = dataclasses.asdict(presets[name])
    return decoded(Randomization, {**base, **fields})


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        expected = "a JSON file of an object of ranges"
        raise ConfigError(mismatch(f"randomization {path}", " ".join(str(error).split()), expected)) from None


@cache
def kinds() -> dict[str, Kind]:
    """Field -> what it is about, for every range of `Randomization`."""
    hints = typing.get_type_hints(Randomization, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items() if typing.get_origin(hint) is Annotated}


def decoded(cls: Any, data: Any) -> Any:
    """`spec_json.from_dict`, whose complaint is about a setting here. Raises ConfigError."""
    try:
        return from_dict(cls, data)
    except SpecError as error:
        raise ConfigError(str(error)) from None


PRESETS = {
    "off": Randomization(),
    "default": Randomization(
        link_mass=(0.8, 1.2),
        link_inertia=(0.9, 1.1),
        payload=(0.0, 0.5),
        gravity_compensation=(0.97, 1.03),
        joint_friction=(0.5, 2.0),
        joint_damping=(0.7, 1.4),
        armature=(0.8, 1.2),
        contact_friction=(0.5, 2.0),
        motor_strength=(0.9, 1.1),
        corner_speed=(0.5, 0.9),
        torque_drop=(0.0, 0.3),
        effort_delay_ms=(0.0, 10.0),
        effort_jitter_ms=(0.0, 2.0),
        state_delay_ms=(0.0, 10.0),
        state_jitter_ms=(0.0, 2.0),
        state_dropout=(0.0, 0.05),
        position_noise=(0.0, 0.005),
        position_bias=(-0.002, 0.002),
        position_resolution=(0.0, 0.0004),
        velocity_noise=(0.0, 0.05),
        orientation_noise=(0.0, 0.005),
        orientation_bias=(-0.01, 0.01),
        angular_velocity_noise=(0.0, 0.05),
        angular_velocity_bias=(-0.02, 0.02),
        push_interval=(1.0, 3.0),
        push_impulse=(0.0, 0.5),
    ),
    "strong": Randomization(
        link_mass=(0.7, 1.3),
        link_inertia=(0.7, 1.3),
        payload=(0.0, 1.0),
        gravity_compensation=(0.95, 1.05),
        joint_friction=(0.25, 4.0),
        joint_damping=(0.5, 2.0),
        armature=(0.6, 1.5),
        contact_friction=(0.4, 2.5),
        motor_strength=(0.8, 1.2),
        corner_speed=(0.4, 0.8),
        torque_drop=(0.0, 0.6),
        effort_delay_ms=(0.0, 15.0),
        effort_jitter_ms=(0.0, 4.0),
        state_delay_ms=(0.0, 15.0),
        state_jitter_ms=(0.0, 4.0),
        state_dropout=(0.0, 0.1),
        position_noise=(0.0, 0.01),
        position_bias=(-0.005, 0.005),
        position_resolution=(0.0, 0.0016),
        velocity_noise=(0.0, 0.1),
        orientation_noise=(0.0, 0.02),
        orientation_bias=(-0.03, 0.03),
        angular_velocity_noise=(0.0, 0.2),
        angular_velocity_bias=(-0.05, 0.05),
        push_interval=(0.7, 2.0),
        push_impulse=(0.0, 2.0),
    ),
}
"""`default`: a good robot, well measured. `strong`: a worn one, measured roughly, behind a slow bus."""
