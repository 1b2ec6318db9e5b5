"""NAF: Q-learning where the maximum over actions is known, because the advantage is a quadratic form in the action.

    Q(s, a) = V(s) - 1/2 (a - mu(s))^T L(s) L(s)^T (a - mu(s))      so argmax_a Q = mu(s), max_a Q = V(s)
    y = r + gamma V'(s')      loss = mean (Q(s, a) - y)^2

L is lower triangular with a positive diagonal. Gu et al. 2016, Continuous deep Q-learning with model-based acceleration
(arXiv 1603.00748), section 4. One loss trains mu, V and L, so no policy gradient is needed; the price is that the values of
all actions are one paraboloid, whatever the task. Here mu is the shared actor network, V and L have one of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddpg_robot.learn.baselines.baseline import Baseline, Learner, descend, seeded
from ddpg_robot.learn.baselines.settings import ActorConfig, NoiseConfig, ReplayConfig
from ddpg_robot.learn.config import DdpgConfig
from ddpg_robot.learn.ddpg import Losses
from ddpg_robot.learn.networks import Actor, GreedyPolicy, mlp
from ddpg_robot.learn.replay import Batch


@dataclass(frozen=True)
class NafConfig(ReplayConfig, ActorConfig, NoiseConfig):
    """Settings of NAF."""

    tau: float = DdpgConfig.tau
    """Polyak coefficient: the target moves by this fraction of the distance, per update."""


class Naf(Baseline):
    """The agent."""

    settings = NafConfig
    online = False

    def __init__(self, observation_size: int, action_size: int, config: NafConfig, seed: int) -> None:
        super().__init__(observation_size, config, seed)
        self._rows, self._columns = torch.tril_indices(action_size, action_size)
        with seeded(seed):
            self.actor = Actor(observation_size, action_size, config)
            outputs = 1 + len(self._rows)  # V, and the lower triangle of L
            self.value = mlp(observation_size, outputs, config.critic_hidden, config.critic_layer_norm)
        self.learners = {
            "actor": Learner(self.actor, config.actor_lr),
            "value": Learner(self.value, config.critic_lr, target=True),
        }
        self.act = GreedyPolicy(self.actor, self.normalizer)

    def q(self, observation: Tensor, action: Tensor) -> Tensor:
        """Values, (batch, 1), for normalised observations, (batch, observations), and actions, (batch, actions)."""
        outputs = self.value(observation)
        size = action.shape[1]
        triangle = torch.zeros(len(action), size, size).index_put(
            (torch.arange(len(action))[:, None], self._rows, self._columns), outputs[:, 1:]
        )
        diagonal = torch.diagonal(triangle, dim1=1, dim2=2)
        lower = triangle - torch.diag_embed(diagonal) + torch.diag_embed(diagonal.exp())  # (batch, actions, actions)
        difference = (action - self.actor(observation))[:, None]  # (batch, 1, actions)
        return outputs[:, :1] - 0.5 * (difference @ lower).square().sum(2)

    def update(self, batch: Batch) -> Losses:
        """One step of Q-learning for V, L and mu alike; the target follows."""
        value = self.learners["value"]
        with torch.no_grad():
            next_v = value.target.module(self.normalizer(batch.next_observation))[:, :1]
        q = self.q(self.normalizer(batch.observation), batch.action)
        loss = (q - self.td_target(batch, next_v)).square().mean()
        descend(loss, *self.learners.values())
        value.target.follow(self.config.tau)
        self.updates += 1
        return Losses(loss.item(), None, q.mean().item())
