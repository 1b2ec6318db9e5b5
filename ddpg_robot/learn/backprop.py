"""Forward and backward passes of a stack of layers, written out on preallocated buffers.

Autograd spends more time on bookkeeping than a 256 x 256 network spends on arithmetic. The networks here are plain
stacks, so their chain rule is a loop; tests compare it with autograd.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ddpg_robot.learn.native import STRIP, NativeBackprop, native, suits

aten = torch.ops.aten


def backprop(layers: nn.Sequential, batch_size: int, bfloat16: bool = False) -> Backprop | NativeBackprop:
    """The fastest passes there are for these layers; `bfloat16` as of `NativeBackprop`, float32 with torch."""
    library = native()
    if library is not None and suits(layers, batch_size):
        return NativeBackprop(layers, batch_size, bfloat16, library)
    return Backprop(layers, batch_size)


def row_pass(layers: nn.Sequential) -> Backprop | NativeBackprop:
    """Passes for `row` alone, which reads the parameters where they are."""
    library = native()
    if library is not None and suits(layers, STRIP):
        return NativeBackprop(layers, STRIP, False, library)
    return Backprop(layers, batch_size=1)


class Backprop:
    """The chain rule through an `nn.Sequential` of Linear, LayerNorm, BatchNorm1d and ReLU layers.

    Works on the layers' own parameters and writes (does not add) into their gradients. Results are buffers that the
    next pass overwrites. Call it under `torch.no_grad` or `torch.inference_mode`. The parameters' tensors and gradients may
    change their values later, not their places.

    Args:
        layers: the stack; parameters whose gradients are wanted have `grad` allocated.
        batch_size: rows of every input.
    """

    def __init__(self, layers: nn.Sequential, batch_size: int) -> None:
        self._passes = [_PASSES[type(layer)](layer, batch_size) for layer in layers]

    def refresh(self) -> None:
        """Takes over the parameters as they are now: nothing to do where they are read in place."""

    def forward(self, x: Tensor, beside: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """Output for the input x, shape (batch, inputs), or x and what stands beside it; remembers what `backward` needs.

        `out` takes the place of the buffer that the next pass overwrites. Rows may lie apart, their numbers may not.
        """
        if beside is not None:
            x = torch.cat((x, beside), dim=1)
        for layer in self._passes:
            x = layer.forward(x)
        return x if out is None else out.copy_(x)

    def backward(self, gradient: Tensor, parameters: bool = True, inputs: bool = True, first: int = 0) -> Tensor | None:
        """Gradient of the loss with respect to the last `forward`'s input from column `first` on, (batch, inputs - first).

        Args:
            gradient: of the loss with respect to the output, shape (batch, outputs). May be overwritten.
            parameters: also write the parameters' gradients.
            inputs: False where the result is not wanted; then it is None.
            first: column of the input at which the result begins.
        """
        for index in reversed(range(len(self._passes))):
            gradient = self._passes[index].backward(gradient, parameters, inputs or index > 0)
        return gradient[:, first:] if inputs else None

    def row(self, x: np.ndarray) -> np.ndarray:
        """Output, shape (outputs,), for one input, shape (inputs,); only where the batch is one row."""
        return self.forward(torch.from_numpy(x[None]))[0].numpy()


class _LinearPass:
    """``y = x W^T + b``."""

    def __init__(self, layer: nn.Linear, batch_size: int) -> None:
        # Views, so they follow the parameters; looking them up in the module costs more than a small product.
        self._weight, self._bias = layer.weight.detach(), layer.bias.detach()
        self._weight_gradient, self._bias_gradient = layer.weight.grad, layer.bias.grad
        self._transposed = self._weight.t()
        self._output = torch.empty(batch_size, layer.out_features)
        self._input_gradient = torch.empty(batch_size, layer.in_features)

    def forward(self, x: Tensor) -> Tensor:
        self._x = x
        return torch.addmm(self._bias, x, self._transposed, out=self._output)

    def backward(self, gradient: Tensor, parameters: bool, inputs: bool) -> Tensor:
        if parameters:
            torch.mm(gradient.t(), self._x, out=self._weight_gradient)
            torch.sum(gradient, 0, out=self._bias_gradient)
        return torch.mm(gradient, self._weight, out=self._input_gradient) if inputs else gradient


class _ReluPass:
    """``y = max(x, 0)``, in place."""

    def __init__(self, layer: nn.ReLU, batch_size: int) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        self._y = x.clamp_(min=0.0)
        return self._y

    def backward(self, gradient: Tensor, parameters: bool, inputs: bool) -> Tensor:
        return aten.threshold_backward.grad_input(gradient, self._y, 0.0, grad_input=gradient)


class _LayerNormPass:
    """``y = (x - mean) / sqrt(var + eps) * weight + bias`` over the units of each row."""

    def __init__(self, layer: nn.LayerNorm, batch_size: int) -> None:
        self._shape, self._eps = layer.normalized_shape, layer.eps
        self._weight, self._bias = layer.weight.detach(), layer.bias.detach()
        self._weight_gradient, self._bias_gradient = layer.weight.grad, layer.bias.grad

    def forward(self, x: Tensor) -> Tensor:
        self._x = x
        y, self._mean, self._inverse = torch.native_layer_norm(x, self._shape, self._weight, self._bias, self._eps)
        return y

    def backward(self, gradient: Tensor, parameters: bool, inputs: bool) -> Tensor:
        saved = (self._x, self._shape, self._mean, self._inverse, self._weight, self._bias)
        wanted = [True, parameters, parameters]
        gradient, weight, bias = aten.native_layer_norm_backward(gradient, *saved, wanted)
        if parameters:
            self._weight_gradient.copy_(weight)
            self._bias_gradient.copy_(bias)
        return gradient


class _BatchNormPass:
    """``y = (x - mean) / sqrt(var + eps) * weight + bias`` over the rows; with running statistics in eval mode."""

    def __init__(self, layer: nn.BatchNorm1d, batch_size: int) -> None:
        self._layer = layer

    def forward(self, x: Tensor) -> Tensor:
        self._x = x
        y, self._mean, self._inverse = torch.native_batch_norm(
            x, *self._arguments(), self._layer.momentum, self._layer.eps
        )
        return y

    def backward(self, gradient: Tensor, parameters: bool, inputs: bool) -> Tensor:
        layer = self._layer
        weight, _, running_mean, running_var, training = self._arguments()
        saved = (self._mean, self._inverse, training, layer.eps, [True, parameters, parameters])
        gradient, weight, bias = aten.native_batch_norm_backward(
            gradient, self._x, weight, running_mean, running_var, *saved
        )
        if parameters:
            layer.weight.grad.copy_(weight)
            layer.bias.grad.copy_(bias)
        return gradient

    def _arguments(self) -> tuple[Any, ...]:
        layer = self._layer
        return layer.weight, layer.bias, layer.running_mean, layer.running_var, layer.training


_PASSES: dict[type[nn.Module], Any] = {
    nn.Linear: _LinearPass,
    nn.ReLU: _ReluPass,
    nn.LayerNorm: _LayerNormPass,
    nn.BatchNorm1d: _BatchNormPass,
}
