"""Deep deterministic policy gradient (Lillicrap et al. 2016, arXiv 1509.02971), with the options of `DdpgConfig`."""

from __future__ import annotations

import functools
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddpg_robot.learn.adam import Adam
from ddpg_robot.learn.config import DdpgConfig, annealed
from ddpg_robot.learn.native import in_bfloat16
from ddpg_robot.learn.networks import (
    Actor,
    ActorPass,
    CriticPass,
    Critics,
    EmbeddingPass,
    GreedyPolicy,
    PairEmbedding,
    TargetNetwork,
    flatten_parameters,
)
from ddpg_robot.learn.normalizer import Normalizer, Returns
from ddpg_robot.learn.replay import Batch
from ddpg_robot.learn.trials import Trials, acting_state


class Losses(NamedTuple):
    """What one update reports."""

    critic: float
    actor: float | None
    """None where the actor was not updated."""
    q_mean: float
    """Mean value of the batch, in the task's unit of reward. The losses are in the critics' unit."""


class Ddpg:
    """The agent: actor, critic, their target networks and optimisers. Knows nothing of environments or files.

    Args:
        observation_size: numbers per observation.
        action_size: numbers per action; actions are in [-1, 1].
        config: the settings.
        seed: of the initial weights and of the target smoothing's noise.
    """

    online: ClassVar[bool] = False

    def __init__(self, observation_size: int, action_size: int, config: DdpgConfig, seed: int) -> None:
        self.config = config
        self.updates = 0
        self.normalizer = Normalizer(observation_size, config.normalize_observations)
        self.returns = Returns(config.gamma)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            self.actor = Actor(observation_size, action_size, config).eval()
            self.critics = Critics(observation_size, action_size, config).eval()
            self.pair_embedding = PairEmbedding(action_size, config).eval()
        actor_flat, critic_flat = flatten_parameters(self.actor), flatten_parameters(self.critics)
        state_embedding, acting = actor_flat.split(self.actor.embedding)
        self.target_actor = TargetNetwork(self.actor.mlp, acting)  # it sees the newest embedding
        self.averaged_actor = TargetNetwork(self.actor, actor_flat)
        self.target_critics = TargetNetwork(self.critics, critic_flat)
        self.actor_optimizer = Adam(*acting, config.actor_lr)
        self.state_embedding_optimizer = Adam(*state_embedding, config.embedding_lr)
        self.pair_embedding_optimizer = Adam(*flatten_parameters(self.pair_embedding), config.embedding_lr)
        self.critic_optimizer = Adam(*critic_flat, config.critic_lr, config.critic_weight_decay)
        self.bfloat16 = in_bfloat16(config.precision)
        """Whether products are computed in bfloat16."""
        size = (config.batch_size, self.bfloat16)
        self._embedding = EmbeddingPass(self.actor.embedding, self.pair_embedding, *size)
        self._actor = ActorPass(self.actor.mlp, *size)
        self._critics = [CriticPass(critic, *size) for critic in self.critics]
        self._target_actor = ActorPass(self.target_actor.module, *size)
        self._target_critics = [CriticPass(critic, *size) for critic in self.target_critics.module]
        self._unit = 1.0
        self._teacher_weight = config.teacher_weight
        self.mu = GreedyPolicy(self.actor, self.normalizer)
        """The newest actor's action ``mu(s)`` for one raw observation: what exploration adds noise to."""
        self._average = GreedyPolicy(self.averaged_actor.module, self.normalizer)
        self.trials = Trials(self.averaged_actor.module, self.normalizer, config.trial_every, config.trial_episodes)
        candidates = (self.trials.tried, self.trials.kept)
        self._tried, self._kept = (GreedyPolicy(one.actor, one.normalizer) for one in candidates)
        self.generator = torch.Generator().manual_seed(seed)
        self._smoothing = torch.zeros(config.batch_size, action_size)
        self._ascent = torch.full((config.batch_size, 1), -1.0 / config.batch_size)  # of -mean Q with respect to Q

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The action, (actions,) in [-1, 1], of the actor that is evaluated, kept and exported."""
        return (self._kept if self.trials.found else self._average)(observation)

    def begin_round(self) -> None:
        """A round of training episodes begins, one in each environment."""
        if self.updates:
            self.trials.begin()

    def explore(self, observation: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """The actor's action with noise, in [-1, 1]; without, that of an actor that is on trial."""
        if self.trials.running:
            return self._tried(observation)
        return np.clip(self.mu(observation) + noise, -1.0, 1.0)

    def observe_episode(self, rewards: list[float]) -> None:
        """Takes the rewards of an episode of training that is over."""
        self.returns.observe(rewards)
        if self.trials.running:
            self.trials.observe_episode(sum(rewards))

    @torch.inference_mode()
    def update(self, batch: Batch) -> Losses:
        """One update of the critic, and, every `actor_delay` times, of the actor; their targets follow."""
        config = self.config
        observation = self.normalizer.normalize_batch(batch.observation)
        next_observation = self.normalizer.normalize_batch(batch.next_observation)
        self._train_mode(True)
        self._follow_returns()

        # Embeddings, where there are any: minimise mean (g(f(s), a) - f(s'))^2. Actor and critics see [s, f(s)], critics
        # [g(f(s), a), a] in the place of a.
        next_features, features, pair = self._embed(observation, batch.action, next_observation)

        # Critics: minimise L = mean w (Q(s, a) - y)^2 with y = r + gamma^k Q'(s', mu'(s')), within what returns can be.
        next_action = self._target_actor.forward(next_features)  # (batch, actions)
        y = batch.reward * self._unit + batch.discount * self._next_value(next_features, next_action)
        if config.value_margin is not None:
            lowest, highest = self.returns.bounds(config.value_margin)
            y.clamp_(lowest * self._unit, highest * self._unit)
        critic_loss, q_mean = self._critic_gradient(features, pair, y)
        self.critic_optimizer.step()
        _refresh(*self._critics)

        # Actor: ascend mean Q(s, mu(s)) along the deterministic policy gradient, dQ/da dmu/dtheta.
        actor_loss = None
        if self.updates % config.actor_delay == 0:
            actor_loss = self._actor_gradient(features, next_action, batch.teacher_action)
            self.actor_optimizer.step()

        if config.embedding:
            self.state_embedding_optimizer.step()
            self.pair_embedding_optimizer.step()
            _refresh(self._embedding)

        # Targets: theta' <- tau theta + (1 - tau) theta'.
        self.target_critics.follow(config.tau)
        if actor_loss is not None:
            self.target_actor.follow(config.tau)
            # At first over the last tenth of all updates, or short trainings would keep the actor that they began with.
            count = 1 + self.updates // config.actor_delay
            self.averaged_actor.follow(max(config.actor_averaging, 10.0 / (10.0 + count)))
            _refresh(self._actor, self._target_actor)
        _refresh(*self._target_critics)

        self.updates += 1
        self._train_mode(False)
        return Losses(critic_loss, actor_loss, q_mean / self._unit)

    def _embed(self, observation: Tensor, action: Tensor, next_observation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``[s', f(s')]``, ``[s, f(s)]`` and ``[g(f(s), a), a]``; writes the gradients of the embeddings' loss."""
        next_features = self._embedding.features(next_observation)
        features = self._embedding.features(observation)
        pair = self._embedding.pair(features, action)
        if self.config.embedding:
            self._embedding.backward(pair, next_features)
        return next_features, features, pair

    def _critic_gradient(self, features: Tensor, pair: Tensor, y: Tensor) -> tuple[float, float]:
        """Writes the gradient of all critics' losses for targets y, (batch, 1); returns the loss and the last's mean value."""
        loss, q_mean = 0.0, 0.0
        for critic in self._critics:
            q = critic.forward(features, pair)  # (batch, 1)
            q_mean = _mean(q)
            own_loss, gradient = squared_error(q, y, self.config.critic_expectile)
            critic.backward(gradient)
            loss += own_loss
        return loss, q_mean

    def _actor_gradient(self, features: Tensor, next_action: Tensor, taught: Tensor | None) -> float:
        """Writes the gradient of the actor's loss and returns ``-mean Q(s, mu(s))``; `next_action` is mu'(s')."""
        config, critic = self.config, self._critics[0]
        action = self._actor.forward(features)
        q = critic.forward(features, self._embedding.pair(features, action))
        action_gradient = self._embedding.action_gradient(critic.pair_gradient(self._ascent))
        if config.smoothness:  # of smoothness * mean |mu(s) - mu'(s')|^2, mu' held fixed
            action_gradient.add_(action - next_action, alpha=2.0 * config.smoothness / config.batch_size)
        if taught is not None and self._teacher_weight:  # of weight * mean |mu(s) - a|^2, a the teacher's action
            action_gradient.add_(action - taught, alpha=2.0 * self._teacher_weight / config.batch_size)
        self._actor.backward(action_gradient, self._saturation_gradient())
        return -_mean(q)

    def value(self, observation: Tensor, action: Tensor) -> Tensor:
        """Mean of the critics' values in their own unit, (k, 1), of normalised observations and actions, any number."""
        features = self.actor.features(observation)
        pair = self.pair_embedding(features, action)
        return torch.stack([critic(features, pair) for critic in self.critics]).mean(0)

    def actor_slope(self) -> float:
        """Mean slope ``1 - a^2`` of the actor's tanh over the last batch: near 0, no gradient comes through."""
        return 1.0 - self._actor.action.square().mean().item()

    def set_progress(self, fraction: float) -> None:
        """Sets the step sizes for this fraction (0 to 1) of the training."""
        scale = annealed(1.0, self.config.lr_final_fraction, fraction)
        self.actor_optimizer.lr = self.config.actor_lr * scale
        self.critic_optimizer.lr = self.config.critic_lr * scale
        for optimizer in (self.state_embedding_optimizer, self.pair_embedding_optimizer):
            optimizer.lr = self.config.embedding_lr * scale
        self._teacher_weight = annealed(self.config.teacher_weight, self.config.teacher_weight_final, fraction)

    def state(self) -> dict[str, Tensor]:
        """Complete state as named tensors."""
        parts: dict[str, dict[str, Tensor]] = {name: part.state_dict() for name, part in self._parts()}
        parts["normalizer_statistics"] = self.normalizer.statistics()
        counters = {"updates": torch.tensor(self.updates), "unit": torch.tensor(self._unit, dtype=torch.float64)}
        parts["agent"] = {"generator": self.generator.get_state(), **counters}
        return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    def policy_state(self) -> dict[str, Tensor]:
        """What acting needs: the actor that `act` uses, as `actor`, and the normaliser's statistics."""
        if self.trials.found:
            return self.trials.kept.state_dict()
        return acting_state(self.averaged_actor.module, self.normalizer)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restores what `state` gave, bit for bit."""

        def part(name: str) -> dict[str, Tensor]:
            return {key[len(name) + 1 :]: value for key, value in state.items() if key.startswith(name + ".")}

        for name, module_or_optimizer in self._parts():
            module_or_optimizer.load_state_dict(part(name))
        self.normalizer.load_statistics(part("normalizer_statistics"))
        self.generator.set_state(state["agent.generator"])
        self.updates = int(state["agent.updates"])
        self._unit = float(state["agent.unit"])
        self.refresh()

    def refresh(self) -> None:
        """Takes over the networks' parameters as they are, after they were changed from outside."""
        _refresh(self._embedding, self._actor, self._target_actor, *self._critics, *self._target_critics)

    def _next_value(self, features: Tensor, action: Tensor) -> Tensor:
        """``Q'(s', a')``: the smallest of the target critics' values, or of those and the critics' own; (batch, 1)."""
        pair = self._embedding.pair(features, self._smooth(action))
        critics = self._target_critics + (self._critics if self.config.newest_in_targets else [])
        return functools.reduce(torch.minimum, (critic.forward(features, pair) for critic in critics))

    def _follow_returns(self) -> None:
        """Changes the critics' unit to that of the newest returns without changing what they say (Pop-Art).

        The last layers carry the change. Without it the critics would go on saying the old numbers for as long as values
        take to spread, which in a growing unit reads as overestimation.
        """
        if not self.config.value_scale or not self.returns.rms:
            return
        change = self.config.value_scale / self.returns.rms / self._unit
        if abs(change - 1.0) < 0.01:
            return
        self._unit *= change
        if not self.updates:
            return  # what the critics say is still random: it needs no keeping
        for critic in (*self.critics, *self.target_critics.module):
            critic.after[-1].weight.mul_(change)
            critic.after[-1].bias.mul_(change)
        _refresh(*self._critics, *self._target_critics)

    def _smooth(self, action: Tensor) -> Tensor:
        """Target policy smoothing (Fujimoto et al. 2018); the action itself where it is switched off."""
        config = self.config
        if not config.target_noise:
            return action
        noise = self._smoothing.normal_(0.0, config.target_noise, generator=self.generator)
        return (action + noise.clamp_(-config.target_noise_clip, config.target_noise_clip)).clamp_(-1.0, 1.0)

    def _saturation_gradient(self) -> Tensor | None:
        """Gradient of ``penalty * mean max(|u| - 1, 0)^2`` with respect to the actor's pre-activation u."""
        penalty = self.config.saturation_penalty
        if not penalty:
            return None
        u = self._actor.preactivation.numpy()
        excess = u - np.clip(u, -1.0, 1.0)
        excess *= 2.0 * penalty / u.size
        return torch.from_numpy(excess)

    def _train_mode(self, on: bool) -> None:
        """Only batch normalisation tells the modes apart."""
        if self.config.batch_norm:
            self.actor.train(on)
            self.critics.train(on)

    def _parts(self) -> list[tuple[str, Part]]:
        embeddings: list[tuple[str, Part]] = [
            ("pair_embedding", self.pair_embedding),
            ("state_embedding_optimizer", self.state_embedding_optimizer),
            ("pair_embedding_optimizer", self.pair_embedding_optimizer),
        ]
        return [
            *(embeddings if self.config.embedding else []),
            *([("trials", self.trials)] if self.config.trial_every else []),
            ("actor", self.actor),
            ("critics", self.critics),
            ("target_actor", self.target_actor.module),
            ("averaged_actor", self.averaged_actor.module),
            ("target_critics", self.target_critics.module),
            ("actor_optimizer", self.actor_optimizer),
            ("critic_optimizer", self.critic_optimizer),
            ("returns", self.returns),
        ]


Part = torch.nn.Module | Adam | Returns | Trials


def _refresh(*passes: ActorPass | CriticPass | EmbeddingPass) -> None:
    for one in passes:
        one.refresh()


def squared_error(q: Tensor, y: Tensor, expectile: float) -> tuple[float, Tensor]:
    """``L = mean w (q - y)^2`` and its gradient for values q and targets y; all (batch, 1).

    ``w = 2 (1 - expectile)`` where q is above y, else ``2 expectile``: 1 for expectile 0.5, the mean squared error.
    """
    # In numpy: on so few numbers, torch's time goes by the call.
    error = q.numpy() - y.numpy()
    with np.errstate(over="ignore", invalid="ignore"):  # the caller looks whether the loss is finite
        weighted = np.where(error > 0.0, np.float32(2.0 * (1.0 - expectile)), np.float32(2.0 * expectile)) * error
        return float(np.vdot(weighted, error)) / len(error), torch.from_numpy(weighted * np.float32(2.0 / len(error)))


def _mean(q: Tensor) -> float:
    return float(q.numpy().sum()) / len(q)
