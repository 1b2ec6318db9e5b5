"""Deep deterministic policy gradient (Lillicrap et al. 2016, arXiv 1509.02971), with the options of `DdpgConfig`."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ddpg_robot.learn.config import DdpgConfig
from ddpg_robot.learn.networks import Actor, Critic, GreedyPolicy, TargetNetwork, flatten_parameters
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

    def __init__(self, observation_size: int, action_size: int, config: DdpgConfig, seed: int) -> None:
        self.config = config
        self.updates = 0
        self.normalizer = Normalizer(observation_size, config.normalize_observations)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            self.actor = Actor(observation_size, action_size, config).eval()
            self.critic = Critic(observation_size, action_size, config).eval()
        self._actor_flat = flatten_parameters(self.actor)
        self._critic_flat = flatten_parameters(self.critic)
        self.target_actor = TargetNetwork(self.actor, self._actor_flat)
        self.target_critic = TargetNetwork(self.critic, self._critic_flat)
        self.actor_optimizer = torch.optim.Adam([self._actor_flat], config.actor_lr, fused=True)
        self.critic_optimizer = torch.optim.Adam(
            [self._critic_flat], config.critic_lr, weight_decay=config.critic_weight_decay, fused=True
        )
        self.generator = torch.Generator().manual_seed(seed)
        self._smoothing = torch.zeros(config.batch_size, action_size)
        self.act = GreedyPolicy(self.actor, self.normalizer)
        """The actor's action ``mu(s)`` for one raw observation."""

    def update(self, batch: Batch) -> Losses:
        """One update of the critic, and, every `actor_delay` times, of the actor; their targets follow."""
        config = self.config
        observation = self.normalizer(batch.observation)
        next_observation = self.normalizer(batch.next_observation)
        self._train_mode(True)

        # Critic: minimise (Q(s, a) - y)^2 with y = r + gamma^k Q'(s', mu'(s')).
        with torch.no_grad():
            next_action = self._smooth(self.target_actor.module(next_observation))
            y = batch.reward + batch.discount * self.target_critic.module(next_observation, next_action)  # (batch, 1)
        q = self.critic(observation, batch.action)  # (batch, 1)
        critic_loss = (q - y).square().mean()
        self._critic_flat.grad.zero_()
        critic_loss.backward()
        self.critic_optimizer.step()
        self.target_critic.follow(config.tau)

        # Actor: ascend Q(s, mu(s)), the deterministic policy gradient through the critic.
        actor_loss = None
        if self.updates % config.actor_delay == 0:
            self.critic.requires_grad_(False)
            preactivation = self.actor.mlp(observation)  # (batch, actions)
            actor_loss = -self.critic(observation, torch.tanh(preactivation)).mean()
            if config.saturation_penalty:
                excess = (preactivation.abs() - 1.0).clamp(min=0.0)
                actor_loss = actor_loss + config.saturation_penalty * excess.square().mean()
            self._actor_flat.grad.zero_()
            actor_loss.backward()
            self.actor_optimizer.step()
            self.target_actor.follow(config.tau)
            self.critic.requires_grad_(True)

        self.updates += 1
        self._train_mode(False)
        return Losses(critic_loss.item(), None if actor_loss is None else actor_loss.item(), q.mean().item())

    def set_progress(self, fraction: float) -> None:
        """Sets the step sizes for this fraction (0 to 1) of the training."""
        scale = 1.0 + (self.config.lr_final_fraction - 1.0) * fraction
        self.actor_optimizer.param_groups[0]["lr"] = self.config.actor_lr * scale
        self.critic_optimizer.param_groups[0]["lr"] = self.config.critic_lr * scale

    def state(self) -> dict[str, Tensor]:
        """Complete state as named tensors."""
        parts: dict[str, dict[str, Any]] = {name: module.state_dict() for name, module in self._modules()}
        parts |= {name: _adam_state(optimizer) for name, optimizer in self._optimizers()}
        parts["normalizer_statistics"] = self.normalizer.statistics()
        parts["agent"] = {"generator": self.generator.get_state(), "updates": torch.tensor(self.updates)}
        return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restores what `state` gave, bit for bit."""
        for name, module in self._modules():
            module.load_state_dict(_part(state, name))
        for name, optimizer in self._optimizers():
            _load_adam_state(optimizer, _part(state, name))
        self.normalizer.load_statistics(_part(state, "normalizer_statistics"))
        self.generator.set_state(state["agent.generator"])
        self.updates = int(state["agent.updates"])

    def _smooth(self, action: Tensor) -> Tensor:
        """Target policy smoothing (Fujimoto et al. 2018); the action itself where it is switched off."""
        config = self.config
        if not config.target_noise:
            return action
        noise = self._smoothing.normal_(0.0, config.target_noise, generator=self.generator)
        return (action + noise.clamp_(-config.target_noise_clip, config.target_noise_clip)).clamp_(-1.0, 1.0)

    def _train_mode(self, on: bool) -> None:
        """Only batch normalisation tells the modes apart."""
        if self.config.batch_norm:
            self.actor.train(on)
            self.critic.train(on)

    def _modules(self) -> list[tuple[str, torch.nn.Module]]:
        return [
            ("actor", self.actor),
            ("critic", self.critic),
            ("target_actor", self.target_actor.module),
            ("target_critic", self.target_critic.module),
        ]

    def _optimizers(self) -> list[tuple[str, torch.optim.Adam]]:
        return [("actor_optimizer", self.actor_optimizer), ("critic_optimizer", self.critic_optimizer)]


def _part(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key[len(name) + 1 :]: value for key, value in state.items() if key.startswith(name + ".")}


def _adam_state(optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    """Moments and step count of an optimiser of one flat parameter; empty before its first step."""
    (parameter,) = optimizer.param_groups[0]["params"]
    return dict(optimizer.state.get(parameter, {}))


def _load_adam_state(optimizer: torch.optim.Adam, state: dict[str, Tensor]) -> None:
    (parameter,) = optimizer.param_groups[0]["params"]
    optimizer.state.pop(parameter, None)
    if state:
        optimizer.state[parameter] = {name: tensor.clone() for name, tensor in state.items()}
