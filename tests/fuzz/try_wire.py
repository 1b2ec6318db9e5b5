"""Sends a message's bytes over real DDS to a subscription as the nodes make it, and reads what arrives."""

from __future__ import annotations

import os
from typing import Any

import rclpy
from fuzz.hostile_messages import KINDS, RAW
from fuzz.try_message import ESTIMATED, SEEING, TABLE, TARGET, WALK
from fuzz.try_message import attempt as read
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from ddpg_robot.errors import MessageError, mismatch
from ddpg_robot.state import Command, RobotState
from ddpg_robot_ros.convert import ImuReader, ObjectReader, OdometryReader, PointReader, TwistReader
from ddpg_robot_ros.transport import EFFORT_READER_QOS, MessageWait, Newest, start_ros

DISCOVERY_S = 20.0
ARRIVAL_S = 0.05


class Wire:
    """A publisher, and the subscription of a node that reads its topic."""

    def __init__(self, node: Any, kind: bytes) -> None:
        message_type = type(KINDS[kind])
        self.raw = message_type in (JointState, Float64MultiArray)
        topic = f"fuzz_{kind.decode()}"
        self._newest = Newest(node, message_type, topic, EFFORT_READER_QOS, raw=self.raw)
        self._wait = MessageWait(node, self._newest)
        self._publisher = node.create_publisher(message_type, topic, EFFORT_READER_QOS)
        for _ in range(round(DISCOVERY_S / ARRIVAL_S)):
            if self.carry(RAW[kind]) is not None:
                return
        raise TimeoutError(f"nothing arrives on {topic}")

    def carry(self, raw: bytes) -> Any | None:
        """What a node takes of these bytes: bytes, a message, or nothing."""
        self._publisher.publish(raw)
        self._wait.wait(ARRIVAL_S)
        return self._newest.take()


def attempt(data: bytes) -> str:
    """As `try_message.attempt`; the middleware itself refuses what is no message of a subscription that is not raw."""
    kind, raw = data[:1], data[1:]
    if kind not in WIRES:
        raise MessageError(mismatch("kind", kind, "a kind"))
    taken = WIRES[kind].carry(raw)
    if taken is None:
        return "refused"
    if WIRES[kind].raw:
        return read(kind + taken)
    if kind == b"I":
        ImuReader().fill(taken, RobotState(2, floating_base=True))
    elif kind == b"O":
        OdometryReader().fill(taken, RobotState.of(ESTIMATED))
    elif kind == b"B":
        ObjectReader(TABLE).fill(taken, RobotState.of(SEEING))
    elif kind == b"P":
        PointReader(TARGET).fill(taken, Command(3))
    else:
        TwistReader(WALK).fill(taken, Command(3))
    return "accepted"


os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
start_ros([])
NODE = rclpy.create_node("fuzz")
WIRES = {kind: Wire(NODE, kind) for kind in RAW}
