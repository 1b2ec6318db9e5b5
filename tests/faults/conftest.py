"""The same ROS domain and processes as `tests/ros`; how many trials, and where their figures go."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

if any(importlib.util.find_spec(module) is None for module in ("rclpy", "mujoco", "onnx", "gymnasium")):
    collect_ignore_glob = ["test_*.py"]
else:
    from ros import conftest as _ros  # noqa: F401  (the ROS domain of this run)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.ros)
