"""A deployment that runs for long: does it keep its time, its memory, and every trip that was asked for?"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ddpg_robot.duration import duration
from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.files import write_json
from ddpg_robot.safety import TripReason
from ddpg_robot_ros.benchmark.loop import machine
from ddpg_robot_ros.benchmark.soak_result import result_of, table
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.deploy import use_own_domain
from ddpg_robot_ros.processes import Deployment, ProcessFailedError, wait_until
from ddpg_robot_ros.transport import StopSignal
from ddpg_robot_ros.trial import await_start

WATCHED = ("policy_node", "effort_guard")
SAMPLE_S = 3.0
ANSWER_S = 20.0
"""How long a trip may take to come to the operator, or a rearm to help, s."""


@dataclass
class Log:
    """What was seen while it ran; times in s since 1970."""

    began: float = field(default_factory=time.time)
    memory: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    """Node -> time and resident bytes."""
    estops: list[dict[str, Any]] = field(default_factory=list)
    """Of each that was asked for: ``time``, and whether it was ``reported`` to the operator and ``rearmed``."""
    failure: str = ""
    """Why it ended early."""


def benchmark_soak(
    policy: str | Path,
    rate: float,
    minutes: float,
    estop_every: float = 60.0,
    record: Path | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Runs plant, guard and policy node with the recorder on, until Ctrl-C at the latest, and asks for trips meanwhile.

    All settings are those of a deployment: a machine that stands still for long trips the robot, which is then rearmed.

    Args:
        policy: policy file of an arm.
        rate: ticks per second, a whole multiple of the policy's rate.
        minutes: duration.
        estop_every: time between two calls of ~/estop, each with a ~/rearm behind it, s.
        record: directory where the recording stays; None for a temporary one.
        out: where the result is written as JSON.

    Returns:
        machine, policy, rate, seconds, failure; and of `result_of`: minutes, overall, memory, trips, targets. Also
        prints it as a table.

    Raises:
        ConfigError: `minutes` or `estop_every` is not positive. RateError: not a whole multiple of the policy's rate.
        ProcessFailedError: the deployment does not start. KeyboardInterrupt: stopped before it ran.
    """
    for name, value in (("minutes", minutes), ("estop-every", estop_every)):
        if not value > 0:
            raise ConfigError(mismatch(name, value, "a positive number"))
    host = machine()
    use_own_domain()
    stop = StopSignal()
    with tempfile.TemporaryDirectory() as folder:
        directory = record or Path(folder)
        before = set(directory.glob("*.mcap"))
        deployment = Deployment(policy, rate=rate, record=directory)
        with deployment, Operator(deployment.manifest.robot) as operator:
            await_start(deployment, operator, stop.is_set)
            if stop.is_set():
                raise KeyboardInterrupt
            log = Log()
            try:
                _run(deployment, operator, stop, log, 60 * minutes, estop_every)
            except ProcessFailedError as error:
                log.failure = str(error)
        files = sorted(set(directory.glob("*.mcap")) - before)
        result = {
            "machine": host,
            "policy": deployment.manifest.name,
            "rate": rate,
            "seconds": time.time() - log.began,
            "failure": log.failure,
            **result_of(log.began, log.memory, log.estops, files, rate),
        }
    print(table(result))
    if out is not None:
        write_json(out, result)
    return result


def _run(
    deployment: Deployment, operator: Operator, stop: StopSignal, log: Log, seconds: float, estop_every: float
) -> None:
    """Once a second: a new target, now and then memory, an estop, and the progress line."""
    command, rng = deployment.manifest.command, np.random.default_rng(0)
    began = time.monotonic()
    sample_at, estop_at = 0.0, min(estop_every, seconds / 2)
    while (now := time.monotonic() - began) < seconds and not stop.wait(min(1.0, seconds - now)):
        deployment.check()
        operator.send_target(rng.uniform(command.lower, command.upper), command.frame)
        if _says(operator, "tripped"):  # not by us: the machine stood still
            _rearm(operator, stop)
        if now >= sample_at:
            sample_at = now + SAMPLE_S
            for name in WATCHED:
                log.memory[name].append((time.time(), deployment.nodes[name].resident_bytes))
        if now >= estop_at and (done := _estop(operator, stop)) is not None:
            estop_at += estop_every
            log.estops.append(done)
        _show(log, now, seconds)
    if sys.stderr.isatty():
        print(file=sys.stderr)


def _estop(operator: Operator, stop: StopSignal) -> dict[str, Any] | None:
    """One estop, awaited in the diagnostics, and the rearm; None when another trip came first, which hides it."""
    asked = time.time()
    answer = operator.trigger("policy_node/estop")
    reported = answer is not None and _until(lambda: _says(operator, "tripped"), stop)
    hidden = reported and not _says(operator, f"tripped, {TripReason.ESTOP.value}")
    rearmed = _rearm(operator, stop)
    return None if hidden else {"time": asked, "reported": reported, "rearmed": rearmed}


def _rearm(operator: Operator, stop: StopSignal) -> bool:
    """Rearms until the robot is not tripped any more; False when it stays so."""

    def done() -> bool:
        answer = operator.trigger("policy_node/rearm")
        return answer is not None and answer.success

    return _until(done, stop) and _until(lambda: not _says(operator, "tripped"), stop)


def _until(condition: Callable[[], bool], stop: StopSignal) -> bool:
    found = [False]

    def ended() -> bool:
        found[0] = condition()
        return found[0] or stop.is_set()

    wait_until(ended, ANSWER_S)
    return found[0]


def _says(operator: Operator, text: str) -> bool:
    status = operator.status("control loop")
    return status is not None and status.message.startswith(text)


def _show(log: Log, now: float, seconds: float) -> None:
    """The progress line; where there is no terminal, one a minute."""
    terminal = sys.stderr.isatty()
    if not terminal and now % 60 >= 1:
        return
    memory = ", ".join(f"{name} {samples[-1][1] / 1e6:.1f} MB" for name, samples in log.memory.items())
    text = f"{now / seconds:4.0%}, {duration(seconds - now)} to go, {len(log.estops)} estops, {memory}"
    print(f"\r{text:78}" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)
