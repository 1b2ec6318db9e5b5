"""How well the loop keeps time on this machine: real plant, real DDS, beside a bare sleep loop and an rclpy timer."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddpg_robot.controller import ticks_per_action
from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.policy import read_manifest
from ddpg_robot_ros.benchmark.conditions import chosen, measure_conditions
from ddpg_robot_ros.benchmark.measure import Setting, measure
from ddpg_robot_ros.timing import COLUMNS

LOOPS = {"deadline": Setting(), "timer": Setting(module="ddpg_robot_ros.timer_node")}
TITLES = {"floor": "bare sleep loop", "deadline": "policy_node", "timer": "rclpy timer"}
TARGET_CPU_PERCENT, TARGET_LOST_PERCENT, TARGET_WORK_S = 20.0, 0.2, 200e-6


def benchmark_loop(
    policy: str | Path,
    rate: float,
    seconds: float,
    out: Path | None = None,
    conditions: Sequence[str] = (),
    learner: Sequence[str] = (),
) -> dict[str, Any]:
    """Measures the policy node's loop, the same node on an rclpy timer, and beside each a bare sleep loop as the floor.

    The policy runs at its own rate, control law and safety filter at `rate`, as on the robot; the arm follows targets.

    Args:
        policy: policy file.
        rate: ticks per second, a whole multiple of the policy's rate.
        seconds: duration of each measurement, s.
        out: where the result is written as JSON.
        conditions: also measure the policy node under these, names of `conditions.NAMES` or ``all``.
        learner: of the condition of that name, see `measure_conditions`.

    Returns:
        machine, policy, rate, seconds, inference_share, and per loop (``floor``, ``deadline``, ``timer``): ticks, lost,
        lost_percent, cpu_percent (of one core), tripped, and p50, p99, p99.9, max of lateness, work, state_age and
        state_to_command, s. ``floor`` was measured beside ``deadline``, ``timer_floor`` beside ``timer``. ``targets``:
        whether each of the project's targets is met. ``conditions``: of `measure_conditions`. Also prints it as tables.

    Raises:
        RateError: not a whole multiple of the policy's rate. ConfigError: `seconds` is not positive, or an unknown condition.
    """
    if not seconds > 0:
        raise ConfigError(mismatch("seconds", seconds, "a positive number"))
    names = chosen(conditions)
    manifest = read_manifest(policy)
    share = 1 / ticks_per_action(rate, manifest.control.period)
    result: dict[str, Any] = {
        "machine": machine(),
        "policy": manifest.name,
        "rate": rate,
        "seconds": seconds,
        "inference_share": share,
    }
    found = {name: measure(policy, rate, seconds, how) for name, how in LOOPS.items()}
    loops = {name: one["loop"] for name, one in found.items()}
    loops |= {"floor": found["deadline"]["floor"], "timer_floor": found["timer"]["floor"]}
    result["loops"] = loops
    result["targets"] = targets_met(loops["deadline"], loops["floor"])
    print(table(result))
    if names:
        result["conditions"] = measure_conditions(policy, rate, seconds, names, learner)
    if out is not None:
        out.write_text(json.dumps(result, indent=2))
    return result


def machine() -> dict[str, Any]:
    """What was measured on, and how busy it was."""
    return {
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def targets_met(loop: dict[str, Any], floor: dict[str, Any]) -> dict[str, bool]:
    """The project's targets for the loop at 500 Hz on two cores."""
    return {
        f"cpu at most {TARGET_CPU_PERCENT:g} % of a core": loop["cpu_percent"] <= TARGET_CPU_PERCENT,
        f"lost ticks at most the floor's + {TARGET_LOST_PERCENT:g} %": loop["lost_percent"]
        <= floor["lost_percent"] + TARGET_LOST_PERCENT,
        f"work per tick p50 at most {TARGET_WORK_S * 1e6:g} us": loop["work"]["p50"] <= TARGET_WORK_S,
    }


def table(result: dict[str, Any]) -> str:
    """The result as text."""
    loops, names = result["loops"], list(TITLES)
    host = result["machine"]
    lines = [
        f"{result['rate']:g} Hz for {result['seconds']:g} s, policy '{result['policy']}' "
        f"(inference on {result['inference_share']:.0%} of the ticks, law and filter on all)",
        f"{host['cores']} cores, load average {host['load_average']:.1f} at the start, Python {host['python']}",
        "",
        f"{'':34}" + "".join(f"{TITLES[name]:>18}" for name in names),
        f"{'processor, % of one core':34}" + "".join(f"{loops[name]['cpu_percent']:>18.1f}" for name in names),
        f"{'taken by the host, % of one core':34}" + _stolen(loops),
        f"{'lost ticks, %':34}" + "".join(f"{loops[name]['lost_percent']:>18.2f}" for name in names),
    ]
    for column in COLUMNS:
        for key in ("p50", "p99", "p99.9", "max"):
            label = f"{column.replace('_', ' ')} {key}, us"
            lines.append(f"{label:34}" + "".join(_cell(loops[name][column][key]) for name in names))
    lines.append("")
    lines += [f"{'met' if met else 'MISSED':>8}: {target}" for target, met in result["targets"].items()]
    lines += [f"  Note: {TITLES[name]} tripped" for name in LOOPS if loops[name]["tripped"]]
    return "\n".join(lines)


def _stolen(loops: dict[str, Any]) -> str:
    """The bare loop ran beside the policy node."""
    return "".join(f"{loops[name]['stolen_percent']:>18.1f}" for name in ("deadline", "deadline", "timer"))


def _cell(seconds: float) -> str:
    return f"{'-':>18}" if np.isnan(seconds) else f"{seconds * 1e6:>18.0f}"
