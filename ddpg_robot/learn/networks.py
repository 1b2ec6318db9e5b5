"""Actor and critic, and the flat buffers that make their optimisation and averaging single calls."""

from __future__ import annotations

import copy
import itertools
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
    """The deterministic policy ``a = tanh(mlp(s, f(s)))`` in [-1, 1]; input is the normalised observation.

    f is the state's embedding, which does not learn with the actor; without one the stack is empty.
    """

    def __init__(self, observation_size: int, action_size: int, config: DdpgConfig) -> None:
        super().__init__()
        embedding: list[nn.Module] = []
        if config.embedding:
            for inputs in (observation_size, config.embedding, config.embedding):
                embedding += _hidden(inputs, config.embedding, layer_norm=True)
        self.embedding = nn.Sequential(*embedding)
        layers: list[nn.Module] = [nn.BatchNorm1d(observation_size)] if config.batch_norm else []
        size = observation_size + config.embedding
        for units in config.actor_hidden:
            layers += _hidden(size, units, batch_norm=config.batch_norm)
            size = units
        layers.append(_linear(size, action_size, config.actor_final_init))
        self.mlp = nn.Sequential(*layers)

    def forward(self, observation: Tensor) -> Tensor:
        """Actions, shape (batch, actions), for normalised observations, shape (batch, observations)."""
        return torch.tanh(self.mlp(self.features(observation)))

    def features(self, observation: Tensor) -> Tensor:
        """``[s, f(s)]``, shape (batch, observations + embedding)."""
        return torch.cat((observation, self.embedding(observation)), dim=1) if len(self.embedding) else observation


class PairEmbedding(nn.Module):
    """The embedding ``g(f(s), a)`` of a state with an action, which foretells the next state's ``f(s')``."""

    def __init__(self, action_size: int, config: DdpgConfig) -> None:
        super().__init__()
        units = config.embedding
        self.units = units
        self.mlp = mlp(units + action_size, units, (units, units), layer_norm=True) if units else nn.Sequential()

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        """``[g(f(s), a), a]``, shape (batch, embedding + actions), for what `Actor.features` returns, and actions."""
        if not self.units:
            return action
        return torch.cat((self.mlp(torch.cat((features[:, -self.units :], action), dim=1)), action), dim=1)


class Critic(nn.Module):
    """The action value ``Q(s, a)``; the action enters at layer `critic_action_layer`, its embedding with it."""

    def __init__(self, observation_size: int, action_size: int, config: DdpgConfig) -> None:
        super().__init__()
        enters = config.critic_action_layer
        before: list[nn.Module] = [nn.BatchNorm1d(observation_size)] if config.batch_norm else []
        size = observation_size + config.embedding
        for units in config.critic_hidden[:enters]:
            before += _hidden(size, units, layer_norm=config.critic_layer_norm, batch_norm=config.batch_norm)
            size = units
        after: list[nn.Module] = []
        size += config.embedding + action_size
        for units in config.critic_hidden[enters:]:
            after += _hidden(size, units, layer_norm=config.critic_layer_norm)
            size = units
        after.append(_linear(size, 1, config.critic_final_init))
        self.before = nn.Sequential(*before)
        self.after = nn.Sequential(*after)

    def forward(self, features: Tensor, pair: Tensor) -> Tensor:
        """Values, shape (batch, 1), for what `Actor.features` and `PairEmbedding` return."""
        return self.after(torch.cat((self.before(features), pair), dim=1))


class Critics(nn.ModuleList):
    """Critics that differ in their initial weights alone."""

    def __init__(self, observation_size: int, action_size: int, config: DdpgConfig) -> None:
        super().__init__(Critic(observation_size, action_size, config) for _ in range(config.critics))


class EmbeddingPass:
    """The passes of both embeddings, on a fixed number of rows; without units they leave things as they are.

    What `features` and `pair` return is overwritten by their call after next.

    Args:
        state: the state's, `Actor.embedding`.
        pair: that of a state with an action.
        batch_size: rows.
        bfloat16: whether the products of wide layers are in bfloat16.
    """

    def __init__(self, state: nn.Sequential, pair: PairEmbedding, batch_size: int, bfloat16: bool) -> None:
        self._units = pair.units
        self._state = backprop(state, batch_size, bfloat16)
        self._pair = backprop(pair.mlp, batch_size, bfloat16)
        if self._units:
            columns = state[0].in_features + self._units, pair.mlp[0].in_features
            self._features, self._pairs = (itertools.cycle(torch.empty(2, batch_size, n)) for n in columns)

    def refresh(self) -> None:
        """Takes over the parameters as they are now; called after each change of them."""
        self._state.refresh()
        self._pair.refresh()

    def features(self, observation: Tensor) -> Tensor:
        """As `Actor.features`."""
        if not self._units:
            return observation
        features = next(self._features)
        features[:, : -self._units] = observation
        self._state.forward(observation, out=features[:, -self._units :])
        return features

    def pair(self, features: Tensor, action: Tensor) -> Tensor:
        """As `PairEmbedding.forward`."""
        if not self._units:
            return action
        pair = next(self._pairs)
        pair[:, self._units :] = action
        self._pair.forward(features[:, -self._units :], action, out=pair[:, : self._units])
        return pair

    def backward(self, pair: Tensor, next_features: Tensor) -> None:
        """Writes the parameters' gradients of ``L = mean (g(f(s), a) - f(s'))^2``, f(s') held fixed.

        `pair` is what was computed last, from the features that were computed last.
        """
        error = pair[:, : self._units] - next_features[:, -self._units :]
        gradient = self._pair.backward(error.mul_(2.0 / error.numel()))
        assert gradient is not None
        self._state.backward(gradient[:, : self._units], inputs=False)

    def action_gradient(self, pair_gradient: Tensor) -> Tensor:
        """The gradient with respect to the actions of what was computed last, for that with respect to `pair`."""
        if not self._units:
            return pair_gradient
        through = self._pair.backward(pair_gradient[:, : self._units], parameters=False, first=self._units)
        return through.add_(pair_gradient[:, self._units :])


