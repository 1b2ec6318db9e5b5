"""What a loop measures of itself: one row per tick in a ring that never grows, and files of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = ("lateness", "work", "state_age", "state_to_command")
"""Seconds. Lateness: wake-up after the deadline. Work: wake-up to published command. State age: of the state used,
when it was read. State to command: from the state's stamp to the published command. NaN where there is none."""
PERCENTILES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9}


class LoopTiming:
    """Ring of per-tick measurements.

    Attributes:
        count: rows ever written.
    """

    def __init__(self, capacity: int = 65_536) -> None:
        self._ring = np.full((capacity, len(COLUMNS)), np.nan)
        self.count = 0

    def add(self, lateness: float, work: float, state_age: float, state_to_command: float) -> None:
        """Writes one row, s."""
        self._ring[self.count % len(self._ring)] = (lateness, work, state_age, state_to_command)
        self.count += 1

    def newest(self, rows: int | None = None) -> np.ndarray:
        """Up to `rows` newest rows ``(m, 4)``, oldest first; None for all that are kept."""
        kept = min(self.count, len(self._ring))
        rows = kept if rows is None else min(rows, kept)
        return self._ring[np.arange(self.count - rows, self.count) % len(self._ring)]

    def summary(self, rows: int | None = None) -> dict[str, dict[str, float]]:
        """Column -> p50, p99, p99.9, max over the newest rows, s."""
        newest = self.newest(rows)
        return {column: percentiles(newest[:, i]) for i, column in enumerate(COLUMNS)}

    def save(self, path: str | Path, **extra: Any) -> None:
        """Writes all kept rows, extra numbers and ``ended`` (now, monotonic s: call it at the loop's end) as ``.npz``."""
        columns = dict(zip(COLUMNS, self.newest().T))
        np.savez(path, **columns, ended=time.monotonic(), **extra)


def percentiles(samples: np.ndarray) -> dict[str, float]:
    """p50, p99, p99.9 and max of the finite samples; NaN where there are none."""
    finite = samples[np.isfinite(samples)]
    if not len(finite):
        return dict.fromkeys((*PERCENTILES, "max"), float("nan"))
    values = np.percentile(finite, list(PERCENTILES.values()))
    return {**{key: float(value) for key, value in zip(PERCENTILES, values)}, "max": float(finite.max())}
