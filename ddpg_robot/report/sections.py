"""The report's sections: each turns one measurement into a card, or into nothing when it was not made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from ddpg_robot.duration import duration
from ddpg_robot.kinematics import rotation_matrix
from ddpg_robot.report.charts import Chart, bins
from ddpg_robot.report.page import card, legend, table
from ddpg_robot.spec import KinematicChain

Result = dict[str, Any]
SUCCESS_M = 0.02
WIDE, HALF = 1022, 500
"""Widths of charts in pixels, as wide as the page shows them: all words come out in one size."""
PLACES = {"here": "in process", "ros": "over ROS 2"}
"""Colour of a place where the policy ran, and its words."""


def percent(value: float | None) -> str:
    """A rate from 0 to 1 as a table shows it."""
    return "–" if value is None else f"{100 * value:.3g} %"


def millimetres(value: float | None) -> str:
    """Metres as a table shows them."""
    return "–" if value is None else f"{1000 * value:.1f} mm"


def learning(rows: Sequence[Result]) -> str:
    """Success and return over the steps of training, from metrics.jsonl."""
    tests = [row for row in rows if row["kind"] == "evaluation"]
    episodes = [row for row in rows if row["kind"] == "train"]
    if not tests and not episodes:
        return ""
    steps = max(row["step"] for row in rows)
    charts = []
    if any(row.get("success_rate") is not None for row in tests):
        chart = Chart(
            (0, steps),
            (0, 100),
            "success over training",
            "environment steps",
            "success, %",
            x_format=thousands,
            width=HALF,
        )
        chart.line([(r["step"], 100 * r["success"]) for r in episodes if r["success"] is not None], "here faint")
        points = [(row["step"], 100 * row["success_rate"]) for row in tests]
        chart.area(points, "here")
        chart.line(points, "here")
        for point in points:
            chart.dot(point, "here solid", f"{point[0]:,} steps: {point[1]:.0f} % reached")
        charts.append(chart.svg())
    points = [(row["step"], row["return_mean"]) for row in tests]
    faint = [(row["step"], row["return"]) for row in episodes if row["return"] is not None]
    values = [value for _, value in points] or [value for _, value in faint]
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 1.0
    names = ("return over training", "environment steps", "return")
    chart = Chart((0, steps), (low - room, high + room), *names, x_format=thousands, width=HALF)
    chart.line([(x, y) for x, y in faint if low - room <= y <= high + room], "here faint")
    chart.line(points, "here")
    for point in points:
        chart.dot(point, "here solid", f"{point[0]:,} steps: return {point[1]:.2f}")
    charts.append(chart.svg())
    words = "Strong line: evaluation without exploration noise, on episodes apart. Faint line: training itself."
    minutes = max(row["time_s"] for row in rows) / 60
    speed = f" {steps:,} steps in {minutes:.1f} min, {steps / max(60 * minutes, 1e-9):.0f} steps/s."
    return card("Learning curve", words + speed, f'<div class="row">{"".join(charts)}</div>', wide=True)


def thousands(value: float) -> str:
    """An axis label for steps: ``40k``."""
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def errors(results: dict[str, Result]) -> str:
    """Final error of each target, one row of dots per place."""
    lows = [row["final_error"] for result in results.values() for row in result["per_episode"]]
    if not lows:
        return ""
    low, high = min(0.5e-3, 0.8 * max(min(lows), 1e-5)), max(0.1, 1.2 * max(lows))
    chart = Chart(
        (1000 * low, 1000 * high), (0, len(results)), "final error per target", "final distance to the target, mm",
        x_log=True, y_format=lambda _: "", width=WIDE, height=80 + 88 * len(results),
    )  # fmt: skip
    chart.upright(1000 * SUCCESS_M, "success: 2 cm")
    chart.upright(10, "1 cm")
    rng = np.random.default_rng(0)
    for level, (style, result) in enumerate(results.items()):
        base = len(results) - level - 0.5
        chart.text(chart.sx.start + 6, chart.sy(base + 0.36), PLACES[style], "row")
        for number, row in enumerate(result["per_episode"], 1):
            tip = f"target {number} at {point(row['target'])} m: {1000 * row['final_error']:.1f} mm"
            mark = style if row["success"] else "missed"
            chart.dot((1000 * row["final_error"], base + rng.uniform(-0.26, 0.26)), mark, tip)
    words = "One dot per target: where the hand was when its time ended. Success asks for the whole last half second."
    keys = [(style, PLACES[style]) for style in results] + [("missed", "missed")]
    return card("Error per target", words, legend(*keys) + chart.svg(), wide=True)


def workspace(results: dict[str, Result], lower: Sequence[float], upper: Sequence[float]) -> str:
    """Where the targets were, seen from above and from the side."""
    views = []
    for title, (i, j), names in (("from above", (1, 0), ("y, m", "x, m")), ("from the side", (0, 2), ("x, m", "z, m"))):
        pad = 0.04
        chart = Chart(
            (lower[i] - pad, upper[i] + pad), (lower[j] - pad, upper[j] + pad), f"targets {title}", *names,
            width=HALF, height=380, equal=True,
        )  # fmt: skip
        for style, result in results.items():
            for row in result["per_episode"]:
                target, error = row["target"], row["final_error"]
                tip = f"{point(target)} m: {1000 * error:.1f} mm {PLACES[style]}"
                radius = 3.0 + 2.2 * max(0.0, math.log10(max(error, 1e-4) * 1000))
                chart.dot((target[i], target[j]), style if row["success"] else "missed", tip, radius)
        views.append(chart.svg())
    words = "The larger a dot, the larger the final error. From above (left) and from the side (right)."
    keys = [(style, PLACES[style]) for style in results] + [("missed", "missed")]
    return card("Where the targets were", words, legend(*keys) + f'<div class="row">{"".join(views)}</div>', wide=True)


def paths(result: Result, chain: KinematicChain, lower: Sequence[float], upper: Sequence[float]) -> str:
    """The arm's path over ROS, drawn from the recorded joint states by forward kinematics."""
    recorded = [row for row in result["per_episode"] if row.get("position")]
    if not recorded:
        return ""
    views = []
    tips = [np.array([skeleton(chain, q)[-1] for q in thinned(row["position"], 60)]) for row in recorded]
    poses = [skeleton(chain, q) for q in thinned(recorded[0]["position"], 5)]
    everything = np.concatenate([*tips, *poses, np.array([lower, upper])])
    for title, (i, j), names in (("from the side", (0, 2), ("x, m", "z, m")), ("from above", (1, 0), ("y, m", "x, m"))):
        low, high = everything.min(axis=0) - 0.06, everything.max(axis=0) + 0.06
        chart = Chart(
            (low[i], high[i]),
            (low[j], high[j]),
            f"path of the hand {title}",
            *names,
            width=HALF,
            height=440,
            equal=True,
        )
        for number, pose in enumerate(poses):
            chart.line([(p[i], p[j]) for p in pose], "link last" if number == len(poses) - 1 else "link")
        for tip in tips:
            chart.line([(p[i], p[j]) for p in tip], "here thin")
        for row in recorded:
            chart.dot((row["target"][i], row["target"][j]), "target", f"target {point(row['target'])} m", 5)
        views.append(chart.svg())
    words = (
        f"The hand's way to {len(recorded)} targets, from the joint states that were recorded over ROS. "
        "Grey: the arm on its way to the first one. Red rings: targets."
    )
    return card("The arm's path", words, f'<div class="row">{"".join(views)}</div>', wide=True)


