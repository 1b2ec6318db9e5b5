"""The plant node: a simulated robot in real time, behind the topics of a real one.

Publishes ``joint_states`` (effort: what the motors exerted), of a floating base ``imu``, and ``odom`` and ``object`` where a
policy sees them; takes ``effort_controller/commands``. When commands stop it holds by damping, as an arm's firmware does; a robot
with legs stands by itself until the first one. On SIGINT it outlives its controllers: their farewell must reach it.
``~/set_pose`` puts the robot into a pose, its base with it where ``~/set_base`` came before.

Whoever judges a policy wants to know what the robot did, not what its sensors said: ``~/joint_states`` has the joints as they
are, without what a draw adds, delays or loses; ``~/base_pose`` and ``~/base_velocity`` (forward, left, up, turning; in a frame
that only turns with the heading) tell of a floating base what no robot knows of itself. All are `TRUTH_RATE_HZ` a second. With
the parameter ``reward`` it pays for walking too, at every state (`Payer`).
"""

from __future__ import annotations

import array
import gc
import math
import sys
import time
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PointStamped, PoseStamped, TwistStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64MultiArray

from ddpg_robot.errors import ConfigError, DdpgRobotError, mismatch
from ddpg_robot.policy import read_manifest
from ddpg_robot.rate import PeriodicLoop
from ddpg_robot.state import RobotState
from ddpg_robot_ros.convert import BASE_FRAMES, ODOM_FRAMES, OdometryReader, fill_odometry
from ddpg_robot_ros.effort_command import effort_values
from ddpg_robot_ros.models import find_model, model_of
from ddpg_robot_ros.parameters import Parameter, declare, policy_path, value
from ddpg_robot_ros.payer import Payer
from ddpg_robot_ros.plant import MAX_CATCH_UP_S, Plant, read_draw
from ddpg_robot_ros.transport import (
    COMMAND_QOS,
    EFFORT_READER_QOS,
    STATE_QOS,
    MessageWait,
    Newest,
    StopSignal,
    run_node,
)

OUTLIVE_S = 3.0
LOCKSTEP_WAIT_S = 0.25
"""How long a plant in lockstep waits for a command that does not come."""
TRUTH_RATE_HZ = 50.0
BASE_FRAME, WORLD_FRAME = "base", "world"

PARAMETERS = (
    Parameter(
        "model", "", "MJCF file, task file (.toml) or model of ddpg_robot_sim; empty = the one of the policy's robot."
    ),
    Parameter(
        "policy",
        "arm_reach",
        "Policy file (.onnx) or shipped policy: its robot is simulated, where no model is named; its passive joints are told of.",
    ),
    Parameter("rate", 500.0, "joint_states, and imu messages of a floating base, per second.", 1.0, 5000.0),
    Parameter("joint_order", [""], "Order of the joints in joint_states; [''] = the model's."),
    Parameter("command_order", [""], "Order of the joints in commands; [''] = the model's."),
    Parameter("gravity_compensation", True, "False switches off the gravity compensation that the model has."),
    Parameter("command_timeout", 0.1, "Hold by damping when commands are older than this, s.", 0.001, 60.0),
    Parameter(
        "draw", "", "The robot of an episode with domain randomisation: JSON, or a file of it; empty = the model."
    ),
    Parameter("publish_clock", False, "Publish /clock and stamp with simulated time."),
    Parameter(
        "reward", False, "Pay a policy that walks, on `reward`, by its task's own function: it may learn from that."
    ),
    Parameter(
        "lockstep", False, "Wait for a command after each state, and go on at once: as fast as the controller is."
    ),
)


