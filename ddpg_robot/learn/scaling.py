"""`benchmark ladder`: what one action and one update cost as joints are added, for DDPG and the methods that led to it."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.learn.agents import ALGORITHMS, make_agent, resolve_settings
from ddpg_robot.learn.baselines.dqn import DqnConfig, grid_bytes
from ddpg_robot.learn.baselines.settings import HIDDEN, ReplayConfig
from ddpg_robot.learn.config import WITH_PRESETS, TrainConfig
from ddpg_robot.learn.replay import Replay
from ddpg_robot.plot import COLOURS, new_figure, tidy

JOINTS = tuple(range(1, 8))
BINS = (3, 10)
"""Values of each joint's action in the grids of DQN."""
ENOUGH_S = 2.0
"""Where a call is slow, fewer of them are timed, s."""
TERMS_PER_JOINT = 3
"""Numbers per joint in the observation: position, velocity, last effort."""


def benchmark_scaling(repeats: int = 30, joints: tuple[int, ...] = JOINTS) -> dict[str, Any]:
    """Measures and prints as a table, on random observations, with one thread and the baselines' own settings.

    DDPG has preset ddpg with networks as small as theirs.

    Args:
        repeats: timed pairs of calls of each; the fastest counts.
        joints: how many joints there are, one measurement each.

    Returns:
        `machine`, `torch`, `joints`, `memory_limit_bytes`; `rows`: name -> `act_us` and `update_us`, microseconds of the
        processor, one per number of joints, None where the grid is refused; `grids`: name -> `actions` and `bytes`, likewise.
    """
    if repeats < 1:
        raise ConfigError(mismatch("repeats", repeats, "a positive whole number"))
    torch.set_num_threads(1)
    contestants: dict[str, tuple[str, dict[str, Any]]] = {
        "ddpg": ("ddpg", {"actor_hidden": HIDDEN, "critic_hidden": HIDDEN, "batch_size": ReplayConfig.batch_size}),
        **{name: (name, {}) for name in ALGORITHMS if name not in (*WITH_PRESETS, "dqn")},
    }
    contestants |= {f"dqn, {bins} bins": ("dqn", {"bins": bins}) for bins in BINS}
    rows = {}
    for name, (algorithm, overrides) in contestants.items():
        costs = [_costs(algorithm, overrides, n, repeats) for n in joints]
        rows[name] = {"act_us": [act for act, _ in costs], "update_us": [update for _, update in costs]}
        print(".", end="", flush=True, file=sys.stderr)
    print(file=sys.stderr)
    settings = DqnConfig()
    hidden, batch = settings.critic_hidden[-1], settings.batch_size
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one used, processor time",
        "torch": torch.__version__,
        "joints": list(joints),
        "memory_limit_bytes": 1e9 * settings.memory_gb,
        "rows": rows,
        "grids": {
            f"dqn, {bins} bins": {
                "actions": [bins**n for n in joints],
                "bytes": [grid_bytes(bins, n, hidden, batch) for n in joints],
            }
            for bins in BINS
        },
    }
    print(format_scaling(result))
    return result


def format_scaling(result: dict[str, Any]) -> str:
    """What `benchmark_scaling` returned, as Markdown tables."""
    head = f"| {{}} | {' | '.join(map(str, result['joints']))} |\n|---|{'---|' * len(result['joints'])}"
    tables = []
    for key, title in (("act_us", "one action, µs, by joints"), ("update_us", "one update, ms, by joints")):
        lines = [head.format(title)]
        for name, row in result["rows"].items():
            cells = [_cell(value, 1.0 if key == "act_us" else 1e-3) for value in row[key]]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        tables.append("\n".join(lines))
    lines = [head.format("grid: actions, memory")]
    for name, grid in result["grids"].items():
        cells = [f"{actions:,}, {_size(size)}" for actions, size in zip(grid["actions"], grid["bytes"])]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n\n".join([*tables, "\n".join(lines)])


def draw_scaling(result: dict[str, Any], path: Path) -> None:
    """Draws the costs of an action and of an update, and the memory of the grids, over the number of joints.

    Args:
        result: of `benchmark_scaling`.
        path: PNG file to write.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = new_figure(11.0, 4.2)
    action, update, memory = figure.subplots(1, 3)
    names = list(result["rows"])
    colours = dict(zip(names, (*COLOURS, "#000000")))
    handles = []
    for name in names:
        for axes, key in ((action, "act_us"), (update, "update_us")):
            values = [np.nan if value is None else 1e-3 * value for value in result["rows"][name][key]]
            (line,) = axes.plot(result["joints"], values, color=colours[name], marker="o", ms=3, lw=1.5)
        handles.append(line)
    for name, grid in result["grids"].items():
        memory.plot(result["joints"], np.array(grid["bytes"]) / 1e9, color=colours[name], marker="o", ms=3, lw=1.5)
    memory.axhline(result["memory_limit_bytes"] / 1e9, color="#888888", ls=":", lw=1.2)
    memory.annotate("refused above this", (result["joints"][0], result["memory_limit_bytes"] / 1e9 * 1.3), fontsize=8)
    for axes, title in ((action, "one action, ms"), (update, "one update, ms"), (memory, "memory of the grid, GB")):
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("joints")
        axes.set_yscale("log")
        tidy(axes)
    figure.legend(handles, names, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    figure.savefig(path)


def _costs(algorithm: str, overrides: dict[str, Any], joints: int, repeats: int) -> tuple[float | None, float | None]:
    """Microseconds of one action and of one update; None where the grid does not fit."""
    config = resolve_settings(algorithm, TrainConfig.preset, overrides)
    size = TERMS_PER_JOINT * joints
    try:
        agent = make_agent(algorithm, size, joints, config, seed=0)
    except ConfigError:
        return None, None
    rng = np.random.default_rng(0)
    replay = Replay(1000, size, joints, config.batch_size)
    for _ in range(1000):
        now, then = rng.standard_normal((2, size))
        agent.normalizer.observe(now)
        replay.add(now, rng.uniform(-1.0, 1.0, joints), rng.standard_normal(), config.gamma, then)
    observation = rng.standard_normal(size).astype(np.float32)
    batch = replay.sample(rng)
    agent.set_progress(0.0)
    return _fastest_us(lambda: agent.act(observation), repeats), _fastest_us(lambda: agent.update(batch), repeats)


def _fastest_us(call: Callable[[], object], repeats: int) -> float:
    """Processor time of the fastest: what else runs on the machine only ever adds. In pairs: DDPG's actor moves every 2nd."""
    times = []
    while len(times) < 2 or (len(times) <= repeats and 1e-6 * sum(times) < ENOUGH_S):  # the first one warms up
        start = time.process_time()
        call()
        call()
        times.append(0.5e6 * (time.process_time() - start))
    return round(min(times[1:]), 2)


def _cell(value: float | None, scale: float) -> str:
    return "refused" if value is None else f"{scale * value:.3g}"


def _size(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
