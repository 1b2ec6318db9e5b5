"""The task file of a robot of one's own: what its model does not say, in TOML. `new_robot` writes it, people edit it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ddpg_robot.errors import ConfigError, SpecError, mismatch
from ddpg_robot.spec import CommandSpec, ControlSpec, JointSpec, Vector
from ddpg_robot.spec_json import from_dict, to_dict

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LARGEST_FILE = 1024 * 1024
"""Bytes of a task file."""
HEAVIEST_ROTOR = 1e3
"""Largest armature, kg m^2."""
LIMITS = ("effort_limit", "velocity_limit", "position_lower", "position_upper")


@dataclass(frozen=True)
class RobotJoints:
    """The joints from the base to the end effector; a number for each in every field."""

    name: tuple[str, ...]
    effort_limit: Vector
    """Largest torque, N·m."""
    velocity_limit: Vector
    """Largest speed, rad/s."""
    position_lower: Vector
    """Lower end stop, rad."""
    position_upper: Vector
    """Upper end stop, rad."""
    effort_rate_limit: Vector
    """Largest change of torque, N·m/s."""
    trip_damping: Vector
    """Damping that stops the joint after a trip, N·m·s/rad."""
    armature: Vector
    """Inertia of the rotor behind the gear, kg m^2."""
    home: Vector
    """Pose that episodes begin around, rad."""
    kp: Vector
    """Mode pd: stiffness, N·m/rad."""
    kd: Vector
    """Mode pd: damping, N·m·s/rad."""
    target_range: Vector
    """Mode pd: farthest joint target, from the measured position, rad."""
    effort_range: Vector
    """Mode effort: what the policy may ask for, a share of the effort limit."""

    def __post_init__(self) -> None:
        for field, values in vars(self).items():
            if len(values) != len(self.name):
                found, expected = f"{len(values)} values", f"{len(self.name)}, one per joint"
                raise ConfigError(mismatch(f"joints.{field}", found, expected))
        for name, lower, home, upper in zip(self.name, self.position_lower, self.home, self.position_upper):
            if not lower <= home <= upper:
                raise ConfigError(mismatch(f"joints.home of '{name}'", home, f"within its limits, {lower} .. {upper}"))
        shares = (("target_range", math.pi, "rad"), ("effort_range", 1.0, "of the effort limit"))
        for field, most, unit in shares:
            for name, value in zip(self.name, getattr(self, field)):
                if not 0 < value <= most:
                    expected = f"more than 0, at most {most:.4g} {unit}"
                    raise ConfigError(mismatch(f"joints.{field} of '{name}'", value, expected))
        for name, value in zip(self.name, self.armature):
            if not 0 <= value <= HEAVIEST_ROTOR:
                raise ConfigError(mismatch(f"joints.armature of '{name}'", value, f"0 to {HEAVIEST_ROTOR:g} kg·m²"))


@dataclass(frozen=True)
class RobotControl:
    """When the policy acts, and how."""

    mode: Literal["effort", "pd"]
    """Of `train` without --control-mode."""
    period: float
    """Time between two runs of the policy, s."""
    ticks_per_action: int
    """Ticks of control law and safety filter in a period."""


@dataclass(frozen=True)
class RobotTarget:
    """Where the end effector is sent to, and from where."""

    lower: Vector
    """Lower corner of the box of targets, m, in the model's world frame."""
    upper: Vector
    """Upper corner, m."""
    start_spread: float
    """An episode begins within so much of home, rad, with the end effector in the box."""
    seconds: float
    """Length of an episode, s."""

    def __post_init__(self) -> None:
        for field, most, unit in (("start_spread", math.pi, "rad"), ("seconds", 60.0, "s")):
            value = getattr(self, field)
            if not 0 < value <= most:
                raise ConfigError(mismatch(f"target.{field}", value, f"more than 0, at most {most:.4g} {unit}"))


@dataclass(frozen=True)
class RobotFile:
    """A robot of one's own, and its task: to bring the end effector to a point."""

    name: str
    model: str
    """MJCF or URDF file; relative to the task file."""
    end_effector: str
    """Site or body of the model."""
    gravity_compensated: bool
    """The robot's firmware holds its weight; False leaves that to the policy."""
    contacts: bool
    """Links collide with one another and with the model's surroundings."""
    joints: RobotJoints
    control: RobotControl
    target: RobotTarget

    def __post_init__(self) -> None:
        self.joint_specs(), self.control_spec(None), self.command_spec()  # each refuses what cannot be

    def joint_specs(self) -> tuple[JointSpec, ...]:
        """Joints and limits, in the order of the chain."""
        j = self.joints
        limits = zip(j.name, *(getattr(j, field) for field in LIMITS), j.trip_damping, j.effort_rate_limit)
        return tuple(JointSpec(*values) for values in limits)

    def control_spec(self, mode: str | None) -> ControlSpec:
        """Control in this mode; None is the file's own."""
        mode = mode or self.control.mode
        gains = (self.joints.kp, self.joints.kd) if mode == "pd" else ()
        return ControlSpec(self.control.period, mode, self.control.ticks_per_action, *gains)  # type: ignore[arg-type]

    def command_spec(self) -> CommandSpec:
        """The box of targets."""
        return CommandSpec("point", "base", 3, "m", self.target.lower, self.target.upper)

    @property
    def physics_step(self) -> float:
        """The longest physics step of at most 2 ms of which a tick is a whole multiple, s."""
        tick = self.control.period / self.control.ticks_per_action
        return tick / math.ceil(tick / 0.002 - 1e-9)

    def content(self) -> dict[str, Any]:
        """What the file says, as JSON data."""
        return dict(json.loads(json.dumps(to_dict(self))))


def read_robot_file(path: Path) -> RobotFile:
    """A task file; the path of its model becomes absolute.

    Raises:
        ConfigError: there is none, it is no TOML, a key is unknown or missing, or a value is out of range; says which.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ConfigError(mismatch("task file", f"nothing at {path}", "a TOML file that `ddpg-robot new-robot` wrote"))
    if path.stat().st_size > LARGEST_FILE:
        raise ConfigError(mismatch(f"task file {path.name}", "more than 1 MiB", "a TOML file of one robot"))
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not UTF-8, or not TOML
        raise ConfigError(mismatch(f"task file {path.name}", str(error), "TOML")) from None
    if isinstance(data.get("model"), str):
        data["model"] = str((path.parent / Path(data["model"]).expanduser()).resolve())
    return robot_of(data, f"task file {path.name}")


def robot_of(data: Mapping[str, Any], where: str = "robot") -> RobotFile:
    """A robot from what its file says.

    Raises:
        ConfigError: a key is unknown or missing, or a value is out of range; says which, and `where`.
    """
    try:
        return from_dict(RobotFile, data)
    except (SpecError, ConfigError) as error:
        raise ConfigError(f"{where}: {str(error).removeprefix('RobotFile.')}") from None
