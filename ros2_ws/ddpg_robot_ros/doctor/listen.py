"""Collects what a robot says, without saying anything: messages with their times of arrival, and the ROS graph."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import GetParameters
from rclpy.duration import Infinite
from rclpy.qos import (
    DurabilityPolicy,
    LivelinessPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64MultiArray, String

from ddpg_robot.spec import RobotSpec
from ddpg_robot.urdf import LARGEST_URDF
from ddpg_robot_ros.convert import LARGEST_MESSAGE, stamp_seconds
from ddpg_robot_ros.doctor.imu import ImuMessage
from ddpg_robot_ros.doctor.joints import JointMessage
from ddpg_robot_ros.doctor.topics import EFFORT_TYPE, STATE_TYPE, Controller, Endpoint
from ddpg_robot_ros.inputs import sensors_of
from ddpg_robot_ros.transport import (
    COMMAND_QOS,
    EFFORT_TOPIC,
    STATE_QOS,
    Bystander,
    MessageWait,
    Newest,
)

DISCOVERY_S = 5.0
"""How long a robot has to show itself."""
SETTLE_S = 1.0
"""How long the graph has to become complete, after the first sign of life."""
NAMELESS = "_NODE_NAME_UNKNOWN_"
SERVICE_WAIT_S = 3.0
UNSEEN_S = 1.5
"""How much longer a robot description may take to be discovered: an announcement that was lost comes again."""
POLL_S = 0.02
KEPT_MESSAGES = 50_000
KEPT_BYTES = 64 * 1024 * 1024
# Every message counts here, not the newest alone. Best effort connects with every publisher.
EVERY_QOS = QoSProfile(depth=200, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)

Raw = tuple[bytes, float, int]
"""A serialized message, when it arrived (s, system clock), its publisher's count."""


class Interrupted(Exception):  # noqa: N818 - no error: somebody pressed Ctrl-C
    """The user wants to end."""


