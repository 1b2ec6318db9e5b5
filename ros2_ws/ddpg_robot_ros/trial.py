"""Targets sent to a deployed policy as real messages, and what the arm made of them."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sensor_msgs.msg import JointState

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.kinematics import ChainKinematics
from ddpg_robot.spec import PolicyManifest
from ddpg_robot.state import RobotState
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.convert import JointStateReader
from ddpg_robot_ros.deploy import use_own_domain
from ddpg_robot_ros.processes import Deployment, ProcessFailedError, wait_until
from ddpg_robot_ros.timing import COLUMNS, percentiles
from ddpg_robot_ros.transport import STATE_QOS, Newest

START_WAIT_S = 60.0
SAMPLE_PERIOD_S = 0.01
ASK_PERIOD_S = 0.2
HOLD_S = 0.5
SUCCESS_M = 0.02
PLACED_RAD = 0.02
KEPT_SAMPLES = 20_000
TRUTH = "plant_node/joint_states"
"""What the plant says of its joints, beside what its sensors say."""


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
        hold_s: time for each target, s. Success: within 2 cm during the whole last half second, by the plant's true joints.
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
            reacher = Reacher(operator, deployment.manifest)
            await_start(deployment, operator)
            for index, target in enumerate(targets):
                start = None if starts is None else np.asarray(starts[index], dtype=float)
                rows.append(reacher.reach(target, hold_s, start))
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


class Reacher:
    """Sends targets and measures, from what the plant says of its joints, whether the hand gets there.

    What the sensors say would not do: an encoder's noise alone can take the hand out of the 2 cm that it has to hold.

    Args:
        operator: who sends.
        manifest: of an arm's policy.
    """

    def __init__(self, operator: Operator, manifest: PolicyManifest) -> None:
        assert manifest.robot.chain is not None  # a point command needs one
        self._operator, self._frame = operator, manifest.command.frame
        self._kinematics = ChainKinematics(manifest.robot.chain)
        self._names = manifest.robot.joint_names
        self._lower, self._upper, self._fastest = (
            np.array([getattr(joint, name) for joint in manifest.robot.joints])
            for name in ("position_lower", "position_upper", "velocity_limit")
        )
        self._reader = JointStateReader(manifest.robot.measured_joints, "ignore")
        self._state = RobotState.of(manifest.robot)
        self._newest = Newest(operator.node, JointState, TRUTH, STATE_QOS)

    def reach(self, target: np.ndarray, seconds: float, start: np.ndarray | None = None) -> dict[str, Any]:
        """Asks for one target; a row of `run_trial`'s per_episode.

        Args:
            target: ``(3,)``, m.
            seconds: time for it, s.
            start: pose that the arm is put to first ``(n,)``, rad; None goes on from where it is.
        """
        operator = self._operator
        operator.send_target(target, self._frame)
        if start is not None:
            operator.place(self._names, start)
            wait_until(lambda: self._look() and np.abs(self._state.position - start).max() < PLACED_RAD, 1.0, 0.001)
        times, positions, limit_hit = self._record(target, seconds)
        distance = np.array([self._distance(position, target) for position in positions])
        held = distance[times >= times[-1] - HOLD_S]
        trip = operator.trip()
        if trip:  # at rest where it is: an arm whose damping comes late may ring, and would trip again at once
            operator.place(self._names, self._state.position.clip(self._lower, self._upper))
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

    def _look(self) -> bool:
        """Reads the newest of what the plant says of its joints; False when there is nothing new."""
        message = self._newest.take()
        return message is not None and self._reader.fill(message, self._state)

    def _record(self, target: np.ndarray, seconds: float) -> tuple[np.ndarray, np.ndarray, bool]:
        """Samples the arm, asking again and again: times ``(k,)`` s, positions ``(k, n)`` rad, whether a limit was passed."""
        times, positions, beyond = [], [], False
        began = asked = time.monotonic()
        while (now := time.monotonic() - began) < seconds or not times:
            if self._look():
                position, velocity = self._state.position, self._state.velocity
                times.append(now)
                positions.append(position.copy())
                outside = (position < self._lower) | (position > self._upper) | (np.abs(velocity) > self._fastest)
                beyond = beyond or bool(outside.any())
            elif now > seconds + START_WAIT_S:
                raise ProcessFailedError(mismatch(TRUTH, "silence", "messages"))
            if time.monotonic() > asked + ASK_PERIOD_S:  # the first message may come before the reader knows the writer
                self._operator.send_target(target, self._frame)
                asked = time.monotonic()
            time.sleep(SAMPLE_PERIOD_S)
        return np.array(times), np.array(positions), beyond

    def _distance(self, position: np.ndarray, target: np.ndarray) -> float:
        self._kinematics.update(position)
        return float(np.linalg.norm(self._kinematics.tip - target))


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
