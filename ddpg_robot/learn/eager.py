"""The gradients of DDPG as they are usually made, by autograd: what the chain rule written out is measured against."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from ddpg_robot.learn.config import DdpgConfig
from ddpg_robot.learn.ddpg import Ddpg


class EagerDdpg(Ddpg):
    """The same agent in float32, slower; it learns the same but for rounding."""

    def __init__(self, observation_size: int, action_size: int, config: DdpgConfig, seed: int) -> None:
        super().__init__(observation_size, action_size, dataclasses.replace(config, precision="float32"), seed)

    @torch.inference_mode(False)
    def _embed(self, observation: Tensor, action: Tensor, next_observation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        observation, next_observation = observation.clone(), next_observation.clone()  # made where nothing is recorded
        features, next_features = self.actor.features(observation), self.actor.features(next_observation).detach()
        pair = self.pair_embedding(features, action.clone())
        units = self.config.embedding
        if units:
            loss = (pair[:, :units] - next_features[:, -units:]).square().mean()
            _write_gradient(loss, self.actor.embedding, self.pair_embedding)
        return next_features, features.detach(), pair.detach()

    @torch.inference_mode(False)
    def _critic_gradient(self, features: Tensor, pair: Tensor, y: Tensor) -> tuple[float, float]:
        y = y.clone()
        q = torch.cat([critic(features, pair) for critic in self.critics], dim=1)  # (batch, critics)
        error = q - y
        weight = 2.0 * torch.abs((error > 0).float() - self.config.critic_expectile)
        loss = (weight * error.square()).mean(dim=0).sum()
        _write_gradient(loss, self.critics)
        return loss.item(), q[:, -1].mean().item()

    @torch.inference_mode(False)
    def _actor_gradient(self, features: Tensor, next_action: Tensor, taught: Tensor | None) -> float:
        config = self.config
        u = self.actor.mlp(features)  # (batch, actions)
        action = torch.tanh(u)
        value = self.critics[0](features, self.pair_embedding(features, action)).mean()
        saturation = (u.abs() - 1.0).clamp(min=0.0).square().mean()
        change = (action - next_action.clone()).square().sum(dim=1).mean()
        loss = config.saturation_penalty * saturation + config.smoothness * change - value
        if taught is not None:
            loss = loss + self._teacher_weight * (action - taught.clone()).square().sum(dim=1).mean()
        _write_gradient(loss, self.actor.mlp)
        self._actor.action = action.detach()  # what `actor_slope` looks at
        return -value.item()


def _write_gradient(loss: Tensor, *modules: nn.Module) -> None:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    for parameter in parameters:
        parameter.grad.zero_()
    loss.backward(inputs=parameters)
