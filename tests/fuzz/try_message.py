"""Reads a message as the nodes do. What is accepted must be what a reader of our own, written for this test, reads."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import numpy as np
from core.robots import two_joint_robot
from fuzz.hostile_messages import JOINTS, RAW
from geometry_msgs.msg import PointStamped, TwistStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu

from ddpg_robot.safety import SafetyFilter, SafetyLimits
from ddpg_robot.spec import CommandSpec, JointSpec, ObjectSpec, RobotSpec
from ddpg_robot.state import Command, RobotState
from ddpg_robot_ros.convert import (
    ImuReader,
    JointStateReader,
    ObjectReader,
    OdometryReader,
    PointReader,
    TwistReader,
    read_message,
)
from ddpg_robot_ros.effort_command import effort_values

ROBOT = RobotSpec("three", tuple(JointSpec(name, 9.0, 2.0, -2.0, 2.0, 1.0, 1e3) for name in JOINTS), True, False)
FLOATING = two_joint_robot(floating_base=True)
ESTIMATED = replace(FLOATING, odometry=True)
TABLE = ObjectSpec("base", (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
SEEING = replace(two_joint_robot(), object=TABLE)
TARGET = CommandSpec("point", "base", 3, "m", (0.3, -0.3, 0.2), (0.7, 0.3, 0.6))
WALK = CommandSpec("velocity", "base", 3, "m/s", (-0.5, -0.3, -1.0), (1.0, 0.3, 1.0))


class Cdr:
    """A reader of plain CDR: numbers lie at multiples of their size, counted from the end of the 4-byte header."""

    def __init__(self, raw: bytes) -> None:
        self._order = "<" if raw[1] else ">"
        self._raw, self._at = raw[4:], 0

    def number(self, code: str) -> Any:
        size = struct.calcsize(code)
        self._at = -(-self._at // size) * size
        (value,) = struct.unpack_from(self._order + code, self._raw, self._at)
        self._at += size
        return value

    def text(self) -> str:
        size = self.number("I")
        self._at += size
        data = self._raw[self._at - size : self._at]
        return data.split(b"\0")[0].decode(errors="replace")  # it ends where C's strings end, as rclpy's do

    def doubles(self, n: int | None = None) -> list[float]:
        return [self.number("d") for _ in range(self.number("I") if n is None else n)]

    def header(self) -> float:
        """Stamp, s; then the frame is read, too."""
        stamp = self.number("i") + self.number("I") * 1e-9
        self.text()
        return stamp


def attempt(data: bytes) -> str:
    """Raises DdpgRobotError for a refusal, AssertionError where something was read wrongly."""
    kind, raw = data[:1], data[1:]
    if kind == b"E":
        values = effort_values(raw, len(JOINTS))
        cdr = Cdr(raw)
        for _ in range(cdr.number("I")):
            cdr.text(), cdr.number("I"), cdr.number("I")
        cdr.number("I")
        assert values.tolist() == cdr.doubles()
        assert np.isfinite(values).all()
    elif kind == b"I":
        read_imu(raw)
    elif kind == b"O":
        read_odometry(raw)
    elif kind == b"B":
        read_object(raw)
    elif kind in (b"P", b"T"):
        read_command(raw, kind == b"P")
    else:
        read_joints(raw, kind)
    return "accepted"


def read_joints(raw: bytes, kind: bytes) -> None:
    state, reader = RobotState(len(JOINTS)), JointStateReader(JOINTS, "ignore" if kind == b"L" else "refuse")
    if kind == b"K":
        assert reader.fill_bytes(RAW[b"K"], state)
    before = state.motion.copy()
    try:
        filled = reader.fill_bytes(raw, state)
    except Exception:
        assert (state.motion == before).all()
        raise
    cdr = Cdr(raw)
    stamp, names = cdr.header(), [cdr.text() for _ in range(cdr.number("I"))]
    if not filled:
        assert kind == b"L"
        assert not set(names) & set(JOINTS)
        return
    order = [names.index(joint) for joint in JOINTS]
    expected = np.array([cdr.doubles(), cdr.doubles()])[:, order]
    np.testing.assert_array_equal(state.motion, expected)
    assert abs(state.stamp - stamp) < 1e-5
    check_filter(SafetyFilter(ROBOT, SafetyLimits(), 0.002), state)


def read_imu(raw: bytes) -> None:
    state = RobotState(2, floating_base=True)
    stamp = ImuReader().fill(read_message(raw, Imu, "imu"), state)
    cdr = Cdr(raw)
    assert abs(stamp - cdr.header()) < 1e-5
    x, y, z, w = cdr.doubles(4)
    cdr.doubles(9)
    np.testing.assert_array_equal(state.angular_velocity, cdr.doubles(3))
    np.testing.assert_allclose(state.orientation_wxyz, np.array([w, x, y, z]) / np.linalg.norm([w, x, y, z]), atol=1e-9)
    assert abs(np.linalg.norm(state.orientation_wxyz) - 1) < 1e-9
    check_filter(SafetyFilter(FLOATING, SafetyLimits(), 0.002), state)


def read_odometry(raw: bytes) -> None:
    state = RobotState.of(ESTIMATED)
    stamp = OdometryReader().fill(read_message(raw, Odometry, "odom"), state)
    cdr = Cdr(raw)
    assert abs(stamp - cdr.header()) < 1e-5
    cdr.text()
    np.testing.assert_array_equal(state.base_position, cdr.doubles(3))
    x, y, z, w = np.array(cdr.doubles(4)) / np.linalg.norm(state.base_orientation_wxyz)
    turned = np.array([w, x, y, z]) / np.linalg.norm([w, x, y, z])
    np.testing.assert_allclose(state.base_orientation_wxyz, turned, atol=1e-9)
    cdr.doubles(36)
    going = np.array(cdr.doubles(3))
    if np.abs(going).max() < 1e100:
        (w, axis) = turned[0], turned[1:]
        expected = going + 2 * np.cross(axis, np.cross(axis, going) + w * going)
        np.testing.assert_allclose(state.base_velocity, expected, rtol=1e-9, atol=1e-9 * max(1, np.abs(going).max()))
    check_filter(SafetyFilter(ESTIMATED, SafetyLimits(), 0.002), state)


def read_object(raw: bytes) -> None:
    state = RobotState.of(SEEING)
    stamp = ObjectReader(TABLE).fill(read_message(raw, PointStamped, "object"), state)
    cdr = Cdr(raw)
    assert abs(stamp - cdr.header()) < 1e-5
    np.testing.assert_array_equal(state.object_position, cdr.doubles(3))
    assert not (np.abs(state.object_position[np.isfinite(state.object_position)]) > 1.05).any()
    check_filter(SafetyFilter(SEEING, SafetyLimits(), 0.002), state)


def read_command(raw: bytes, is_point: bool) -> None:
    command = Command(3)
    if is_point:
        PointReader(TARGET).fill(read_message(raw, PointStamped, "target"), command)
        cdr = Cdr(raw)
        stamp, expected, spec = cdr.header(), cdr.doubles(3), TARGET
        assert command.values.tolist() == expected
    else:
        TwistReader(WALK).fill(read_message(raw, TwistStamped, "cmd_vel"), command)
        cdr = Cdr(raw)
        stamp, twist, spec = cdr.header(), cdr.doubles(6), WALK
        np.testing.assert_array_equal(command.values, np.clip([twist[0], twist[1], twist[5]], WALK.lower, WALK.upper))
    assert abs(command.stamp - stamp) < 1e-5
    assert (command.values >= spec.lower).all()
    assert (command.values <= spec.upper).all()


def check_filter(safety: SafetyFilter, state: RobotState) -> None:
    """Whatever the numbers are: the effort is finite and within limits, and what is not finite has tripped."""
    with np.errstate(invalid="ignore", over="ignore"):  # as the control loop
        verdict = safety.step(np.full(len(state.position), 100.0), state, 0.0)
    assert (np.abs(safety.effort) <= 10.0).all()
    finite = np.isfinite(state.motion).all() and np.isfinite(state.angular_velocity).all()
    assert finite or verdict.tripped
