"""What every test shares: one thread per process, no display, and rooms left out whose extra is not installed."""

from __future__ import annotations

import importlib.util
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
if importlib.util.find_spec("mujoco"):
    from ddpg_robot_sim.render import prefer_offscreen

    prefer_offscreen()  # before any test imports MuJoCo

collect_ignore = [] if importlib.util.find_spec("rclpy") else ["ros"]
