"""What the nodes make of the middleware: no shared memory, and no more than this machine where that is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rclpy.utilities import get_rmw_implementation_identifier
from ros.robot import WAIT_S, RobotDouble
from std_msgs.msg import String

from ddpg_robot_ros.middleware import LOCALHOST_ONLY, LOOPBACK_PROFILE, RANGE, avoid_shared_memory
from ddpg_robot_ros.processes import wait_until

TALKER = """
import time, rclpy
from std_msgs.msg import String
rclpy.init()
node = rclpy.create_node("talker")
publisher = node.create_publisher(String, "words", 10)
while True:
    publisher.publish(String(data="hello"))
    time.sleep(0.05)
"""
pytestmark = pytest.mark.skipif("fastrtps" not in get_rmw_implementation_identifier(), reason="is about Fast DDS")


def shared_memory(pid: int) -> list[str]:
    return [line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "/dev/shm/fast" in line]


def udp_addresses(pid: int) -> set[str]:
    """Local addresses, in hexadecimal, of the process's UDP sockets."""
    names = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()]
    inodes = {name[8:-1] for name in names if name.startswith("socket:[")}
    rows = [line.split() for line in Path(f"/proc/{pid}/net/udp").read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[9] in inodes}


def test_no_process_of_a_deployment_maps_shared_memory_or_listens_beyond_loopback(
    spring: Path, robot: RobotDouble, start
) -> None:
    for name in ("effort_guard", "policy_node"):
        node = start(name, policy=str(spring))
        assert wait_until(lambda name=name: any(name in one for one in robot.node.get_node_names()), WAIT_S)
        assert not shared_memory(node.pid)
        assert udp_addresses(node.pid) == {"0100007F"}
    assert not shared_memory(os.getpid())


@pytest.mark.parametrize("discovery_range", ["LOCALHOST", "SUBNET"])
def test_a_node_of_anybody_else_is_heard(robot: RobotDouble, discovery_range: str) -> None:
    heard: list[String] = []
    robot.node.create_subscription(String, "words", heard.append, 10)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("FAST")}
    talker = subprocess.Popen([sys.executable, "-c", TALKER], env={**plain, RANGE: discovery_range})
    try:
        assert wait_until(lambda: len(heard) > 3, WAIT_S)
    finally:
        talker.kill()
        talker.wait()


@pytest.mark.parametrize("asked", [{RANGE: "LOCALHOST"}, {LOCALHOST_ONLY: "1"}])
def test_a_user_who_asks_for_this_machine_gets_it_without_shared_memory(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, str]
) -> None:
    for name in [one for one in os.environ if one.endswith("DEFAULT_PROFILES_FILE")] + [RANGE, LOCALHOST_ONLY]:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    avoid_shared_memory()
    assert str(LOOPBACK_PROFILE) in os.environ.values()
    assert os.environ[RANGE] == "SYSTEM_DEFAULT"
    assert LOCALHOST_ONLY not in os.environ


def test_a_profile_of_the_user_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for prefix in ("FASTRTPS", "FASTDDS"):
        monkeypatch.setenv(f"{prefix}_DEFAULT_PROFILES_FILE", str(tmp_path / "mine.xml"))
    monkeypatch.setenv(RANGE, "LOCALHOST")
    avoid_shared_memory()
    assert os.environ[RANGE] == "LOCALHOST"
    assert str(LOOPBACK_PROFILE) not in os.environ.values()
