"""What the trials of `benchmark online` come to: on the robot by windows of time, of the policies alone at marks; over seeds."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ddpg_robot.cli.online_benchmark import Kind

WINDOW_MIN = 2.0
"""Success on the robot is that of the commands of so many minutes."""

APART_MIN = 0.3
"""Bars of two variants at the same mark stand so far apart in a picture."""

Trial = dict[str, Any]
"""As `run_online` gives it, with ``marks`` and ``candidates``."""
Points = list[tuple[float, float]]
"""(minute of robot time, figure)"""


def windows(trial: Trial, figure: str = "success") -> Points:
    """What was seen on the robot: mean of a figure over the commands of the minutes before each point."""
    rows = [row for row in trial["episodes"] if figure in row]
    last = max((row["minute"] for row in rows), default=0.0)
    points = []
    for end in np.arange(WINDOW_MIN, last + 0.1, WINDOW_MIN):
        values = [row[figure] for row in rows if end - WINDOW_MIN < row["minute"] <= end]
        if values:
            points.append((float(end), float(np.mean(values))))
    return points


def marks(trial: Trial, figure: str) -> Points:
    """What the policies that drove at the marks came to by themselves."""
    return [(float(mark), one[figure]) for mark, one in trial["marks"].items()]


def spread(lines: Sequence[Points]) -> np.ndarray:
    """Over seeds: minutes, mean, lowest and highest ``(4, n)``, of the seeds that have a point at a minute.

    A mean of equal figures may round to beyond them; here it never lies outside the range, which pictures need.
    """
    values = defaultdict(list)
    for minute, value in itertools.chain(*lines):
        values[minute].append(value)
    rows = []
    for minute, found in sorted(values.items()):
        low, high = min(found), max(found)
        rows.append((minute, np.clip(np.mean(found), low, high), low, high))
    return np.array(rows).reshape(-1, 4).T


def compact(trial: Trial, kind: Kind) -> Trial:
    """A trial with its windows in the place of its commands: ``robot`` holds (minute, success, error) each."""
    errors = {minute: round(error, 5) for minute, error in windows(trial, kind.errors[0])}
    robot = [[minute, round(success, 4), errors.get(minute)] for minute, success in windows(trial)]
    return {**{name: value for name, value in trial.items() if name != "episodes"}, "robot": robot}


def draw(results: dict[str, list[Trial]], kind: Kind, path: Path) -> None:
    """Success and error against minutes, over seeds: on the robot, exploration and all (lines), and of the policies alone (dots).

    Means; shades and bars go from the lowest to the highest.
    """
    from ddpg_robot.plot import COLOURS, new_figure, tidy

    figure = new_figure(7.0, 6.0)
    panels = figure.subplots(2, 1, sharex=True)
    (unit, factor), (own, alone) = kind.unit, kind.errors
    for axes, (seen, marked), by in zip(panels, (("success", "success_rate"), (own, alone)), (1.0, factor)):
        for place, (colour, (name, trials)) in enumerate(zip(COLOURS, results.items())):
            minutes, mean, low, high = spread([windows(trial, seen) for trial in trials])
            axes.plot(minutes, by * mean, color=colour, label=name)
            axes.fill_between(minutes, by * low, by * high, color=colour, alpha=0.15, lw=0)
            minutes, mean, low, high = spread([marks(trial, marked) for trial in trials])
            bars = by * np.array([mean - low, high - mean])
            beside = minutes + APART_MIN * (place - (len(results) - 1) / 2)
            axes.errorbar(beside, by * mean, bars, fmt="o", color=colour, ms=5, lw=1, capsize=3)
        tidy(axes)
    panels[0].set(ylabel=kind.success, ylim=(0, 1.03))
    # From scratch an error is a hundred times larger.
    panels[1].set(xlabel="robot time, min", ylabel=f"error, {unit}", yscale="log")
    panels[1].yaxis.get_minor_locator().set_params(subs=(2, 3, 5))
    panels[1].yaxis.set_major_formatter("{x:g}")
    panels[1].yaxis.set_minor_formatter("{x:g}")
    panels[0].set_title("lines: on the robot; dots: the policies alone", loc="left", fontsize=8)
    panels[0].legend(fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(results), frameon=False)
    figure.savefig(path)


def print_trials(results: dict[str, list[Trial]], kind: Kind) -> None:
    """A few lines for each trial, and for each variant of several seeds what they come to."""
    for name, trials in results.items():
        for seed, trial in enumerate(trials):
            facts = f"{trial['trips']} trips, rearmed {trial['rearms']} times"
            facts += f", largest effort {trial['largest_effort']:.2f} of the clamp"
            facts += "".join(f", {count} {event}" for event, count in trial["candidates"].items())
            told = "" if trial["complete"] else " (interrupted)"
            print(f"{name}, seed {seed}: {trial['minutes']:.1f} min{told} at {trial['speed']:.1f} x real time, {facts}")
            _print_lines([trial], kind)
        if len(trials) > 1:
            print(f"{name}, {len(trials)} seeds: mean (lowest-highest)")
            _print_lines(trials, kind)


def _print_lines(trials: list[Trial], kind: Kind) -> None:
    (unit, factor), (own, alone) = kind.unit, kind.errors
    for who, points, names in (
        ("on the robot", windows, ("success", own)),
        ("by itself   ", marks, ("success_rate", alone)),
    ):
        success, error = (spread([points(trial, name) for trial in trials]).T for name in names)
        errors = {row[0]: _text(row, lambda value: f"{factor * value:.3g}") for row in error}
        cells = [
            f"{row[0]:g}: {_text(row, lambda value: f'{100 * value:.0f}')} %, {errors.get(row[0], '-')} {unit}"
            for row in success
        ]
        print(f"  {who}   " + "  ".join(cells))


def _text(point: np.ndarray, write: Callable[[float], str]) -> str:
    """A mean, and the range of the seeds where they differ."""
    mean, low, high = map(write, point[1:])
    return mean if low == high else f"{mean} ({low}-{high})"
