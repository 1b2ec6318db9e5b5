"""Q-learning in continuous actions whose argmax is searched for, at every action and in every update.

    y = r + gamma max_a' Q'(s', a')      loss = mean (Q(s, a) - y)^2      act: argmax_a Q(s, a)

The critic is DDPG's, there is no actor. Three ways to search: the best of some random actions; the cross-entropy method
(Kalashnikov et al. 2018, QT-Opt, arXiv 1806.10293: 64 samples, 6 elites, two rounds); gradient ascent on the action from
random starts (Lim et al. 2018, arXiv 1810.09103; Amos et al. 2017, arXiv 1609.07152, on a critic that is concave in the
action). An actor answers with one pass through a network where these take dozens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.learn.baselines.baseline import Baseline, Learner, descend, seeded
from ddpg_robot.learn.baselines.settings import NoiseConfig, ReplayConfig
from ddpg_robot.learn.config import DdpgConfig
from ddpg_robot.learn.ddpg import Losses
from ddpg_robot.learn.networks import Critic
from ddpg_robot.learn.replay import Batch

Values = Callable[[Tensor], Tensor]
"""Actions, (batch, candidates, actions), to their values, (batch, candidates)."""


@dataclass(frozen=True)
class SamplingQConfig(ReplayConfig, NoiseConfig):
    """Settings of Q-learning with the best of random actions."""

    tau: float = DdpgConfig.tau
    """Polyak coefficient: the target moves by this fraction of the distance, per update."""
    candidates: int = 64
    """Actions that are tried."""


@dataclass(frozen=True)
class CrossEntropyQConfig(SamplingQConfig):
    """Settings of Q-learning with the cross-entropy method; `candidates` are those of each round."""

    rounds: int = 2
    """How often candidates are drawn: uniformly, then from a Gaussian fitted to the best ones, the elites."""
    elites: int = 6
    """How many candidates the next round's Gaussian is fitted to, 2 to `candidates`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.elites <= self.candidates:
            raise ConfigError(mismatch("elites", self.elites, f"2 to {self.candidates}, the candidates"))


@dataclass(frozen=True)
class GradientQConfig(SamplingQConfig):
    """Settings of Q-learning with gradient ascent on the action; `candidates` are the starts."""

    candidates: int = 8
    """Random actions from which the ascent starts."""
    ascent_steps: int = 8
    """Steps of the ascent."""
    ascent_rate: float = 0.3
    """Length of its first step, in units of the [-1, 1] action box; it falls linearly to nothing."""


class SamplingQ(Baseline):
    """Q-learning; the argmax is the best of uniformly random actions."""

    settings: type[SamplingQConfig] = SamplingQConfig
    online = False

    def __init__(self, observation_size: int, action_size: int, config: SamplingQConfig, seed: int) -> None:
        super().__init__(observation_size, config, seed)
        self._size = action_size
        self._act_generator = torch.Generator()
        with seeded(seed):
            self.critic = Critic(observation_size, action_size, config)
        self.learners = {"critic": Learner(self.critic, config.critic_lr, target=True)}

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The best action found. Its candidates are the same each time, so that the policy is a function."""
        values = _values(self.critic, self.normalized(observation))
        return self.argmax(values, 1, self._act_generator.manual_seed(0))[0].numpy()

    def update(self, batch: Batch) -> Losses:
        """One step of Q-learning; the target follows."""
        critic = self.learners["critic"]
        next_observation = self.normalizer(batch.next_observation)
        best = self.argmax(_values(critic.target.module, next_observation), len(next_observation), self.generator)
        with torch.no_grad():
            next_q = critic.target.module(next_observation, best)
        q = self.critic(self.normalizer(batch.observation), batch.action)
        loss = (q - self.td_target(batch, next_q)).square().mean()
        descend(loss, critic)
        critic.target.follow(self.config.tau)
        self.updates += 1
        return Losses(loss.item(), None, q.mean().item())

    @torch.no_grad()
    def argmax(self, values: Values, rows: int, generator: torch.Generator) -> Tensor:
        """The best actions that the search finds, (rows, actions) in [-1, 1]."""
        actions = self._uniform(rows, generator)
        return _best(actions, values(actions), 1)[:, 0]

    def _uniform(self, rows: int, generator: torch.Generator) -> Tensor:
        """Random actions, (rows, candidates, actions)."""
        return torch.rand(rows, self.config.candidates, self._size, generator=generator) * 2.0 - 1.0


class CrossEntropyQ(SamplingQ):
    """Q-learning; a Gaussian closes in on the argmax."""

    settings = CrossEntropyQConfig

    @torch.no_grad()
    def argmax(self, values: Values, rows: int, generator: torch.Generator) -> Tensor:
        """The best of the last round's candidates, (rows, actions) in [-1, 1]."""
        actions = self._uniform(rows, generator)
        for _ in range(self.config.rounds - 1):
            elites = _best(actions, values(actions), self.config.elites)
            deviation, mean = torch.std_mean(elites, dim=1, keepdim=True)
            draw = torch.randn(actions.shape, generator=generator)
            actions = (mean + deviation * draw).clamp_(-1.0, 1.0)
        return _best(actions, values(actions), 1)[:, 0]


class GradientQ(SamplingQ):
    """Q-learning; the argmax is the best end of several ascents along the gradient of Q with respect to the action."""

    settings = GradientQConfig

    def argmax(self, values: Values, rows: int, generator: torch.Generator) -> Tensor:
        """The best end of an ascent, (rows, actions) in [-1, 1]."""
        config = self.config
        actions = self._uniform(rows, generator)
        for step in range(config.ascent_steps):
            actions.requires_grad_(True)
            (gradient,) = torch.autograd.grad(values(actions).sum(), actions)
            length = config.ascent_rate * (1.0 - step / config.ascent_steps)
            direction = torch.nn.functional.normalize(gradient, dim=2)
            actions = (actions.detach() + length * direction).clamp_(-1.0, 1.0)
        with torch.no_grad():
            return _best(actions, values(actions), 1)[:, 0]


def _values(critic: torch.nn.Module, observation: Tensor) -> Values:
    """The critic's values of many actions for each of some observations, (batch, observations)."""

    def values(actions: Tensor) -> Tensor:
        repeated = observation.repeat_interleave(actions.shape[1], dim=0)  # (batch * candidates, observations)
        return critic(repeated, actions.flatten(0, 1)).view(actions.shape[:2])

    return values


def _best(actions: Tensor, values: Tensor, count: int) -> Tensor:
    """The `count` best of some candidates, (batch, count, actions)."""
    index = values.topk(count, dim=1).indices[:, :, None].expand(-1, -1, actions.shape[2])
    return actions.gather(1, index)
