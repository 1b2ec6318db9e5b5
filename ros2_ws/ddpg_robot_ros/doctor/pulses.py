"""Judgement of pulses: a joint that is pushed must be the one that moves, and in the direction of the push."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.spec import RobotSpec
from ddpg_robot_ros.doctor.findings import Finding, fail, ok, quoted, skipped, warning

CHECK = "excitation"
LARGEST_SHARE = 0.1
LONGEST_PULSE_S = 0.5
MOVED_RAD = 0.003
"""A joint that went this far has moved, and the pulse ends."""
DOUBTFUL = 0.6
"""Another joint with so much of the leader's motion makes the result unclear."""


@dataclass(frozen=True)
class Excitation:
    """How hard and how long joints are pushed."""

    share: float = 0.02
    """Effort of a pulse, as a fraction of the joint's limit."""
    pulse: float = 0.15
    """Longest pulse, s; it ends as soon as a joint has moved."""

    def __post_init__(self) -> None:
        for name, largest in (("share", LARGEST_SHARE), ("pulse", LONGEST_PULSE_S)):
            value = getattr(self, name)
            if not 0 < value <= largest:
                raise ConfigError(mismatch(f"excitation {name}", value, f"more than 0, at most {largest:g}"))


@dataclass(frozen=True)
class Pulse:
    """One push and what it did."""

    joint: int
    effort: float
    """N·m, with sign."""
    moved: np.ndarray
    """Where all joints went ``(n,)``, rad."""


def leader(pulse: Pulse, robot: RobotSpec) -> tuple[int | None, float]:
    """The joint that a pulse moved, and the part of its motion that the next one had.

    Joints are coupled through their inertia, so a light joint may go further than the heavy one that was pushed. Motion is
    weighed by the root of the joint's inertia: ``|A_ij| / sqrt(A_ii) <= sqrt(A_jj)`` for every positive definite ``A = M^-1``,
    so the pushed joint j leads. The manifest's damping stands for the inertia, in proportion.

    Returns:
        Index of the joint, None when nothing moved; 0 .. 1.
    """
    if np.abs(pulse.moved).max() < MOVED_RAD:
        return None, 0.0
    weight = np.sqrt([joint.damping for joint in robot.joints])
    motion = weight * np.abs(pulse.moved)
    order = np.argsort(motion)
    second = motion[order[-2]] / motion[order[-1]] if len(motion) > 1 else 0.0
    return int(order[-1]), float(second)


def wrong(pulse: Pulse, robot: RobotSpec) -> bool:
    """True when a pulse moved another joint, or moved it the other way."""
    moved, _ = leader(pulse, robot)
    return moved is not None and (moved != pulse.joint or pulse.moved[moved] * pulse.effort < 0)


def pulse_finding(pulses: Sequence[Pulse], robot: RobotSpec) -> Finding:
    """Judges all pulses; they ended at the first wrong one."""
    names = robot.joint_names
    still, doubtful, right = [], [], []
    for pulse in pulses:
        name, (moved, second) = names[pulse.joint], leader(pulse, robot)
        what = f"{pulse.effort:+.2f} N·m on '{name}'"
        if moved is None:
            still.append(name)
        elif moved != pulse.joint:
            hint = "The controller's joints are in another order than the policy's: change its parameter 'joints'"
            return fail(
                CHECK, f"{what} moved '{names[moved]}' by {pulse.moved[moved]:+.4f} rad", f"'{name}' to move", hint
            )
        elif pulse.moved[moved] * pulse.effort < 0:
            hint = "The sign of this joint's effort, or of its position, is turned round: damping would drive it"
            return fail(CHECK, f"{what} moved it by {pulse.moved[moved]:+.4f} rad", "motion along the effort", hint)
        else:
            right.append(name)
            doubtful += [name] if second > DOUBTFUL else []
    if not pulses:
        return skipped(CHECK, "no pulse was given")
    if not right:
        hint = "Is torque enabled, are brakes open? If so, friction is larger: raise --effort-share, at most 0.1"
        return fail(CHECK, "no joint moved", "each to move when it is pushed", hint)
    if still or doubtful or len(right) < robot.n_joints:
        rest = [name for name in names if name not in right]
        found = f"{len(right)} of {len(names)} joints move as they are pushed"
        found += f"; {quoted(rest)} did not move" if rest else ""
        found += f"; with {quoted(doubtful)} another joint moved nearly as far" if doubtful else ""
        return warning(CHECK, found, "all, each alone", "Raise --effort-share (at most 0.1)")
    return ok(CHECK, f"all {len(names)} joints move when they are pushed, each the right way")