class PlantNode(Node):
    """A `Plant` behind ROS topics."""

    def __init__(self) -> None:
        super().__init__("plant_node")
        declare(self, PARAMETERS)
        named = value(self, "model")
        manifest = read_manifest(policy_path(value(self, "policy")))
        model = find_model(named) if named else model_of(manifest.robot, manifest.training.robot_file is not None)
        compensation, draw = value(self, "gravity_compensation"), read_draw(value(self, "draw"))
        robot = manifest.robot
        self._plant = Plant(model, compensation, draw, robot.passive_joints, robot.more_state)
        names = self._plant.measured_joints
        self._state_order = self._order("joint_order", names)
        self._command_order = np.argsort(self._order("command_order", self._plant.joint_names))
        self._timeout, self._lockstep = value(self, "command_timeout"), value(self, "lockstep")
        self._command_at = -math.inf
        self._complaint = ""
        self._message = _joint_message([names[i] for i in self._state_order])
        # Views of the message's own memory: filling them fills the message.
        self._position = np.frombuffer(self._message.position)
        self._velocity = np.frombuffer(self._message.velocity)
        self._effort = np.frombuffer(self._message.effort)
        self._exerted = np.zeros(len(names))
        self._states = self.create_publisher(JointState, "joint_states", STATE_QOS)
        self._commands = Newest(self, Float64MultiArray, "effort_controller/commands", EFFORT_READER_QOS, raw=True)
        self._poses = Newest(self, JointState, "~/set_pose", COMMAND_QOS)
        self._true_message = _joint_message(names)
        self._true_states = self.create_publisher(JointState, "~/joint_states", STATE_QOS)
        self._truth_every = max(1, round(value(self, "rate") / TRUTH_RATE_HZ))
        self._published = 0
        if self._plant.floating_base:
            self._imu = self._imu_message()
            self._imus = self.create_publisher(Imu, "imu", STATE_QOS)
            self._base_poses = self.create_publisher(PoseStamped, "~/base_pose", STATE_QOS)
            self._base_velocities = self.create_publisher(TwistStamped, "~/base_velocity", STATE_QOS)
        if robot.object is not None:
            self._object = PointStamped()
            self._object.header.frame_id = robot.object.frame
            self._objects = self.create_publisher(PointStamped, "object", STATE_QOS)
        self._has_object = robot.object is not None
        self._has_odometry = robot.odometry
        if robot.odometry:
            self._odometry = Odometry(child_frame_id=BASE_FRAMES[0])
            self._odometry.header.frame_id = ODOM_FRAMES[0]
            self._odometries = self.create_publisher(Odometry, "odom", STATE_QOS)
            self._base_place = RobotState.of(robot)
            self._base_places = Newest(self, Odometry, "~/set_base", COMMAND_QOS)
        # An arm's reward is of what it measures itself.
        pays = value(self, "reward") and manifest.command.kind == "velocity"
        self._payer = Payer(self, self._plant, manifest, value(self, "rate")) if pays else None
        has_clock = value(self, "publish_clock") or self._lockstep
        self._plant_clock = self.create_publisher(Clock, "/clock", 10) if has_clock else None

    def run(self, stop: StopSignal) -> None:
        """Simulates until told to stop, and on until the last controller is gone, at most `OUTLIVE_S`."""
        if self._lockstep:
            self._run_in_lockstep(stop)
            return
        loop = PeriodicLoop(1 / value(self, "rate"))
        collect_every = round(value(self, "rate"))
        loop.start()
        last, stop_at = time.monotonic(), math.inf
        while time.monotonic() < stop_at:
            loop.wait()
            self._take_pose()
            self._take_command()
            now = time.monotonic()
            behind = min(now - last, MAX_CATCH_UP_S)
            last = now - behind + self._plant.advance(behind) * self._plant.timestep
            self._publish()
            if loop.ticks % collect_every == 0:
                gc.collect()
            if stop.is_set():
                stop_at = min(stop_at, now + OUTLIVE_S)
                if self._commands.publishers == 0:
                    break

    def _run_in_lockstep(self, stop: StopSignal) -> None:
        """As `run`, by the controller's time: state and clock out, a command in, one period of physics."""
        wait, period, stop_at = MessageWait(self, self._commands), 1 / value(self, "rate"), math.inf
        collected_at = time.monotonic()
        while time.monotonic() < stop_at:
            if time.monotonic() > collected_at + 1.0:
                gc.collect()
                collected_at = time.monotonic()
            self._take_pose()
            self._publish()
            if self._commands.publishers:
                wait.wait(LOCKSTEP_WAIT_S)
            else:
                time.sleep(period)
            self._take_command()
            self._plant.advance(period)
            if stop.is_set():
                stop_at = min(stop_at, time.monotonic() + OUTLIVE_S)
                if self._commands.publishers == 0:
                    break

    def _take_command(self) -> None:
        message = self._commands.take()
        now = self._plant.time if self._lockstep else time.monotonic()
        if message is not None:
            try:
                values = effort_values(message, len(self._plant.joint_names))
            except DdpgRobotError as error:
                self._complain(str(error))
            else:
                self._plant.command(values[self._command_order])
                self._command_at = now
        if now - self._command_at > self._timeout:
            self._plant.command(None)

    def _take_pose(self) -> None:
        message = self._poses.take()
        if message is None:
            return
        try:
            base = self._take_base()
            self._plant.place(message.name, message.position, message.velocity, base)
        except DdpgRobotError as error:
            self._complain(str(error))
        if self._payer is not None:
            self._payer.forget()

    def _take_base(self) -> RobotState | None:
        """Where the base shall be put, where somebody has said so since the last time."""
        message = self._base_places.take() if self._has_odometry else None
        if message is None:
            return None
        OdometryReader().fill(message, self._base_place)
        turning = message.twist.twist.angular
        self._base_place.angular_velocity[:] = turning.x, turning.y, turning.z
        return self._base_place

    def _publish(self) -> None:
        nanoseconds = time.time_ns() if self._plant_clock is None else round(self._plant.time * 1e9)
        if self._published % self._truth_every == 0:
            self._publish_truth(_time(nanoseconds))
        self._published += 1
        self._publish_state(nanoseconds)
        if self._payer is not None:
            self._payer.pay()
        if self._plant_clock is not None:  # last: who ticks by it finds the state there
            self._plant_clock.publish(Clock(clock=_time(nanoseconds)))

    def _publish_state(self, nanoseconds: int) -> None:
        age = self._plant.measure()
        if age is None:  # the measurement is lost, or still on its way
            return
        order, measured = self._state_order, self._plant.measured
        self._position[:] = measured.measured[0, order]
        self._velocity[:] = measured.measured[1, order]
        self._exerted[: len(self._plant.applied)] = self._plant.applied  # the rest is zero: passive joints
        self._effort[:] = self._exerted[order]
        self._message.header.stamp = stamp = _time(nanoseconds - round(age * 1e9))
        self._states.publish(self._message)
        if self._plant.floating_base:
            self._publish_imu(stamp)
        if self._has_odometry:
            fill_odometry(measured, self._odometry)
            self._odometry.header.stamp = stamp
            self._odometries.publish(self._odometry)
        if self._has_object:
            self._object.header.stamp, at = stamp, self._object.point
            at.x, at.y, at.z = measured.object_position.tolist()
            self._objects.publish(self._object)

    def _publish_imu(self, stamp: Time) -> None:
        message, measured, force = self._imu, self._plant.measured, self._plant.specific_force
        message.header.stamp = stamp
        q, w, f = message.orientation, message.angular_velocity, message.linear_acceleration
        q.w, q.x, q.y, q.z = measured.orientation_wxyz.tolist()
        w.x, w.y, w.z = measured.angular_velocity.tolist()
        if force is not None:
            f.x, f.y, f.z = force.tolist()
        self._imus.publish(message)

    def _publish_truth(self, stamp: Time) -> None:
        message, truth = self._true_message, self._plant.truth
        message.header.stamp = stamp
        np.frombuffer(message.position)[:] = truth.measured[0]
        np.frombuffer(message.velocity)[:] = truth.measured[1]
        np.frombuffer(message.effort)[: len(self._plant.applied)] = self._plant.applied
        self._true_states.publish(message)
        if self._plant.floating_base:
            self._publish_base(stamp)

    def _publish_base(self, stamp: Time) -> None:
        pose, velocity, base = PoseStamped(), TwistStamped(), self._plant.base
        pose.header.stamp = velocity.header.stamp = stamp
        pose.header.frame_id, velocity.header.frame_id = WORLD_FRAME, BASE_FRAME
        at, turned, going = pose.pose.position, pose.pose.orientation, velocity.twist.linear
        at.x, at.y, at.z, turned.w, turned.x, turned.y, turned.z = base.pose.tolist()
        going.x, going.y, going.z = base.heading_velocity.tolist()
        velocity.twist.angular.z = float(base.turning[2])
        self._base_poses.publish(pose)
        self._base_velocities.publish(velocity)

    def _imu_message(self) -> Imu:
        message = Imu()
        message.header.frame_id = BASE_FRAME
        if self._plant.specific_force is None:
            message.linear_acceleration_covariance[0] = -1.0  # sensor_msgs/Imu: not measured
        return message

    def _order(self, parameter: str, names: Sequence[str]) -> np.ndarray:
        """Indices of the model's joints `names` in the order that a parameter names."""
        wanted = list(value(self, parameter))
        if wanted == [""]:
            return np.arange(len(names))
        if sorted(wanted) != sorted(names):
            raise ConfigError(mismatch(f"parameter '{parameter}'", wanted, "each joint once", names))
        return np.array([names.index(name) for name in wanted])

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self.get_logger().error(text)
            self._complaint = text


def _joint_message(names: Sequence[str]) -> JointState:
    """A message whose fields can be filled in place."""
    message = JointState(name=list(names))
    for field in ("position", "velocity", "effort"):
        setattr(message, field, array.array("d", bytes(8 * len(names))))
    return message


def _time(nanoseconds: int) -> Time:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return Time(sec=seconds, nanosec=rest)


def main(args: Sequence[str] | None = None) -> int:
    """Entry point of the executable."""
    return run_node(PlantNode, args)


if __name__ == "__main__":
    sys.exit(main())