class ActorPass:
    """The actor's forward and backward pass on a fixed number of rows.

    Args:
        mlp: its stack.
        batch_size: rows.
        bfloat16: whether the products of wide layers are in bfloat16.
    """

    def __init__(self, mlp: nn.Sequential, batch_size: int, bfloat16: bool) -> None:
        self._mlp = backprop(mlp, batch_size, bfloat16)

    def refresh(self) -> None:
        """Takes over the parameters as they are now; called after each change of them."""
        self._mlp.refresh()

    def forward(self, features: Tensor) -> Tensor:
        """Actions ``tanh(u)``, shape (batch, actions); the pre-activation u stays in `preactivation`."""
        self.preactivation = self._mlp.forward(features)
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
    """The critic's forward and backward passes on a fixed number of rows; other arguments as of `ActorPass`."""

    def __init__(self, critic: Critic, batch_size: int, bfloat16: bool) -> None:
        self._before = backprop(critic.before, batch_size, bfloat16)
        self._after = backprop(critic.after, batch_size, bfloat16)
        self._has_before = len(critic.before) > 0

    def refresh(self) -> None:
        """Takes over the parameters as they are now; called after each change of them."""
        self._before.refresh()
        self._after.refresh()

    def forward(self, features: Tensor, pair: Tensor) -> Tensor:
        """Values, shape (batch, 1)."""
        self._features = self._before.forward(features)
        return self._after.forward(self._features, pair)

    def backward(self, value_gradient: Tensor) -> None:
        """Writes the parameters' gradients for the loss's gradient with respect to the values, shape (batch, 1)."""
        gradient = self._after.backward(value_gradient, inputs=self._has_before)
        if gradient is not None:
            self._before.backward(gradient[:, : self._features.shape[1]].contiguous(), inputs=False)

    def pair_gradient(self, value_gradient: Tensor) -> Tensor:
        """The gradient with respect to `pair`, of its shape; leaves the parameters' gradients alone."""
        return self._after.backward(value_gradient, parameters=False, first=self._features.shape[1])


class GreedyPolicy:
    """The actor without exploration, from one raw observation to one action, in numpy."""

    def __init__(self, actor: Actor, normalizer: Normalizer) -> None:
        self._normalizer = normalizer
        self._mlp = row_pass(actor.mlp)
        self._embedding = row_pass(actor.embedding) if len(actor.embedding) else None
        self._observation = np.zeros(len(normalizer.mean), np.float32)

    @torch.inference_mode()
    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Action in [-1, 1], shape (actions,), float32, for a raw observation, shape (observations,)."""
        features = self._observation
        features[:] = self._normalizer.normalize(observation)
        if self._embedding is not None:
            features = np.concatenate((features, self._embedding.row(features)))
        return np.tanh(self._mlp.row(features))


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

    def split(self, first: nn.Module) -> tuple[Flat, Flat]:
        """The part of the module's first child, and all that follows."""
        end = sum(_padded(parameter) for parameter in first.parameters())
        return Flat(*(vector[:end] for vector in self)), Flat(*(vector[end:] for vector in self))


def flatten_parameters(module: nn.Module) -> Flat:
    """Moves all parameters and gradients of a module into two flat vectors, of which they become views.

    The optimiser and the Polyak average then work on one tensor: one call instead of one per layer. Each layer starts
    at a multiple of 64 bytes, which keeps matrix products fast, and equal from one process to the next.
    """
    parameters = list(module.parameters())
    starts, end = [], 0
    for parameter in parameters:
        starts.append(end)
        end += _padded(parameter)
    flat = Flat(torch.zeros(end), torch.zeros(end))
    for parameter, start in zip(parameters, starts, strict=True):
        part = slice(start, start + parameter.numel())
        flat.parameter[part] = parameter.detach().reshape(-1)
        parameter.data = flat.parameter[part].view_as(parameter)
        parameter.grad = flat.gradient[part].view_as(parameter)
    return flat


def _padded(parameter: nn.Parameter) -> int:
    return -(-parameter.numel() // 16) * 16


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
