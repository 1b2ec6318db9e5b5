"""The parity gate: the exported graph must give what the trained actor gives, or there is no file."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import numpy as np

from ddpg_robot.errors import ConfigError, ParityError, mismatch
from ddpg_robot.learn.tasks import RobotOf, Task, episode_seed, open_task
from ddpg_robot.policy import OnnxPolicy
from ddpg_robot.spec import UNBOUNDED, ParityRecord
from ddpg_robot.spec_json import to_dict
from ddpg_robot_export.actor import DeployedActor
from ddpg_robot_export.probes import (
    TOLERANCE,
    corner_observations,
    output_range,
    run_one_by_one,
    uniform_observations,
)

PARITY_STREAM = 2  # of episode seeds: neither training nor evaluation
EXPLORATION = 0.1  # deviation of noise on rollout actions in [-1, 1]

_log = logging.getLogger(__name__)


def check_parity(deployed: DeployedActor, policy: OnnxPolicy, observations: np.ndarray) -> ParityRecord:
    """Compares the policy as the robot runs it (batch 1, bound buffers) with torch on every observation.

    Args:
        deployed: the torch reference.
        policy: the exported file, opened.
        observations: flat observations ``(samples, size)``, float32.

    Raises:
        ParityError: an error exceeds `TOLERANCE`; says for which joint.
    """
    interface = deployed.interface
    difference = run_one_by_one(policy, observations).astype(float) - deployed.flat(observations)
    error = np.abs(difference) / output_range(interface)  # (samples, n)
    worst = float(error.max())
    if not worst <= TOLERANCE:  # not <=: NaN fails too
        joint = interface.robot.joints[int(np.argmax(np.nan_to_num(error.max(axis=0), nan=np.inf)))].name
        where = f"error of the exported graph against torch at joint '{joint}'"
        unit = "its effort limit" if interface.control.mode == "effort" else "its range"
        expected = f"at most {TOLERANCE:g}"
        raise ParityError(mismatch(where, f"{worst:.3g} of {unit}", expected, hint="No file is written"))
    return ParityRecord(samples=len(observations), max_abs_error=worst)


def parity_observations(
    deployed: DeployedActor, task: str, kwargs: dict, samples: int, seed: int, robot_of: RobotOf | None = None
) -> np.ndarray:
    """Flat observations ``(samples, size)``, float32: half rollouts, a quarter uniform, a quarter corners.

    Half of the corners are those of the network's inputs: its clip limits, ten deviations from the mean; of a robot without
    joint limits, whose inputs nothing bounds but its own motion, the extremes of the rollouts.

    Rollouts come from the task's environment; where it cannot be made, uniform observations take their place.
    """
    rng = np.random.default_rng(seed)
    parts = [_rollouts(deployed, partial(open_task, task, kwargs, robot_of), samples // 2, rng, seed)]
    of_inputs = samples // 8 if deployed.normalizer.enabled else 0
    unbounded = any(joint.position_upper == UNBOUNDED for joint in deployed.interface.robot.joints)
    extremes = (parts[0].min(axis=0), parts[0].max(axis=0)) if unbounded and len(parts[0]) else _clip_limits(deployed)
    parts.append(_corners(*extremes, of_inputs, rng))
    parts.append(corner_observations(deployed.interface, samples // 4 - of_inputs, rng))
    parts.append(uniform_observations(deployed.interface, samples - sum(map(len, parts)), rng))
    return np.concatenate(parts)


def _rollouts(
    deployed: DeployedActor,
    opening: Callable[[], AbstractContextManager[Task]],
    count: int,
    rng: np.random.Generator,
    seed: int,
) -> np.ndarray:
    rows = np.empty((count, deployed.interface.observation.size), np.float32)
    try:
        with opening() as opened:
            if opened.describe()["interface"] != to_dict(deployed.interface):
                raise ConfigError(f"task '{opened.id}' has changed since the training")
            _fill_rollouts(rows, opened, deployed, rng, seed)
    except (ConfigError, ImportError) as error:
        _log.warning("parity samples without rollouts: %s", error)
        return rows[:0]
    return rows


def _fill_rollouts(rows: np.ndarray, task: Task, deployed: DeployedActor, rng: np.random.Generator, seed: int) -> None:
    episode, done, observation = 0, True, np.empty(0)
    for row in rows:
        if done:
            observation, _ = task.reset(episode_seed(seed, PARITY_STREAM, episode))
            episode += 1
        row[:] = observation
        noise = EXPLORATION * rng.standard_normal(task.action_size)
        step = task.step(np.clip(deployed.action(row) + noise, -1, 1))
        observation, done = step.observation, step.terminated or step.truncated


def _clip_limits(deployed: DeployedActor) -> tuple[np.ndarray, np.ndarray]:
    normalizer = deployed.normalizer
    reach = normalizer.LIMIT / normalizer.inverse_deviation.numpy()
    return normalizer.mean.numpy() - reach, normalizer.mean.numpy() + reach


def _corners(lower: np.ndarray, upper: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Every input at one of its two bounds ``(size,)``."""
    high = rng.integers(0, 2, (count, len(lower)), dtype=bool)
    return np.where(high, upper, lower).astype(np.float32)
