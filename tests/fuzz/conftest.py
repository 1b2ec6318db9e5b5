"""The bad messages need rclpy, the bad files onnx."""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("rclpy") is None:
    collect_ignore = ["test_bad_messages.py"]
