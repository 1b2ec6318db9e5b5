"""A robot that has changed and learns beside its work: plant in lockstep, policy node, learner, one command after the other.

The plant goes on as soon as its command has come, so robot time passes as fast as the machine allows; every part is the one
that a real robot runs. It is held while the learner is behind: beside a robot in real time it would not be. What happened is
read from the recordings afterwards, and of a robot that walks from what the plant said of its base.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rosgraph_msgs.msg import Clock

from ddpg_robot.errors import RecordingError, mismatch
from ddpg_robot.policy import read_manifest
from ddpg_robot.recording import Mode, Recording
from ddpg_robot.spec import PolicyManifest
from ddpg_robot_ros.benchmark.online_work import HOLD_S, Judge, Work, judge_of, work_of
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.convert import stamp_seconds
from ddpg_robot_ros.deploy import use_own_domain
from ddpg_robot_ros.processes import LEARNER, Deployment, ProcessFailedError, wait_until
from ddpg_robot_ros.transport import COMMAND_QOS, Newest

START_WAIT_S = 180.0
POLL_S = 0.003
WHOLE = 0.75
"""A command counts that was in force for this part of its time, or ended in a trip or a fall."""
OWED = "updates owed"
"""Of the learner's status: updates that it still has to make."""
OWED_MOST = 500
"""Updates that a learner may be behind: ten seconds of a robot at 50 Hz, an update for each transition."""


@dataclass(frozen=True)
class OnlineTrial:
    """One run of the benchmark."""

    policy: Path
    draw: str
    """The changed robot, JSON."""
    minutes: float
    """Robot time."""
    seed: int
    """Of what the robot is asked for."""
    out: Path
    """Recordings, versions and checkpoints."""
    learner: tuple[str, ...] = ()
    """Command line of the learner; empty for a policy that is frozen and does not explore."""
    share: float = 0.03
    """Exploration."""
    correlation_time: float = 0.15
    """Exploration, s."""
    verdict_timeout: float = 120.0
    """s of robot time."""


