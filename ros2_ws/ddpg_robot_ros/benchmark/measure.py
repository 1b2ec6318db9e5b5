"""One measurement of a loop: a deployment that drives the simulated arm, and a bare loop beside it."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddpg_robot.errors import mismatch
from ddpg_robot_ros.benchmark.guard_latency import GuardLatency
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.deploy import use_own_domain
from ddpg_robot_ros.processes import LEARNER, Deployment, NodeProcess, ProcessFailedError, stolen_seconds, wait_until
from ddpg_robot_ros.realtime import Realtime
from ddpg_robot_ros.timing import COLUMNS, percentiles
from ddpg_robot_ros.trial import START_WAIT_S, await_start

WARM_UP_S = 1.0
LATENCY_S = 10.0
"""Longest time that the guard is listened to, s."""
LEARNER_WAIT_S = 300.0
BESIDE = {"guard": "effort_guard", "learner": LEARNER}
POLICY_NODE = "ddpg_robot_ros.policy_node"
ORDINARY = Realtime()
# A trip would end inference and flatter the figures: old states are measured here, not judged.
PARAMETERS = {
    "shutdown_damping": 0.0,
    "state_timeout_periods": 100.0,
    "stall_periods": 1000.0,
    "guard_timeout_periods": 1000.0,
}
GUARD_PARAMETERS = {"shutdown_damping": 0.0, "state_timeout_periods": 100.0, "timeout_periods": 100.0}
HOG = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\nwhile True: pass"


@dataclass(frozen=True)
class Setting:
    """What a loop is measured with."""

    module: str = POLICY_NODE
    """Module of the policy node."""
    guard: bool = False
    """The effort guard stands in between."""
    realtime: Realtime = ORDINARY
    """Of the loop's thread; the bare loop's has the same processors and a priority one higher."""
    hogs: int = 0
    """Processes that do nothing but compute."""
    record: bool = False
    """The node records every tick, into a temporary directory."""
    yardstick: bool = False
    """The bare loop does a fixed piece of work in every tick."""
    learner: tuple[str, ...] = ()
    """Command line of a learner beside it, behind the interpreter's name and without `--out`; the policy then explores."""


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


class _Observed(NamedTuple):
    """A stretch of time in which a deployment was driven."""

    window: tuple[float, float]
    """From, to; monotonic s."""
    stolen: float
    """Processor time that the host gave to others, s."""
    cpu: dict[str, float]
    """Of each process, % of one core."""
    updates: int
    """That a learner made."""


def measure(policy: str | Path, rate: float, seconds: float, setting: Setting) -> dict[str, Any]:
    """Figures of one loop, and of a bare loop that ran beside it.

    Args:
        policy: policy file of an arm.
        rate: ticks per second, a whole multiple of the policy's rate.
        seconds: duration, s.
        setting: what is measured.

    Returns:
        ``loop`` and ``floor``, as `figures` makes them, ``loop`` with ``tripped`` and ``stolen_percent``: processor time
        that the host of a virtual machine gave to others meanwhile, % of one core. With a guard also ``guard``: latency
        (p50, p99, p99.9, max of what it adds, s), messages, and cpu_percent. With a learner also ``learner``: updates that it
        made meanwhile, and cpu_percent.
    """
    use_own_domain()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        log, floor_log = folder / "loop.npz", folder / "floor.npz"
        deployment = _deployment(policy, rate, setting, folder, log)

        def start(title: str, arguments: list[str]) -> NodeProcess:
            process = NodeProcess(title, arguments)
            stack.callback(process.end)
            return process

        with deployment, Operator(deployment.manifest.robot) as operator:
            await_start(deployment, operator)
            guard = _listen(operator, deployment, min(seconds, LATENCY_S)) if setting.guard else None
            if setting.learner:
                _await_updates(operator, deployment)
            for _ in range(setting.hogs):
                start("hog", ["-c", HOG])
            bare = "ddpg_robot_ros.benchmark.bare_loop"
            floor = start("bare loop", ["-m", bare, str(rate), str(floor_log), _floor_settings(setting)])
            drive(operator, deployment, WARM_UP_S)
            seen = _observe(operator, deployment, floor, seconds)
            floor.end()
            tripped = bool(operator.trip())
        logs = {"loop": log, "floor": floor_log}
        result = {key: figures(path, rate, seen.window, seen.cpu[key]) for key, path in logs.items()}
        result["loop"]["stolen_percent"] = 100 * seen.stolen / seconds
        result["loop"]["tripped"] = tripped
        if guard is not None:
            result["guard"] = {**guard, "cpu_percent": seen.cpu["guard"]}
        if setting.learner:
            result["learner"] = {"updates": seen.updates, "cpu_percent": seen.cpu["learner"]}
        return result


