"""The curves of a benchmark as a picture: one panel per task, beside published figures."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from ddpg_robot.learn.suite.collect import CURVE_POINTS
from ddpg_robot.learn.suite.published import PUBLISHED, published
from ddpg_robot.learn.suite.table import main_score
from ddpg_robot.plot import COLOURS, new_figure, tidy

LINES = ("#000000", "#888888", "#cc8800", "#aa3377")
"""Colours of published figures."""
PANEL = (3.7, 2.7)
"""Width and height of one panel, inches."""
LEGEND = 0.18
"""Height of one line of the legend, inches."""


def draw(result: dict[str, Any], beside: list[dict[str, Any]], path: Path) -> None:
    """Draws mean and range over seeds of each task, with a dotted line for each published figure.

    Args:
        result: of `collect`.
        beside: results of other benchmarks of the same tasks, drawn into the same panels.
        path: PNG file to write.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    tasks = result["tasks"]
    columns = min(4, len(tasks))
    rows = -(-len(tasks) // columns)
    figure = new_figure(PANEL[0] * columns, PANEL[1] * rows)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    handles: dict[str, Any] = {}  # text of the legend -> line
    for axes, name in zip(panels, tasks):
        handles |= _panel(axes, name, [result, *beside])
    for axes in panels[len(tasks) :]:
        axes.set_visible(False)
    names = sorted(handles, key=lambda name: list(PUBLISHED).index(name) if name in PUBLISHED else -1)
    lines = [handles[name] for name in names]
    figure.set_figheight(PANEL[1] * rows + LEGEND * (1 + -(-len(names) // columns)))
    figure.legend(lines, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    figure.savefig(path)


def _panel(axes: Any, name: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Draws one task; returns text of the legend -> line."""
    from matplotlib.ticker import EngFormatter, PercentFormatter

    handles = {}
    score = main_score(results[0]["tasks"][name])
    for result, colour in zip(results, itertools.cycle(COLOURS)):
        runs = result["tasks"].get(name, {"runs": []})["runs"]
        if not runs:
            continue
        steps, values = curves(runs, score)
        seeds = result["seeds"]
        drawn = f"mean and range of {len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
        label = f"{result['name'].removeprefix('learn_')}: {drawn}"
        axes.fill_between(steps, np.nanmin(values, axis=0), np.nanmax(values, axis=0), color=colour, alpha=0.2, lw=0)
        (handles[label],) = axes.plot(steps, np.nanmean(values, axis=0), color=colour, lw=1.5)
    for (title, figures), colour in zip(published(results[0]).items(), LINES):
        if name in figures:
            handles[title] = axes.axhline(figures[name].value, color=colour, lw=1.2, ls=":")
    axes.set_title(name, fontsize=11)
    axes.set_xlabel("environment steps")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if score == "success_rate":
        axes.set_ylabel("success")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylim(-0.02, 1.02)
    else:
        axes.set_ylabel("return")
    axes.set_xlim(left=0)
    tidy(axes)
    return handles


def curves(runs: list[dict[str, Any]], score: str) -> tuple[np.ndarray, np.ndarray]:
    """Curves of several seeds at the same steps.

    Returns:
        Steps, shape (points,), and scores, shape (seeds, points), NaN where a run has not come yet.
    """
    ends = [(run["curve"]["step"][0], run["curve"]["step"][-1]) for run in runs]
    steps = np.linspace(min(first for first, _ in ends), max(last for _, last in ends), CURVE_POINTS)
    values = [np.interp(steps, run["curve"]["step"], run["curve"][score], right=np.nan) for run in runs]
    return steps, np.array(values)