class Listener(Bystander):
    """Who listens; a context manager.

    Args:
        robot: the policy's; tells what to listen to beside joint states.
        namespace: ROS namespace of the robot.
        stopped: asked again and again whether to end.

    Attributes:
        node: the node.
        joints: joint states of the last `listen`; likewise `imu`.
        others: what was heard on the other topics of `sensors_of`: serialized messages and when they arrived, s.
        commands: efforts that somebody else commanded meanwhile.
        oversized: messages that were too large to be looked at.
    """

    def __init__(self, robot: RobotSpec, namespace: str, stopped: Callable[[], bool]) -> None:
        super().__init__("doctor", namespace)
        self._stopped = stopped
        self._joint_input = Newest(self.node, JointState, "joint_states", EVERY_QOS, raw=True)
        self._imu_input = Newest(self.node, Imu, "imu", EVERY_QOS, raw=True) if robot.floating_base else None
        self._other_inputs = {
            topic: Newest(self.node, kind, topic, EVERY_QOS, raw=True)
            for topic, kind, _ in sensors_of(robot)
            if topic != "imu"
        }
        self._effort_input = Newest(self.node, Float64MultiArray, EFFORT_TOPIC, STATE_QOS, raw=True)
        self._urdf_input = Newest(self.node, String, "robot_description", LATCHED_QOS, raw=True)
        self._wait = MessageWait(self.node, self._joint_input)
        self._description: bytes | None = None
        self.joints: list[JointMessage] = []
        self.imu: list[ImuMessage] = []
        self.others: dict[str, list[tuple[bytes, float]]] = {}
        self.commands = self.oversized = 0

    def listen(self, seconds: float) -> None:
        """Waits until the robot shows itself, and collects for `seconds`.

        Raises:
            Interrupted: the user wants to end.
        """
        self._discover()
        joints: list[Raw] = []
        imu: list[Raw] = []
        others: dict[str, list[Raw]] = {topic: [] for topic in self._other_inputs}
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._wait.wait(POLL_S)
            self._collect(self._joint_input, joints)
            self._collect(self._imu_input, imu)
            for topic, source in self._other_inputs.items():
                self._collect(source, others[topic])
            self._take_others()
        self.joints = [joint_message(*raw) for raw in joints]
        self.imu = [imu_message(*raw) for raw in imu]
        self.others = {topic: [(raw, received) for raw, received, _ in heard] for topic, heard in others.items()}

    def description(self) -> bytes | None:
        """The robot description that somebody publishes, UTF-8; None where nobody does.

        At most a little more than `LARGEST_URDF` bytes: enough to be refused.
        """
        began = time.monotonic()
        while self._description is None:
            patience = SERVICE_WAIT_S if self._urdf_input.publishers else UNSEEN_S
            if time.monotonic() - began > patience:
                break
            self._take_others()
            self._pause()
        if self._description is None or len(self._description) > LARGEST_URDF + 64:
            return self._description
        return str(deserialize_message(self._description, String).data).encode()

    def publishers(self, topic: str, ours: QoSProfile = STATE_QOS) -> list[Endpoint]:
        """Who publishes on a topic, but for the doctor itself; `ours` is how we would read it."""
        infos = self.node.get_publishers_info_by_topic(self.resolve(topic))
        return [self._endpoint(info, info.qos_profile, ours) for info in infos if not self._mine(info)]

    def subscribers(self, topic: str, ours: QoSProfile = COMMAND_QOS) -> list[Endpoint]:
        """Who takes a topic, but for the doctor itself; `ours` is how we would write it."""
        infos = self.node.get_subscriptions_info_by_topic(self.resolve(topic))
        return [self._endpoint(info, ours, info.qos_profile) for info in infos if not self._mine(info)]

    def resolve(self, topic: str) -> str:
        """A topic's full name."""
        return str(self.node.resolve_topic_name(topic))

    def state_topics(self) -> list[str]:
        """Topics on which somebody publishes joint states."""
        return [name for name in self._topics(STATE_TYPE) if self.publishers(name)]

    def effort_topics(self) -> list[str]:
        """Topics on which somebody takes arrays of efforts."""
        return [name for name in self._topics(EFFORT_TYPE) if self.subscribers(name)]

    def controller(self, node: str) -> Controller:
        """What a controller's parameters say of its joints and interface."""
        request = GetParameters.Request(names=["joints", "interface_name"])
        answer = self._call(GetParameters, f"{node}/get_parameters", request)
        values = [] if answer is None else list(answer.values)
        if len(values) != 2:
            return Controller(node)
        joints, interface = values
        named = joints.type == ParameterType.PARAMETER_STRING_ARRAY
        said = interface.type == ParameterType.PARAMETER_STRING
        return Controller(
            node,
            joints=tuple(joints.string_array_value) if named else None,
            interface=interface.string_value if said else None,
        )

    def controllers(self) -> tuple[list[Controller] | None, str]:
        """Active controllers of the controller manager, None where they are not known; and why not."""
        name = self.resolve("controller_manager/list_controllers")
        if name not in dict(self.node.get_service_names_and_types()):
            return None, f"no controller manager ({name})"
        if importlib.util.find_spec("controller_manager_msgs") is None:
            return None, "controller_manager_msgs is not installed here; source the robot's ROS 2"
        from controller_manager_msgs.srv import ListControllers

        answer = self._call(ListControllers, name, ListControllers.Request())
        if answer is None:
            return None, f"{name} does not answer"
        active = [one for one in answer.controller if one.state == "active"]
        return [Controller(one.name, one.type, interface=_interface(one)) for one in active], ""

    def _discover(self) -> None:
        deadline = time.monotonic() + DISCOVERY_S
        while not self._complete() and time.monotonic() < deadline:
            self._pause()
        settled = time.monotonic() + SETTLE_S
        while time.monotonic() < settled:
            self._pause()
        for one in (self._joint_input, self._imu_input, self._effort_input, *self._other_inputs.values()):
            while one is not None and one.take() is not None:
                pass  # what came during discovery is no measure of the rate

    def _complete(self) -> bool:
        """True when states and a controller are there, all with names: the middleware learns of an end before its node."""
        takers, commanders = self.subscribers(EFFORT_TOPIC), self.publishers(EFFORT_TOPIC)
        named = not any(one.node.endswith(NAMELESS) for one in [*takers, *commanders, *self.publishers("joint_states")])
        return bool(self._joint_input.publishers and takers and named)

    def _pause(self) -> None:
        if self._stopped():
            raise Interrupted
        time.sleep(POLL_S)

    def _collect(self, source: Newest | None, kept: list[Raw]) -> None:
        if self._stopped():
            raise Interrupted
        while source is not None and (raw := source.take()) is not None:
            if len(raw) > LARGEST_MESSAGE:
                self.oversized += 1
            elif len(kept) < min(KEPT_MESSAGES, KEPT_BYTES // max(1, len(raw))):
                received = source.info.get("received_timestamp") or time.time_ns()
                kept.append((raw, received * 1e-9, int(source.info.get("publication_sequence_number") or 0)))
            else:
                return

    def _take_others(self) -> None:
        while self._effort_input.take() is not None:
            self.commands += 1
        while (raw := self._urdf_input.take()) is not None:
            self._description = raw

    def _topics(self, kind: str) -> list[str]:
        return [name for name, kinds in self.node.get_topic_names_and_types() if kind in kinds]

    def _mine(self, info: Any) -> bool:
        mine = (self.node.get_name(), self.node.get_namespace())
        return (info.node_name, info.node_namespace) == mine

    def _endpoint(self, info: Any, publisher: QoSProfile, subscriber: QoSProfile) -> Endpoint:
        verdict, reason = qos_check_compatible(plain(publisher), plain(subscriber))
        complaint = reason.replace("ERROR: ", "").strip(" ;") if verdict == QoSCompatibility.ERROR else ""
        return Endpoint(f"{info.node_namespace.rstrip('/')}/{info.node_name}", info.topic_type, complaint)

    def _call(self, kind: type, service: str, request: Any) -> Any | None:
        client = self.node.create_client(kind, service)
        try:
            if not client.wait_for_service(SERVICE_WAIT_S):
                return None
            future, deadline = client.call_async(request), time.monotonic() + SERVICE_WAIT_S
            while not future.done() and time.monotonic() < deadline:
                self._pause()
            return future.result() if future.done() else None
        finally:
            self.node.destroy_client(client)


def plain(qos: QoSProfile) -> QoSProfile:
    """What decides whether two ends connect. The graph tells a time that was not asked for as infinite, a profile as zero."""
    times = {
        name: value
        for name in ("deadline", "liveliness_lease_duration")
        if (value := getattr(qos, name)) < Infinite and value.nanoseconds
    }
    chosen = {} if qos.liveliness == LivelinessPolicy.SYSTEM_DEFAULT else {"liveliness": qos.liveliness}
    return QoSProfile(depth=1, reliability=qos.reliability, durability=qos.durability, **times, **chosen)


def joint_message(raw: bytes, received: float, sequence: int) -> JointMessage:
    """A serialized sensor_msgs/JointState as the checks read it."""
    message = deserialize_message(raw, JointState)
    stamp = stamp_seconds(message.header.stamp)
    position, velocity = np.array(message.position), np.array(message.velocity)
    return JointMessage(received, stamp, sequence, tuple(message.name), position, velocity)


def imu_message(raw: bytes, received: float, sequence: int) -> ImuMessage:
    """A serialized sensor_msgs/Imu as the checks read it."""
    message = deserialize_message(raw, Imu)
    q, w, a = message.orientation, message.angular_velocity, message.linear_acceleration
    return ImuMessage(
        received,
        stamp_seconds(message.header.stamp),
        (q.w, q.x, q.y, q.z),
        (w.x, w.y, w.z),
        (a.x, a.y, a.z),
        message.orientation_covariance[0] != -1.0,
        message.linear_acceleration_covariance[0] != -1.0,
        message.header.frame_id,
    )


def _interface(state: Any) -> str:
    """What kind of interface a controller commands: ``effort``; all of them where there are several kinds."""
    names = state.claimed_interfaces or state.required_command_interfaces
    return ", ".join(sorted({name.rpartition("/")[2] for name in names}))
