"""What every test shares: one thread per process, no display, and rooms left out whose extra is not installed."""

from __future__ import annotations

import importlib.util
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "egl")  # read when MuJoCo is imported

collect_ignore = [] if importlib.util.find_spec("rclpy") else ["ros"]
