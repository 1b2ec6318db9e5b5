"""A policy node with a policy that fails when asked to: SIGUSR1 raises inside a tick, SIGUSR2 hangs for half a second.

With FAULTY_NETWORK=PID in the environment it runs in that process's network namespace.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from ddpg_robot.policy import OnnxPolicy
from ddpg_robot_ros.policy_node import PolicyNode, run

HANG_S = 0.5
asked: list[int] = []
original = OnnxPolicy.run


def run_or_fail(policy: OnnxPolicy):
    if asked:
        if asked.pop() == signal.SIGUSR1:
            raise RuntimeError("asked to fail")
        time.sleep(HANG_S)
    return original(policy)


def join_network(pid: str) -> None:
    with Path(f"/proc/{pid}/ns/net").open() as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0):
            raise OSError(ctypes.get_errno(), "setns")


if __name__ == "__main__":
    if "FAULTY_NETWORK" in os.environ:
        join_network(os.environ["FAULTY_NETWORK"])
    OnnxPolicy.run = run_or_fail
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, frame: asked.append(number))
    sys.exit(run(PolicyNode))
