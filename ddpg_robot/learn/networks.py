"""Actor and critic, and the flat buffers that make their optimisation and averaging single calls."""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ddpg_robot.learn.backprop import backprop, row_pass
from ddpg_robot.learn.config import DdpgConfig
from ddpg_robot.learn.native import native
from ddpg_robot.learn.normalizer import Normalizer


class Actor(nn.Module):
    """The deterministic policy ``a = tanh(mlp(s))`` in [-1, 1]; input is the normalised observation."""

    def __init__(self, observation_size: int, action_size: int, config: DdpgConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.BatchNorm1d(observation_size)] if config.batch_norm else []
        size = observation_size
        for units in config.actor_hidden:
            layers += _hidden(size, units, batch_norm=config.batch_norm)
            size = units
        layers.append(_linear(size, action_size, config.actor_final_init))
        self.mlp = nn.Sequential(*layers)

    def forward(self, observation: Tensor) -> Tensor:
        """Actions, shape (batch, actions), for normalised observations, shape (batch, observations)."""
        return torch.tanh(self.mlp(observation))


class Critic(nn.Module):
    """The action value ``Q(s, a)``; the action enters at layer `critic_action_layer`."""

    def __init__(self, observation_size: int, action_size: int, config: DdpgConfig) -> None:
        super().__init__()
        enters = config.critic_action_layer
        before: list[nn.Module] = [nn.BatchNorm1d(observation_size)] if config.batch_norm else []
        size = observation_size
        for units in config.critic_hidden[:enters]:
            before += _hidden(size, units, layer_norm=config.critic_layer_norm, batch_norm=config.batch_norm)
            size = units
        after: list[nn.Module] = []
        size += action_size
        for units in config.critic_hidden[enters:]:
            after += _hidden(size, units, layer_norm=config.critic_layer_norm)
            size = units
        after.append(_linear(size, 1, config.critic_final_init))
        self.before = nn.Sequential(*before)
        self.after = nn.Sequential(*after)

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Values, shape (batch, 1)."""
        return self.after(torch.cat((self.before(observation), action), dim=1))


class Critics(nn.ModuleList):
    """Critics that differ in their initial weights alone."""

    def __init__(self, observation_size: int, action_size: int, config: DdpgConfig) -> None:
        super().__init__(Critic(observation_size, action_size, config) for _ in range(config.critics))


class ActorPass:
    """The actor's forward and backward pass on a fixed number of rows.

    Args:
        actor: the network.
        batch_size: rows.
        bfloat16: whether the products of wide layers are in bfloat16.
    """

    def __init__(self, actor: Actor, batch_size: int, bfloat16: bool) -> None:
        self._mlp = backprop(actor.mlp, batch_size, bfloat16)

    def refresh(self) -> None:
        """Takes over the parameters as they are now; called after each change of them."""
        self._mlp.refresh()

    def forward(self, observation: Tensor) -> Tensor:
        """Actions ``tanh(u)``, shape (batch, actions); the pre-activation u stays in `preactivation`."""
        self.preactivation = self._mlp.forward(observation)
        self.action = torch.from_numpy(np.tanh(self.preactivation.numpy()))
        return self.action

    def backward(self, action_gradient: Tensor, preactivation_gradient: Tensor | None = None) -> None:
        """Writes the parameters' gradients for the loss's gradient with respect to action (and pre-activation)."""
        action = self.action.numpy()  # on so few numbers, torch's time goes by the call
        gradient = action_gradient.numpy() * (1.0 - action * action)  # d tanh(u) / du = 1 - tanh(u)^2
        if preactivation_gradient is not None:
            gradient += preactivation_gradient.numpy()
        self._mlp.backward(torch.from_numpy(gradient), inputs=False)


class CriticPass:
    """The critic's forward and backward passes on a fixed number of rows; arguments as of `ActorPass`."""

    def __init__(self, critic: Critic, batch_size: int, bfloat16: bool) -> None:
        self._before = backprop(critic.before, batch_size, bfloat16)
        self._after = backprop(critic.after, batch_size, bfloat16)
        self._has_before = len(critic.before) > 0

    def refresh(self) -> None:
        """Takes over the parameters as they are now; called after each change of them."""
        self._before.refresh()
        self._after.refresh()

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Values, shape (batch, 1)."""
        self._features = self._before.forward(observation)
        return self._after.forward(self._features, action)

    def backward(self, value_gradient: Tensor) -> None:
        """Writes the parameters' gradients for the loss's gradient with respect to the values, shape (batch, 1)."""
        gradient = self._after.backward(value_gradient, inputs=self._has_before)
        if gradient is not None:
            self._before.backward(gradient[:, : self._features.shape[1]].contiguous(), inputs=False)

    def action_gradient(self, value_gradient: Tensor) -> Tensor:
        """The gradient with respect to the actions, shape (batch, actions); leaves the parameters' gradients alone."""
        return self._after.backward(value_gradient, parameters=False, first=self._features.shape[1])


