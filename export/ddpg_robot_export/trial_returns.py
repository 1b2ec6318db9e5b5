"""Whether a policy earns on the robot what the one before earned: mean rewards of whole episodes, policy by policy."""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHORTEST = 25
"""Transitions of an episode that counts."""
KEPT = 30
"""Episodes of a policy that are remembered."""
FEWEST = 4
"""Episodes of the former policy that there must be."""
POLICIES = 8


class TrialReturns:
    """Mean reward per transition of each episode, by the hash of the policy that drove.

    An episode ends with the command, with a mark or a trip, and where ticks are missing. What a person did in a takeover is in
    none.

    Args:
        episodes: of a candidate before it is judged.
        margin: how much lower its mean may be than the former policy's, in deviations between that one's episodes. The same holds
            against the first policy, or many small losses would add up.
        first: hash of the policy that the robot began with.
    """

    def __init__(self, episodes: int, margin: float, first: str) -> None:
        self._episodes, self._margin, self._first = episodes, margin, first
        self._means: dict[str, deque[float]] = {}
        self._open: list[float] = []
        self._next: tuple[str, str, int, bytes] | None = None

    def add(self, weights: str, session: str, made: NDArray[Any], rewards: NDArray[np.float64], ticks: int) -> None:
        """Takes transitions ``(k,)`` of one policy and their rewards ``(k,)``, oldest first."""
        for one, reward in zip(made, rewards):
            if one["taken_over"]:
                self._open, self._next = [], None
                continue
            here = (weights, session, int(one["tick"]), one["command"].tobytes())
            if here != self._next:
                self._close()
            self._open.append(float(reward))
            self._next = (weights, session, int(one["tick"]) + ticks, here[3])
            if one["ended"]:
                self._close()

    def ready(self, weights: str) -> bool:
        """True where enough is known of a policy to judge another by it."""
        return len(self._means.get(weights, ())) >= FEWEST

    def compare(self, candidate: str, former: str) -> tuple[bool, str] | None:
        """Whether to keep the candidate, and why; None while too little is known."""
        new, old = self._means.get(candidate, ()), self._means.get(former, ())
        if len(new) < self._episodes or len(old) < FEWEST:
            return None
        first = self._means.get(self._first, ())
        mean, keep, text = (
            statistics.fmean(new),
            True,
            f"mean reward {statistics.fmean(new):.3f} in {len(new)} episodes",
        )
        for name, known in (("before", old), ("at first", first if len(first) >= FEWEST else old)):
            before, deviation = statistics.fmean(known), statistics.stdev(known)
            keep = keep and mean >= before - self._margin * deviation
            text += f", {name} {before:.3f} (deviation {deviation:.3f})"
        return keep and math.isfinite(mean), text

    def mean(self, weights: str) -> float:
        """Mean reward of a policy's episodes; NaN for none."""
        known = self._means.get(weights)
        return statistics.fmean(known) if known else math.nan

    def _close(self) -> None:
        if self._next is not None and len(self._open) >= SHORTEST:
            means = self._means.setdefault(self._next[0], deque(maxlen=KEPT))
            means.append(statistics.fmean(self._open))
            while len(self._means) > POLICIES:
                self._means.pop(next(name for name in self._means if name != self._first))
        self._open, self._next = [], None
