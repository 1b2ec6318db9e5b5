"""Evaluation of any policy on any task: an actor, an exported graph, a function. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.learn.tasks import Task, episode_seed, open_task

Act = Callable[[np.ndarray], np.ndarray]
EVALUATION_STREAM = 1


def evaluate(
    act: Act,
    task: str,
    task_kwargs: dict[str, Any] | None,
    episodes: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Runs whole episodes without exploration and without learning.

    Args:
        act: flat float32 observation, shape (observations,), to action in [-1, 1], shape (actions,).
        task: Gymnasium id.
        task_kwargs: its keyword arguments.
        episodes: how many.
        seed: of the episodes; training never sees an evaluation's episodes, whatever the seeds.
        progress: called with (finished episodes, all episodes).

    Returns:
        success_rate, within_5cm_rate, within_1cm_rate, final_error_median_m, limit_hit_rate (None where the task does
        not tell), return_mean, return_std, length_mean, episodes, seed, `per_episode`, a list of dicts, and the mean over
        episodes of each of the `metrics` (name -> number) in the info of an episode's last step.

    Raises:
        ConfigError: fewer than one episode, or a task that does not exist or has no Box spaces.
    """
    if episodes < 1:
        raise ConfigError(mismatch("episodes", episodes, "a positive whole number"))
    with open_task(task, task_kwargs) as opened:
        return evaluate_task(act, opened, episodes, seed, progress)


def evaluate_task(
    act: Act, task: Task, episodes: int, seed: int, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """`evaluate` on a task that is already open."""
    rows = []
    for episode in range(episodes):
        rows.append(_episode(act, task, episode_seed(seed, EVALUATION_STREAM, episode)))
        if progress is not None:
            progress(episode + 1, episodes)
    return {**summary(rows), "episodes": episodes, "seed": seed, "per_episode": rows}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The rates and means over episodes as `evaluate` lists them."""
    returns = np.array([row["return"] for row in rows])
    errors = np.array([row["final_error"] for row in rows], dtype=float)  # m; NaN where the task does not tell
    measured = not np.isnan(errors).any()
    return {
        "success_rate": _rate(rows, "success"),
        "within_5cm_rate": float(np.mean(errors < 0.05)) if measured else None,
        "within_1cm_rate": float(np.mean(errors < 0.01)) if measured else None,
        "final_error_median_m": float(np.median(errors)) if measured else None,
        "limit_hit_rate": _rate(rows, "limit_hit"),
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "length_mean": float(np.mean([row["length"] for row in rows])),
        **{name: float(np.mean([row["metrics"][name] for row in rows])) for name in rows[0]["metrics"]},
    }


def _episode(act: Act, task: Task, seed: int) -> dict[str, Any]:
    observation, info = task.reset(seed)
    row: dict[str, Any] = {"seed": seed, "target": _numbers(info.get("target")), "start": _numbers(info.get("start"))}
    if "randomization" in info:
        row["randomization"] = info["randomization"]
    total, length, limit_hit = 0.0, 0, None
    while True:
        step = task.step(np.clip(act(observation), -1.0, 1.0))
        observation = step.observation
        total += step.reward
        length += 1
        if "limit_hit" in step.info:
            limit_hit = bool(limit_hit) or bool(step.info["limit_hit"])
        if step.terminated or step.truncated:
            break
    success, error = step.info.get("is_success"), step.info.get("distance")
    row["success"] = None if success is None else bool(success)
    row["final_error"] = None if error is None else float(error)
    row["metrics"] = {name: float(value) for name, value in step.info.get("metrics", {}).items()}
    return {**row, "limit_hit": limit_hit, "return": total, "length": length}


def _rate(rows: list[dict[str, Any]], key: str) -> float | None:
    values = [row[key] for row in rows]
    return None if None in values else float(np.mean(values))


def _numbers(value: Any) -> list[float] | None:
    return None if value is None else np.asarray(value, dtype=float).reshape(-1).tolist()