class GreedyPolicy:
    """The actor without exploration, from one raw observation to one action, in numpy."""

    def __init__(self, actor: Actor, normalizer: Normalizer) -> None:
        self._normalizer = normalizer
        self._mlp = row_pass(actor.mlp)
        self._input = np.zeros(len(normalizer.mean), np.float32)

    @torch.inference_mode()
    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Action in [-1, 1], shape (actions,), float32, for a raw observation, shape (observations,)."""
        self._input[:] = self._normalizer.normalize(observation)
        return np.tanh(self._mlp.row(self._input))


def mlp(inputs: int, outputs: int, hidden: tuple[int, ...], layer_norm: bool = False) -> nn.Sequential:
    """A plain stack of layers, built and initialised as those of actor and critic."""
    layers: list[nn.Module] = []
    for units in hidden:
        layers += _hidden(inputs, units, layer_norm=layer_norm)
        inputs = units
    return nn.Sequential(*layers, _linear(inputs, outputs))


def _linear(inputs: int, outputs: int, bound: float | None = None) -> nn.Linear:
    """A linear layer, uniform within plus and minus `bound`, or 1/sqrt(fan-in) (Lillicrap et al. 2016, section 7)."""
    layer = nn.Linear(inputs, outputs)
    bound = 1.0 / math.sqrt(inputs) if bound is None else bound
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.uniform_(layer.bias, -bound, bound)
    return layer


def _hidden(inputs: int, units: int, layer_norm: bool = False, batch_norm: bool = False) -> list[nn.Module]:
    layers: list[nn.Module] = [_linear(inputs, units)]
    if layer_norm:
        layers.append(nn.LayerNorm(units))
    if batch_norm:
        layers.append(nn.BatchNorm1d(units))
    return [*layers, nn.ReLU(inplace=True)]


class Flat(NamedTuple):
    """All parameters and all gradients of a module as one vector each."""

    parameter: Tensor
    gradient: Tensor


def flatten_parameters(module: nn.Module) -> Flat:
    """Moves all parameters and gradients of a module into two flat vectors, of which they become views.

    The optimiser and the Polyak average then work on one tensor: one call instead of one per layer. Each layer starts
    at a multiple of 64 bytes, which keeps matrix products fast, and equal from one process to the next.
    """
    parameters = list(module.parameters())
    starts, end = [], 0
    for parameter in parameters:
        starts.append(end)
        end += -(-parameter.numel() // 16) * 16
    flat = Flat(torch.zeros(end), torch.zeros(end))
    for parameter, start in zip(parameters, starts, strict=True):
        part = slice(start, start + parameter.numel())
        flat.parameter[part] = parameter.detach().reshape(-1)
        parameter.data = flat.parameter[part].view_as(parameter)
        parameter.grad = flat.gradient[part].view_as(parameter)
    return flat


class TargetNetwork:
    """A slowly following copy of a network: ``theta' <- tau theta + (1 - tau) theta'`` (Polyak averaging).

    Running statistics of batch normalisation follow in the same way; the copy always runs in evaluation mode.
    """

    def __init__(self, source: nn.Module, source_flat: Flat) -> None:
        self.module = copy.deepcopy(source).requires_grad_(False).eval()
        self.flat = flatten_parameters(self.module)
        self._source_parameter = source_flat.parameter
        self._native = native()
        self._buffers = [b for b in self.module.buffers() if b.is_floating_point()]
        self._source_buffers = [b for b in source.buffers() if b.is_floating_point()]

    def follow(self, tau: float) -> None:
        """Moves by the fraction tau towards the source."""
        if self._native is not None:
            self._native.follow(self.flat.parameter, self._source_parameter, tau)
        else:
            self.flat.parameter.lerp_(self._source_parameter, tau)
        if self._buffers:
            torch._foreach_lerp_(self._buffers, self._source_buffers, tau)
