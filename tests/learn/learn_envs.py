"""Small Gymnasium tasks with known properties, registered on import."""

from __future__ import annotations

from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Tuple


class Drift(gymnasium.Env):
    """A point on a line that the action pushes; terminates beyond 3, so episodes differ in length."""

    def __init__(self, low: float = -1.0, high: float = 1.0, bad: str = "") -> None:
        self.observation_space = Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = Box(low, high, (1,), np.float32)
        self.bad = bad
        self.actions: list[float] = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position = self.np_random.uniform(-1, 1)
        self.steps = 0
        return self._observe(), {}

    def step(self, action):
        self.steps += 1
        self.actions.append(float(action[0]))
        self.position += 0.3 * float(action[0]) + 0.1 * self.np_random.standard_normal()
        reward = -abs(self.position)
        if self.bad == "size":
            reward *= 1e30
        if self.bad == "reward" and self.steps == 5:
            reward = float("nan")
        info = {"is_success": abs(self.position) < 0.5, "distance": abs(self.position), "limit_hit": False}
        return self._observe(), reward, abs(self.position) > 3, False, info

    def _observe(self):
        observation = np.array([self.position, self.steps / 30], dtype=np.float32)
        if self.bad == "observation" and self.steps == 5:
            observation[1] = np.inf
        return observation


class Buttons(Drift):
    """The same with a discrete action space."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = Discrete(2)


class Spaces(Drift):
    """The same with other spaces."""

    def __init__(self, observation: str = "", action: str = "") -> None:
        super().__init__()
        found = {
            "dict": Dict({"position": self.observation_space}),
            "tuple": Tuple([self.observation_space]),
            "empty": Box(-1, 1, (0,)),
            "short": Box(-1, 1, (1,)),
            "integer": Box(-5, 5, (1,), np.int64),
            "huge": Box(-1.7e308, 1.7e308, (1,), np.float64),
        }
        self.observation_space = found.get(observation, self.observation_space)
        self.action_space = found.get(action, self.action_space)


class Measured(Drift):
    """The same with a figure of its own, by which actors are judged although they cannot succeed."""

    judged_by = ("return_mean",)

    def step(self, action):
        *rest, info = super().step(action)
        return *rest, {**info, "is_success": False, "metrics": {"place_m": self.position}}


class Harder(Drift):
    """The same, which asks how far the training is."""

    told: ClassVar[list[float]] = []

    def __init__(self) -> None:
        super().__init__()
        self.training_progress = 1.0

    def reset(self, *, seed=None, options=None):
        self.told.append(self.training_progress)
        return super().reset(seed=seed, options=options)


class Taught(Drift):
    """The same, but a push to the left is rewarded and the teacher always pushes to the right."""

    def step(self, action):
        observation, _, terminated, truncated, info = super().step(action)
        return observation, -float(action[0]), terminated, truncated, info

    def teacher_action(self):
        return np.array([0.6])


class Forever(Drift):
    """The same without any end."""

    def step(self, action):
        observation, reward, _, _, info = super().step(action)
        self.position = float(np.clip(self.position, -3, 3))
        return observation, reward, False, False, info


gymnasium.register("learn_test/Forever-v0", Forever)
gymnasium.register("learn_test/Harder-v0", Harder, max_episode_steps=30)
gymnasium.register("learn_test/Drift-v0", Drift, max_episode_steps=30)
gymnasium.register("learn_test/Measured-v0", Measured, max_episode_steps=30)
gymnasium.register("learn_test/Taught-v0", Taught, max_episode_steps=30)
gymnasium.register("learn_test/Spaces-v0", Spaces, max_episode_steps=30)
gymnasium.register("learn_test/Buttons-v0", Buttons, max_episode_steps=30)