def run_online(
    trial: OnlineTrial,
    progress: Callable[[float, float], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Runs it, and reads what was recorded.

    Args:
        trial: see there.
        progress: called with (minutes of robot time, minutes of this clock).
        stop: asked again and again; True ends it before its time.

    Returns:
        What `read_episodes` gives, and complete: it had its time, speed (robot time per time), rearms by the operator, and
        held: the share of the time in which the plant waited for the learner.

    Raises:
        ProcessFailedError: a process ended by itself or did not start.
    """
    manifest = read_manifest(trial.policy)
    record = trial.out / "record"
    use_own_domain()
    rate = 1 / manifest.control.loop_period
    parameters: dict[str, Any] = {"lockstep": True, "verdict_timeout": trial.verdict_timeout, "stall_periods": 1000.0}
    if manifest.robot.floating_base:
        # While torque grows softly, weak legs under a load sink further than a fall, whatever the policy says.
        parameters["safety.soft_start"] = 0.0
    if trial.learner:
        parameters |= {"exploration.share": trial.share, "exploration.correlation_time": trial.correlation_time}
    deployment = Deployment(
        trial.policy,
        guard=False,
        policy_parameters=parameters,
        plant_parameters={"lockstep": True, "rate": rate, "draw": trial.draw},
        record=record,
        learner=trial.learner,
    )
    with deployment, Operator(manifest.robot) as operator:
        work = work_of(operator, manifest, trial.seed, bool(trial.learner))
        _await_start(deployment, operator)
        facts = _ask(trial, work, deployment, operator, progress, stop)
    work.save(record)
    return {**read_episodes(record, manifest), **facts}


def read_episodes(record: Path, manifest: PolicyManifest) -> dict[str, Any]:
    """What the recordings say.

    Returns:
        ``episodes``: per command minute (of robot time, at its end), success, tripped (or fallen), weights, and final_error (m)
        of an arm, speed_error (m/s) and turn_error (rad/s) of a robot that walks; largest_effort (in parts of the limits), trips,
        ticks.
    """
    paths = sorted(record.glob("*.mcap"))
    if not paths:
        raise RecordingError(mismatch(f"recordings in {record}", "none", "at least one"))
    parts, weights = [], []
    for path in paths:
        with Recording(path) as recording:
            for rows in recording.blocks():
                parts.append(rows)
                weights += [recording.session.weights_sha256] * len(rows)
    rows, of = np.concatenate(parts), np.array(weights)
    order = np.argsort(rows["tick"], kind="stable")
    order = order[rows["mode"][order] != Mode.STOPPING]
    rows, of = rows[order], of[order]
    limits = np.array([joint.effort_limit for joint in manifest.robot.joints])
    asked = ~rows["waiting"]
    begin = rows["stamp"][asked][0] if asked.any() else 0.0
    new = np.flatnonzero((rows["command"][1:] != rows["command"][:-1]).any(axis=1)) + 1
    judge, hold = judge_of(record, manifest), HOLD_S[manifest.command.kind]
    parts = np.split(np.arange(len(rows)), new)
    episodes = [_episode(rows[part], of[part[-1]], begin, judge, hold) for part in parts]
    tripped = rows["tripped"].astype(int)
    return {
        "episodes": [one for one in episodes if one is not None],
        "largest_effort": float((np.abs(rows["applied_effort"]) / limits).max()),
        "trips": int((np.diff(tripped) > 0).sum()),
        "ticks": len(rows),
        "minutes": float(rows["stamp"].max() - begin) / 60,
    }


def _episode(rows: np.ndarray, weights: str, begin: float, judge: Judge, hold: float) -> dict[str, Any] | None:
    """What came of a command; None where there was none, or where it was withdrawn."""
    found, end = judge(rows), rows["stamp"][-1]
    withdrawn = end - rows["stamp"][0] <= WHOLE * hold and not found["tripped"]
    if withdrawn or rows["waiting"].all():
        return None
    return {"minute": float(end - begin) / 60, "weights": weights, **found}


def _await_start(deployment: Deployment, operator: Operator) -> None:
    def ready() -> bool:
        deployment.check()
        listens = LEARNER not in deployment.nodes or operator.status("learner") is not None
        return listens and operator.active() and operator.ready() and operator.watch()

    if not wait_until(ready, START_WAIT_S, period=0.1):
        raise ProcessFailedError(mismatch("deployment", "not ready", f"ready within {START_WAIT_S:g} s"))


def _ask(
    trial: OnlineTrial,
    work: Work,
    deployment: Deployment,
    operator: Operator,
    progress: Callable[[float, float], None] | None,
    stop: Callable[[], bool],
) -> dict[str, Any]:
    """Lets the robot work, by the plant's clock; holds the plant while learning lags."""
    clock = Newest(operator.node, Clock, "/clock", COMMAND_QOS)
    began, start, now, held = time.monotonic(), None, 0.0, 0.0
    while not stop() and (start is None or now - start < 60 * trial.minutes):
        held += _hold(deployment, operator)
        message = clock.take()
        if message is None:
            time.sleep(POLL_S)
            continue
        now = stamp_seconds(message.clock)
        start = now if start is None else start
        if work.step(now):
            deployment.check()
            if progress is not None:
                progress((now - start) / 60, (time.monotonic() - began) / 60)
    took, lasted = time.monotonic() - began, now - (start or now)
    complete = lasted >= 60 * trial.minutes
    return {"complete": complete, "speed": lasted / took, "held": held / took, "rearms": work.rearms}


def _hold(deployment: Deployment, operator: Operator) -> float:
    """Stops the plant, and with it the time of all, until the learner has caught up. Returns how long it took, s."""
    began = time.monotonic()
    if operator.count("learner", OWED) <= OWED_MOST:
        return 0.0
    plant = deployment.nodes["plant_node"]
    plant.send(signal.SIGSTOP)
    try:
        while operator.count("learner", OWED) > OWED_MOST / 2:
            deployment.check()
            time.sleep(POLL_S)
    finally:
        plant.send(signal.SIGCONT)
    return time.monotonic() - began
