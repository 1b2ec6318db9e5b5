"""Real rclpy over real DDS, on loopback, in a ROS domain of this test run's own."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ros.robot import RobotDouble

    from ddpg_robot.spec import PolicyManifest
    from ddpg_robot_ros.processes import NodeProcess

# Without the ros extra there is nothing to collect here.
if any(importlib.util.find_spec(module) is None for module in ("rclpy", "mujoco", "onnx", "gymnasium")):
    collect_ignore_glob = ["test_*.py"]

# Read when a context begins, and inherited by every process that a test starts.
os.environ["ROS_DOMAIN_ID"] = str(215 + os.getpid() % 18)  # none that the programs under test choose for themselves
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


@pytest.fixture(scope="session", autouse=True)
def _logs_in_a_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["ROS_LOG_DIR"] = str(tmp_path_factory.mktemp("ros_log"))


@pytest.fixture(scope="session")
def spring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ros.spring_policy import write_spring_policy

    path = tmp_path_factory.mktemp("policy") / "spring.onnx"
    write_spring_policy(path)
    return path


@pytest.fixture(scope="session")
def manifest(spring: Path) -> PolicyManifest:
    from ddpg_robot.policy import read_manifest

    return read_manifest(spring)


@pytest.fixture
def robot(manifest: PolicyManifest) -> Iterator[RobotDouble]:
    from ros.robot import RobotDouble

    with RobotDouble(manifest.robot) as double:
        yield double


@pytest.fixture
def start() -> Iterator[Callable[..., NodeProcess]]:
    """Starts node processes and ends those that still run when the test is over."""
    from ros.robot import started

    running: list[NodeProcess] = []

    def start_one(module: str, remaps: dict[str, str] | None = None, **parameters: object) -> NodeProcess:
        process = started(module, parameters, remaps)
        running.append(process)
        return process

    yield start_one
    for process in reversed(running):
        process.end()
