"""The sub-commands of `ddpg-robot benchmark` that run a deployment."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from ddpg_robot.cli.arguments import OutDir, OutFile, PolicyOption
from ddpg_robot.cli.sources import need, policy_path
from ddpg_robot.errors import MissingExtraError


@dataclass(frozen=True)
class Loop:
    """Time the control loop over real DDS, beside a bare sleep loop."""

    policy: PolicyOption = "arm_reach"
    """Policy file, or the name of a shipped policy."""
    rate: float = 500.0
    """Ticks per second."""
    seconds: float = 10.0
    """Duration of each measurement, s."""
    conditions: Annotated[tuple[str, ...], arg(metavar="{guard,realtime,hog,hogs,realtime-hogs,record,all} ...")] = ()
    """Also measure the policy node with the effort guard in between, with SCHED_FIFO, locked memory and a processor of its
    own, beside a busy process, beside one per core, with SCHED_FIFO beside those, with the recorder on."""
    out: OutFile = None
    """Also write the figures to this JSON file."""

    def __call__(self) -> int:
        """Measures and prints tables; returns the exit code."""
        path = policy_path(self.policy)
        need("ros", "sim")
        from ddpg_robot_ros.benchmark.loop import benchmark_loop

        benchmark_loop(path, self.rate, self.seconds, self.out, self.conditions)
        return 0


@dataclass(frozen=True)
class Soak:
    """Run a whole deployment for long, recorder on, with an estop a minute: time, memory and trips. Ctrl-C ends it early."""

    policy: PolicyOption = "arm_reach"
    """Policy file, or the name of a shipped policy."""
    minutes: float = 30.0
    """Duration."""
    rate: float = 500.0
    """Ticks per second."""
    estop_every: Annotated[float, arg(metavar="S")] = 60.0
    """Time between two emergency stops, each rearmed, s."""
    record: OutDir = None
    """Keep the recording in this directory: some 5 MB a minute."""
    out: OutFile = None
    """Also write the figures to this JSON file, and their picture beside it."""

    def __call__(self) -> int:
        """Runs it and prints a table; returns the exit code: 1 when a process ended by itself."""
        path = policy_path(self.policy)
        need("ros", "sim", "bag")
        from ddpg_robot_ros.benchmark.soak import benchmark_soak
        from ddpg_robot_ros.benchmark.soak_result import draw

        result = benchmark_soak(path, self.rate, self.minutes, self.estop_every, self.record, self.out)
        if self.out:
            try:
                draw(result, Path(self.out).with_suffix(".png"))
            except MissingExtraError as error:
                print(f"note: {error}", file=sys.stderr)
        return 1 if result["failure"] else 0
