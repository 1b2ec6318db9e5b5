"""Running normalisation: of observations, as a module whose numbers are frozen into the export, and the size of returns."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from ddpg_robot.learn.native import native


class Normalizer(nn.Module):
    """Maps observations to ``clip((observation - mean) * inverse_deviation, -10, 10)``.

    Mean and variance are those of all observations seen so far (Welford 1962), in float64; the buffers that
    `forward` uses are float32 copies. Disabled, it maps observations to themselves.
    """

    LIMIT = 10.0
    MIN_DEVIATION = 1e-4

    def __init__(self, size: int, enabled: bool = True) -> None:
        super().__init__()
        self.enabled = enabled
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("inverse_deviation", torch.ones(size))
        self._mean32 = self.mean.numpy()
        self._inverse32 = self.inverse_deviation.numpy()
        self.count = 0
        self._mean = np.zeros(size)
        self._sum_of_squares = np.zeros(size)

    def observe(self, observation: np.ndarray) -> None:
        """Takes one observation, shape (size,), into the statistics."""
        if not self.enabled:
            return
        self.count += 1
        delta = observation - self._mean
        self._mean += delta / self.count
        self._sum_of_squares += delta * (observation - self._mean)
        self._refresh()

    def forward(self, observation: Tensor) -> Tensor:
        """Normalised observations, shape (batch, size)."""
        if not self.enabled:
            return observation
        normalized = (observation - self.mean) * self.inverse_deviation
        return normalized.clamp(-self.LIMIT, self.LIMIT)

    def normalize_batch(self, observations: Tensor) -> Tensor:
        """The same as `forward`, in one call; not for an export."""
        library = native()
        if library is None or not self.enabled:
            return self(observations)
        out = torch.empty(observations.shape)
        return library.normalize(observations, self.mean, self.inverse_deviation, self.LIMIT, out)

    def normalize(self, observation: np.ndarray) -> np.ndarray:
        """The same as `forward` for one numpy observation, shape (size,), float32."""
        if not self.enabled:
            return observation
        return np.clip((observation - self._mean32) * self._inverse32, -self.LIMIT, self.LIMIT)

    def statistics(self) -> dict[str, Tensor]:
        """Complete state: count, mean and sum of squared deviations, in float64."""
        return {
            "count": torch.tensor(self.count, dtype=torch.int64),
            "mean": torch.tensor(self._mean),
            "sum_of_squares": torch.tensor(self._sum_of_squares),
        }

    def load_statistics(self, state: dict[str, Tensor]) -> None:
        """Restores what `statistics` gave."""
        self.count = int(state["count"])
        self._mean[:] = state["mean"].numpy()
        self._sum_of_squares[:] = state["sum_of_squares"].numpy()
        self._refresh()

    def _refresh(self) -> None:
        self._mean32[:] = self._mean
        if self.count > 1:
            deviation = np.sqrt(self._sum_of_squares / self.count)
            np.divide(1.0, np.maximum(deviation, self.MIN_DEVIATION), out=self._inverse32, casting="same_kind")


class Returns:
    """What discounted returns episodes have achieved: ``G_t = r_t + gamma G_t+1`` of every step so far.

    Args:
        gamma: discount per step.
    """

    def __init__(self, gamma: float) -> None:
        self._gamma = gamma
        self._count = 0
        self._sum_of_squares = 0.0
        self._lowest, self._highest = math.inf, -math.inf

    def bounds(self, margin: float) -> tuple[float, float]:
        """The lowest and the highest, moved apart by this part of their distance each; endless before the first episode's end."""
        distance = margin * max(self._highest - self._lowest, 0.0)
        return (self._lowest - distance, self._highest + distance) if self._count else (-math.inf, math.inf)

    @property
    def rms(self) -> float:
        """Root mean square; 0 before the end of the first episode."""
        return math.sqrt(self._sum_of_squares / max(self._count, 1))

    def observe(self, rewards: list[float]) -> None:
        """Takes the rewards of one episode."""
        value = 0.0
        for reward in reversed(rewards):
            value = reward + self._gamma * value
            self._sum_of_squares += value**2
            self._lowest, self._highest = min(self._lowest, value), max(self._highest, value)
        self._count += len(rewards)

    def state_dict(self) -> dict[str, Tensor]:
        """Count, sum of squares, lowest and highest, in float64."""
        numbers = [self._count, self._sum_of_squares, self._lowest, self._highest]
        return {"numbers": torch.tensor(numbers, dtype=torch.float64)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores what `state_dict` gave."""
        count, self._sum_of_squares, self._lowest, self._highest = state["numbers"].tolist()
        self._count = int(count)
