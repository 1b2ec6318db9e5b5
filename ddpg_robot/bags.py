"""Plain rosbag2 bags, as `ros2 bag record` writes them (mcap or sqlite3): joint states, targets, effort commands."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpg_robot.cdr import CdrReader
from ddpg_robot.errors import CommandError, RecordingError, mismatch
from ddpg_robot.incoming import check_point, check_sizes, joint_order
from ddpg_robot.mcap_file import MAGIC, McapFile
from ddpg_robot.spec import CommandSpec, RobotSpec
from ddpg_robot.state import Array

TOPICS = {
    "joint_states": "sensor_msgs/msg/JointState",
    "target": "geometry_msgs/msg/PointStamped",
    "effort_controller/commands": "std_msgs/msg/Float64MultiArray",
}
"""Name below the namespace -> type."""
LAST_NS = 2**62
SUFFIXES = (".mcap", ".db3")
Times = NDArray[np.int64]
Taker = Callable[[CdrReader, int], None]
Message = tuple[str, str, int, bytes]  # topic, type, ns since 1970 when it was recorded, serialized message


@dataclass
class Stream:
    """Messages of one topic: when they were recorded (ns), and their numbers."""

    times: list[int] = field(default_factory=list)
    values: list[Array] = field(default_factory=list)

    def arrays(self) -> tuple[Times, Array]:
        """Times ``(m,)`` and values ``(m, ...)``, in the order of time."""
        times = np.array(self.times, np.int64)
        order = np.argsort(times, kind="stable")
        return times[order], np.array(self.values)[order]


@dataclass
class Bag:
    """What a bag holds of one robot; joints in the policy's order."""

    states: Stream = field(default_factory=Stream)
    """Position and velocity ``(2, n)``, rad and rad/s."""
    stamps: list[int] = field(default_factory=list)
    """When each state was measured, as its header says, ns; in the order of `states`."""
    targets: Stream = field(default_factory=Stream)
    """Points that the policy accepts ``(3,)``, m."""
    efforts: Stream = field(default_factory=Stream)
    """Effort commands ``(n,)``, N·m."""
    refused: int = 0
    """Targets that the policy would have refused."""
    truncated: bool = False


def bag_files(path: str | Path) -> list[Path]:
    """The storage files of a bag: the file itself, or those of its directory in the order in which they were written.

    Raises:
        RecordingError: there are none.
    """
    path = Path(path)
    if not path.exists():
        raise RecordingError(mismatch(str(path), "nothing", "a recording (.mcap) or a rosbag2 bag"))
    if not path.is_dir():
        return [path]
    files = sorted((one for one in path.iterdir() if one.suffix in SUFFIXES), key=lambda one: (len(one.name), one.name))
    if not files:
        packed = any(one.suffix == ".zstd" for one in path.iterdir())
        found = "only compressed files" if packed else "no .mcap and no .db3 file"
        hint = "Unpack them: zstd -d FILE" if packed else None
        raise RecordingError(mismatch(str(path), found, "a rosbag2 bag", hint=hint))
    return files


def read_bag(path: str | Path, robot: RobotSpec, command: CommandSpec | None, namespace: str = "") -> Bag:
    """Reads a bag.

    Args:
        path: directory of the bag, or one of its files.
        robot: the policy's robot; joints that it does not know are left out.
        command: the policy's command; None leaves targets alone, and a bag needs none.
        namespace: ROS namespace of the topics; needed when the bag holds several robots.

    Raises:
        RecordingError: the bag is damaged, foreign, or lacks one of the `TOPICS`. JointMappingError: the joints are others.
    """
    foreign = robot.floating_base or robot.passive_joints or robot.more_state
    if foreign or (command is not None and command.kind != "point"):
        found = "commands, a base or an object that plain bags are not read for"
        raise RecordingError(mismatch("policy", found, "an arm's policy"))
    bag = Bag()
    takers: dict[str, Taker] = {
        "joint_states": _state_taker(bag, robot),
        "effort_controller/commands": _effort_taker(bag, robot),
    }
    if command is not None:
        takers["target"] = _target_taker(bag, command)
    names: dict[str, str] = {}
    kinds: dict[str, str] = {}
    for file in bag_files(path):
        for topic, kind, time_ns, data in _messages(file, bag):
            kinds[topic] = kind
            name = _known(topic, kind, namespace)
            if name is None or name not in takers:
                continue
            if names.setdefault(name, topic) != topic:
                hint = "Choose a robot with --namespace"
                raise RecordingError(
                    mismatch(f"{path}: topics '{name}'", f"{names[name]} and {topic}", "one", hint=hint)
                )
            if not 0 <= time_ns < LAST_NS:
                raise RecordingError(mismatch(f"{file}: time of a message", f"{time_ns} ns", "ns since 1970"))
            try:
                takers[name](CdrReader(data), time_ns)
            except (ValueError, struct.error) as error:
                raise RecordingError(mismatch(f"{file}: message on {topic}", error, f"a {kind} in CDR")) from None
    missing = [name for name in TOPICS if name in takers and name not in names]
    if missing:
        found = f"no {', no '.join(missing)} among {', '.join(sorted(kinds)[:20]) or 'no messages'}"
        expected = ", ".join(f"{name} ({kind})" for name, kind in TOPICS.items() if name in takers)
        raise RecordingError(mismatch(str(path), found, expected))
    return bag


