"""One environment of a training: its episode, its exploration noise, and the way of its steps into the replay."""

from __future__ import annotations

from typing import Any

import numpy as np

from ddpg_robot.learn.noise import WarmupActions, make_noise
from ddpg_robot.learn.replay import NStepWindow, Replay
from ddpg_robot.learn.tasks import Task, episode_seed

TRAINING_STREAM = 0
"""Of `episode_seed`."""


def is_taught(config: Any, task: Task) -> bool:
    """Whether an agent of these settings listens to the task's teacher; baselines never do."""
    return task.has_teacher and getattr(config, "teacher_weight", 0.0) > 0


class Rollout:
    """One of the environments of a training, and what belongs to its episode.

    Args:
        task: the environment.
        config: the agent's settings.
        noise_rng: for the exploration noise alone.
        warmup_rng: for the warm-up's actions alone.
    """

    def __init__(
        self, task: Task, config: Any, noise_rng: np.random.Generator, warmup_rng: np.random.Generator
    ) -> None:
        self.task = task
        self.window = NStepWindow(config.n_step, config.gamma)
        self.noise = make_noise(config, task.action_size, noise_rng)
        self.warmup = WarmupActions(task.action_size, config.warmup_repeat_probability, warmup_rng)
        self._taught = is_taught(config, task)
        self._teacher_action: np.ndarray | None = None
        self.rewards: list[float] = []

    def reset(self, seed: int, episode: int, progress: float) -> np.ndarray:
        """Starts the episode of this number when this part of the training is over; returns its first observation."""
        self.task.set_progress(progress)
        self.noise.reset()
        self.warmup.reset(episode)
        self.rewards.clear()
        self.observation, self.info = self.task.reset(episode_seed(seed, TRAINING_STREAM, episode))
        return self.observation

    def teach(self) -> np.ndarray | None:
        """What the teacher would do now; None without one. `step` then knows it."""
        self._teacher_action = self.task.teacher_action() if self._taught else None
        return self._teacher_action

    def step(self, action: np.ndarray, replay: Replay) -> bool:
        """One control step; what it completes goes into the replay. Returns whether the episode is over."""
        step = self.task.step(action)
        self.window.add(
            replay,
            self.observation,
            action,
            step.reward,
            step.observation,
            step.terminated,
            step.truncated,
            self._teacher_action,
        )
        self.observation, self.info = step.observation, step.info
        self.rewards.append(step.reward)
        return step.terminated or step.truncated
