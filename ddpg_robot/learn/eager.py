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
    def _critic_gradient(self, observation: Tensor, action: Tensor, y: Tensor) -> tuple[float, float]:
        observation, y = observation.clone(), y.clone()  # made in inference mode, where nothing is recorded
        q = torch.cat([critic(observation, action) for critic in self.critics], dim=1)  # (batch, critics)
        error = q - y
        weight = 2.0 * torch.abs((error > 0).float() - self.config.critic_expectile)
        loss = (weight * error.square()).mean(dim=0).sum()
        _write_gradient(loss, self.critics)
        return loss.item(), q[:, -1].mean().item()

    @torch.inference_mode(False)
    def _actor_gradient(self, observation: Tensor, next_action: Tensor, taught: Tensor | None) -> float:
        config = self.config
        u = self.actor.mlp(observation.clone())  # (batch, actions)
        action = torch.tanh(u)
        value = self.critics[0](observation.clone(), action).mean()
        saturation = (u.abs() - 1.0).clamp(min=0.0).square().mean()
        change = (action - next_action.clone()).square().sum(dim=1).mean()
        loss = config.saturation_penalty * saturation + config.smoothness * change - value
        if taught is not None:
            loss = loss + self._teacher_weight * (action - taught.clone()).square().sum(dim=1).mean()
        _write_gradient(loss, self.actor)
        self._actor.action = action.detach()  # what `actor_slope` looks at
        return -value.item()


def _write_gradient(loss: Tensor, module: nn.Module) -> None:
    parameters = list(module.parameters())
    for parameter in parameters:
        parameter.grad.zero_()
    loss.backward(inputs=parameters)
