"""Deep deterministic policy gradient (Lillicrap et al. 2016, arXiv 1509.02971), with the options of `DdpgConfig`."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddpg_robot.learn.adam import Adam
from ddpg_robot.learn.config import DdpgConfig
from ddpg_robot.learn.networks import (
    Actor,
    ActorPass,
    Critic,
    CriticPass,
    GreedyPolicy,
    TargetNetwork,
    flatten_parameters,
)
from ddpg_robot.learn.normalizer import Normalizer
from ddpg_robot.learn.replay import Batch


class Losses(NamedTuple):
    """What one update reports."""

    critic: float
    actor: float | None
    """None where the actor was not updated."""
    q_mean: float


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
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            self.actor = Actor(observation_size, action_size, config).eval()
            self.critic = Critic(observation_size, action_size, config).eval()
        actor_flat, critic_flat = flatten_parameters(self.actor), flatten_parameters(self.critic)
        self.target_actor = TargetNetwork(self.actor, actor_flat)
        self.target_critic = TargetNetwork(self.critic, critic_flat)
        self.actor_optimizer = Adam(*actor_flat, config.actor_lr)
        self.critic_optimizer = Adam(*critic_flat, config.critic_lr, config.critic_weight_decay)
        self._actor = ActorPass(self.actor, config.batch_size)
        self._critic = CriticPass(self.critic, config.batch_size)
        self._target_actor = ActorPass(self.target_actor.module, config.batch_size)
        self._target_critic = CriticPass(self.target_critic.module, config.batch_size)
        self.act = GreedyPolicy(self.actor, self.normalizer)
        """The actor's action ``mu(s)`` for one raw observation."""
        self.generator = torch.Generator().manual_seed(seed)
        self._smoothing = torch.zeros(config.batch_size, action_size)

    def explore(self, observation: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """The actor's action with noise, in [-1, 1]."""
        return np.clip(self.act(observation) + noise, -1.0, 1.0)

    @torch.inference_mode()
    def update(self, batch: Batch) -> Losses:
        """One update of the critic, and, every `actor_delay` times, of the actor; their targets follow."""
        config = self.config
        observation = self.normalizer(batch.observation)
        next_observation = self.normalizer(batch.next_observation)
        self._train_mode(True)

        # Critic: minimise L = mean (Q(s, a) - y)^2 with y = r + gamma^k Q'(s', mu'(s')).
        next_action = self._target_actor.forward(next_observation)  # (batch, actions)
        next_q = self._target_critic.forward(next_observation, self._smooth(next_action))  # (batch, 1)
        y = batch.reward + batch.discount * next_q
        q = self._critic.forward(observation, batch.action)  # (batch, 1)
        error = q - y
        critic_loss, q_mean = error.square().mean().item(), q.mean().item()
        self._critic.backward(error.mul_(2.0 / config.batch_size))  # dL/dQ = 2 (Q - y) / batch
        self.critic_optimizer.step()

        # Actor: ascend mean Q(s, mu(s)) along the deterministic policy gradient, dQ/da dmu/dtheta.
        actor_loss = None
        if self.updates % config.actor_delay == 0:
            action = self._actor.forward(observation)
            q = self._critic.forward(observation, action)
            actor_loss = -q.mean().item()
            action_gradient = self._critic.action_gradient(torch.full_like(q, -1.0 / config.batch_size))
            if config.smoothness:  # of smoothness * mean |mu(s) - mu'(s')|^2, mu' held fixed
                action_gradient.add_(action - next_action, alpha=2.0 * config.smoothness / config.batch_size)
            self._actor.backward(action_gradient, self._saturation_gradient())
            self.actor_optimizer.step()

        # Targets: theta' <- tau theta + (1 - tau) theta'.
        self.target_critic.follow(config.tau)
        if actor_loss is not None:
            self.target_actor.follow(config.tau)

        self.updates += 1
        self._train_mode(False)
        return Losses(critic_loss, actor_loss, q_mean)

    def actor_slope(self) -> float:
        """Mean slope ``1 - a^2`` of the actor's tanh over the last batch: near 0, no gradient comes through."""
        return 1.0 - self._actor.action.square().mean().item()

    def set_progress(self, fraction: float) -> None:
        """Sets the step sizes for this fraction (0 to 1) of the training."""
        scale = 1.0 + (self.config.lr_final_fraction - 1.0) * fraction
        self.actor_optimizer.lr = self.config.actor_lr * scale
        self.critic_optimizer.lr = self.config.critic_lr * scale

    def state(self) -> dict[str, Tensor]:
        """Complete state as named tensors."""
        parts: dict[str, dict[str, Tensor]] = {name: part.state_dict() for name, part in self._parts()}
        parts["normalizer_statistics"] = self.normalizer.statistics()
        parts["agent"] = {"generator": self.generator.get_state(), "updates": torch.tensor(self.updates)}
        return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restores what `state` gave, bit for bit."""

        def part(name: str) -> dict[str, Tensor]:
            return {key[len(name) + 1 :]: value for key, value in state.items() if key.startswith(name + ".")}

        for name, module_or_optimizer in self._parts():
            module_or_optimizer.load_state_dict(part(name))
        self.normalizer.load_statistics(part("normalizer_statistics"))
        self.generator.set_state(state["agent.generator"])
        self.updates = int(state["agent.updates"])

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
        u = self._actor.preactivation
        return (u - u.clamp(-1.0, 1.0)).mul_(2.0 * penalty / u.numel())

    def _train_mode(self, on: bool) -> None:
        """Only batch normalisation tells the modes apart."""
        if self.config.batch_norm:
            self.actor.train(on)
            self.critic.train(on)

    def _parts(self) -> list[tuple[str, torch.nn.Module | Adam]]:
        return [
            ("actor", self.actor),
            ("critic", self.critic),
            ("target_actor", self.target_actor.module),
            ("target_critic", self.target_critic.module),
            ("actor_optimizer", self.actor_optimizer),
            ("critic_optimizer", self.critic_optimizer),
        ]
