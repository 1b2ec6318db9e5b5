"""Bags on disk as `ros2 bag record` leaves them, mcap and sqlite3, and the messages in them."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from mcap.writer import CompressionType, Writer

from ddpg_robot.cdr import CDR_HEADER, cdr_string

Message = tuple[str, str, int, bytes]  # topic, type, ns, serialized message


def mcap_bag(path: Path, found: Iterable[Message]) -> Path:
    path.mkdir()
    (path / "metadata.yaml").write_text("rosbag2_bagfile_information: {}\n")
    with (path / "bag_0.mcap").open("wb") as file:
        writer = Writer(file, chunk_size=20_000, compression=CompressionType.LZ4)
        writer.start("ros2", "libmcap")
        channels: dict[str, int] = {}
        for topic, kind, time_ns, data in found:
            if topic not in channels:
                channels[topic] = writer.register_channel(topic, "cdr", writer.register_schema(kind, "ros2msg", b""))
            writer.add_message(channels[topic], time_ns, data, time_ns)
        writer.finish()
    return path


def sqlite_bag(path: Path, found: Iterable[Message]) -> Path:
    path.mkdir()
    with sqlite3.connect(path / "bag_0.db3") as bag:
        bag.execute("CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, "
                    "serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL)")  # fmt: skip
        bag.execute("CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, "
                    "timestamp INTEGER NOT NULL, data BLOB NOT NULL)")  # fmt: skip
        topics: dict[str, int] = {}
        for topic, kind, time_ns, data in found:
            if topic not in topics:
                topics[topic] = len(topics) + 1
                bag.execute("INSERT INTO topics VALUES(?, ?, ?, 'cdr', '')", (topics[topic], topic, kind))
            row = (topics[topic], time_ns, data)
            bag.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES(?, ?, ?)", row)
    return path


def doubles(body: bytes, values, counted: bool = True) -> bytes:
    if counted:
        body += bytes(-len(body) % 4) + struct.pack("<I", len(values))
    if len(values):
        body += bytes(-len(body) % 8)
    return body + np.asarray(values, "<f8").tobytes()


def joint_state(names, position, velocity) -> bytes:
    body = cdr_string(struct.pack("<iI", 1, 0), "")
    body += bytes(-len(body) % 4) + struct.pack("<I", len(names))
    for name in names:
        body = cdr_string(body, name)
    for values in (position, velocity, []):
        body = doubles(body, values)
    return CDR_HEADER + body


def point(x: float, y: float, z: float, frame: str = "base") -> bytes:
    return CDR_HEADER + doubles(cdr_string(struct.pack("<iI", 1, 0), frame), (x, y, z), counted=False)


def effort(values) -> bytes:
    return CDR_HEADER + doubles(struct.pack("<II", 0, 0), values)
