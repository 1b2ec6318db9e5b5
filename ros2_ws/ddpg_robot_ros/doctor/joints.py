"""Judgement of joint states: who is there, what they carry, and whether values fit limits and units."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ddpg_robot.safety import SafetyLimits
from ddpg_robot.spec import PolicyManifest, RobotSpec
from ddpg_robot_ros.doctor.findings import Finding, fail, listed, ok, quoted, skipped, warning
from ddpg_robot_ros.doctor.motion import velocity_finding
from ddpg_robot_ros.doctor.timing import rate_finding, stamp_finding

FAR_OUTSIDE_RAD = 0.5
NEAR_LIMIT_RAD = 0.05
MOVING_FRACTION = 0.05
"""A robot that waits for its policy is slower than this fraction of its velocity limits."""
FOLLOWING = ("joint fields", "joint values", "state rate", "state stamps", "positions", "velocities", "units")


@dataclass(frozen=True)
class JointMessage:
    """One joint_states message as it came."""

    received: float
    """When it arrived, s, clock of this machine."""
    stamp: float
    """Its stamp, s."""
    sequence: int
    """Its publisher's count."""
    names: tuple[str, ...]
    position: np.ndarray
    """rad, in the order of `names` if the sizes agree."""
    velocity: np.ndarray
    """rad/s."""


@dataclass(frozen=True)
class Recording:
    """Joint states of one robot, joints in the policy's order."""

    received: np.ndarray
    """``(m,)``, s."""
    stamp: np.ndarray
    """``(m,)``, s."""
    position: np.ndarray
    """``(m, n)``, rad."""
    velocity: np.ndarray
    """``(m, n)``, rad/s."""


def joint_findings(messages: Sequence[JointMessage], publishers: int, manifest: PolicyManifest) -> list[Finding]:
    """Judges what was heard on joint_states.

    Args:
        messages: in the order of their arrival.
        publishers: how many publish on the topic.
        manifest: the policy's.
    """
    robot = manifest.robot
    ours = [message for message in messages if set(message.names) & set(robot.joint_names)]
    findings = [names_finding(messages, robot)]
    if len(ours) > 1 and (twice := two_speakers(ours, publishers)):
        findings.append(twice)
    usable = [message for message in ours if maps(message.names, robot)]
    if not usable:
        return findings + [skipped(check, "no message with all joints") for check in FOLLOWING]
    findings.append(fields_finding(usable))
    whole = [m for m in usable if len(m.position) == len(m.velocity) == len(m.names)]
    if not whole:
        return findings + [skipped(check, "no message with all fields") for check in FOLLOWING[1:]]
    return findings + recording_findings(record(whole, robot), manifest)


def recording_findings(recording: Recording, manifest: PolicyManifest) -> list[Finding]:
    """Judges values and times."""
    robot, control = manifest.robot, manifest.control
    values = values_finding(recording, robot)
    findings = [
        values,
        rate_finding("state rate", recording.received, recording.stamp, control),
        stamp_finding("state stamps", recording.received, recording.stamp, control),
    ]
    finite = np.isfinite(recording.position).all(axis=1) & np.isfinite(recording.velocity).all(axis=1)
    if not finite.any():
        return findings + [skipped(check, "no finite state") for check in FOLLOWING[4:]]
    position, velocity = recording.position[finite], recording.velocity[finite]
    times = recording.stamp if (np.diff(recording.stamp) > 0).all() else recording.received
    return [
        *findings,
        positions_finding(position, robot),
        speeds_finding(velocity, robot),
        velocity_finding(times[finite], position, velocity, robot.joint_names),
    ]


def maps(names: Sequence[str], robot: RobotSpec) -> bool:
    """True when every joint of the policy is named exactly once."""
    counts = Counter(names)
    return all(counts[joint] == 1 for joint in robot.joint_names)


def record(messages: Sequence[JointMessage], robot: RobotSpec) -> Recording:
    """Brings messages that map into the policy's order."""
    orders: dict[tuple[str, ...], list[int]] = {}
    for message in messages:
        if message.names not in orders:
            orders[message.names] = [message.names.index(joint) for joint in robot.joint_names]
    return Recording(
        np.array([message.received for message in messages]),
        np.array([message.stamp for message in messages]),
        np.array([message.position[orders[message.names]] for message in messages]),
        np.array([message.velocity[orders[message.names]] for message in messages]),
    )


def names_finding(messages: Sequence[JointMessage], robot: RobotSpec) -> Finding:
    """Whether the policy's joints are there by name."""
    check, wanted = "joint names", f"the policy's {quoted(robot.measured_joints)}"
    kinds = dict.fromkeys(message.names for message in messages)
    ours = [names for names in kinds if set(names) & set(robot.joint_names)]
    if not ours:
        seen = sorted({name for names in kinds for name in names})
        return fail(check, quoted(seen), wanted, "Another robot, or another policy than this robot's")
    for names in ours:
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            return fail(check, f"{quoted(twice)} more than once in a message", "each joint once")
        missing = [joint for joint in robot.measured_joints if joint not in names]
        if missing:
            hint = "One message must carry all joints of the policy"
            return fail(check, f"no {quoted(missing)} among {quoted(names)}", wanted, hint)
    extra = sorted({name for names in kinds for name in names} - set(robot.measured_joints))
    if extra:
        hint = "Set extra_joints to 'ignore' at policy_node and effort_guard if they are another device's"
        return warning(check, f"all {len(robot.measured_joints)}, and unknown {quoted(extra)}", "no others", hint)
    order = "in the policy's order" if tuple(ours[0]) == robot.measured_joints else "in another order (mapped by name)"
    return ok(check, f"all {len(robot.measured_joints)}, {order}")


