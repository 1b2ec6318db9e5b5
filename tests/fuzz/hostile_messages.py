"""Bad messages as the middleware hands them over, each made by its number alone; the kind of message goes before it."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import PointStamped, TwistStamped
from nav_msgs.msg import Odometry
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64MultiArray, MultiArrayDimension

JOINTS = ("shoulder", "elbow", "wrist")
COUNTS = [0, 1, 2, 4, 7, 255, 2**16, 2**24, 2**26, 2**28, 2**29 - 1, 2**29, 2**31 - 1, 2**31, 2**32 - 16, 2**32 - 1]
NUMBERS = [float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 1e200, 5e-324, -0.0, 1e6, -1.0, 0.5]
TEXTS = [b"", b"\xff\xfe", b"base", b"wrist", b"camera", b"\x1b[2J", b"a\nb", b"a\0b", b"\xed\xa0\x80", b"x" * 5000]
NAMES = [[], ["wrist"], [*JOINTS, "gripper"], ["elbow"] * 3, ["a\nb"] * 3, ["finger"], [""] * 3, list(JOINTS[::-1])]


def joint_state(names: list[str] = list(JOINTS), **fields: Any) -> JointState:  # noqa: B006 - never changed
    values: dict[str, Any] = {"position": [0.1, 0.2, 0.3], "velocity": [0.4, 0.5, 0.6], "effort": [1.0, 2.0, 3.0]}
    return JointState(name=names, **{**values, **fields})


def imu() -> Imu:
    message = Imu()
    message.orientation.w, message.orientation.x, message.angular_velocity.z = 0.8, 0.6, 0.3
    return message


def odometry() -> Odometry:
    message = Odometry(child_frame_id="base")
    message.pose.pose.orientation.w, message.pose.pose.orientation.z = 0.8, 0.6
    message.pose.pose.position.z, message.twist.twist.linear.x = 0.5, 0.3
    return message


def target() -> PointStamped:
    message = PointStamped()
    message.point.x, message.point.z = 0.5, 0.4
    return message


def cmd_vel() -> TwistStamped:
    message = TwistStamped()
    message.twist.linear.x, message.twist.angular.z = 0.5, -0.5
    return message


def effort() -> Float64MultiArray:
    message = Float64MultiArray(data=[1.0, -2.0, 3.0])
    message.layout.dim.append(MultiArrayDimension(label="joint", size=3, stride=3))
    return message


def _stamped(message: Any) -> bytes:
    if hasattr(message, "header"):
        message.header.stamp.sec, message.header.stamp.nanosec = 5, 250_000_000
        message.header.frame_id = (
            "odom" if isinstance(message, Odometry) else "base"
        )  # as long as one another: `reworded`
    return bytes(serialize_message(message))


KINDS = {
    b"J": joint_state(),
    b"K": joint_state(),  # to a reader that has learnt the layout
    b"L": joint_state(),  # to a reader that ignores extra joints
    b"I": imu(),
    b"O": odometry(),
    b"P": target(),
    b"B": target(),  # an object
    b"T": cmd_vel(),
    b"E": effort(),
}
RAW = {kind: _stamped(message) for kind, message in KINDS.items()}
GOOD = b"J" + RAW[b"J"]

Mutation = Callable[[random.Random, bytearray], bytes]


def mutant(number: int) -> tuple[str, bytes]:
    """Name of the mutation and the message of a number, with its kind before it."""
    rng = random.Random(number)
    kind = list(RAW)[number % len(RAW)]
    mutation = MUTATIONS[number // len(RAW) % len(MUTATIONS)]
    return f"{mutation.__name__}_{KINDS[kind].__class__.__name__}", kind + mutation(rng, bytearray(RAW[kind]))


def flipped(rng: random.Random, raw: bytearray) -> bytes:
    for _ in range(rng.randint(1, 3)):
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return bytes(raw)


def cut(rng: random.Random, raw: bytearray) -> bytes:
    return bytes(raw[: rng.randrange(len(raw))])


def extended(rng: random.Random, raw: bytearray) -> bytes:
    return bytes(raw) + rng.choice([b"\0", b"\0" * 8, rng.randbytes(30), bytes(raw), bytes(70_000)])


def shifted(rng: random.Random, raw: bytearray) -> bytes:
    """Bytes too many or too few in the middle."""
    at, size = rng.randrange(len(raw)), rng.choice([1, 4, 8])
    if rng.random() < 0.5:
        del raw[at : at + size]
    else:
        raw[at:at] = rng.randbytes(size)
    return bytes(raw)


def miscounted(rng: random.Random, raw: bytearray) -> bytes:
    """A count, or what stands where one may stand, is another one."""
    at = rng.randrange(4, len(raw) - 3, 4)
    raw[at : at + 4] = struct.pack("<I", rng.choice(COUNTS))
    return bytes(raw)


def renumbered(rng: random.Random, raw: bytearray) -> bytes:
    """Numbers that are not finite, huge or tiny, at any place where one may stand."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(4, len(raw) - 7, 8)
        raw[at : at + 8] = struct.pack("<d", rng.choice(NUMBERS))
    return bytes(raw)


def reencoded(rng: random.Random, raw: bytearray) -> bytes:
    """Says that it is big-endian, a parameter list, of another version of the encoding."""
    raw[:4] = bytes([rng.choice([0, 0, 1, 255]), rng.randrange(12), rng.choice([0, 3]), rng.choice([0, 1, 255])])
    return bytes(raw)


def noise(rng: random.Random, raw: bytearray) -> bytes:
    return rng.choice([raw[:4], b""]) + rng.randbytes(rng.choice([0, 3, 8, 60, 1000, 65_000]))


def reworded(rng: random.Random, raw: bytearray) -> bytes:
    """Another frame, with its length."""
    text = rng.choice(TEXTS) + rng.choice([b"\0", b"\0", b""])
    frame = struct.pack("<I", len(text)) + text + bytes(-len(text) % 4)
    return bytes(raw[:12]) + frame + bytes(raw[24:])  # "base" and its zero take 12 bytes with their length


def renamed(rng: random.Random, raw: bytearray) -> bytes:
    """Well-formed joint states and efforts that fit no robot."""
    n = rng.choice([0, 1, 2, 3, 3, 4, 2000])
    if raw == RAW[b"E"]:
        return bytes(serialize_message(Float64MultiArray(data=[rng.choice(NUMBERS) for _ in range(n)])))
    names = rng.choice([*NAMES, [f"joint{i}" for i in range(n)]])
    position, velocity = ([rng.choice(NUMBERS) for _ in range(rng.choice([n, len(names)]))] for _ in range(2))
    return _stamped(joint_state(names, position=position, velocity=velocity, effort=[0.0] * rng.choice([0, n])))


MUTATIONS: tuple[Mutation, ...] = (
    *(
        flipped,
        flipped,
        cut,
        extended,
        shifted,
        miscounted,
        miscounted,
        renumbered,
        reencoded,
        noise,
        reworded,
        renamed,
    ),
)
