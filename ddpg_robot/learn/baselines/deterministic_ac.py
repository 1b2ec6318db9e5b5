"""Deterministic actor-critic, on-policy and off-policy, learning from each transition once.

The policy is a function ``a = mu(s)``, and the deterministic policy gradient theorem (Silver et al. 2014) lets the critic
say in which direction a better action lies:

    delta = r + gamma Q(s', mu(s')) - Q(s, a)
    w     <- w + alpha_w delta grad_w Q(s, a)
    theta <- theta + alpha_theta grad_theta mu(s) grad_a Q(s, a) at a = mu(s)

Silver et al. 2014, Deterministic policy gradient algorithms. On-policy (section 4.1, Sarsa) ``a`` is mu(s) itself, so only
the task's own randomness explores. Off-policy (section 4.2, OPDAC) another policy behaves, here mu with noise, and no
importance sampling is needed, for no integral over actions is left. Both lack what DDPG adds: replay and target networks.
The critic is the shared network, where the paper has compatible linear functions, and both step sizes are Adam's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddpg_robot.learn.baselines.baseline import Baseline, Learner, descend, seeded
from ddpg_robot.learn.baselines.settings import ActorConfig, NoiseConfig, OnlineConfig
from ddpg_robot.learn.ddpg import Losses
from ddpg_robot.learn.networks import Actor, Critic, GreedyPolicy
from ddpg_robot.learn.replay import Batch


@dataclass(frozen=True)
class DeterministicActorCriticConfig(OnlineConfig, ActorConfig):
    """Settings of the on-policy deterministic actor-critic."""


@dataclass(frozen=True)
class OffPolicyActorCriticConfig(OnlineConfig, ActorConfig, NoiseConfig):
    """Settings of the off-policy deterministic actor-critic."""


class DeterministicActorCritic(Baseline):
    """On-policy: it does what it thinks best, and learns from that."""

    settings = DeterministicActorCriticConfig
    online = True

    def __init__(
        self, observation_size: int, action_size: int, config: DeterministicActorCriticConfig, seed: int
    ) -> None:
        super().__init__(observation_size, config, seed)
        with seeded(seed):
            self.actor = Actor(observation_size, action_size, config)
            self.critic = Critic(observation_size, action_size, config)
        self.learners = {
            "actor": Learner(self.actor, config.actor_lr),
            "critic": Learner(self.critic, config.critic_lr),
        }
        self.act = GreedyPolicy(self.actor, self.normalizer)

    def explore(self, observation: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """The actor's action as it is."""
        return self.act(observation)

    def update(self, batch: Batch) -> Losses:
        """One step of the critic and one of the actor along the deterministic policy gradient."""
        observation, next_observation = self.normalizer(batch.observation), self.normalizer(batch.next_observation)
        q = self.critic(observation, batch.action)  # (1, 1)
        y = self.td_target(batch, self.critic(next_observation, self.actor(next_observation)))
        critic_loss = (q - y).square().mean()
        descend(critic_loss, self.learners["critic"])
        actor_loss = -self.critic(observation, self.actor(observation)).mean()
        descend(actor_loss, self.learners["actor"])
        self.updates += 1
        return Losses(critic_loss.item(), actor_loss.item(), q.mean().item())


class OffPolicyActorCritic(DeterministicActorCritic):
    """Off-policy: it behaves with noise, and learns about what it thinks best."""

    settings = OffPolicyActorCriticConfig

    def explore(self, observation: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """The actor's action with noise, in [-1, 1]."""
        return Baseline.explore(self, observation, noise)
