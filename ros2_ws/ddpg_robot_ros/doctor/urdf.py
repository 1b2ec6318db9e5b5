"""Limits of the manifest against the robot's URDF. The file may come from anybody: nothing in it is trusted."""

from __future__ import annotations

from ddpg_robot.spec import JointSpec, RobotSpec
from ddpg_robot.urdf import UrdfJoint
from ddpg_robot_ros.doctor.findings import Finding, fail, listed, ok, quoted, warning

TOLERANCE = 1e-3
"""How far a limit of the manifest may be beyond the URDF's: rounding."""
ROTARY = ("revolute", "continuous")


def urdf_finding(joints: dict[str, UrdfJoint], robot: RobotSpec, source: str) -> Finding:
    """Whether the policy stays within what the URDF allows.

    Args:
        joints: the URDF's joints by name.
        robot: the policy's robot.
        source: where the URDF is from.
    """
    check = "URDF limits"
    missing = [name for name in robot.joint_names if name not in joints]
    if missing:
        return fail(check, f"no {quoted(missing)} in {source}", "every joint of the policy", "Another robot's URDF?")
    linear = [name for name in robot.joint_names if joints[name].kind not in ROTARY]
    if linear:
        return fail(check, f"{quoted(linear)} {joints[linear[0]].kind[:20]!r} in {source}", "revolute joints")
    beyond, silent = [], []
    for spec in robot.joints:
        found, unsaid = _compare(spec, joints[spec.name])
        beyond += found
        silent += unsaid
    if beyond:
        hint = "Export a policy that was trained with the robot's limits; nothing on the robot widens or narrows them"
        return fail(check, listed(beyond), f"the manifest within the limits of {source}", hint)
    if silent:
        return warning(check, f"{source} says nothing of {listed(silent)}", "a limit for each")
    return ok(check, f"the manifest is within {source}")


def _compare(spec: JointSpec, joint: UrdfJoint) -> tuple[list[str], list[str]]:
    """What of the manifest is beyond the URDF, and what the URDF does not say."""
    beyond, silent = [], []
    quantities = [("effort", spec.effort_limit, joint.effort), ("velocity", spec.velocity_limit, joint.velocity)]
    if joint.kind == "revolute":
        quantities += [
            ("upper", spec.position_upper, joint.upper),
            ("lower", -spec.position_lower, _minus(joint.lower)),
        ]
    for name, ours, theirs in quantities:
        sign = -1 if name == "lower" else 1
        if theirs is None:
            silent.append(f"'{spec.name}' {name}")
        elif ours > theirs + TOLERANCE * max(1.0, abs(theirs)):
            beyond.append(f"'{spec.name}' {name} {sign * ours:g}, URDF {sign * theirs:g}")
    return beyond, silent


def _minus(value: float | None) -> float | None:
    return None if value is None else -value