def skeleton(chain: KinematicChain, position: Sequence[float]) -> np.ndarray:
    """Base, joint origins and tip ``(n + 2, 3)`` in the base frame, m."""
    rotation, origin = np.eye(3), np.zeros(3)
    points = [origin]
    for link, angle in zip(chain.links, position):
        origin = origin + rotation @ np.array(link.translation)
        half = angle / 2
        turn = rotation_matrix((math.cos(half), *(math.sin(half) * axis for axis in link.axis)))
        rotation = rotation @ rotation_matrix(link.quaternion_wxyz) @ turn
        points.append(origin)
    return np.array([*points, origin + rotation @ np.array(chain.tip_translation)])


def thinned(rows: Sequence[Any], count: int) -> list[Any]:
    """About `count` rows, first and last among them."""
    places = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))
    return [rows[i] for i in places]


def histogram(title: str, words: str, seconds: Sequence[float], low: float, high: float) -> str:
    """Distribution of a duration on a logarithmic axis, with its percentiles."""
    samples = np.array(seconds, dtype=float)
    samples = samples[np.isfinite(samples)]
    if not len(samples):
        return ""
    high = max(high, float(samples.max()) * 1.1)
    columns = bins(samples.tolist(), low, high, 64)
    most = max(count for *_, count in columns)
    chart = Chart(
        (1000 * low, 1000 * high), (0, most * 1.18), title, "milliseconds", "ticks", x_log=True, width=HALF, height=280,
        y_format=thousands,
    )  # fmt: skip
    for start, end, count in columns:
        if count:
            chart.bar(
                1000 * start, 1000 * end, count, "ros", f"{1000 * start:.3g} to {1000 * end:.3g} ms: {count} ticks"
            )
    p50, p99, p999 = np.percentile(samples, [50, 99, 99.9])
    for row, (name, value) in enumerate((("p50", p50), ("p99", p99), ("p99.9", p999), ("max", samples.max()))):
        chart.upright(1000 * value, f"{name} {1000 * value:.3g} ms", row=row)
    return card(title, words, chart.svg())


def times(stages: dict[str, Result]) -> str:
    """How long each finished stage of a demo took, as bars."""
    stages = {name: record for name, record in stages.items() if record["done"]}
    if not stages:
        return ""
    longest = max(record["seconds"] for record in stages.values()) or 1.0
    rows = "".join(
        f'<div class="time"><span>{escape(name)}</span><i style="width:{max(100 * record["seconds"] / longest, 0.5):.1f}%">'
        f"</i><b>{duration(record['seconds'])}</b></div>"
        for name, record in stages.items()
    )
    total = duration(sum(record["seconds"] for record in stages.values()))
    return card("Time per stage", f"{total} altogether, installation apart.", f'<div class="times">{rows}</div>')


def comparison(results: dict[str, Result]) -> str:
    """The same targets in process and over ROS, figure by figure."""
    kinds = (
        ("success: within 2 cm for the last half second", "success_rate", percent),
        ("within 5 cm at the end", "within_5cm_rate", percent),
        ("within 1 cm at the end", "within_1cm_rate", percent),
        ("median final error", "final_error_median_m", millimetres),
        ("episodes that hit a limit", "limit_hit_rate", percent),
        ("targets", "episodes", "{:d}".format),
    )
    rows = [
        [words, *(form(result[key]) for result in results.values())]
        for words, key, form in kinds
        if all(result.get(key) is not None for result in results.values())
    ]
    words = "The same policy file on the same targets: in the simulator's own process, and as three processes over DDS."
    return card("In process versus ROS", words, table(["", *(PLACES[style] for style in results)], rows), wide=True)


def point(xyz: Sequence[float]) -> str:
    """Coordinates as a tooltip shows them."""
    return "(" + ", ".join(f"{value:.2f}" for value in xyz) + ")"
