"""ROS messages -> `RobotState` and `Command`. Joints are matched by name; nothing here computes an observation.

A field that is missing, of the wrong size, or speaks of other joints raises; a value that is not finite is passed on,
because the safety filter is the one place that judges values.
"""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState

from ddpg_robot.errors import CommandError, MessageError, ObservationError, mismatch
from ddpg_robot.incoming import check_point, check_sizes, joint_order
from ddpg_robot.kinematics import rotation_matrix
from ddpg_robot.spec import CommandSpec, ObjectSpec
from ddpg_robot.state import Command, RobotState
from ddpg_robot_ros.joint_state_bytes import JointStateLayout

ExtraJoints = Literal["refuse", "ignore"]
LARGEST_MESSAGE = 65_536
"""Bytes of a message that is looked at: some 1,000 joints. To build a larger one would hold up the loop."""
ODOM_FRAMES, BASE_FRAMES = ("odom",), ("base", "base_link")
"""Frames of an odometry (REP-105) and of the base that it tells of; the first of each is the plant's."""
OBJECT_MARGIN = 0.05
"""An object may be said to be so far from where it can be, m: a camera is no better."""

PLAIN_CDR = (b"\x00\x00", b"\x00\x01")
"""Encodings that ROS messages have: big and little endian. Others place the numbers differently."""


def read_message(raw: bytes, message_type: type, topic: str) -> Any:
    """Builds a message from the bytes that a ``raw`` subscription gives; the middleware has not looked at them.

    Raises:
        MessageError: they are too many, or no message of that type.
    """
    if len(raw) > LARGEST_MESSAGE:
        raise MessageError(mismatch(topic, f"{len(raw):,} bytes", f"at most {LARGEST_MESSAGE:,}"))
    try:
        if raw[:2] not in PLAIN_CDR:
            raise ValueError("another encoding")
        return deserialize_message(raw, message_type)
    except Exception:  # rclpy's own exceptions have no public name; Fast CDR's text adds nothing
        found = f"{len(raw):,} bytes that are none"
        raise MessageError(mismatch(topic, found, f"a serialized {message_type.__name__}")) from None


def stamp_seconds(stamp: Any) -> float:
    """builtin_interfaces/Time -> s."""
    return float(stamp.sec) + float(stamp.nanosec) * 1e-9


class JointStateReader:
    """Fills a `RobotState` from sensor_msgs/JointState.

    The order of a message's names is worked out once and reused as long as the names stay the same.

    Args:
        joint_names: the policy's joints, in its order: `RobotSpec.measured_joints`.
        extra_joints: ``refuse`` joints that the policy does not know, or ``ignore`` them (a gripper on the same topic).
    """

    def __init__(self, joint_names: Sequence[str], extra_joints: ExtraJoints = "refuse") -> None:
        self._joints = list(joint_names)
        self._ignore_extra = extra_joints == "ignore"
        self._names: list[str] | None = None
        self._order: np.ndarray | slice = slice(None)
        self._layout: JointStateLayout | None = None

    def fill(self, message: Any, state: RobotState) -> bool:
        """Writes position, velocity and stamp into `state`.

        Returns:
            False when the message speaks of none of the joints and extra joints are ignored; `state` is then untouched.

        Raises:
            JointMappingError: joints are missing, unknown or named twice, or a field has the wrong size.
        """
        names = message.name
        if names != self._names:
            self._names = None
            if self._ignore_extra and not set(names) & set(self._joints):
                return False
            self._order = self._map(names)
            self._names = list(names)
        check_sizes(names, message.position, message.velocity)
        state.measured[0] = _doubles(message.position)[self._order]
        state.measured[1] = _doubles(message.velocity)[self._order]
        state.stamp = stamp_seconds(message.header.stamp)
        return True

    def fill_bytes(self, raw: bytes, state: RobotState) -> bool:
        """As `fill`, from a serialized message; without building it as long as names and sizes stay the same.

        Raises:
            MessageError: as `read_message`.
        """
        found = None if self._layout is None else self._layout.read(raw)
        if found is None:
            filled = self.fill(read_message(raw, JointState, "joint_states"), state)
            if filled:
                with contextlib.suppress(ValueError, struct.error):  # a layout that cannot be learnt is read by rclpy
                    self._layout = JointStateLayout(raw)
            return filled
        state.stamp, motion = found
        state.measured[:] = motion[:, self._order]
        return True

    def _map(self, names: Sequence[str]) -> np.ndarray | slice:
        self._layout = None
        return joint_order(names, self._joints, self._ignore_extra)


class ImuReader:
    """Fills the base's orientation and angular velocity of a `RobotState` from sensor_msgs/Imu (REP-145)."""

    def fill(self, message: Any, state: RobotState) -> float:
        """Writes orientation and angular velocity into `state`.

        Returns:
            The message's stamp, s.

        Raises:
            ObservationError: the sensor gives no orientation (first covariance -1, or a quaternion of length zero,
                infinity or NaN).
        """
        w = message.angular_velocity
        if message.orientation_covariance[0] == -1.0:
            raise ObservationError(mismatch("imu orientation", "none", "a unit quaternion, base to world"))
        state.orientation_wxyz[:] = _unit_quaternion(message.orientation, "imu orientation")
        state.angular_velocity[:] = (w.x, w.y, w.z)
        return stamp_seconds(message.header.stamp)


