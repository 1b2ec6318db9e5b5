"""The operator's side of a deployment: sends targets, watches the robot, asks for services."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PointStamped, TwistStamped
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from nav_msgs.msg import Odometry
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from ddpg_robot.spec import RobotSpec
from ddpg_robot.state import RobotState
from ddpg_robot_ros.convert import JointStateReader, fill_odometry
from ddpg_robot_ros.transport import (
    COMMAND_QOS,
    STATE_QOS,
    Bystander,
    Newest,
)

SERVICE_WAIT_S = 10.0


class Operator(Bystander):
    """Who sends targets and watches; a context manager.

    Args:
        robot: the robot that is watched.
        namespace: ROS namespace of the deployment.
        domain: ROS domain; None for the environment's.

    Attributes:
        node: the node.
        state: newest joint state, as `watch` read it last.
        diagnostics: newest status of each name.
    """

    def __init__(self, robot: RobotSpec, namespace: str = "", domain: int | None = None) -> None:
        super().__init__("operator", namespace, domain)
        self.state = RobotState.of(robot)
        self.diagnostics: dict[str, DiagnosticStatus] = {}
        self._reader = JointStateReader(robot.measured_joints, "ignore")
        self._joints = Newest(self.node, JointState, "joint_states", STATE_QOS)
        self._target = self.node.create_publisher(PointStamped, "target", COMMAND_QOS)
        self._velocity = self.node.create_publisher(TwistStamped, "cmd_vel", COMMAND_QOS)
        self._pose = self.node.create_publisher(JointState, "plant_node/set_pose", COMMAND_QOS)
        self._base = self.node.create_publisher(Odometry, "plant_node/set_base", COMMAND_QOS)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, QoSProfile(depth=50))
        self._clients: dict[str, Any] = {}

    def watch(self) -> bool:
        """Reads the newest joint state; False when there is none that was not read yet."""
        message = self._joints.take()
        return message is not None and self._reader.fill(message, self.state)

    def send_target(self, point: Sequence[float], frame: str = "") -> None:
        """Publishes a target, m."""
        message = PointStamped()
        message.header.stamp = self.node.get_clock().now().to_msg()
        message.header.frame_id = frame
        message.point.x, message.point.y, message.point.z = (float(value) for value in point)
        self._target.publish(message)

    def send_velocity(self, velocity: Sequence[float], frame: str = "") -> None:
        """Publishes a velocity to walk at: forward and left, m/s, and turning, rad/s."""
        message = TwistStamped()
        message.header.stamp = self.node.get_clock().now().to_msg()
        message.header.frame_id = frame
        forward, left, turn = (float(value) for value in velocity)
        message.twist.linear.x, message.twist.linear.y, message.twist.angular.z = forward, left, turn
        self._velocity.publish(message)

    def place(
        self,
        names: Sequence[str],
        position: Sequence[float],
        velocity: Sequence[float] = (),
        base: RobotState | None = None,
    ) -> None:
        """Moves the simulated robot into a pose, rad and rad/s; one on a floating base also back to where it stood first.

        With odometry, its base may be put where the state `base` has it; that may come too late, and counts for the next time.
        """
        if base is not None:
            message = Odometry()
            fill_odometry(base, message)
            self._base.publish(message)
        at, going = ([float(value) for value in values] for values in (position, velocity))
        self._pose.publish(JointState(name=list(names), position=at, velocity=going))

    def ready(self) -> bool:
        """True when the policy node listens to targets or velocities."""
        return any(one.get_subscription_count() > 0 for one in (self._target, self._velocity))

    def active(self, node: str = "policy_node") -> bool:
        """True when a lifecycle node is active."""
        answer = self.call(GetState, f"{node}/get_state", GetState.Request(), timeout=2.0)
        return answer is not None and answer.current_state.id == State.PRIMARY_STATE_ACTIVE

    def trigger(self, service: str) -> Any | None:
        """Calls a Trigger service; None when nobody answers."""
        return self.call(Trigger, service, Trigger.Request())

    def call(self, kind: type, service: str, request: Any, timeout: float = SERVICE_WAIT_S) -> Any | None:
        """Calls a service; None when nobody answers within `timeout` s."""
        client = self._clients.get(service)
        if client is None:
            client = self._clients[service] = self.node.create_client(kind, service)
        deadline = time.monotonic() + timeout
        if not client.wait_for_service(timeout):
            return None
        future = client.call_async(request)
        while not future.done() and time.monotonic() < deadline:
            time.sleep(0.002)
        return future.result() if future.done() else None

    def status(self, suffix: str) -> DiagnosticStatus | None:
        """Newest diagnostic status whose name ends so."""
        return next((one for name, one in self.diagnostics.items() if name.endswith(suffix)), None)

    def count(self, suffix: str, key: str) -> int:
        """A whole number of the newest status whose name ends so; 0 before there is one."""
        status = self.status(suffix)
        return 0 if status is None else int(next(pair.value for pair in status.values if pair.key == key))

    def trip(self) -> str:
        """What the policy node's diagnostics say of its trip; empty where it has not tripped."""
        status = self.status("control loop")
        return status.message if status is not None and status.message.startswith("tripped") else ""

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for one in message.status:
            self.diagnostics[one.name] = one
