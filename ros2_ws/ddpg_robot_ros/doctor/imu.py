"""Judgement of the IMU of a floating base (REP-145): orientation base to world, specific force +9.81 upwards at rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ddpg_robot.safety import SafetyLimits
from ddpg_robot.spec import ControlSpec
from ddpg_robot_ros.doctor.findings import Finding, fail, ok, skipped, warning
from ddpg_robot_ros.doctor.timing import rate_finding, stamp_finding

GRAVITY = 9.81
"""m/s^2."""
FORCE_OK, FORCE_BAD = 0.5, 2.0
"""How far specific force may be from gravity, m/s^2: without remark, at all."""
ANGLE_OK, ANGLE_BAD = 0.1, 0.35
"""How far its direction in the world may be from upwards, rad."""
NORM_TOLERANCE = 0.01
STILL_RAD_S = 0.5


@dataclass(frozen=True)
class ImuMessage:
    """One sensor_msgs/Imu as it came."""

    received: float
    """When it arrived, s, clock of this machine."""
    stamp: float
    """Its stamp, s."""
    orientation_wxyz: tuple[float, float, float, float]
    angular_velocity: tuple[float, float, float]
    """rad/s, in the sensor's frame."""
    acceleration: tuple[float, float, float]
    """Specific force, m/s^2, in the sensor's frame."""
    has_orientation: bool
    """False when the first covariance is -1."""
    has_acceleration: bool
    frame: str


def imu_findings(messages: Sequence[ImuMessage], control: ControlSpec) -> list[Finding]:
    """Judges what was heard on imu; nothing heard is a failure."""
    if not messages:
        hint = "A floating base needs its IMU; look at --namespace and remappings"
        return [fail("imu", "no message", "orientation and angular velocity of the base", hint)]
    received, stamp = (np.array([getattr(m, field) for m in messages]) for field in ("received", "stamp"))
    frames = sorted({message.frame for message in messages})
    heard = f"{len(messages)} messages, frame {', '.join(repr(frame[:40]) for frame in frames[:3])}"
    findings = [ok("imu", heard) if len(frames) == 1 else fail("imu", heard, "one frame", "Two IMUs on one topic?")]
    findings.append(rate_finding("imu rate", received, stamp, control))
    findings.append(stamp_finding("imu stamps", received, stamp, control))
    return [*findings, orientation_finding(messages), turning_finding(messages), gravity_finding(messages)]


def orientation_finding(messages: Sequence[ImuMessage]) -> Finding:
    """Unit quaternion, and a base that is not tilted too far to start."""
    check = "imu orientation"
    if any(not message.has_orientation for message in messages):
        return fail(check, "none (covariance -1)", "a unit quaternion, base to world", "Publish the IMU's own filter")
    q, norm = quaternions(messages)
    if not abs(norm - 1) <= NORM_TOLERANCE:
        return fail(check, f"quaternion of norm {norm:.3f}", "a unit quaternion, base to world")
    tilt = float(np.arccos(np.clip(1 - 2 * (q[:, 1] ** 2 + q[:, 2] ** 2), -1, 1)).max())
    if tilt > SafetyLimits().tilt_limit:
        expected = f"less than {SafetyLimits().tilt_limit:g} rad, where the safety filter trips"
        return fail(check, f"tilted by {tilt:.2f} rad", expected, "Stand it up, or look at the sensor's mounting")
    return ok(check, f"unit quaternion, tilted by {tilt:.2f} rad")


def turning_finding(messages: Sequence[ImuMessage]) -> Finding:
    """Angular velocity: finite, and small on a robot that stands."""
    rates = np.array([message.angular_velocity for message in messages])
    if not np.isfinite(rates).all():
        return fail("imu turning", "angular velocity not finite", "finite numbers")
    fastest = float(np.abs(rates).max())
    if fastest > STILL_RAD_S:
        hint = f"If the base stands still, these may be degrees per second ({np.deg2rad(fastest):.3f} rad/s)"
        return warning("imu turning", f"up to {fastest:.2f} rad/s", "a base at rest", hint)
    return ok("imu turning", f"up to {fastest:.3f} rad/s")


def gravity_finding(messages: Sequence[ImuMessage]) -> Finding:
    """Specific force, turned into the world by the orientation, must be +9.81 upwards: frames and signs show here."""
    check, wanted = "imu gravity", f"{GRAVITY} m/s^2 along +z of the world"
    q, norm = quaternions(messages)
    if any(not message.has_orientation for message in messages) or not abs(norm - 1) <= NORM_TOLERANCE:
        return skipped(check, "no orientation to turn it by")
    force = np.array([message.acceleration for message in messages])
    if any(not message.has_acceleration for message in messages) or not force.any():
        return warning(check, "no acceleration: the direction of gravity cannot be checked")
    if not np.isfinite(force).all():
        return fail(check, "acceleration not finite", "finite numbers")
    up = rotate(q / np.linalg.norm(q, axis=1)[:, None], force).mean(axis=0)
    size = float(np.linalg.norm(up))
    angle = float(np.arccos(np.clip(up[2] / size, -1, 1)))
    found = f"{size:.2f} m/s^2, {angle:.2f} rad from upwards"
    if abs(size - 1) < 0.2:
        return fail(check, found, wanted, "These are units of g: publish m/s^2")
    if angle > np.pi - ANGLE_BAD:
        return fail(check, found, wanted, "Upside down: at rest an accelerometer shows +9.81 upwards (REP-145)")
    if angle > ANGLE_BAD:
        hint = "Orientation and acceleration are of different frames, or the sensor is mounted otherwise than published"
        return fail(check, found, wanted, hint)
    if abs(size - GRAVITY) > FORCE_BAD:
        return fail(check, found, wanted, "Is the base at rest? Scale or calibration otherwise")
    if abs(size - GRAVITY) > FORCE_OK or angle > ANGLE_OK:
        return warning(check, found, wanted, "Calibrate the IMU")
    return ok(check, found)


def quaternions(messages: Sequence[ImuMessage]) -> tuple[np.ndarray, float]:
    """Orientations ``(m, 4)``, wxyz, and the norm that is farthest from 1; NaN where one is not finite."""
    q = np.array([message.orientation_wxyz for message in messages])
    with np.errstate(invalid="ignore", over="ignore"):
        norm = np.linalg.norm(q, axis=1)
    return q, float(norm[np.abs(norm - 1).argmax()])


def rotate(q: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Vectors ``(m, 3)`` turned by unit quaternions ``(m, 4)``, wxyz."""
    w, r = q[:, :1], q[:, 1:]
    turned = v + 2 * np.cross(r, np.cross(r, v) + w * v)
    return np.asarray(turned)
