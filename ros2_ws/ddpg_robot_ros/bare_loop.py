"""The floor of every loop on this machine: sleep to the deadline, do nothing. Run by the benchmark as a process."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from ddpg_robot.rate import PeriodicLoop
from ddpg_robot_ros.timing import LoopTiming
from ddpg_robot_ros.transport import StopSignal, steady_memory


def main(args: Sequence[str] | None = None) -> int:
    """Loops at ``args[0]`` Hz until SIGINT or SIGTERM, then writes its timing to ``args[1]`` (.npz)."""
    rate, out = sys.argv[1:3] if args is None else args
    stop = StopSignal()
    timing = LoopTiming(capacity=1_000_000)
    loop = PeriodicLoop(1 / float(rate))
    with steady_memory():
        loop.start()
        while not stop.is_set():
            lateness = loop.wait()
            began = time.perf_counter()
            timing.add(lateness, time.perf_counter() - began, float("nan"), float("nan"))
    timing.save(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
