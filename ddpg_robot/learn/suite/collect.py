"""From the runs of a benchmark to one JSON: curves, and statistics over seeds."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.files import write_whole
from ddpg_robot.learn.rundir import read_json
from ddpg_robot.learn.suite.plan import Plan, Run, require_same, rounded, run_name, shared_settings

LAST_EVALUATIONS = 10
"""How many evaluations the final score of a run is the mean of."""
CURVE_POINTS = 201
SCORES = ("return_mean", "success_rate")
RESAMPLES = 10_000


def collect(plan: Plan, others: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Reads what the runs of a benchmark have written, finished or not.

    Args:
        plan: the benchmark.
        others: results of the same benchmark from elsewhere; what is finished there and not here is taken over.

    Returns:
        JSON data: what ran (`name`, `suite`, `seeds`, `settings`, `versions`, `machine`), `incomplete` (task, seed and
        step of unfinished runs), and per task its `runs` and the `statistics` of their scores. A run has its curve, and
        of each score `final`, the mean of the last ten evaluations, and `max`, the best one.

    Raises:
        RunDirectoryError: a run has other settings than the benchmark.
    """
    elsewhere = finished_runs(others)
    asked = plan.runs()
    runs = [run for run in asked if run.finished or run.name not in elsewhere]
    results = elsewhere | {run.name: _run_result(run) for run in runs}
    tasks = {}
    for name, (task, kwargs) in plan.tasks.items():
        found = [results[run.name] for run in asked if run.task == name]
        found = [result for result in found if result["curve"]["step"]]
        tasks[name] = {"task": task, "task_kwargs": kwargs, "statistics": _statistics(found), "runs": found}
    return {
        "name": plan.name,
        "suite": plan.suite,
        "seeds": list(plan.seeds),
        "settings": plan.settings(),
        "versions": _versions(runs, others),
        "machine": "; ".join(sorted({f"{platform.machine()}, {_cores()} cores", *(o["machine"] for o in others)})),
        "incomplete": [
            {"task": run.task, "seed": run.config.seed, "step": run.last_row().get("step", 0)}
            for run in runs
            if not run.finished
        ],
        "tasks": tasks,
    }


def write_result(result: dict[str, Any], path: Path) -> None:
    """Writes JSON with six digits of each number, and each list of numbers on one line."""
    text = json.dumps(rounded(result), indent=1)
    write_whole(path, re.sub(r"\[([^][{}\"]*)\]", lambda list_: f"[{' '.join(list_[1].split())}]", text) + "\n")


def read_result(path: Path) -> dict[str, Any]:
    """Reads what `write_result` wrote. Raises ConfigError where it is something else."""
    try:
        result = json.loads(path.read_text())
        result["name"], result["settings"]["steps"], result["versions"].items(), result["machine"], set(result["seeds"])
        for task in result["tasks"].values():
            (
                task["task"],
                task["task_kwargs"],
                task["statistics"],
                [(run["seed"], run["finished"]) for run in task["runs"]],
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(mismatch(f"file '{path}'", f"unreadable ({error})", "JSON of a benchmark")) from error
    return result


def finished_runs(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Name of each finished run of some results -> its part of them."""
    return {
        run_name(task, run["seed"]): run
        for result in results
        for task, part in result["tasks"].items()
        for run in part["runs"]
        if run["finished"]
    }


def _run_result(run: Run) -> dict[str, Any]:
    rows = run.rows()
    # The last step is evaluated twice, the second time over more episodes.
    evaluations = list({row["step"]: row for row in rows if row["kind"] == "evaluation"}.values())
    scores = {
        name: np.array([row[name] for row in evaluations])
        for name in SCORES
        if all(row[name] is not None for row in evaluations)
    }
    picked = _thinned(len(evaluations))
    curve = {"step": [evaluations[i]["step"] for i in picked]}
    curve |= {name: values[picked].tolist() for name, values in scores.items()}
    last = rows[-1] if rows else {}
    return {
        "seed": run.config.seed,
        "finished": run.finished,
        "time_s": last.get("time_s"),
        "steps_per_s": last.get("steps_per_s"),
        "final": {name: float(values[-LAST_EVALUATIONS:].mean()) for name, values in scores.items() if len(values)},
        "max": {name: float(values.max()) for name, values in scores.items() if len(values)},
        "curve": curve,
    }


def _thinned(count: int) -> list[int]:
    """At most CURVE_POINTS indices below `count`, evenly spread, with the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(count, CURVE_POINTS)).round().astype(int)).tolist()


def _statistics(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each score that all runs have: mean, deviation, IQM and its interval over seeds, best evaluation of any seed."""
    found = {}
    for name in SCORES:
        if not runs or not all(name in run["final"] for run in runs):
            continue
        finals = np.array([run["final"][name] for run in runs])  # (seeds,)
        found[name] = {
            "mean": float(finals.mean()),
            "std": float(finals.std()),
            "iqm": iqm(finals),
            "iqm_interval": list(bootstrap_interval(finals)),
            "max": max(run["max"][name] for run in runs),
        }
    return found


def iqm(values: np.ndarray) -> float:
    """Interquartile mean: the mean without the lowest and the highest quarter, each rounded down to whole values.

    Agarwal et al. 2021, Deep Reinforcement Learning at the Edge of the Statistical Precipice (arXiv 2108.13264).

    Args:
        values: shape (seeds,).
    """
    return float(_iqm(np.asarray(values, dtype=float)[None])[0])


def bootstrap_interval(values: np.ndarray, resamples: int = RESAMPLES) -> tuple[float, float]:
    """95 % interval of the interquartile mean: percentiles over sets of seeds drawn with replacement, always the same.

    Each task is a stratum of its own: seeds are drawn within it.

    Args:
        values: shape (seeds,).
        resamples: how many sets are drawn.
    """
    values = np.asarray(values, dtype=float)
    drawn = np.random.default_rng(0).integers(len(values), size=(resamples, len(values)))
    low, high = np.percentile(_iqm(values[drawn]), [2.5, 97.5])
    return float(low), float(high)


def _iqm(values: np.ndarray) -> np.ndarray:
    """Interquartile mean of each row, (rows, seeds) -> (rows,)."""
    cut = values.shape[1] // 4
    return np.sort(values, axis=1)[:, cut : values.shape[1] - cut].mean(axis=1)


def _versions(runs: list[Run], others: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Versions that the runs were trained with, here and elsewhere; checks that settings here are the benchmark's."""
    versions: dict[str, set[str]] = {}
    for other in others:
        for name, text in other["versions"].items():
            versions.setdefault(name, set()).update(text.split(", "))
    for run in runs:
        if not run.files.settings_file.is_file():
            continue
        record = read_json(run.files.settings_file)
        expected = run.config.settings(record["settings"].get("declared"))
        require_same(f"{run.name} has other settings", shared_settings(record["settings"]), shared_settings(expected))
        for name, value in record["versions"].items():
            versions.setdefault(name, set()).add(value)
    with contextlib.suppress(PackageNotFoundError):
        versions.setdefault("mujoco", {version("mujoco")})
    return {name: ", ".join(sorted(values)) for name, values in versions.items()}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
