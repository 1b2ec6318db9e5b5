"""Adam (Kingma & Ba 2015) on one flat parameter."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddpg_robot.learn.native import native


class Adam:
    """``m <- b1 m + (1 - b1) g``, ``v <- b2 v + (1 - b2) g^2``, ``x <- x - lr m^ / (sqrt(v^) + eps)``.

    The same numbers as `torch.optim.Adam`, without its per-call bookkeeping, and with state that is two tensors.

    Args:
        parameter: flat parameter, changed in place.
        gradient: flat gradient of the same shape, read at each step.
        lr: step size; may be set between steps.
        weight_decay: L2 coefficient, added to the gradient.
    """

    BETA1, BETA2, EPS = 0.9, 0.999, 1e-8

    def __init__(self, parameter: Tensor, gradient: Tensor, lr: float, weight_decay: float = 0.0) -> None:
        self.lr = lr
        self._parameter = parameter
        self._gradient = gradient
        self._weight_decay = weight_decay
        self._steps = 0
        self._mean = torch.zeros_like(parameter)
        self._square = torch.zeros_like(parameter)
        self._root = torch.zeros_like(parameter)
        self._native = native()

    def step(self) -> None:
        """One step along the gradient."""
        self._steps += 1
        if self._weight_decay:
            self._gradient.add_(self._parameter, alpha=self._weight_decay)
        # Both bias corrections are moved into the scalars.
        root_correction = math.sqrt(1.0 - self.BETA2**self._steps)
        step_size = self.lr * root_correction / (1.0 - self.BETA1**self._steps)
        if self._native is not None:
            vectors = (self._parameter, self._gradient, self._mean, self._square)
            rates = (self.BETA1, self.BETA2, step_size, self.EPS * root_correction)
            self._native.adam(*vectors, *rates)
            return
        self._mean.lerp_(self._gradient, 1.0 - self.BETA1)
        self._square.mul_(self.BETA2).addcmul_(self._gradient, self._gradient, value=1.0 - self.BETA2)
        torch.sqrt(self._square, out=self._root).add_(self.EPS * root_correction)
        self._parameter.addcdiv_(self._mean, self._root, value=-step_size)

    def state_dict(self) -> dict[str, Tensor]:
        """Moments and the number of steps."""
        return {"mean": self._mean, "square": self._square, "steps": torch.tensor(self._steps)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores what `state_dict` gave."""
        self._mean.copy_(state["mean"])
        self._square.copy_(state["square"])
        self._steps = int(state["steps"])