def _known(topic: str, kind: str, namespace: str) -> str | None:
    """Which of `TOPICS` a topic is."""
    for name, expected in TOPICS.items():
        full = f"/{namespace.strip('/')}/{name}" if namespace else f"/{name}"
        if kind == expected and (topic == full or (not namespace and topic.endswith(full))):
            return name
    return None


def _state_taker(bag: Bag, robot: RobotSpec) -> Taker:
    known: list[Any] = [None, None]  # names of the message before, and their order

    def take(reader: CdrReader, when: int) -> None:
        stamp = round(reader.time() * 1e9)
        reader.string()
        names, position, velocity = reader.strings(), reader.doubles(), reader.doubles()
        if names != known[0]:
            if not set(names) & set(robot.joint_names) and known[0] is not None:
                return  # another device's
            known[:] = names, joint_order(names, robot.joint_names, ignore_extra=True)
        check_sizes(names, position, velocity)
        bag.states.times.append(when)
        bag.stamps.append(stamp)
        bag.states.values.append(np.stack([position, velocity])[:, known[1]])

    return take


def _target_taker(bag: Bag, command: CommandSpec) -> Taker:
    def take(reader: CdrReader, when: int) -> None:
        reader.time()
        frame, point = reader.string(), reader.doubles(3)
        try:
            check_point(command, frame, point)
        except CommandError:
            bag.refused += 1
            return
        bag.targets.times.append(when)
        bag.targets.values.append(point)

    return take


def _effort_taker(bag: Bag, robot: RobotSpec) -> Taker:
    def take(reader: CdrReader, when: int) -> None:
        reader.skip_layout()
        effort = reader.doubles()
        if len(effort) != robot.n_joints:
            raise ValueError(f"{len(effort)} efforts for {robot.n_joints} joints")
        bag.efforts.times.append(when)
        bag.efforts.values.append(effort)

    return take


def _messages(path: Path, bag: Bag) -> Iterator[Message]:
    try:
        with path.open("rb") as file:
            magic = file.read(16)
    except OSError as error:
        raise RecordingError(mismatch(str(path), error.strerror, "a readable file")) from None
    if magic.startswith(b"SQLite format 3"):
        return _sqlite_messages(path)
    if not magic.startswith(MAGIC):
        raise RecordingError(mismatch(str(path), "neither MCAP nor sqlite3", "a recording or a rosbag2 bag"))
    return _mcap_messages(path, bag)


def _mcap_messages(path: Path, bag: Bag) -> Iterator[Message]:
    with McapFile(path) as file:
        for record in file.records():
            channel = file.channels.get(getattr(record, "channel_id", 0))
            schema = None if channel is None else file.schemas.get(channel.schema_id)
            if channel is not None and schema is not None and channel.message_encoding == "cdr":
                yield channel.topic, schema.name, record.log_time, record.data
        bag.truncated |= file.truncated


def _sqlite_messages(path: Path) -> Iterator[Message]:
    query = (
        "SELECT topics.name, topics.type, messages.timestamp, messages.data FROM messages "
        "JOIN topics ON topics.id = messages.topic_id WHERE topics.type IN (?, ?, ?) ORDER BY messages.timestamp"
    )
    connection = None
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        for topic, kind, time_ns, data in connection.execute(query, tuple(TOPICS.values())):
            if not (isinstance(topic, str) and isinstance(time_ns, int) and isinstance(data, bytes)):
                raise RecordingError(mismatch(str(path), "other kinds of values in its tables", "a rosbag2 bag"))
            yield topic, kind, time_ns, data
    except (sqlite3.Error, ValueError) as error:  # ValueError: complaints that are no UTF-8
        raise RecordingError(mismatch(str(path), error, "a rosbag2 bag in sqlite3")) from None
    finally:
        if connection is not None:
            connection.close()


def nearest(times: Times, wanted: Times) -> NDArray[np.intp]:
    """Index of the time nearest to each of `wanted` ``(m,)``; `times` ``(k,)`` ascend."""
    right = np.clip(np.searchsorted(times, wanted), 1, max(1, len(times) - 1))
    left = right - 1
    right = np.minimum(right, len(times) - 1)
    found: NDArray[np.intp] = np.where(wanted - times[left] <= times[right] - wanted, left, right)
    return found
