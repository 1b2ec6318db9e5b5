"""The replay: one contiguous float32 array of transitions, and the n-step window in front of it."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Batch(NamedTuple):
    """A minibatch of n-step transitions. Views on a buffer that the next `sample` overwrites."""

    observation: Tensor  # (batch, observations)
    action: Tensor  # (batch, actions) in [-1, 1]
    reward: Tensor  # (batch, 1) discounted sum over up to n steps
    discount: Tensor  # (batch, 1) factor of the bootstrap: gamma^k, or 0 after a termination
    next_observation: Tensor  # (batch, observations)
    teacher_action: Tensor | None = None
    """(batch, actions), where there is a teacher."""


class Replay:
    """A ring of transitions in rows ``observation | action | reward | discount | next observation | teacher's action``.

    The last part is there where there is a teacher. One row is one read of memory, whatever the capacity; pages are
    touched as they fill.
    """

    def __init__(
        self, capacity: int, observation_size: int, action_size: int, batch_size: int, taught: bool = False
    ) -> None:
        o, a = observation_size, action_size
        self.capacity = capacity
        sizes = (o, a, 1, 1, o, *((a,) if taught else ()))
        self.width = sum(sizes)
        self.total = 0
        """Transitions ever added; row i of them lies at i % capacity."""
        self.rows = np.zeros((capacity, self.width), dtype=np.float32)
        # torch aligns its memory to 64 bytes, which keeps matrix products reproducible between processes.
        buffer = torch.zeros((batch_size, self.width))
        self._batch_rows = buffer.numpy()
        self._batch = Batch(*torch.split(buffer, sizes, dim=1))
        self._slices = (slice(0, o), slice(o, o + a), slice(o + a + 2, 2 * o + a + 2))

    def __len__(self) -> int:
        return min(self.total, self.capacity)

    def add(
        self,
        observation: np.ndarray,
        action: np.ndarray,
        reward: float,
        discount: float,
        next_observation: np.ndarray,
        teacher_action: np.ndarray | None = None,
    ) -> None:
        """Adds one transition, overwriting the oldest when full."""
        row = self.rows[self.total % self.capacity]
        observations, actions, next_observations = self._slices
        row[observations] = observation
        row[actions] = action
        row[actions.stop] = reward
        row[actions.stop + 1] = discount
        row[next_observations] = next_observation
        if teacher_action is not None:
            row[next_observations.stop :] = teacher_action
        self.total += 1

    def sample(self, rng: np.random.Generator, recency: float = 1.0) -> Batch:
        """A minibatch drawn with replacement: uniformly, or by an age that is ``u^recency`` times the length, u uniform."""
        count = len(self._batch_rows)
        if recency == 1.0:
            index = rng.integers(0, len(self), count)
        else:
            age = np.minimum((len(self) * rng.random(count) ** recency).astype(np.int64), len(self) - 1)
            index = (self.total - 1 - age) % self.capacity
        np.take(self.rows, index, axis=0, out=self._batch_rows, mode="clip")
        return self._batch

    def newest(self) -> Batch:
        """The last transitions that were added, one batch of them."""
        return self.batch_of(self.slice(self.total - len(self._batch_rows), self.total))

    def batch_of(self, rows: np.ndarray) -> Batch:
        """Rows, of this replay or of another of the same sizes, as a minibatch."""
        self._batch_rows[:] = rows
        return self._batch

    def slice(self, first: int, last: int) -> np.ndarray:
        """Copy of the rows number `first` to `last` (excluded), shape (rows, width)."""
        return self.rows[np.arange(first, last) % self.capacity]

    def restore(self, first: int, rows: np.ndarray) -> None:
        """Puts back rows number `first` and on; `total` becomes the number after the last of them."""
        self.rows[np.arange(first, first + len(rows)) % self.capacity] = rows
        self.total = first + len(rows)


class NStepWindow:
    """Turns single steps into n-step transitions: ``R = sum_{i<k} gamma^i r_i``, bootstrapped with ``gamma^k``.

    k is n, or less where the episode ends earlier: after a termination the bootstrap's factor is 0; after a truncation
    (a time limit) it is gamma^k, for the state is as good as any other and only the clock ran out.
    """

    def __init__(self, n: int, gamma: float) -> None:
        self._n = n
        self._gamma = gamma
        self._steps: deque[tuple[np.ndarray, np.ndarray, float, np.ndarray | None]] = deque()

    def add(
        self,
        replay: Replay,
        observation: np.ndarray,
        action: np.ndarray,
        reward: float,
        next_observation: np.ndarray,
        terminated: bool,
        truncated: bool,
        teacher_action: np.ndarray | None = None,
    ) -> None:
        """Takes one step; the transitions that it completes go into the replay."""
        self._steps.append((observation, action, reward, teacher_action))
        if terminated or truncated:
            self.close(replay, next_observation, terminated)
        elif len(self._steps) == self._n:
            self._emit(replay, next_observation, terminated=False)

    def close(self, replay: Replay, next_observation: np.ndarray, terminated: bool = False) -> None:
        """Ends the episode after the last step; all that is left goes into the replay."""
        while self._steps:
            self._emit(replay, next_observation, terminated)

    def _emit(self, replay: Replay, next_observation: np.ndarray, terminated: bool) -> None:
        """Adds the transition that starts at the oldest step of the window, and drops that step."""
        total = 0.0
        for _, _, reward, _ in reversed(self._steps):
            total = reward + self._gamma * total
        discount = 0.0 if terminated else self._gamma ** len(self._steps)
        observation, action, _, teacher_action = self._steps.popleft()
        replay.add(observation, action, total, discount, next_observation, teacher_action)
