"""`benchmark replay`: memory of a replay, and what adding and sampling cost as it fills."""

from __future__ import annotations

import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.learn.replay import Replay

CALLS = 2000
"""Timed calls at each size."""


def benchmark_replay(
    observations: int = 105, actions: int = 8, capacity: int = 1_000_000, batch: int = 256
) -> dict[str, Any]:
    """Fills a replay and prints its cost as a table. The default sizes are those of Ant-v5.

    Args:
        observations: numbers per observation.
        actions: numbers per action.
        capacity: transitions, at least 10,000.
        batch: transitions per sample.

    Returns:
        `raw_bytes` (float32 numbers of all transitions: both observations, action, reward, discount), `resident_bytes` (what
        the process grew by; None where the system does not tell), `rows`: size -> `add_us` and `sample_us`, medians.

    Raises:
        ConfigError: a capacity below 10,000.
    """
    if capacity < 10_000:
        raise ConfigError(mismatch("capacity", capacity, "at least 10000"))
    before = _resident_bytes()
    replay = Replay(capacity, observations, actions, batch)
    rng = np.random.default_rng(0)
    observation, action = rng.normal(size=observations), rng.uniform(-1, 1, actions)
    rows = {}
    for size in sorted({*(10**power for power in range(4, 9) if 10**power < capacity), capacity}):
        while replay.total < size:
            replay.add(observation, action, 1.0, 0.99, observation)
        adds = [_timed(replay.add, observation, action, 1.0, 0.99, observation) for _ in range(CALLS)]
        samples = [_timed(replay.sample, rng) for _ in range(CALLS)]
        rows[size] = {"add_us": statistics.median(adds), "sample_us": statistics.median(samples)}
    after = _resident_bytes()
    result = {
        "sizes": {"observations": observations, "actions": actions, "batch": batch},
        "machine": f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}",
        "raw_bytes": 4 * capacity * (2 * observations + actions + 2),
        "resident_bytes": None if before is None or after is None else after - before,
        "rows": rows,
    }
    print(format_replay(result))
    return result


def format_replay(result: dict[str, Any]) -> str:
    """What `benchmark_replay` returned, as a table."""
    lines = [f"{'transitions':>12}{'add, µs':>10}{'sample, µs':>12}"]
    for size, row in result["rows"].items():
        lines.append(f"{size:>12,}{row['add_us']:>10.1f}{row['sample_us']:>12.1f}")
    lines.append(f"raw float32: {result['raw_bytes'] / 1e6:,.0f} MB")
    if result["resident_bytes"] is not None:
        ratio = result["resident_bytes"] / result["raw_bytes"]
        lines.append(f"resident: {result['resident_bytes'] / 1e6:,.0f} MB, {ratio:.3f} times that")
    return "\n".join(lines)


def _timed(call: Any, *arguments: Any) -> float:
    begun = time.perf_counter()
    call(*arguments)
    return 1e6 * (time.perf_counter() - begun)


def _resident_bytes() -> int | None:
    """Memory of this process that is in RAM; None where the system has no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    import resource

    return pages * resource.getpagesize()
