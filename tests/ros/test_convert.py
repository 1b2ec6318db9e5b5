"""Messages become a RobotState: joints by name, and one clear line for what cannot be used."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from geometry_msgs.msg import PointStamped, Twist, TwistStamped
from hypothesis import given
from hypothesis import strategies as st
from nav_msgs.msg import Odometry
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Imu, JointState

from ddpg_robot.errors import CommandError, JointMappingError, ObservationError
from ddpg_robot.spec import CommandSpec, ObjectSpec
from ddpg_robot.state import Command, RobotState
from ddpg_robot_ros.convert import (
    ImuReader,
    JointStateReader,
    ObjectReader,
    OdometryReader,
    PointReader,
    TwistReader,
    fill_odometry,
)

JOINTS = ("shoulder", "elbow", "wrist")
BOX = CommandSpec("point", "base", 3, "m", (0.3, -0.3, 0.2), (0.7, 0.3, 0.6))
WALK = CommandSpec("velocity", "base", 3, "m/s", (-0.5, -0.3, -1.0), (1.0, 0.3, 1.0))


def message(names=JOINTS, position=(1.0, 2.0, 3.0), velocity=(0.1, 0.2, 0.3)) -> JointState:
    return JointState(name=list(names), position=list(position), velocity=list(velocity))


def refusal(bad: JointState, **settings) -> str:
    state = RobotState(3)
    with pytest.raises(JointMappingError) as error:
        JointStateReader(JOINTS, **settings).fill(bad, state)
    assert not state.position.any()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_joints_are_matched_by_name_in_any_order() -> None:
    state, reader = RobotState(3), JointStateReader(JOINTS)
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        assert reader.fill(message(np.array(JOINTS)[order], np.arange(3.0)[order], -np.arange(3.0)[order]), state)
        assert state.position.tolist() == [0.0, 1.0, 2.0]
        assert state.velocity.tolist() == [0.0, -1.0, -2.0]


def test_the_stamp_is_in_seconds() -> None:
    stamped, state = message(), RobotState(3)
    stamped.header.stamp.sec, stamped.header.stamp.nanosec = 12, 500_000_000
    JointStateReader(JOINTS).fill(stamped, state)
    assert state.stamp == 12.5


def test_effort_may_be_empty() -> None:
    assert JointStateReader(JOINTS).fill(message(), RobotState(3))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (message(("shoulder", "wrist"), (1.0, 2.0), (0.0, 0.0)), r"no 'elbow' among 'shoulder', 'wrist', expected"),
        (message((*JOINTS, "gripper"), (0.0,) * 4, (0.0,) * 4), r"unknown 'gripper'.*extra_joints"),
        (message(("shoulder", "elbow", "elbow")), r"'elbow' twice, expected each joint once"),
        (message(()), r"no 'shoulder', 'elbow', 'wrist' among no joints"),
        (message(velocity=()), r"velocity: found it empty, expected 3.*joint_state_broadcaster"),
        (message(position=()), r"position: found it empty, expected 3"),
        (message(velocity=(0.0, 0.0)), r"velocity: found 2 values, expected 3"),
        (message(position=(0.0,) * 5), r"position: found 5 values, expected 3"),
    ],
)
def test_what_cannot_be_mapped_is_refused_in_one_line(bad: JointState, says: str) -> None:
    assert re.search(says, refusal(bad))


def test_a_huge_message_is_refused_in_a_short_line() -> None:
    names = [f"joint{i}" for i in range(100_000)]
    assert len(refusal(message(names, np.zeros(100_000), np.zeros(100_000)))) < 2000


def test_extra_joints_can_be_ignored() -> None:
    state, reader = RobotState(3), JointStateReader(JOINTS, extra_joints="ignore")
    names = ("finger", "wrist", "elbow", "shoulder")
    assert reader.fill(message(names, (9.0, 3.0, 2.0, 1.0), (9.0, 0.3, 0.2, 0.1)), state)
    assert state.position.tolist() == [1.0, 2.0, 3.0]


def test_another_devices_message_is_passed_over_when_extra_joints_are_ignored() -> None:
    state, reader = RobotState(3), JointStateReader(JOINTS, extra_joints="ignore")
    assert not reader.fill(message(("finger",), (9.0,), (9.0,)), state)
    assert reader.fill(message(), state)
    assert not reader.fill(message(("finger",), (9.0,), (9.0,)), state)
    assert state.position.tolist() == [1.0, 2.0, 3.0]


def test_values_that_are_not_finite_are_left_to_the_safety_filter() -> None:
    state = RobotState(3)
    assert JointStateReader(JOINTS).fill(message(position=(1.0, float("nan"), 3.0)), state)
    assert np.isnan(state.position[1])


def serialized(names=JOINTS, position=(1.0, 2.0, 3.0), velocity=(0.1, 0.2, 0.3), **header) -> bytes:
    whole = message(names, position, velocity)
    whole.header.frame_id = header.get("frame", "")
    whole.header.stamp.sec, whole.header.stamp.nanosec = header.get("sec", 5), header.get("nanosec", 250_000_000)
    return serialize_message(whole)


@given(
    names=st.lists(st.text(alphabet="abcdef_é", min_size=0, max_size=9), min_size=1, max_size=9, unique=True),
    frame=st.text(alphabet="base/", max_size=6),
    sec=st.integers(0, 2**31 - 1),
    values=st.lists(st.floats(), min_size=18, max_size=18),
)
def test_bytes_give_what_the_message_gives(names: list[str], frame: str, sec: int, values: list[float]) -> None:
    n = len(names)
    raw = serialized(names, values[:n], values[9 : 9 + n], frame=frame, sec=sec)
    reader = JointStateReader(sorted(names))
    whole, first, again = RobotState(n), RobotState(n), RobotState(n)
    assert reader.fill(deserialize_message(raw, JointState), whole)
    assert reader.fill_bytes(raw, first)  # learns the layout
    assert reader.fill_bytes(raw, again)  # uses it
    for state in (first, again):
        np.testing.assert_array_equal(state.motion, whole.motion)
        assert state.stamp == pytest.approx(whole.stamp, abs=1e-6)


def test_bytes_of_another_layout_are_read_as_a_message() -> None:
    state, reader = RobotState(3), JointStateReader(JOINTS)
    for names, frame in ((JOINTS, ""), (JOINTS[::-1], ""), (JOINTS[::-1], "base"), (JOINTS, "a longer frame")):
        assert reader.fill_bytes(serialized(names, (1.0, 2.0, 3.0), frame=frame), state)
        assert state.position.tolist() == ([1.0, 2.0, 3.0] if names == JOINTS else [3.0, 2.0, 1.0])


@pytest.mark.parametrize(
    "bad",
    [
        serialized(velocity=()),
        serialized(position=()),
        serialized(("shoulder", "elbow", "elbow")),
        serialized(("shoulder", "wrist"), (1.0, 2.0), (1.0, 2.0)),
        serialized((*JOINTS, "gripper"), (1.0,) * 4, (1.0,) * 4),
        serialized(velocity=(1.0, 2.0, 3.0, 4.0)),
    ],
)
def test_bytes_are_refused_as_messages_are_also_after_a_good_one(bad: bytes) -> None:
    state, reader = RobotState(3), JointStateReader(JOINTS)
    assert reader.fill_bytes(serialized(), state)
    for _ in range(2):
        with pytest.raises(JointMappingError):
            reader.fill_bytes(bad, state)
        assert state.position.tolist() == [1.0, 2.0, 3.0]
    assert reader.fill_bytes(serialized(position=(4.0, 5.0, 6.0)), state)
    assert state.position.tolist() == [4.0, 5.0, 6.0]


def test_another_devices_bytes_are_passed_over() -> None:
    state, reader = RobotState(3), JointStateReader(JOINTS, extra_joints="ignore")
    for position in ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)):
        assert not reader.fill_bytes(serialized(("finger",), (9.0,), (9.0,)), state)
        assert reader.fill_bytes(serialized(position=position), state)
        assert state.position.tolist() == list(position)


def test_a_refused_message_leaves_the_state_and_the_next_good_one_is_taken() -> None:
    state, reader = RobotState(3), JointStateReader(JOINTS)
    reader.fill(message(), state)
    with pytest.raises(JointMappingError):
        reader.fill(message(("shoulder", "wrist"), (5.0, 5.0), (5.0, 5.0)), state)
    assert state.position.tolist() == [1.0, 2.0, 3.0]
    assert reader.fill(message(position=(4.0, 5.0, 6.0)), state)
    assert state.position.tolist() == [4.0, 5.0, 6.0]


def point(x: float, y: float, z: float, frame: str = "base") -> PointStamped:
    target = PointStamped()
    target.header.frame_id = frame
    target.point.x, target.point.y, target.point.z = x, y, z
    return target


def test_a_target_within_bounds_is_taken_with_or_without_its_frame() -> None:
    command, reader = Command(3), PointReader(BOX)
    reader.fill(point(0.5, 0.1, 0.4), command)
    assert command.values.tolist() == [0.5, 0.1, 0.4]
    reader.fill(point(0.5, 0.2, 0.4, frame=""), command)
    assert command.values.tolist() == [0.5, 0.2, 0.4]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (point(0.9, 0.0, 0.4), "target x: found 0.9, expected 0.3 .. 0.7 m"),
        (point(0.5, float("nan"), 0.4), "target y: found nan"),
        (point(0.5, 0.0, float("inf")), "target z: found inf"),
        (point(0.5, 0.0, 0.4, frame="camera"), "target frame: found 'camera', expected 'base'"),
    ],
)
def test_a_target_that_the_policy_does_not_know_is_refused(bad: PointStamped, says: str) -> None:
    command = Command(3)
    command.values[:] = (0.4, 0.0, 0.3)
    with pytest.raises(CommandError, match=re.escape(says)):
        PointReader(BOX).fill(bad, command)
    assert command.values.tolist() == [0.4, 0.0, 0.3]


@pytest.mark.parametrize("kind", [Twist, TwistStamped])
def test_a_velocity_is_clipped_to_the_policys_bounds(kind: type) -> None:
    asked = kind()
    twist = getattr(asked, "twist", asked)
    twist.linear.x, twist.linear.y, twist.angular.z = 3.0, 0.1, -2.0
    command = Command(3)
    TwistReader(WALK).fill(asked, command)
    assert command.values.tolist() == [1.0, 0.1, -1.0]


def test_a_velocity_that_is_not_finite_is_refused() -> None:
    asked = Twist()
    asked.linear.x = float("nan")
    with pytest.raises(CommandError, match="cmd_vel"):
        TwistReader(WALK).fill(asked, Command(3))


def test_an_imu_gives_a_unit_orientation_and_body_rates() -> None:
    imu, state = Imu(), RobotState(3, floating_base=True)
    imu.orientation.w, imu.orientation.z = 1.2, 1.6
    imu.angular_velocity.y = 0.5
    ImuReader().fill(imu, state)
    assert state.orientation_wxyz.tolist() == pytest.approx([0.6, 0.0, 0.0, 0.8])
    assert state.angular_velocity.tolist() == [0.0, 0.5, 0.0]


@pytest.mark.parametrize("size", [1e200, float("inf"), float("nan"), 0.1])
def test_an_imu_whose_quaternion_has_no_length_is_refused_instead_of_looking_upright(size: float) -> None:
    imu, state = Imu(), RobotState(3, floating_base=True)
    imu.orientation.w, imu.orientation.x = 0.0, size
    before = state.orientation_wxyz.copy()
    with pytest.raises(ObservationError, match="imu orientation"):
        ImuReader().fill(imu, state)
    assert (state.orientation_wxyz == before).all()


def test_an_imu_without_orientation_is_refused() -> None:
    imu = Imu()
    imu.orientation_covariance[0] = -1.0
    with pytest.raises(ObservationError, match="imu orientation"):
        ImuReader().fill(imu, RobotState(3, floating_base=True))


def seen(x: float, y: float, z: float, frame: str = "base") -> PointStamped:
    message = PointStamped()
    message.header.frame_id, message.header.stamp.sec = frame, 7
    message.point.x, message.point.y, message.point.z = x, y, z
    return message


TABLE = ObjectSpec("base", (-1.0, -1.0, -0.25), (1.0, 1.0, -0.25))


def test_an_object_is_where_the_camera_says_and_no_number_is_judged_here() -> None:
    state = RobotState(3, more=["object_position"])
    assert ObjectReader(TABLE).fill(seen(0.1, 1.04, -0.22), state) == 7.0
    assert state.object_position.tolist() == [0.1, 1.04, -0.22]
    ObjectReader(TABLE).fill(seen(0.1, math.nan, -math.inf), state)
    assert np.isnan(state.object_position[1])


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (seen(0.1, 0.1, -0.25, frame="camera"), "object frame: found 'camera', expected 'base'"),
        (seen(0.1, 1.1, -0.25), "object y: found 1.1 m, expected -1 .. 1 m"),
        (seen(0.1, 0.1, 0.0), "object z: found 0 m, expected -0.25 .. -0.25 m"),
    ],
)
def test_an_object_in_another_frame_or_off_its_table_is_refused(message: PointStamped, words: str) -> None:
    state = RobotState(3, more=["object_position"])
    with pytest.raises(ObservationError) as refusal:
        ObjectReader(TABLE).fill(message, state)
    assert words in str(refusal.value)
    assert not state.object_position.any()


def told(frame: str = "odom", child: str = "base_link") -> Odometry:
    """A base that heads left, turned by 90 degrees, and goes forward at 2 m/s."""
    message = Odometry(child_frame_id=child)
    message.header.frame_id, message.header.stamp.sec = frame, 7
    message.pose.pose.position.x, message.pose.pose.position.z = 1.0, 0.5
    message.pose.pose.orientation.w = message.pose.pose.orientation.z = math.sqrt(0.5)
    message.twist.twist.linear.x = 2.0
    return message


BASE = ("base_position", "base_orientation_wxyz", "base_velocity")


def test_an_odometry_gives_the_velocity_in_its_own_frame_and_leaves_turning_to_the_imu() -> None:
    state = RobotState(3, True, more=BASE)
    state.angular_velocity[:] = 0.1, 0.2, 0.3
    assert OdometryReader().fill(told(), state) == 7.0
    assert state.base_position.tolist() == [1.0, 0.0, 0.5]
    assert state.base_velocity == pytest.approx([0.0, 2.0, 0.0], abs=1e-12)
    assert state.orientation_wxyz.tolist() == [1.0, 0.0, 0.0, 0.0]
    back, again = Odometry(), RobotState(3, True, more=BASE)
    fill_odometry(state, back)
    assert back.twist.twist.linear.x == pytest.approx(2.0)
    assert back.twist.twist.angular.y == 0.2
    OdometryReader().fill(back, again)
    for (_, one), (_, other) in zip(state.more, again.more):
        assert one == pytest.approx(other, abs=1e-12)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (told(frame="map"), "odom frame: found 'map', expected 'odom'"),
        (told(child="camera"), "odom child frame: found 'camera', expected 'base' or 'base_link'"),
    ],
)
def test_an_odometry_of_other_frames_is_refused(message: Odometry, words: str) -> None:
    state = RobotState(3, True, more=BASE)
    with pytest.raises(ObservationError) as refusal:
        OdometryReader().fill(message, state)
    assert words in str(refusal.value)
    assert not state.base_position.any()


@pytest.mark.parametrize("size", [math.nan, math.inf, 0.0])
def test_an_odometry_without_orientation_is_refused_and_other_numbers_are_passed_on(size: float) -> None:
    message, state = told(), RobotState(3, True, more=BASE)
    message.twist.twist.linear.x = size
    OdometryReader().fill(message, state)
    assert np.isfinite(state.base_velocity).all() == math.isfinite(size)
    message.pose.pose.orientation.w = message.pose.pose.orientation.z = size
    with pytest.raises(ObservationError, match="odom orientation"):
        OdometryReader().fill(message, state)