def two_speakers(messages: Sequence[JointMessage], publishers: int) -> Finding | None:
    """A finding when more than one publisher sends the policy's joints; their counts go up and down."""
    if publishers < 2:
        return None
    if all(after.sequence >= before.sequence for before, after in pairwise(messages)):
        return None
    hint = "Stop the other one (a joint_state_publisher beside the driver?)"
    return fail("joint_states twice", f"{publishers} publishers send these joints by turns", "one", hint)


def fields_finding(messages: Sequence[JointMessage]) -> Finding:
    """Whether position and velocity have a value per joint."""
    for field in ("position", "velocity"):
        wrong = [m for m in messages if len(getattr(m, field)) != len(m.names)]
        if wrong:
            size, share = len(getattr(wrong[0], field)), f"in {len(wrong)} of {len(messages)} messages"
            found = f"{field} {f'of {size} values' if size else 'empty'} {share}"
            hint = f"Let the joint_state_broadcaster publish the {field} interface of every joint"
            return fail("joint fields", found, f"{len(wrong[0].names)} values, one per name", hint)
    return ok("joint fields", "position and velocity")


def values_finding(recording: Recording, robot: RobotSpec) -> Finding:
    """Whether all values are numbers."""
    for field in ("position", "velocity"):
        bad = ~np.isfinite(getattr(recording, field))
        if bad.any():
            names = [name for name, wrong in zip(robot.joint_names, bad.any(axis=0)) if wrong]
            share = f"in {bad.any(axis=1).sum()} of {len(bad)} messages"
            return fail("joint values", f"{field} of {quoted(names)} not finite {share}", "finite numbers")
    return ok("joint values", f"finite in {len(recording.stamp)} messages")


def positions_finding(position: np.ndarray, robot: RobotSpec) -> Finding:
    """Positions against limits, ``(m, n)`` in rad; those that fit only as degrees are called so."""
    lower = np.array([joint.position_lower for joint in robot.joints])
    upper = np.array([joint.position_upper for joint in robot.joints])
    excess = np.maximum(lower - position.min(axis=0), position.max(axis=0) - upper)
    tolerance = SafetyLimits().position_tolerance
    beyond = [
        f"'{joint.name}' at {position[:, i].min():.3f} .. {position[:, i].max():.3f}"
        for i, joint in enumerate(robot.joints)
        if excess[i] > tolerance
    ]
    if not beyond:
        nearest = int(excess.argmax())
        found = f"within limits, nearest: '{robot.joint_names[nearest]}', {-excess[nearest]:.3f} rad inside"
        if -excess[nearest] < NEAR_LIMIT_RAD:
            return warning("positions", found, f"more than {NEAR_LIMIT_RAD:g} rad", "Move it away from the end stop")
        return ok("positions", found)
    as_radians = np.deg2rad(position)
    fits = ((as_radians > lower - NEAR_LIMIT_RAD) & (as_radians < upper + NEAR_LIMIT_RAD)).all()
    if excess.max() > FAR_OUTSIDE_RAD and fits:
        return fail(
            "positions", f"{listed(beyond)}: these look like degrees", "rad", "Let the driver publish rad and rad/s"
        )
    limits = [
        f"'{joint.name}' {joint.position_lower:g} .. {joint.position_upper:g}"
        for i, joint in enumerate(robot.joints)
        if excess[i] > tolerance
    ]
    hint = "Move the joint inside, or look for an encoder offset"
    return fail("positions", f"{listed(beyond)} rad", f"the manifest's {listed(limits)} rad", hint)


def speeds_finding(velocity: np.ndarray, robot: RobotSpec) -> Finding:
    """Velocities against limits, ``(m, n)`` in rad/s."""
    limit = np.array([joint.velocity_limit for joint in robot.joints])
    fastest = np.abs(velocity).max(axis=0)
    share = fastest / limit
    worst = int(share.argmax())
    found = f"'{robot.joint_names[worst]}' up to {fastest[worst]:.3f} rad/s"
    allowed = f"at most {limit[worst]:g} rad/s"
    if share[worst] > 1 + SafetyLimits().velocity_tolerance:
        hint = f"As degrees per second it would be {math.radians(fastest[worst]):.3f} rad/s"
        return fail("velocities", found, allowed, hint)
    if share[worst] > MOVING_FRACTION:
        return warning("velocities", f"{found}: the robot moves", "a robot that stands still")
    return ok("velocities", f"fastest {found}, limit {limit[worst]:g} rad/s")