def _deployment(policy: str | Path, rate: float, setting: Setting, folder: Path, log: Path) -> Deployment:
    return Deployment(
        policy,
        guard=setting.guard,
        rate=rate,
        policy_parameters={"timing_log": str(log), **_parameters(setting.realtime), **PARAMETERS},
        guard_parameters=GUARD_PARAMETERS,
        policy_module=setting.module,
        record=folder if setting.record or setting.learner else None,
        learner=(*setting.learner, "--out", str(folder / "learner")) if setting.learner else (),
    )


def _observe(operator: Operator, deployment: Deployment, floor: NodeProcess, seconds: float) -> _Observed:
    """Drives for so long, and says what the processes used meanwhile."""
    measured = {"loop": deployment.nodes["policy_node"], "floor": floor}
    measured |= {key: deployment.nodes[node] for key, node in BESIDE.items() if node in deployment.nodes}
    updates = operator.count("learner", "updates")
    windows = {key: _Window.open(process) for key, process in measured.items()}
    began, stolen = time.monotonic(), stolen_seconds()
    drive(operator, deployment, seconds)
    window, stolen = (began, time.monotonic()), stolen_seconds() - stolen
    cpu = {key: used.percent() for key, used in windows.items()}
    return _Observed(window, stolen, cpu, operator.count("learner", "updates") - updates)


def _parameters(realtime: Realtime) -> dict[str, Any]:
    values = {**asdict(realtime), "cpus": ",".join(map(str, realtime.cpus))}
    return {f"realtime.{key}": one for key, one in values.items()}


def _floor_settings(setting: Setting) -> str:
    realtime = setting.realtime
    above = replace(realtime, priority=realtime.priority + 1) if realtime.priority else realtime
    return json.dumps({**asdict(above), "yardstick": setting.yardstick})


def _listen(operator: Operator, deployment: Deployment, seconds: float) -> dict[str, Any]:
    """What the guard adds, measured before the loop is: whoever listens costs the publishers time."""
    with GuardLatency(operator.node) as latency:
        if not wait_until(lambda: latency.matched, START_WAIT_S):
            raise ProcessFailedError(mismatch("commands before and behind the guard", "no publisher", "one each"))
        drive(operator, deployment, WARM_UP_S + seconds, latency.read)
        samples = latency.samples()
    return {"latency": percentiles(samples), "messages": len(samples)}


def _await_updates(operator: Operator, deployment: Deployment) -> None:
    """Drives until the learner learns."""
    end, before = time.monotonic() + LEARNER_WAIT_S, 0
    while not 0 < before < operator.count("learner", "updates"):
        if time.monotonic() > end:
            raise ProcessFailedError(mismatch("learner", "no updates", f"some within {LEARNER_WAIT_S:g} s"))
        if operator.trip():  # nothing is learnt of a robot that is damped
            operator.trigger("policy_node/rearm")
        before = operator.count("learner", "updates")
        drive(operator, deployment, 2.0)


def drive(operator: Operator, deployment: Deployment, seconds: float, each: Callable[[], None] = lambda: None) -> None:
    """Sends a new target every second, so that the arm moves, and calls `each` after it.

    Raises:
        ProcessFailedError: a process ended by itself.
    """
    command = deployment.manifest.command
    rng = np.random.default_rng(0)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        deployment.check()
        operator.send_target(rng.uniform(command.lower, command.upper), command.frame)
        time.sleep(min(1.0, left))
        each()


def figures(log: Path, rate: float, window: tuple[float, float], cpu_percent: float) -> dict[str, Any]:
    """Ticks, lost ticks, percentiles of a timing log within a window (from, to; monotonic s)."""
    with np.load(log) as data:
        rows = {column: data[column] for column in COLUMNS}
        # Backwards from the end, for the ring forgets the beginning. The ends of the loops themselves are left out: a bare
        # loop at real-time priority that writes its file holds up everybody on its processor.
        at = data["ended"] - np.cumsum(1 + missed(rows["lateness"], rate)[::-1])[::-1] / rate
    columns = {column: samples[(window[0] <= at) & (at < window[1])] for column, samples in rows.items()}
    return {**counts(columns["lateness"], rate), "cpu_percent": cpu_percent, **summary(columns)}


def counts(lateness: np.ndarray, rate: float) -> dict[str, Any]:
    """Ticks and lost ticks, also in %; and how many of the ticks came late by more than half a period, %."""
    ticks, lost = len(lateness), int(missed(lateness, rate).sum())
    late = 100 * int((lateness > 0.5 / rate).sum()) / max(1, ticks)
    return {"ticks": ticks, "lost": lost, "lost_percent": 100 * lost / max(1, ticks + lost), "late_percent": late}


def missed(lateness: np.ndarray, rate: float) -> np.ndarray:
    """Deadlines that passed before each tick: one that starts a whole period late has missed those in between."""
    return np.floor(lateness * rate + 1e-9).clip(min=0)


def summary(columns: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Column -> p50, p99, p99.9, max, s."""
    return {column: percentiles(samples) for column, samples in columns.items()}
