"""What every test shares: one thread per process, no display, and rooms left out whose extra is not installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Inherited by every process that a test starts: this checkout, the tests' own modules, and what a sourced ROS has on the path.
ROOMS = [str(ROOT / room) for room in ("", "sim", "export", "ros2_ws", "tests")]
os.environ["PYTHONPATH"] = os.pathsep.join([*ROOMS, *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ.setdefault("OMP_NUM_THREADS", "1")
if importlib.util.find_spec("mujoco"):
    from ddpg_robot_sim.render import prefer_offscreen

    prefer_offscreen()  # before any test imports MuJoCo

ROOMS_OF_ROBOTS = [Path(__file__).parent / room for room in ("ros", "faults")]

collect_ignore = [] if importlib.util.find_spec("rclpy") else ["ros"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of several workers one has all that runs over ROS: two deployments at once would hold each other up."""
    for item in items:
        if any(room in item.path.parents for room in ROOMS_OF_ROBOTS):
            item.add_marker(pytest.mark.ros)
            item.add_marker(pytest.mark.xdist_group("ros"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that is full after 256 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("this user may not mount a small disk")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)
