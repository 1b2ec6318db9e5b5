"""Whether velocities are those of the positions: units, signs and order show as soon as the robot moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ddpg_robot_ros.doctor.findings import Finding, fail, listed, ok, skipped

COMPARED_RAD = 0.01
"""A joint is compared when position and summed velocity both went this far."""
ONE_SIDED_RAD = 0.05
"""When only one of the two moved, it counts from here; below, a bias of the velocity could be meant."""
DEGREES = float(np.rad2deg(1.0))
SAME, FACTOR = 1.3, 1.5
"""A slope counts as 1, or as a conversion factor, up to this ratio."""
CLEAR = 0.9
"""Correlation from which two curves have the same shape."""


def velocity_finding(
    time: np.ndarray, position: np.ndarray, velocity: np.ndarray, names: Sequence[str], check: str = "units"
) -> Finding:
    """Compares the change of each position with the sum of its velocity.

    Args:
        time: ``(m,)``, s.
        position: ``(m, n)``, rad.
        velocity: ``(m, n)``, rad/s.
        names: the joints.
        check: name of the check.
    """
    if len(time) < 3:
        return skipped(check, "too few states")
    step = np.diff(time)[:, None] * (velocity[1:] + velocity[:-1]) / 2
    travelled = np.vstack([np.zeros(len(names)), np.cumsum(step, axis=0)])
    moved, summed = np.ptp(position, axis=0), np.ptp(travelled, axis=0)
    complaints, agreeing = [], []
    for i, name in enumerate(names):
        both = min(moved[i], summed[i]) >= COMPARED_RAD
        if not both and max(moved[i], summed[i]) < ONE_SIDED_RAD:
            continue
        complaint = _complaint(position, travelled, i, names)
        if complaint:
            complaints.append(f"'{name}': {complaint}")
        else:
            agreeing.append(name)
    if complaints:
        return fail(check, listed(complaints), "the velocity of every joint to be the slope of its position")
    if not agreeing:
        return skipped(
            check, "too little motion to compare positions and velocities", "Move the robot by hand meanwhile"
        )
    return ok(
        check, f"positions and velocities agree for {len(agreeing)} of {len(names)} joints, the others stood still"
    )


def _complaint(position: np.ndarray, travelled: np.ndarray, i: int, names: Sequence[str]) -> str:
    """What is wrong with joint `i`; empty when nothing is."""
    moved, summed = float(np.ptp(position[:, i])), float(np.ptp(travelled[:, i]))
    if summed < COMPARED_RAD / DEGREES:
        return f"position moved {moved:.3f} rad while the velocity stayed 0"
    if moved < COMPARED_RAD / DEGREES:
        return f"velocity adds up to {summed:.3f} rad while the position stood"
    ratio = moved / summed
    if abs(_correlation(position[:, i], travelled[:, i])) < CLEAR:
        for j, other in enumerate(names):
            if (
                j != i
                and _correlation(position[:, j], travelled[:, i]) > CLEAR
                and np.ptp(position[:, j]) > COMPARED_RAD
            ):
                return f"velocity follows the position of '{other}': the order of the two fields differs"
        return f"velocity adds up to {summed:.3f} rad, but not as the position moved ({moved:.3f} rad)"
    if _correlation(position[:, i], travelled[:, i]) < 0:
        return "velocity has the wrong sign: damping would drive this joint"
    if 1 / FACTOR < ratio / DEGREES < FACTOR:
        return f"position moves {ratio:.1f} times as far as its velocity says: position in degrees?"
    if 1 / FACTOR < ratio * DEGREES < FACTOR:
        return f"velocity is {1 / ratio:.1f} times too large: velocity in degrees per second?"
    if not 1 / SAME < ratio < SAME:
        return f"position moves {ratio:.2f} times as far as its velocity says: gear ratio or units?"
    return ""


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt(one.dot(one) * other.dot(other)))
    return float(one.dot(other)) / scale if scale > 0 else 0.0
