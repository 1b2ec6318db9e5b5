"""The floor of every loop on this machine: sleep to the deadline, do nothing. Run by the benchmark as a process."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

from ddpg_robot.rate import PeriodicLoop
from ddpg_robot_ros.realtime import Realtime, ask_for_short_slices
from ddpg_robot_ros.timing import LoopTiming
from ddpg_robot_ros.transport import StopSignal, steady_memory

YARDSTICK_STEPS = 20


def main(args: Sequence[str] | None = None) -> int:
    """Loops until SIGINT or SIGTERM, then writes its timing.

    Args:
        args: rate, Hz; file of the timing (.npz); settings of the thread, a JSON object with `Realtime`'s fields, or with
            ``yardstick``: true for a fixed piece of work in every tick, by which the work of a real loop can be measured on
            machines of any speed. None for the process's own.
    """
    rate, out, text = sys.argv[1:4] if args is None else args
    settings = json.loads(text)
    work = _yardstick() if settings.pop("yardstick", False) else _nothing
    realtime = Realtime(**settings)
    stop = StopSignal()
    timing = LoopTiming(capacity=1_000_000)
    loop = PeriodicLoop(1 / float(rate))
    ask_for_short_slices()
    realtime.prepare()
    realtime.enter()
    with steady_memory():
        loop.start()
        while not stop.is_set():
            lateness = loop.wait()
            began = time.perf_counter()
            work()
            timing.add(lateness, time.perf_counter() - began, float("nan"), float("nan"))
    timing.save(out)
    return 0


def _nothing() -> None:
    """The work of a floor."""


def _yardstick() -> Callable[[], None]:
    """Small numpy operations with Python between them, as a control loop is made of."""
    matrix, vector = np.eye(7) * 0.5, np.ones(7)

    def work() -> None:
        for _ in range(YARDSTICK_STEPS):
            np.clip(matrix @ vector + 0.5, -1.0, 1.0, out=vector)

    return work


if __name__ == "__main__":
    sys.exit(main())
