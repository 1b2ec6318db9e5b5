"""A task file from a model: what the model says is checked, what it does not say is chosen, and which is which is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import mujoco
import numpy as np

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.kinematics import ChainKinematics
from ddpg_robot.urdf import read_urdf
from ddpg_robot_sim.chain import chain_of
from ddpg_robot_sim.robot_file import LIMITS, RobotControl, RobotFile, RobotJoints, RobotTarget
from ddpg_robot_sim.robot_model import Tip, find_tip, model_kind, open_model
from ddpg_robot_sim.robot_reach import start_region, tips_of
from ddpg_robot_sim.tuning import Dynamics, armature_of, gains, home_of, measure, target_box

ASSUMED_VELOCITY = 2.0
"""Velocity limit where nobody says one, rad/s."""
LIGHTEST, HEAVIEST = 1e-5, 1e4
"""Bounds of the inertia about a joint, kg m^2: beyond them a model's units are wrong."""


@dataclass(frozen=True)
class Given:
    """What a person says beside the model."""

    effort_limit: float | None = None
    """Of joints for which the model says none, N·m."""
    velocity_limit: float | None = None
    """Of joints for which the model says none, rad/s."""
    position_limit: float | None = None
    """Of joints for which the model says none, plus and minus, rad."""
    replace_actuators: bool = False
    """Torque motors take the place of the model's actuators, or of none."""
    gravity_compensated: bool = True
    """The robot's firmware holds its weight."""
    home: tuple[float, ...] | None = None
    """Pose that episodes begin around, rad. Default: the model's first keyframe, or the most dexterous pose."""


class NewRobot(NamedTuple):
    """A robot that can be trained, and what a person should look at."""

    file: RobotFile
    notes: tuple[str, ...]


def new_robot(path: Path, end_effector: str, given: Given = Given()) -> NewRobot:
    """Reads a model, checks it and chooses what it does not say.

    Args:
        path: MJCF or URDF file.
        end_effector: site or body that is to reach.
        given: what the model does not say.

    Raises:
        ConfigError: the model cannot be used; says what is missing, and which option would do instead.
    """
    kind = model_kind(path)
    _, model = open_model(path)
    tip = find_tip(model, end_effector, path.name)
    names = tuple(model.joint(j).name for j in tip.joints)
    limits, notes = _limits(path, kind, model, tip, given)
    plain = measure(model, tip, limits)
    _require_inertia(plain, names, path.name)
    armature, assumed = armature_of(model, tip, plain)
    if assumed.any():
        each = ", ".join(f"{name} {value:.3g}" for name, value, new in zip(names, armature, assumed) if new)
        notes.append(f"no armature: assumed, kg·m²: {each}")
    model.dof_armature[model.jnt_dofadr[list(tip.joints)]] = armature
    dynamics = measure(model, tip, limits)
    file = _choose(path, end_effector, model, tip, limits, dynamics, given)
    if not given.gravity_compensated:
        weak = [n for n, torque, most in zip(names, dynamics.gravity, limits[0]) if torque > most]
        notes += [f"gravity takes more than the effort limit of {', '.join(weak)} in some poses"] if weak else []
    return NewRobot(file, tuple(notes))


