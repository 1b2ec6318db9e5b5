"""What the loop reads every tick: the newest robot state with its age, and the newest command."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Literal, Protocol

from geometry_msgs.msg import PointStamped, Twist, TwistStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import Imu, JointState

from ddpg_robot.spec import CommandSpec, RobotSpec
from ddpg_robot.state import Command, RobotState
from ddpg_robot_ros.convert import (
    ExtraJoints,
    ImuReader,
    JointStateReader,
    ObjectReader,
    OdometryReader,
    PointReader,
    TwistReader,
)
from ddpg_robot_ros.transport import COMMAND_QOS, STATE_QOS, Newest

AgeSource = Literal["stamp", "receipt"]


class Age:
    """How old a stream of stamped messages is.

    The age is the time since a message with a new stamp arrived, on the monotonic clock, or the time since the newest
    stamp, on the ROS clock, whichever is larger: a frozen stamp, a slow network and a silent publisher all show. A
    stamp in the future shows as a negative age. Messages without stamp (zero) have the first kind of age only.
    """

    def __init__(
        self, ros_now: Callable[[], float], source: AgeSource, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._ros_now, self._now = ros_now, now
        self._use_stamp = source == "stamp"
        self._stamp = math.nan
        self._fresh_at = -math.inf

    def saw(self, stamp: float) -> None:
        """A message with this stamp (s) has just been taken."""
        if stamp != self._stamp or stamp == 0.0:
            self._stamp = stamp
            self._fresh_at = self._now()

    def now(self) -> float:
        """Age, s; infinite before the first message."""
        since_receipt = self._now() - self._fresh_at
        if not self._use_stamp or self._stamp == 0.0 or since_receipt == math.inf:
            return since_receipt
        since_stamp = self._ros_now() - self._stamp
        return since_stamp if abs(since_stamp) > since_receipt else since_receipt


class Reader(Protocol):
    """Writes a message into a state, and returns its stamp, s."""

    def fill(self, message: Any, state: RobotState) -> float:
        """Raises ObservationError where the message cannot be used."""
        ...


def sensors_of(robot: RobotSpec) -> list[tuple[str, type, Reader]]:
    """What tells of a robot's state beside ``joint_states``: topic, message type, reader."""
    found: list[tuple[str, type, Reader]] = []
    if robot.floating_base:
        found.append(("imu", Imu, ImuReader()))
    if robot.odometry:
        found.append(("odom", Odometry, OdometryReader()))
    if robot.object is not None:
        found.append(("object", PointStamped, ObjectReader(robot.object)))
    return found


class StateInput:
    """Newest joint states, and what else the robot's state has: IMU, odometry, object.

    Attributes:
        state: the newest state; joints in the policy's order.
        latency_from: stamp of the newest joint state by its sender's clock, s (the stamp, or when it was published).
    """

    def __init__(
        self,
        node: Node,
        robot: RobotSpec,
        extra_joints: ExtraJoints,
        age_source: AgeSource,
        subscribe: type[Newest] = Newest,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.state = RobotState.of(robot)
        self.latency_from = 0.0
        clocks = (ros_clock(node), time.monotonic) if clock is None else (clock, clock)
        now, steady = clocks
        self._joints = subscribe(node, JointState, "joint_states", STATE_QOS, raw=True)
        self._reader = JointStateReader(robot.measured_joints, extra_joints)
        self._joint_age = Age(now, age_source, steady)
        self._others = [
            (subscribe(node, kind, topic, STATE_QOS), reader, Age(now, age_source, steady))
            for topic, kind, reader in sensors_of(robot)
        ]

    def take(self) -> None:
        """Takes what is new.

        Raises:
            MessageError, JointMappingError, ObservationError: the newest message cannot be used; the state keeps its old values.
        """
        message = self._joints.take()
        fill = self._reader.fill_bytes if isinstance(message, bytes) else self._reader.fill
        if message is not None and fill(message, self.state):
            self._joint_age.saw(self.state.stamp)
            self.latency_from = self.state.stamp or self._joints.info["source_timestamp"] * 1e-9
        for newest, reader, age in self._others:
            message = newest.take()
            if message is not None:
                age.saw(reader.fill(message, self.state))

    def age(self) -> float:
        """Age of the state (of its oldest part), s; infinite before the first one."""
        oldest = self._joint_age.now()
        self.state.motion_age[0] = oldest
        for _, _, age in self._others:
            oldest = max(oldest, age.now(), key=abs)
        return oldest

    def describe(self) -> str:
        """Topics and how many publish on them, for messages."""
        return ", ".join(f"{one.topic} ({one.publishers} publishers)" for one in self._inputs)

    def destroy(self) -> None:
        """Ends the subscriptions."""
        for one in self._inputs:
            one.destroy()

    @property
    def _inputs(self) -> list[Newest]:
        return [self._joints, *(newest for newest, _, _ in self._others)]


class CommandInput:
    """Newest target (a point) or velocity; of a policy that takes none, nothing, or the one point there is.

    Attributes:
        command: the newest command that was accepted.
        given: True once there is one; always where none is wanted.
    """

    def __init__(self, node: Node, spec: CommandSpec, stamped_twist: bool, subscribe: type[Newest] = Newest) -> None:
        self.command = Command(spec.size)
        self._from_start = spec.lower if spec.kind == "fixed" else 0.0
        self._is_point = spec.kind == "point"
        self._reader: PointReader | TwistReader
        self._newest: Newest | None = None
        if spec.is_given:
            pass
        elif self._is_point:
            self._reader = PointReader(spec)
            self._newest = subscribe(node, PointStamped, "target", COMMAND_QOS)
        else:
            self._reader = TwistReader(spec)
            self._newest = subscribe(node, TwistStamped if stamped_twist else Twist, "cmd_vel", COMMAND_QOS)
        self.forget()

    def forget(self) -> None:
        """Drops the command and one that may be waiting: a robot that starts again must be asked again."""
        if self._newest is not None:
            self._newest.take()
        self.command.values[:] = self._from_start
        self.given = not self._is_point  # no velocity asked for means: stand

    def take(self) -> bool:
        """Takes what is new; True when a new command was accepted.

        Raises:
            CommandError: the newest command cannot be used; the one before stays in force.
        """
        message = None if self._newest is None else self._newest.take()
        if message is None:
            return False
        self._reader.fill(message, self.command)
        self.given = True
        return True

    @property
    def topic(self) -> str:
        """Resolved name of the command's topic; empty where there is none."""
        return "" if self._newest is None else self._newest.topic

    def destroy(self) -> None:
        """Ends the subscription."""
        if self._newest is not None:
            self._newest.destroy()


def ros_clock(node: Node) -> Callable[[], float]:
    """ROS time in s: the system clock, or ``/clock`` when ``use_sim_time`` is set."""
    if node.get_parameter("use_sim_time").value:
        clock = node.get_clock()
        return lambda: clock.now().nanoseconds * 1e-9
    return time.time
