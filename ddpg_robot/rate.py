"""A loop with absolute deadlines, and its own timing statistics."""

from __future__ import annotations

import time

import numpy as np


class PeriodicLoop:
    """Wakes at ``start + k * period``. Lateness does not add up; a deadline that has passed is counted, never replayed.

    Attributes:
        ticks: deadlines met (each `wait` that returned).
        lost: deadlines that passed unserved.
    """

    def __init__(self, period: float) -> None:
        self.period = period
        self._period_ns = round(period * 1e9)
        self._deadline = 0
        self.ticks = 0
        self.lost = 0

    def start(self) -> None:
        """Sets the first deadline one period from now."""
        self._deadline = time.monotonic_ns() + self._period_ns

    def wait(self) -> float:
        """Sleeps until the next deadline.

        Returns:
            Lateness of the wake-up, s.
        """
        remaining = self._deadline - time.monotonic_ns()
        if remaining > 0:
            time.sleep(remaining * 1e-9)
        now = time.monotonic_ns()
        # A tick that starts a whole period late has missed the deadlines in between.
        missed = max(0, (now - self._deadline) // self._period_ns)
        self.lost += missed
        self._deadline += missed * self._period_ns
        lateness = (now - self._deadline) * 1e-9
        self._deadline += self._period_ns
        self.ticks += 1
        return lateness + missed * self.period


class TimingStats:
    """The newest samples of one duration, in a ring that never grows."""

    def __init__(self, capacity: int = 65_536) -> None:
        self._ring = np.zeros(capacity)
        self.count = 0

    def add(self, seconds: float) -> None:
        self._ring[self.count % len(self._ring)] = seconds
        self.count += 1

    def samples(self) -> np.ndarray:
        """The kept samples ``(m,)``, s, oldest first."""
        if self.count <= len(self._ring):
            return self._ring[: self.count].copy()
        start = self.count % len(self._ring)
        return np.roll(self._ring, -start)

    def summary(self) -> dict[str, float]:
        """``p50``, ``p99``, ``p99.9`` and ``max`` of the kept samples, s; NaN where there are none."""
        samples = self.samples()
        if not len(samples):
            return {key: float("nan") for key in ("p50", "p99", "p99.9", "max")}
        p50, p99, p999 = np.percentile(samples, [50, 99, 99.9])
        return {"p50": float(p50), "p99": float(p99), "p99.9": float(p999), "max": float(samples.max())}
