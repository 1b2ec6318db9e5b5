"""The result of a benchmark as a Markdown table, beside published figures."""

from __future__ import annotations

from typing import Any

from ddpg_robot.learn.suite.collect import LAST_EVALUATIONS
from ddpg_robot.learn.suite.published import NOTE, published

MANY = 3
"""So many other benchmarks stand better in rows of their own than in columns."""


def markdown(result: dict[str, Any], beside: list[dict[str, Any]]) -> str:
    """A page with one row per task.

    Args:
        result: of `collect`.
        beside: results of other benchmarks of the same tasks, for a column each; many of them in a table of their own.
    """
    tasks = result["tasks"]
    columns = {title: figures for title, figures in published(result).items() if figures.keys() & tasks.keys()}
    compared = [comparison([result, *beside])] if len(beside) >= MANY else []
    beside = [] if compared else beside
    others = [f"{other['name']}, {other['settings']['steps']:,} steps" for other in beside]
    rows = [["task", "final, mean ± std", "IQM [95 % CI]", "max", *others, *columns]]
    for name, task in tasks.items():
        score = main_score(task)
        row = [name, *_cells(task["statistics"].get(score), score)]
        for other in beside:
            statistics = other["tasks"].get(name, {"statistics": {}})["statistics"]
            row.append(_cells(statistics.get(score), score)[0])
        for figures in columns.values():
            figure = figures.get(name)
            source = f" ({figure.source})" if figure and figure.source else ""
            row.append(f"{_number(figure.value)}{source}" if figure else "")
        rows.append(row)
    return "\n\n".join([*_head(result), _aligned(rows), *compared, *([NOTE] if columns else [])]) + "\n"


def comparison(results: list[dict[str, Any]], title: str = "") -> str:
    """A table with one row per benchmark: final score on each task, mean and deviation, and the mean time of a run."""
    names = list(results[0]["tasks"])
    rows = [[title, *(f"{name}, final; min per run" for name in names)]]
    for result in results:
        row = [result["name"].removeprefix(f"learn_{result['suite']}_")]
        for name in names:
            task = result["tasks"].get(name, {"statistics": {}, "runs": []})
            score = _cells(task["statistics"].get(main_score(task)), main_score(task))[0]
            times = [run["time_s"] / 60 for run in task["runs"] if run["finished"]]
            row.append(f"{score}; {sum(times) / len(times):.0f}" if times else score)
        rows.append(row)
    return _aligned(rows)


def main_score(task: dict[str, Any]) -> str:
    """The score that counts for a task: success where it has one, else the return."""
    return "success_rate" if "success_rate" in task["statistics"] else "return_mean"


def _head(result: dict[str, Any]) -> list[str]:
    seeds = ", ".join(map(str, result["seeds"]))
    settings = result["settings"]
    lines = [
        f"# {result['name']}",
        f"{settings['steps']:,} environment steps, seeds {seeds}. Final: mean of a run's last {LAST_EVALUATIONS} "
        f"evaluations of {settings['eval_episodes']} episodes; IQM: interquartile mean over seeds; max: the best "
        "evaluation of any seed. Tasks that tell success are measured by it, others by their return.",
    ]
    if result["incomplete"]:
        rows = [f"{row['task']} seed {row['seed']} (step {row['step']:,})" for row in result["incomplete"]]
        lines.append(f"Not finished: {', '.join(rows)}.")
    return lines


def _cells(statistics: dict[str, Any] | None, score: str) -> list[str]:
    """Mean and deviation, IQM and interval, best evaluation."""
    if statistics is None:
        return ["", "", ""]
    mean, std, middle, best, low, high = (
        f"{100 * value:.1f} %" if score == "success_rate" else _number(value)
        for value in (*(statistics[key] for key in ("mean", "std", "iqm", "max")), *statistics["iqm_interval"])
    )
    return [f"{mean} ± {std}", f"{middle} [{low}, {high}]", best]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def _aligned(rows: list[list[str]]) -> str:
    """Rows as a Markdown table that also reads well on a terminal; the first row is its head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
