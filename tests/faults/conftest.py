"""The same ROS domain and processes as `tests/ros`; how many trials, and where their figures go."""

from __future__ import annotations

import importlib.util

if any(importlib.util.find_spec(module) is None for module in ("rclpy", "mujoco", "onnx", "gymnasium")):
    collect_ignore_glob = ["test_*.py"]
else:
    from ros import conftest as _ros  # noqa: F401  (the ROS domain of this run)
