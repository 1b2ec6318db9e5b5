"""Stochastic actor-critic, online, with the TD error as advantage.

The policy is a distribution ``pi(a|s)``, and the policy gradient theorem (Sutton et al. 2000) needs no derivative of any
value with respect to the action, only how good the action turned out:

    delta = r + gamma V(s') - V(s)
    w     <- w + alpha_w delta grad_w V(s)
    theta <- theta + alpha_theta delta grad_theta log pi(a|s)

Sutton & Barto 2018, section 13.5 (one-step actor-critic; here without the factor gamma^t); Degris, Pilarski & Sutton 2012,
Model-free reinforcement learning with continuous action in practice. As in the latter the policy is Gaussian and its
deviation is learnt; here it is squashed by tanh into the action box, and both step sizes are Adam's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ddpg_robot.learn.baselines.baseline import Baseline, Learner, descend, seeded
from ddpg_robot.learn.baselines.settings import ActorConfig, OnlineConfig
from ddpg_robot.learn.ddpg import Losses
from ddpg_robot.learn.networks import Actor, GreedyPolicy, mlp
from ddpg_robot.learn.replay import Batch

ROOM = 1e-6
"""A squashed action is kept so far from -1 and 1, where atanh has no value."""


@dataclass(frozen=True)
class StochasticActorCriticConfig(OnlineConfig, ActorConfig):
    """Settings of the stochastic actor-critic."""

    deviation: float = 0.5
    """Deviation of the policy before tanh, at the start; it is learnt."""


class StochasticActorCritic(Baseline):
    """``a = tanh(u)``, ``u ~ N(m(s), sigma^2)``, where ``tanh(m(s))`` is the shared actor network."""

    settings = StochasticActorCriticConfig
    online = True

    def __init__(self, observation_size: int, action_size: int, config: StochasticActorCriticConfig, seed: int) -> None:
        super().__init__(observation_size, config, seed)
        with seeded(seed):
            self.actor = Actor(observation_size, action_size, config)
            self.value = mlp(observation_size, 1, config.critic_hidden, config.critic_layer_norm)
        self.log_deviation = nn.Parameter(torch.full((action_size,), math.log(config.deviation)))
        self.learners = {
            "actor": Learner(self.actor, config.actor_lr),
            "deviation": Learner(nn.ParameterList([self.log_deviation]), config.actor_lr),
            "value": Learner(self.value, config.critic_lr),
        }
        self.act = GreedyPolicy(self.actor, self.normalizer)

    @torch.no_grad()
    def explore(self, observation: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """A draw from the policy; the trainer's noise is not used."""
        mean = self.actor.mlp(self.normalized(observation))
        draw = torch.randn(mean.shape, generator=self.generator)
        return torch.tanh(mean + self.log_deviation.exp() * draw)[0].numpy()

    def update(self, batch: Batch) -> Losses:
        """One step of the critic and one of the actor along delta grad log pi."""
        observation, next_observation = self.normalizer(batch.observation), self.normalizer(batch.next_observation)
        value = self.value(observation)  # (1, 1)
        error = self.td_target(batch, self.value(next_observation)) - value
        critic_loss = error.square().mean()
        actor_loss = -(error.detach() * self.log_probability(observation, batch.action)).mean()
        descend(critic_loss, self.learners["value"])
        descend(actor_loss, self.learners["actor"], self.learners["deviation"])
        self.updates += 1
        return Losses(critic_loss.item(), actor_loss.item(), value.mean().item())

    def log_probability(self, observation: Tensor, action: Tensor) -> Tensor:
        """``log N(atanh(a); m(s), sigma)``, (batch, 1): log pi but for tanh's slope, which no parameter changes."""
        u = torch.atanh(action.clamp(-1.0 + ROOM, 1.0 - ROOM))
        z = (u - self.actor.mlp(observation)) / self.log_deviation.exp()
        return (-0.5 * z.square() - self.log_deviation - 0.5 * math.log(2.0 * math.pi)).sum(1, keepdim=True)