class OdometryReader:
    """Fills pose and velocity of a `RobotState`'s base from nav_msgs/Odometry (REP-105: the twist is in the child's frame)."""

    def fill(self, message: Any, state: RobotState) -> float:
        """Writes position, orientation and velocity into `state`; how the base turns is the IMU's to say.

        Returns:
            The message's stamp, s.

        Raises:
            ObservationError: it is of other frames, or without an orientation.
        """
        for field, found, known in (
            ("frame", message.header.frame_id, ODOM_FRAMES),
            ("child frame", message.child_frame_id, BASE_FRAMES),
        ):
            if found and found not in known:
                raise ObservationError(mismatch(f"odom {field}", repr(found[:40]), " or ".join(map(repr, known))))
        pose, going = message.pose.pose, message.twist.twist.linear
        orientation = _unit_quaternion(pose.orientation, "odom orientation")
        state.base_position[:] = (pose.position.x, pose.position.y, pose.position.z)
        state.base_orientation_wxyz[:] = orientation
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite stays so, for the safety filter
            state.base_velocity[:] = rotation_matrix(orientation) @ (going.x, going.y, going.z)
        return stamp_seconds(message.header.stamp)


def fill_odometry(state: RobotState, message: Any) -> None:
    """The way back: state -> nav_msgs/Odometry, with how the base turns, without frames and stamp."""
    at, turned = message.pose.pose.position, message.pose.pose.orientation
    going, turning = message.twist.twist.linear, message.twist.twist.angular
    at.x, at.y, at.z = state.base_position.tolist()
    turned.w, turned.x, turned.y, turned.z = state.base_orientation_wxyz.tolist()
    going.x, going.y, going.z = (state.base_velocity @ rotation_matrix(state.base_orientation_wxyz)).tolist()
    turning.x, turning.y, turning.z = state.angular_velocity.tolist()


class ObjectReader:
    """Fills the object's position of a `RobotState` from geometry_msgs/PointStamped."""

    def __init__(self, spec: ObjectSpec) -> None:
        self._spec = spec

    def fill(self, message: Any, state: RobotState) -> float:
        """Writes the position into `state`.

        Returns:
            The message's stamp, s.

        Raises:
            ObservationError: it is in another frame, or more than `OBJECT_MARGIN` from where the object can be.
        """
        spec, point = self._spec, (message.point.x, message.point.y, message.point.z)
        frame = message.header.frame_id
        if frame not in ("", spec.frame):
            raise ObservationError(mismatch("object frame", repr(frame[:40]), repr(spec.frame)))
        for axis, value, low, high in zip("xyz", point, spec.lower, spec.upper):
            if math.isfinite(value) and not low - OBJECT_MARGIN <= value <= high + OBJECT_MARGIN:
                found, expected = f"{value:g} m", f"{low:g} .. {high:g} m, or within {OBJECT_MARGIN:g} m of that"
                raise ObservationError(mismatch(f"object {axis}", found, expected))
        state.object_position[:] = point
        return stamp_seconds(message.header.stamp)


class PointReader:
    """Fills a `Command` of kind ``point`` from geometry_msgs/PointStamped."""

    def __init__(self, spec: CommandSpec) -> None:
        self._spec = spec

    def fill(self, message: Any, command: Command) -> None:
        """Writes the point into `command`; a refused one leaves the command as it was.

        Raises:
            CommandError: the point is in another frame, not finite, or outside the policy's bounds.
        """
        spec, point = self._spec, (message.point.x, message.point.y, message.point.z)
        check_point(spec, message.header.frame_id, point)
        command.values[:] = point
        command.stamp = stamp_seconds(message.header.stamp)


class TwistReader:
    """Fills a `Command` of kind ``velocity`` (forward, left, turn) from geometry_msgs/Twist or TwistStamped."""

    def __init__(self, spec: CommandSpec) -> None:
        self._spec = spec
        self._lower, self._upper = np.array(spec.lower), np.array(spec.upper)

    def fill(self, message: Any, command: Command) -> None:
        """Writes the velocity into `command`, clipped to the policy's bounds as is usual for cmd_vel.

        Raises:
            CommandError: the velocity is in another frame or not finite.
        """
        twist = getattr(message, "twist", message)
        header = getattr(message, "header", None)
        if header is not None and header.frame_id not in ("", self._spec.frame):
            raise CommandError(mismatch("cmd_vel frame", repr(header.frame_id[:40]), repr(self._spec.frame)))
        values = np.array([twist.linear.x, twist.linear.y, twist.angular.z])
        if not np.isfinite(values).all():
            raise CommandError(mismatch("cmd_vel", values.tolist(), "finite numbers"))
        np.clip(values, self._lower, self._upper, out=command.values)
        command.stamp = stamp_seconds(header.stamp) if header is not None else 0.0


def _unit_quaternion(q: Any, what: str) -> tuple[float, float, float, float]:
    norm = (q.w * q.w + q.x * q.x + q.y * q.y + q.z * q.z) ** 0.5
    # Of an infinite quaternion, dividing by its norm would make zeros, which look upright.
    if not 0.5 <= norm < math.inf:
        raise ObservationError(mismatch(what, "none", "a unit quaternion, base to world"))
    return q.w / norm, q.x / norm, q.y / norm, q.z / norm


def _doubles(values: Any) -> np.ndarray:
    """A view of a message's ``float64[]`` field (an ``array.array``), without a copy."""
    return np.frombuffer(values, dtype=np.float64)
