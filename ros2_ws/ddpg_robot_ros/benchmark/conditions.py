"""The loop under further conditions, each beside its own floor: the second table of `ddpg-robot benchmark loop`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot_ros.benchmark.measure import Setting, measure
from ddpg_robot_ros.realtime import Realtime

NAMES = {
    "guard": "effort guard in between",
    "realtime": "SCHED_FIFO, locked, pinned",
    "hog": "a busy process",
    "hogs": "a busy process per core",
    "realtime-hogs": "SCHED_FIFO beside them",
    "record": "recorder on",
}
ALL = "all"
PRIORITY = 50
TARGET_LOST_PERCENT, TARGET_GUARD_S = 0.5, 0.3e-3
PROBE = """
import json, sys
from ddpg_robot.errors import ConfigError
from ddpg_robot_ros.realtime import Realtime
try:
    Realtime(**json.loads(sys.argv[1])).prepare()
except ConfigError as error:
    sys.exit(str(error))
"""
HEAD = (
    f"{'':28}{'processor':>10}{'host':>7}{'lost':>7}{'floor':>7}{'lateness':>10}{'':>8}{'':>8}{'':>8}{'work':>7}\n"
    f"{'condition':28}{'% of one':>10}{'%':>7}{'%':>7}{'%':>7}{'p50, us':>10}{'p99':>8}{'p99.9':>8}{'max':>8}{'p50':>7}"
)


def chosen(names: Sequence[str]) -> list[str]:
    """The conditions that were asked for, each once, in the order of the table.

    Raises:
        ConfigError: an unknown one.
    """
    for name in names:
        if name not in (*NAMES, ALL):
            raise ConfigError(mismatch("condition", repr(name), "a known one", [*NAMES, ALL]))
    return [name for name in NAMES if name in names or ALL in names]


def setting(name: str) -> Setting:
    """What a condition is measured with."""
    alone = Realtime(PRIORITY, lock_memory=True, cpus=(max(os.sched_getaffinity(0)),))
    return Setting(
        guard=name == "guard",
        realtime=alone if name.startswith("realtime") else Realtime(),
        hogs=len(os.sched_getaffinity(0)) if name.endswith("hogs") else int(name == "hog"),
        record=name == "record",
    )


def refusal(realtime: Realtime) -> str:
    """Why the system does not allow these settings; empty where it does. Asked in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(asdict(realtime))], stderr=subprocess.PIPE, text=True, check=False
    )
    return done.stderr.strip() if done.returncode else ""


def measure_conditions(policy: str | Path, rate: float, seconds: float, names: Sequence[str]) -> dict[str, Any]:
    """Measures one condition after the other, and prints a line of each.

    Args:
        policy: policy file of an arm.
        rate: ticks per second, a whole multiple of the policy's rate.
        seconds: duration of each measurement, s.
        names: conditions, as `chosen` gives them.

    Returns:
        Name -> what `measure` returns, and ``targets``; or ``left_out``: why the system does not allow it.
    """
    print(f"\n{HEAD}", flush=True)
    results: dict[str, Any] = {}
    for name in names:
        how = setting(name)
        reason = refusal(how.realtime)
        if reason:
            results[name] = {"left_out": reason}
        else:
            results[name] = measure(policy, rate, seconds, how)
            results[name]["targets"] = targets_met(results[name])
        print(line(name, results[name]), flush=True)
    print()
    for name, result in results.items():
        if "guard" in result:
            latency = {key: f"{1e6 * value:.0f}" for key, value in result["guard"]["latency"].items()}
            print(f"the guard adds, us: p50 {latency['p50']}, p99 {latency['p99']}, max {latency['max']}")
        for target, met in result.get("targets", {}).items():
            print(f"{'met' if met else 'MISSED':>8}: {NAMES[name]}: {target}")
    return results


def targets_met(result: dict[str, Any]) -> dict[str, bool]:
    """The project's targets for the loop at 1 kHz on two cores, and for the guard."""
    most = result["floor"]["lost_percent"] + TARGET_LOST_PERCENT
    targets = {f"lost ticks at most the floor's + {TARGET_LOST_PERCENT:g} %": result["loop"]["lost_percent"] <= most}
    if "guard" in result:
        met = result["guard"]["latency"]["p50"] <= TARGET_GUARD_S
        targets[f"the guard adds at most {TARGET_GUARD_S * 1e6:g} us, p50"] = met
    return targets


def line(name: str, result: dict[str, Any]) -> str:
    """One line of the table."""
    title = f"{NAMES[name]:28}"
    if "left_out" in result:
        return f"{title}  left out: {result['left_out']}"
    loop, floor = result["loop"], result["floor"]
    cells = [f"{loop['cpu_percent']:>10.1f}", f"{loop['stolen_percent']:>7.1f}"]
    cells += [f"{one['lost_percent']:>7.2f}" for one in (loop, floor)]
    cells += [f"{loop['lateness'][key] * 1e6:>{width}.0f}" for key, width in zip(loop["lateness"], (10, 8, 8, 8))]
    cells.append(f"{loop['work']['p50'] * 1e6:>7.0f}")
    return title + "".join(cells) + ("  tripped" if loop["tripped"] else "")
