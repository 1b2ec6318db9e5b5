"""How well the loop keeps time on this machine: real plant, real DDS, beside a bare sleep loop and an rclpy timer."""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddpg_robot.controller import ticks_per_action
from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.policy import read_manifest
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.deploy import discovery
from ddpg_robot_ros.processes import Deployment, NodeProcess, ProcessFailedError, wait_until
from ddpg_robot_ros.timing import COLUMNS, percentiles

START_WAIT_S = 60.0
WARM_UP_S = 1.0
LOOPS = {"deadline": "ddpg_robot_ros.policy_node", "timer": "ddpg_robot_ros.timer_node"}
TITLES = {"floor": "bare sleep loop", "deadline": "policy_node", "timer": "rclpy timer"}
# A trip would end inference and flatter the figures: old states are measured here, not judged.
PARAMETERS = {"shutdown_damping": 0.0, "state_timeout_periods": 100.0, "stall_periods": 1000.0}
TARGET_CPU_PERCENT, TARGET_LOST_PERCENT, TARGET_WORK_S = 20.0, 0.2, 200e-6


def benchmark_loop(policy: str | Path, rate: float, seconds: float, out: Path | None = None) -> dict[str, Any]:
    """Measures the policy node's loop, the same node on an rclpy timer, and beside each a bare sleep loop as the floor.

    The policy runs at its own rate, control law and safety filter at `rate`, as on the robot; the arm follows targets.

    Args:
        policy: policy file.
        rate: ticks per second, a whole multiple of the policy's rate.
        seconds: duration of each of the two measurements, s.
        out: where the result is written as JSON.

    Returns:
        machine, policy, rate, seconds, inference_share, and per loop (``floor``, ``deadline``, ``timer``): ticks, lost,
        lost_percent, cpu_percent (of one core), tripped, and p50, p99, p99.9, max of lateness, work, state_age and
        state_to_command, s. ``floor`` was measured beside ``deadline``, ``timer_floor`` beside ``timer``. ``targets``:
        whether each of the project's targets is met. Also prints it as a table.

    Raises:
        RateError: not a whole multiple of the policy's rate. ConfigError: `seconds` is not positive.
    """
    if not seconds > 0:
        raise ConfigError(mismatch("seconds", seconds, "a positive number"))
    manifest = read_manifest(policy)
    share = 1 / ticks_per_action(rate, manifest.control.period)
    result: dict[str, Any] = {
        "machine": machine(),
        "policy": manifest.name,
        "rate": rate,
        "seconds": seconds,
        "inference_share": share,
    }
    loops: dict[str, Any] = {}
    loops["deadline"], loops["floor"] = _measure(policy, rate, seconds, LOOPS["deadline"])
    loops["timer"], loops["timer_floor"] = _measure(policy, rate, seconds, LOOPS["timer"])
    result["loops"] = loops
    result["targets"] = targets_met(loops["deadline"], loops["floor"])
    print(table(result))
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


@dataclass(frozen=True)
class _Window:
    """A process's processor time over a stretch of time."""

    process: NodeProcess
    began: float
    used: float

    @classmethod
    def open(cls, process: NodeProcess) -> _Window:
        return cls(process, time.monotonic(), process.cpu_seconds())

    def percent(self) -> float:
        return 100 * (self.process.cpu_seconds() - self.used) / (time.monotonic() - self.began)


def _measure(policy: str | Path, rate: float, seconds: float, module: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures of one loop, and of a bare loop that ran beside it."""
    domain = 1 + os.getpid() % 100
    environment = {**discovery(simulated=True), "ROS_DOMAIN_ID": str(domain)}
    os.environ.update(environment)  # the operator's own context reads them too
    with tempfile.TemporaryDirectory() as folder:
        log, floor_log = Path(folder) / "loop.npz", Path(folder) / "floor.npz"
        deployment = Deployment(
            policy,
            guard=False,
            rate=rate,
            policy_parameters={"timing_log": str(log), **PARAMETERS},
            environment=environment,
            policy_module=module,
        )
        floor = None
        try:
            with deployment, Operator(deployment.manifest.robot, domain=domain) as operator:
                _await_start(deployment, operator)
                floor = NodeProcess("bare loop", ["-m", "ddpg_robot_ros.bare_loop", str(rate), str(floor_log)])
                _drive(operator, deployment, WARM_UP_S)
                windows = [_Window.open(deployment.nodes["policy_node"]), _Window.open(floor)]
                _drive(operator, deployment, seconds)
                cpu = [window.percent() for window in windows]
                floor.end()
                status = operator.status("control loop")
        finally:
            if floor is not None:
                floor.end()
        rows = round(seconds * rate)
        loop = figures(log, rate, rows, cpu[0])
        loop["tripped"] = status is not None and status.message.startswith("tripped")
        return loop, figures(floor_log, rate, rows, cpu[1])


def _await_start(deployment: Deployment, operator: Operator) -> None:
    def ready() -> bool:
        deployment.check()
        return operator.active() and operator.ready() and operator.watch()

    if not wait_until(ready, START_WAIT_S, period=0.1):
        raise ProcessFailedError(mismatch("policy node", "not active", f"active within {START_WAIT_S:g} s"))


def _drive(operator: Operator, deployment: Deployment, seconds: float) -> None:
    """Sends a new target every second, so that the arm moves."""
    command = deployment.manifest.command
    rng = np.random.default_rng(0)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        deployment.check()
        operator.send_target(rng.uniform(command.lower, command.upper), command.frame)
        time.sleep(min(1.0, left))


def figures(log: Path, rate: float, rows: int, cpu_percent: float) -> dict[str, Any]:
    """Ticks, lost ticks, percentiles of the last `rows` rows of a timing log."""
    with np.load(log) as data:
        columns = {column: data[column][-rows:] for column in COLUMNS}
    lateness = columns["lateness"]
    # A tick that starts a whole period late has missed the deadlines in between.
    lost = int(np.floor(lateness * rate + 1e-9).clip(min=0).sum())
    return {
        "ticks": len(lateness),
        "lost": lost,
        "lost_percent": 100 * lost / max(1, len(lateness) + lost),
        "cpu_percent": cpu_percent,
        **{column: percentiles(samples) for column, samples in columns.items()},
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


def _cell(seconds: float) -> str:
    return f"{'-':>18}" if np.isnan(seconds) else f"{seconds * 1e6:>18.0f}"
