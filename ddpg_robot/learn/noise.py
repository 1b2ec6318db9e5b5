"""Exploration noise, in units of the agent's [-1, 1] action box."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ddpg_robot.learn.config import DdpgConfig


class Noise(Protocol):
    """Noise that is added to the actor's action."""

    def reset(self) -> None:
        """Starts a new episode."""
        ...

    def sample(self, sigma: float) -> np.ndarray:
        """The next value, shape (n,). The array is overwritten by the next call."""
        ...


class OrnsteinUhlenbeckNoise:
    """Time-correlated noise: ``x <- x - theta x + sigma N(0, 1)``, starting at zero in each episode.

    Lillicrap et al. 2016, section 7, after Uhlenbeck & Ornstein 1930, with a time step of one control step. Its
    stationary deviation is ``sigma / sqrt(2 theta - theta^2)``.
    """

    def __init__(self, size: int, theta: float, rng: np.random.Generator) -> None:
        self._theta = theta
        self._rng = rng
        self._state = np.zeros(size)

    def reset(self) -> None:
        """Back to zero."""
        self._state[:] = 0.0

    def sample(self, sigma: float) -> np.ndarray:
        """One step of the process with increments of deviation sigma; shape (n,)."""
        self._state += sigma * self._rng.standard_normal(len(self._state)) - self._theta * self._state
        return self._state


class GaussianNoise:
    """Independent noise: ``x ~ N(0, sigma^2)`` at each step."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self._size = size
        self._rng = rng

    def reset(self) -> None:
        """Nothing to do: the noise has no memory."""

    def sample(self, sigma: float) -> np.ndarray:
        """Independent draws of deviation sigma; shape (n,)."""
        return sigma * self._rng.standard_normal(self._size)


class WarmupActions:
    """Uniform random actions; in every other episode each repeats the one before with a given probability.

    In MountainCarContinuous independent actions never leave the valley; held ones turn HalfCheetah on its back, and a
    critic that has seen nothing else keeps it there.
    """

    def __init__(self, size: int, repeat_probability: float, rng: np.random.Generator) -> None:
        self._size = size
        self._repeat = repeat_probability
        self._rng = rng
        self._action: np.ndarray | None = None
        self._held = False

    def reset(self, episode: int) -> None:
        """Starts the episode of this number: its first action is drawn afresh. Actions are held in odd ones."""
        self._action = None
        self._held = episode % 2 == 1

    def sample(self) -> np.ndarray:
        """The next action, shape (n,) in [-1, 1]."""
        if self._action is None or not self._held or self._rng.random() >= self._repeat:
            self._action = self._rng.uniform(-1.0, 1.0, self._size)
        return self._action


def make_noise(config: DdpgConfig, size: int, rng: np.random.Generator) -> Noise:
    """The exploration noise that the settings name."""
    if config.noise == "ou":
        return OrnsteinUhlenbeckNoise(size, config.noise_theta, rng)
    return GaussianNoise(size, rng)
