"""Compares the loop's timing with stored figures; run by `.ci/latency-gate`.

No absolute times: each figure is divided by one of a bare loop that runs beside the policy node in the same seconds, on the
same processors. The bare loop does a fixed piece of work in every tick, by which the node's work is measured.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("RCUTILS_LOGGING_MIN_SEVERITY", "WARN")

from ddpg_robot.errors import mismatch
from ddpg_robot.files import write_json
from ddpg_robot.policy import shipped_policy
from ddpg_robot_ros.benchmark.measure import Setting, measure

STORED = Path("docs/benchmarks/latency_gate.json")
RATE, SECONDS, ROUNDS = 500.0, 10.0, 5
TOLERANCE = 2.0
"""A ratio may be so many times the stored one."""


def main() -> int:
    """Measures up to `ROUNDS` times, each ratio's best counts; returns the exit code: 1 when one is too high."""
    storing = "--store" in sys.argv
    limits = {} if storing else {name: TOLERANCE * one for name, one in json.loads(STORED.read_text()).items()}
    rounds: list[dict[str, float]] = []
    while len(rounds) < ROUNDS:
        rounds.append(ratios(measure(shipped_policy("arm_reach"), RATE, SECONDS, Setting(yardstick=True))))
        print(f"round {len(rounds)}:", ", ".join(f"{name} {one:.2f}" for name, one in rounds[-1].items()), flush=True)
        best = {name: min(one[name] for one in rounds) for name in rounds[0]}
        too_high = [name for name, limit in limits.items() if best[name] > limit]
        if limits and not too_high:
            print("latency gate: ok")
            return 0
    if storing:
        write_json(STORED, {name: round(ratio, 2) for name, ratio in best.items()})
        return 0
    for name in too_high:
        stored = f"at most {limits[name]:.2f}, which is {TOLERANCE:g} x what is stored"
        print("latency gate: " + mismatch(name, f"{best[name]:.2f}", stored), file=sys.stderr)
    return 1


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """What is compared."""
    loop, bare = found["loop"], found["floor"]
    return {
        "lateness p50 / bare loop's": loop["lateness"]["p50"] / bare["lateness"]["p50"],
        "work p50 / fixed work's": loop["work"]["p50"] / bare["work"]["p50"],
        # Where the loop lost fewer, that was chance.
        "(1 + lost %) / (1 + bare loop's)": max(1.0, (1 + loop["lost_percent"]) / (1 + bare["lost_percent"])),
    }


if __name__ == "__main__":
    sys.exit(main())
