"""Targets sent to a deployed policy as real messages, and what the arm made of them."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.kinematics import ChainKinematics
from ddpg_robot.spec import PolicyManifest, RobotSpec
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.deploy import use_own_domain
from ddpg_robot_ros.processes import Deployment, ProcessFailedError, wait_until
from ddpg_robot_ros.timing import COLUMNS, percentiles

START_WAIT_S = 60.0
SAMPLE_PERIOD_S = 0.01
ASK_PERIOD_S = 0.2
HOLD_S = 0.5
SUCCESS_M = 0.02
PLACED_RAD = 0.02
KEPT_SAMPLES = 20_000


def run_trial(
    policy: str | Path,
    targets: np.ndarray,
    hold_s: float = 4.0,
    out: Path | None = None,
    starts: np.ndarray | None = None,
    guard: bool = True,
    rate: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    policy_parameters: Mapping[str, Any] | None = None,
    plant_parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Deploys plant, guard and policy in a ROS domain of their own and asks for one target after the other.

    Args:
        policy: policy file of an arm.
        targets: ``(m, 3)``, m, in the policy's command frame.
        hold_s: time for each target, s. Success: within 2 cm during the whole last half second.
        out: where the result is written as JSON; None for nowhere.
        starts: joint positions before each target ``(m, n)``, rad; None goes on from where the arm is.
        guard: with the effort guard between policy and plant.
        rate: ticks per second; None as trained.
        progress: called with (finished targets, all targets).
        policy_parameters: further ROS parameters of the policy node.
        plant_parameters: of the plant: a draw, or the model of a robot of one's own.

    Returns:
        success_rate, within_5cm_rate, within_1cm_rate, final_error_median_m, limit_hit_rate, return_mean and return_std
        (None: there is no reward here), episodes, seed (None), per_episode (target, start, final_error, success,
        limit_hit, trip: the reason or nothing, time, position), and of the loop: rate, ticks, lost, timing (percentiles,
        s) and samples (s).

    Raises:
        ConfigError: the targets are not ``(m, 3)``. ProcessFailedError: a node ended by itself or did not start.
    """
    targets = np.asarray(targets, dtype=float)
    if targets.ndim != 2 or targets.shape[1] != 3 or not len(targets):
        raise ConfigError(mismatch("targets", f"an array {targets.shape}", "an array (m, 3)"))
    use_own_domain()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "timing.npz"
        parameters = {"timing_log": str(log), **(policy_parameters or {})}
        own = {"policy_parameters": parameters, "plant_parameters": plant_parameters}
        deployment = Deployment(policy, guard=guard, rate=rate, **own)
        rows = []
        with deployment, Operator(deployment.manifest.robot) as operator:
            await_start(deployment, operator)
            for index, target in enumerate(targets):
                start = None if starts is None else np.asarray(starts[index], dtype=float)
                rows.append(_episode(operator, deployment.manifest, target, start, hold_s))
                deployment.check()
                if progress is not None:
                    progress(index + 1, len(targets))
        result = {**_summary(rows), "per_episode": rows, **_loop(log)}
    if out is not None:
        out.write_text(json.dumps(result))
    return result


def await_start(deployment: Deployment, operator: Operator, ended: Callable[[], bool] = lambda: False) -> None:
    """Waits until the policy node is active and the robot heard, or until `ended`.

    Raises:
        ProcessFailedError: a process ended by itself, or it takes longer than `START_WAIT_S`.
    """

    def ready() -> bool:
        deployment.check()
        listens = deployment.manifest.command.is_given or operator.ready()
        return ended() or (operator.active() and listens and operator.watch())

    if not wait_until(ready, START_WAIT_S, period=0.1):
        raise ProcessFailedError(mismatch("policy node", "not active", f"active within {START_WAIT_S:g} s"))


def _episode(
    operator: Operator, manifest: PolicyManifest, target: np.ndarray, start: np.ndarray | None, hold_s: float
) -> dict[str, Any]:
    robot = manifest.robot

    def ask() -> None:
        operator.send_target(target, manifest.command.frame)

    ask()
    if start is not None:
        operator.place(robot.joint_names, start)
        wait_until(lambda: operator.watch() and np.abs(operator.state.position - start).max() < PLACED_RAD, 1.0, 0.001)
    times, positions, limit_hit = _record(operator, robot, hold_s, ask)
    assert robot.chain is not None  # a point command needs one
    kinematics = ChainKinematics(robot.chain)
    distance = np.array([_distance(kinematics, position, target) for position in positions])
    held = distance[times >= times[-1] - HOLD_S]
    trip = operator.trip()
    if trip:
        operator.trigger("policy_node/rearm")
    return {
        "target": target.tolist(),
        "start": positions[0].tolist(),
        "final_error": float(distance[-1]),
        "success": bool((held <= SUCCESS_M).all()) and not limit_hit and not trip,
        "limit_hit": limit_hit or bool(trip),
        "trip": trip,
        "time": times.round(4).tolist(),
        "position": positions.round(5).tolist(),
        "distance": distance.round(5).tolist(),
    }


def _record(
    operator: Operator, robot: RobotSpec, seconds: float, ask: Callable[[], None]
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Samples the arm, asking again and again: times ``(k,)`` s, positions ``(k, n)`` rad, whether a limit was passed."""
    lower = np.array([joint.position_lower for joint in robot.joints])
    upper = np.array([joint.position_upper for joint in robot.joints])
    fastest = np.array([joint.velocity_limit for joint in robot.joints])
    times, positions, beyond = [], [], False
    began = asked = time.monotonic()
    while (now := time.monotonic() - began) < seconds or not times:
        if operator.watch():
            position, velocity = operator.state.position, operator.state.velocity
            times.append(now)
            positions.append(position.copy())
            outside = (position < lower) | (position > upper) | (np.abs(velocity) > fastest)
            beyond = beyond or bool(outside.any())
        elif now > seconds + START_WAIT_S:
            raise ProcessFailedError(mismatch("joint_states", "silence", "messages"))
        if time.monotonic() > asked + ASK_PERIOD_S:  # the first message may come before the reader knows the writer
            ask()
            asked = time.monotonic()
        time.sleep(SAMPLE_PERIOD_S)
    return np.array(times), np.array(positions), beyond


def _distance(kinematics: ChainKinematics, position: np.ndarray, target: np.ndarray) -> float:
    kinematics.update(position)
    return float(np.linalg.norm(kinematics.tip - target))


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    errors = np.array([row["final_error"] for row in rows])
    return {
        "success_rate": float(np.mean([row["success"] for row in rows])),
        "within_5cm_rate": float(np.mean(errors < 0.05)),
        "within_1cm_rate": float(np.mean(errors < 0.01)),
        "final_error_median_m": float(np.median(errors)),
        "limit_hit_rate": float(np.mean([row["limit_hit"] for row in rows])),
        "return_mean": None,
        "return_std": None,
        "episodes": len(rows),
        "seed": None,
    }


def _loop(log: Path) -> dict[str, Any]:
    with np.load(log) as data:
        columns = {column: data[column] for column in COLUMNS}
        facts = {key: float(data[key]) for key in ("rate", "ticks", "lost")}
    return {
        **facts,
        "timing": {column: percentiles(samples) for column, samples in columns.items()},
        "samples": {column: _thinned(samples) for column, samples in columns.items()},
    }


def _thinned(samples: np.ndarray) -> list[float]:
    finite = samples[np.isfinite(samples)]
    step = max(1, -(-len(finite) // KEPT_SAMPLES))
    return [float(value) for value in finite[::step].round(7)]
