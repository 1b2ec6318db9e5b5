"""What a soak says: time, memory and trips, minute by minute, from the recording of every tick."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddpg_robot.plot import COLOURS, new_figure, tidy
from ddpg_robot.recording import Recording
from ddpg_robot.safety import TripReason
from ddpg_robot_ros.benchmark.measure import counts, summary

COLUMNS = {"lateness": "lateness", "work": "work", "state_age": "age"}
"""Name of a figure -> field of a recorded tick."""
KEYS = ("p50", "p99", "p99.9", "max")
STEPS = ("recorded", "reported", "rearmed")
"""What has to become of an estop that was asked for."""
WARM_UP_S = 120.0
TARGET_BYTES = 2e6
BEFORE_S = 0.5
"""A trip may be stamped so much before it was asked for: two clocks were read one after the other, s."""
Memory = Mapping[str, Sequence[tuple[float, int]]]


def result_of(
    began: float, memory: Memory, estops: Sequence[dict[str, Any]], files: Sequence[Path], rate: float
) -> dict[str, Any]:
    """Puts together what was seen and what was recorded.

    Args:
        began: start of the soak, s since 1970.
        memory: node -> time (s since 1970) and resident bytes.
        estops: those that were asked for: time, reported, rearmed.
        files: recordings, in order.
        rate: ticks per second.

    Returns:
        ``minutes``: one per minute with ticks, lost, lost_percent, and p50, p99, p99.9, max of lateness, work, state_age, s;
        ``overall``: the same of all ticks; ``missing``: ticks that are not in the recording; ``memory``: node -> s since the
        start, bytes, grown_bytes (None before the warm-up is over); ``trips``: estops, each also with recorded, and
        others, reason -> number; ``targets``: whether each is met, None where it was too short to say.
    """
    ticks, trips = _read(files)
    since = np.maximum(ticks["time"] - began, 0.0)
    minute = np.minimum(since // 60, max(0, round(since.max(initial=0.0) / 60) - 1))  # less than half a minute is none
    minutes = [
        {"minute": int(one), **_figures({name: ticks[name][minute == one] for name in COLUMNS}, rate)}
        for one in np.unique(minute)
    ]
    nodes = {name: _memory(samples, began) for name, samples in memory.items()}
    asked = [{**one, "time": one["time"] - began, "recorded": _recorded(one["time"], estops, trips)} for one in estops]
    others = Counter(reason.value for _, reason in trips if reason is not TripReason.ESTOP)
    return {
        "minutes": minutes,
        "overall": _figures(ticks, rate),
        "missing": int(np.diff(ticks["tick"]).sum() - max(0, len(ticks["tick"]) - 1)),
        "memory": nodes,
        "trips": {"estops": asked, "others": dict(others)},
        "targets": _targets(nodes, asked),
    }


def _read(files: Sequence[Path]) -> tuple[dict[str, np.ndarray], list[tuple[float, TripReason]]]:
    """Columns of all ticks, and when and why trips began, s since 1970."""
    blocks: dict[str, list[np.ndarray]] = {name: [np.empty(0)] for name in (*COLUMNS, "time", "tick")}
    trips = []
    for file in files:
        began: dict[int, float] = {}  # tick -> time, of those that tripped
        with Recording(file) as recording:
            for rows in recording.blocks():
                for name, column in {**COLUMNS, "time": "time", "tick": "tick"}.items():
                    blocks[name].append(rows[column] * (1e-9 if name == "time" else 1.0))
                tripped = rows[rows["tripped"]]
                began.update(zip(tripped["tick"].tolist(), (tripped["time"] * 1e-9).tolist()))
            trips += [(began[tick], reason) for tick, (reason, _) in recording.trips.items() if tick in began]
    return {name: np.concatenate(parts) for name, parts in blocks.items()}, trips


def _figures(columns: Mapping[str, np.ndarray], rate: float) -> dict[str, Any]:
    return {**counts(columns["lateness"], rate), **summary({name: columns[name] for name in COLUMNS})}


def _recorded(asked: float, estops: Sequence[dict[str, Any]], trips: Sequence[tuple[float, TripReason]]) -> bool:
    """Whether an estop is in the recording, between the moment when it was asked for and the next one."""
    until = min((one["time"] for one in estops if one["time"] > asked), default=np.inf)
    return any(asked - BEFORE_S <= when < until - BEFORE_S and reason is TripReason.ESTOP for when, reason in trips)


def _memory(samples: Sequence[tuple[float, int]], began: float) -> dict[str, Any]:
    seconds = [when - began for when, _ in samples]
    warm = [size for (_, size), second in zip(samples, seconds) if second >= WARM_UP_S]
    grown = max(warm) - min(warm) if len(warm) > 1 else None
    return {"seconds": seconds, "bytes": [size for _, size in samples], "grown_bytes": grown}


def _targets(nodes: Mapping[str, dict[str, Any]], estops: Sequence[dict[str, Any]]) -> dict[str, bool | None]:
    targets: dict[str, bool | None] = {}
    for name, one in nodes.items():
        grown = one["grown_bytes"]
        text = f"memory of {name} flat within {TARGET_BYTES / 1e6:g} MB after {WARM_UP_S / 60:g} min"
        targets[text] = None if grown is None else grown <= TARGET_BYTES
    kept = [one[step] for one in estops for step in STEPS]
    targets["no lost trip: every estop recorded, reported and rearmed"] = all(kept) if kept else None
    return targets


def table(result: dict[str, Any]) -> str:
    """The result as text."""
    host = result["machine"]
    lines = [
        f"{result['rate']:g} Hz for {result['seconds'] / 60:.1f} min, policy '{result['policy']}', guard, recorder on",
        f"{host['cores']} cores, load average {host['load_average']:.1f} at the start, Python {host['python']}",
        "",
        f"{'':7}{'':9}{'lost':>7}{'lateness, us':>26}{'work, us':>28}{'state age, us':>28}{'memory, MB':>16}",
        f"{'minute':7}{'ticks':>9}{'%':>7}"
        + "".join(f"{key:>7}" for key in KEYS * len(COLUMNS))
        + f"{'policy':>9}{'guard':>7}",
    ]
    for one in [*result["minutes"], {"minute": "all", **result["overall"]}]:
        cells = [f"{one[name][key] * 1e6:>7.0f}" for name in COLUMNS for key in KEYS]
        memory = [_at(node, one["minute"]) for node in result["memory"].values()]
        lines.append(
            f"{one['minute']:<7}{one['ticks']:>9}{one['lost_percent']:>7.2f}{''.join(cells)}  {''.join(memory)}"
        )
    others = ", ".join(f"{count} {reason}" for reason, count in result["trips"]["others"].items())
    estops = result["trips"]["estops"]
    done = ", ".join(f"{sum(one[step] for one in estops)} {step}" for step in STEPS)
    lines += ["", f"estops: {len(estops)} asked for, {done}; other trips: {others or 'none'}"]
    lines.append(f"ticks missing in the recording: {result['missing']}")
    says = {True: "met", False: "MISSED", None: "?"}
    lines += [f"{says[met]:>8}: {target}" for target, met in result["targets"].items()]
    if result["failure"]:
        lines.append(f"  ENDED: {result['failure']}")
    return "\n".join(lines)


def _at(node: dict[str, Any], minute: int | str) -> str:
    """Largest memory of a minute, MB; of all: what it has grown after the warm-up."""
    if minute == "all":
        grown = node["grown_bytes"]
        return f"{'-' if grown is None else format(grown / 1e6, '+.2f'):>7}"
    found = [size for second, size in zip(node["seconds"], node["bytes"]) if second // 60 == minute]
    return f"{max(found) / 1e6:>7.1f}" if found else f"{'-':>7}"


def draw(result: dict[str, Any], path: Path) -> None:
    """Draws percentiles by minute, and memory.

    Args:
        result: of `benchmark_soak`.
        path: PNG file to write.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = new_figure(11.0, 6.4)
    *panels, memory = figure.subplots(2, 2).flat
    minutes = [one["minute"] + 0.5 for one in result["minutes"]]
    for axes, name in zip(panels, COLUMNS):
        for key, colour in zip(KEYS, COLOURS):
            values = [one[name][key] * 1e6 for one in result["minutes"]]
            axes.plot(minutes, values, color=colour, marker="o", ms=3, lw=1.5, label=key)
        axes.set_yscale("log")
        axes.set_title(f"{name.replace('_', ' ')} by minute, us", fontsize=11)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(KEYS), frameon=False)
    for (name, node), colour in zip(result["memory"].items(), COLOURS):
        seconds, size = np.array(node["seconds"]), np.array(node["bytes"]) / 1e6
        begin = size[seconds >= WARM_UP_S][:1] if seconds.max(initial=0.0) >= WARM_UP_S else size[:1]
        label = f"{name}: {size[-1]:.1f} MB at the end" if len(size) else name
        memory.plot(seconds / 60, size - begin, color=colour, lw=1.5, label=label)
    memory.axvline(WARM_UP_S / 60, color="#888888", ls=":", lw=1.2)
    memory.axhline(TARGET_BYTES / 1e6, color="#888888", ls=":", lw=1.2)
    memory.set_title("growth of resident memory since the warm-up, MB", fontsize=11)
    memory.legend(frameon=False, fontsize=9)
    for axes in figure.axes:
        axes.set_xlabel("minutes")
        axes.set_xlim(0, result["seconds"] / 60)
        tidy(axes)
    figure.savefig(path)