def _choose(
    path: Path,
    end_effector: str,
    model: mujoco.MjModel,
    tip: Tip,
    limits: np.ndarray,
    dynamics: Dynamics,
    given: Given,
) -> RobotFile:
    """The task file: gains, home and a box of targets that the arm can reach."""
    kinematics = ChainKinematics(chain_of(model, tip.joints, tip.body, tip.position, end_effector))
    names = tuple(model.joint(j).name for j in tip.joints)
    lower, upper = limits[2:]
    if given.home is not None:
        home = np.array(given.home)
    elif model.nkey:
        home = np.clip(model.key_qpos[0][model.jnt_qposadr[list(tip.joints)]], lower, upper)
    else:
        home = home_of(kinematics, lower, upper)
    if len(home) != len(names):
        raise ConfigError(mismatch("--home", f"{len(home)} numbers", f"{len(names)}, one per joint"))
    columns: dict[str, Any] = {
        "name": names,
        **dict(zip(LIMITS, (tuple(row.tolist()) for row in limits))),
        **{key: rounded(values) for key, values in gains(limits, dynamics, given.gravity_compensated).items()},
        "armature": rounded(model.dof_armature[model.jnt_dofadr[list(tip.joints)]]),
        "home": given.home or tuple(np.clip(np.round(home, 4), lower, upper).tolist()),
    }

    def made(lower: Sequence[float], upper: Sequence[float]) -> RobotFile:
        target = RobotTarget(tuple(lower), tuple(upper), start_spread=0.8, seconds=4.0)
        control = RobotControl("pd", period=0.02, ticks_per_action=5)
        joints = RobotJoints(**columns)
        return RobotFile(path.stem, str(path), end_effector, given.gravity_compensated, False, joints, control, target)

    region = start_region(made((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    poses = np.random.default_rng(0).uniform(*region, (1000, len(names)))
    low, high = target_box(kinematics, tips_of(kinematics, poses), home, lower, upper)
    return made(rounded(low, 3), rounded(high, 3))


def _limits(path: Path, kind: str, model: mujoco.MjModel, tip: Tip, given: Given) -> tuple[np.ndarray, list[str]]:
    """Effort, velocity, lower and upper limit of each joint ``(4, n)``, and what was assumed."""
    names = tuple(model.joint(j).name for j in tip.joints)
    notes: list[str] = []
    velocity: list[float | None]
    if kind == "robot":
        effort, velocity = _urdf_limits(path, names)
        notes.append("URDF knows no actuators: each joint gets a torque motor")
    else:
        effort, velocity = _mjcf_efforts(model, tip, path.name, given), _mjcf_velocities(model, names)
    limited = model.jnt_limited[list(tip.joints)].astype(bool)
    ranges = model.jnt_range[list(tip.joints)]
    lower: list[float | None] = [float(r[0]) if has else None for r, has in zip(ranges, limited)]
    upper: list[float | None] = [float(r[1]) if has else None for r, has in zip(ranges, limited)]
    minus = None if given.position_limit is None else -given.position_limit
    missing = [
        _fill(effort, given.effort_limit, names, "effort limit (--effort-limit N·m)"),
        _fill(lower, minus, names, "position limits (--position-limit RAD)"),
    ]
    _fill(upper, given.position_limit, names, "")
    if any(missing):
        found = "; ".join(filter(None, missing))
        hint = "Write them into the model, or give one value for those joints with the option"
        raise ConfigError(mismatch(f"limits of {path.name}", found, "both for every joint", hint=hint))
    if silent := [name for name, value in zip(names, velocity) if value is None]:
        value = ASSUMED_VELOCITY if given.velocity_limit is None else given.velocity_limit
        if given.velocity_limit is None:
            notes.append(f"no velocity limit for {', '.join(silent)}: {value:g} rad/s assumed")
        _fill(velocity, value, names, "")
    limits = np.array([effort, velocity, lower, upper], dtype=float)
    _require_sane(limits, names, path.name)
    return limits, notes


def _urdf_limits(path: Path, names: tuple[str, ...]) -> tuple[list[float | None], list[float | None]]:
    joints = read_urdf(path)
    return [joints[name].effort for name in names], [joints[name].velocity for name in names]


def _mjcf_efforts(model: mujoco.MjModel, tip: Tip, where: str, given: Given) -> list[float | None]:
    """What the actuator of each joint exerts at most, N·m; None where the model does not bound it."""
    of_joint = {j: [i for i in range(model.nu) if _drives(model, i, j)] for j in tip.joints}
    used = {i for those in of_joint.values() for i in those}
    hint = "With --actuators motor torque motors take their place, with the limits that the model has"
    without = [model.joint(j).name for j, those in of_joint.items() if not those]
    several = [model.joint(j).name for j, those in of_joint.items() if len(those) > 1]
    what = f"actuators of {where}"
    if several:
        raise ConfigError(mismatch(what, f"more than one on {', '.join(several)}", "one torque motor on each joint"))
    if not given.replace_actuators:
        if without:
            found = "none" if not used else f"none on {', '.join(without)}"
            expected = f"a torque motor on each of {', '.join(model.joint(j).name for j in tip.joints)}"
            raise ConfigError(mismatch(what, found, expected, hint=hint))
        if others := [i for i in range(model.nu) if i not in used]:
            found = f"also {', '.join(model.actuator(i).name or str(i) for i in others)}"
            raise ConfigError(mismatch(what, found, "one on each joint of the chain, no other", hint=hint))
        if servos := [i for i in sorted(used) if not _is_motor(model, i)]:
            found = f"no torque motor (a servo, or with dynamics): {', '.join(_name(model, i) for i in servos)}"
            raise ConfigError(mismatch(what, found, "torque motors: <motor>", hint=hint))
    return [_effort(model, j, those[0] if those else None) for j, those in of_joint.items()]


def _drives(model: mujoco.MjModel, i: int, joint: int) -> bool:
    kinds = (mujoco.mjtTrn.mjTRN_JOINT.value, mujoco.mjtTrn.mjTRN_JOINTINPARENT.value)
    return bool(model.actuator_trntype[i] in kinds and model.actuator_trnid[i, 0] == joint)


def _name(model: mujoco.MjModel, i: int) -> str:
    return str(model.actuator(i).name or model.joint(model.actuator_trnid[i, 0]).name)


def _is_motor(model: mujoco.MjModel, i: int) -> bool:
    return bool(
        model.actuator_gaintype[i] == mujoco.mjtGain.mjGAIN_FIXED
        and model.actuator_biastype[i] == mujoco.mjtBias.mjBIAS_NONE
        and model.actuator_dyntype[i] == mujoco.mjtDyn.mjDYN_NONE
    )


def _effort(model: mujoco.MjModel, joint: int, i: int | None) -> float | None:
    """The smallest of the bounds that there are of the torque on a joint; on the weaker side, where they differ."""
    bounds = []
    if model.jnt_actfrclimited[joint]:
        bounds.append(model.jnt_actfrcrange[joint])
    if i is not None:
        gear = abs(model.actuator_gear[i, 0])
        if model.actuator_forcelimited[i]:
            bounds.append(gear * model.actuator_forcerange[i])
        if model.actuator_ctrllimited[i] and _is_motor(model, i):
            bounds.append(gear * abs(model.actuator_gainprm[i, 0]) * model.actuator_ctrlrange[i])
    smallest = min((min(-low, high) for low, high in bounds), default=0.0)
    return float(smallest) if smallest > 0 else None


def _mjcf_velocities(model: mujoco.MjModel, names: tuple[str, ...]) -> list[float | None]:
    """The custom numeric `velocity_limit`, where there is one with a value for each joint."""
    known = [model.numeric(i).name for i in range(model.nnumeric)]
    if "velocity_limit" in known and len(values := model.numeric("velocity_limit").data) == len(names):
        return [float(value) for value in values]
    return [None] * len(names)


def _fill(values: list[float | None], default: float | None, names: Sequence[str], what: str) -> str:
    """Puts the default where there is none; says what remains without."""
    values[:] = [default if value is None else value for value in values]
    silent = [name for name, value in zip(names, values) if value is None]
    return f"no {what} for {', '.join(silent)}" if silent else ""


def _require_sane(limits: np.ndarray, names: tuple[str, ...], where: str) -> None:
    for name, (effort, velocity, lower, upper) in zip(names, limits.T):
        if not (0 < effort <= 1e4 and 0 < velocity <= 100 and lower < upper and upper - lower <= 100):
            found = f"effort {effort:g} N·m, velocity {velocity:g} rad/s, {lower:g} .. {upper:g} rad"
            expected = "0 to 10,000 N·m, 0 to 100 rad/s, lower < upper (all in SI units)"
            raise ConfigError(mismatch(f"limits of '{name}' in {where}", found, expected))


def _require_inertia(dynamics: Dynamics, names: tuple[str, ...], where: str) -> None:
    bad = [
        f"'{name}' {low:.3g} .. {high:.3g}"
        for name, low, high in zip(names, dynamics.typical, dynamics.heaviest)
        if not LIGHTEST <= low <= high <= HEAVIEST
    ]
    if bad:
        expected = f"{LIGHTEST:g} .. {HEAVIEST:g} kg·m²"
        hint = "Give the links masses and inertias (kg, m), or the joints an armature"
        raise ConfigError(mismatch(f"inertia about joints of {where}", ", ".join(bad), expected, hint=hint))


def rounded(values: Any, digits: int | None = None) -> tuple[float, ...]:
    """As a person would write them: four significant digits, or so many behind the point."""
    return tuple(float(f"{v:.4g}") if digits is None else round(float(v), digits) for v in values)
