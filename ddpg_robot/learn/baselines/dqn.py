"""DQN on a grid: every joint's action takes one of a few values, and the network has one output per combination.

    y = r + gamma max_a' Q'(s', a')      loss = mean (Q(s, a) - y)^2      act: argmax_a Q(s, a), or at random

Mnih et al. 2015, Human-level control through deep reinforcement learning: replay, a target network that is copied now and
then, an epsilon-greedy behaviour. The maximum is a look at all outputs, and there are ``bins ** joints`` of them: the curse
that Lillicrap et al. 2016 begin with. (Errors are not clipped here; Adam stands in for RMSProp.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.learn.baselines.baseline import Baseline, Learner, descend, seeded
from ddpg_robot.learn.baselines.settings import ReplayConfig
from ddpg_robot.learn.ddpg import Losses
from ddpg_robot.learn.networks import mlp
from ddpg_robot.learn.replay import Batch

FLOAT = 4
"""Bytes of one number."""


@dataclass(frozen=True)
class DqnConfig(ReplayConfig):
    """Settings of DQN."""

    bins: int = 3
    """Values of each joint's action, evenly spread over [-1, 1], at least 2. The grid has bins ** joints actions."""
    memory_gb: float = 2.0
    """A grid whose output layer, its optimiser, its target and one batch take more than this is refused, 10^9 bytes."""
    epsilon: float = 1.0
    """Probability of a random action, when learning begins."""
    epsilon_final: float = 0.05
    """It falls linearly over the first fifth of the training to this."""
    target_every: int = 200
    """Updates from one copy of the network into its target to the next."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bins < 2:
            raise ConfigError(mismatch("bins", self.bins, "at least 2"))


class Dqn(Baseline):
    """The agent. Raises ConfigError where the grid needs more memory than `memory_gb`."""

    settings = DqnConfig
    online = False

    def __init__(self, observation_size: int, action_size: int, config: DqnConfig, seed: int) -> None:
        super().__init__(observation_size, config, seed)
        needed = grid_bytes(config.bins, action_size, config.critic_hidden[-1], config.batch_size)
        if needed > 1e9 * config.memory_gb:
            found = f"{config.bins}^{action_size} = {config.bins**action_size:,} actions, {needed / 1e9:,.1f} GB"
            hint = "Fewer bins, or a method that does not enumerate its actions"
            raise ConfigError(mismatch("action grid", found, f"at most {config.memory_gb:g} GB (memory_gb)", hint=hint))
        self._joints = action_size
        self._values = np.linspace(-1.0, 1.0, config.bins, dtype=np.float32)
        self._places = torch.tensor([config.bins**joint for joint in range(action_size)])
        with seeded(seed):
            self.q = mlp(observation_size, config.bins**action_size, config.critic_hidden, config.critic_layer_norm)
        self.learners = {"q": Learner(self.q, config.critic_lr, target=True)}

    @torch.no_grad()
    def act(self, observation: np.ndarray) -> np.ndarray:
        """The action of the grid with the highest value."""
        return self.action(int(self.q(self.normalized(observation)).argmax()))

    def explore(self, observation: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Epsilon-greedy; the trainer's noise is not used."""
        if torch.rand(1, generator=self.generator).item() < self.epsilon:
            return self.action(int(torch.randint(self.config.bins**self._joints, (1,), generator=self.generator)))
        return self.act(observation)

    @property
    def epsilon(self) -> float:
        """Probability of a random action now."""
        config = self.config
        return config.epsilon + (config.epsilon_final - config.epsilon) * min(1.0, 5.0 * self.progress)

    def action(self, index: int) -> np.ndarray:
        """The grid's action of this number: its digits to base `bins`, the first joint's first."""
        return self._values[index // self._places.numpy() % self.config.bins]

    def index(self, action: torch.Tensor) -> torch.Tensor:
        """Numbers, (batch, 1), of the grid's actions nearest to some actions, (batch, joints): the warm-up's are any."""
        digits = ((action + 1.0) / 2.0 * (self.config.bins - 1)).round().long()
        return (digits * self._places).sum(1, keepdim=True)

    def update(self, batch: Batch) -> Losses:
        """One step of Q-learning; now and then the target becomes a copy of the network."""
        learner = self.learners["q"]
        with torch.no_grad():
            next_q = learner.target.module(self.normalizer(batch.next_observation)).amax(1, keepdim=True)
        q = self.q(self.normalizer(batch.observation)).gather(1, self.index(batch.action))  # (batch, 1)
        loss = (q - self.td_target(batch, next_q)).square().mean()
        descend(loss, learner)
        self.updates += 1
        if self.updates % self.config.target_every == 0:
            learner.target.follow(1.0)
        return Losses(loss.item(), None, q.mean().item())


def grid_bytes(bins: int, joints: int, hidden: int, batch_size: int) -> int:
    """Memory that grows with the grid, bytes.

    Six numbers for each weight of the output layer (weight, gradient, Adam's two moments and its buffer, target), and
    three for each action of each row of a batch (values, their gradient, the target's values).
    """
    return bins**joints * (6 * (hidden + 1) + 3 * batch_size) * FLOAT
