"""What is asked of joint names and targets that come from outside, whether as messages or from a bag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence, Sized

import numpy as np
from numpy.typing import NDArray

from ddpg_robot.errors import CommandError, JointMappingError, mismatch
from ddpg_robot.spec import CommandSpec

SHOWN_NAMES = 20


def joint_order(names: Sequence[str], joints: Sequence[str], ignore_extra: bool) -> NDArray[np.intp] | slice:
    """Where each of the policy's `joints` stands among a message's `names`.

    Raises:
        JointMappingError: joints are missing, named twice, or unknown and not ignored.
    """
    if len(set(names)) != len(names):
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        raise JointMappingError(mismatch("joint_states names", f"{_listed(twice)} twice", "each joint once"))
    missing = [joint for joint in joints if joint not in names]
    if missing:
        found = f"no {_listed(missing)} among {_listed(names)}"
        raise JointMappingError(mismatch("joint_states", found, _listed(joints)))
    extra = [name for name in names if name not in joints]
    if extra and not ignore_extra:
        hint = "Set the parameter extra_joints to 'ignore' if they belong to another device"
        raise JointMappingError(mismatch("joint_states", f"unknown {_listed(extra)}", _listed(joints), hint=hint))
    if list(names) == list(joints):
        return slice(None)
    return np.array([names.index(joint) for joint in joints])


def check_sizes(names: Sequence[str], position: Sized, velocity: Sized) -> None:
    """Checks that there is one position and one velocity per name.

    Raises:
        JointMappingError: there is not.
    """
    for field, size in (("position", len(position)), ("velocity", len(velocity))):
        if size == len(names):
            continue
        hint = None if size else f"Let the joint_state_broadcaster publish the {field} interface of every joint"
        found = f"{size} values" if size else "it empty"
        raise JointMappingError(mismatch(f"joint_states {field}", found, f"{len(names)}, one per name", hint=hint))


def check_point(spec: CommandSpec, frame: str, point: Iterable[float]) -> None:
    """Checks a target.

    Raises:
        CommandError: it is in another frame, not finite, or outside the policy's bounds.
    """
    if frame not in ("", spec.frame):
        raise CommandError(mismatch("target frame", repr(frame[:40]), repr(spec.frame)))
    for axis, value, low, high in zip("xyz", point, spec.lower, spec.upper):
        if not low <= value <= high:
            raise CommandError(mismatch(f"target {axis}", f"{value:g}", f"{low:g} .. {high:g} {spec.unit}"))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in names[:SHOWN_NAMES]) or "no joints"
    return shown if len(names) <= SHOWN_NAMES else f"{shown} and {len(names) - SHOWN_NAMES} more"
