"""What the baselines have in common: parts with optimisers, a generator, a state. `agents.Agent` is the contract."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ddpg_robot.learn.adam import Adam
from ddpg_robot.learn.config import annealed
from ddpg_robot.learn.networks import TargetNetwork, flatten_parameters
from ddpg_robot.learn.normalizer import Normalizer
from ddpg_robot.learn.replay import Batch


class Learner:
    """A network, the optimiser of its parameters, and, if wanted, its slowly following target."""

    def __init__(self, module: nn.Module, lr: float, target: bool = False) -> None:
        self.module = module
        flat = flatten_parameters(module)
        self.gradient = flat.gradient
        self.optimizer = Adam(*flat, lr)
        self.target = TargetNetwork(module, flat) if target else None
        self._lr = lr

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The network's output."""
        return self.module(*inputs)

    def scale_lr(self, scale: float) -> None:
        """Sets the step size to this fraction of its first value."""
        self.optimizer.lr = self._lr * scale

    def parts(self, name: str) -> dict[str, nn.Module | Adam]:
        """Everything that has a state, by name."""
        found: dict[str, nn.Module | Adam] = {name: self.module, f"{name}_optimizer": self.optimizer}
        return found | ({f"target_{name}": self.target.module} if self.target else {})


def descend(loss: Tensor, *learners: Learner) -> None:
    """One step of these learners' optimisers down the gradient of the loss; other networks in the loss stay as they are."""
    for learner in learners:
        learner.gradient.zero_()
    loss.backward(inputs=[parameter for learner in learners for parameter in learner.module.parameters()])
    for learner in learners:
        learner.optimizer.step()


class Baseline:
    """Base of the baselines. A subclass adds its networks to `learners`, and says how it acts and learns."""

    settings: ClassVar[type]
    """The dataclass of its settings."""
    online: ClassVar[bool]

    def __init__(self, observation_size: int, config: Any, seed: int) -> None:
        self.config = config
        self.updates = 0
        self.progress = 0.0
        self.normalizer = Normalizer(observation_size, config.normalize_observations)
        self.generator = torch.Generator().manual_seed(seed)
        self.learners: dict[str, Learner] = {}

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The best action that it knows, (actions,), for a raw observation, (observations,)."""
        raise NotImplementedError

    def explore(self, observation: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """The best action with noise, in [-1, 1]."""
        return np.clip(self.act(observation) + noise, -1.0, 1.0)

    def begin_round(self) -> None:
        """Treats all episodes alike."""

    def observe_episode(self, rewards: list[float]) -> None:
        """Needs no more of it than the replay has."""

    def normalized(self, observation: np.ndarray) -> Tensor:
        """A batch of one normalised observation, (1, observations)."""
        return torch.from_numpy(self.normalizer.normalize(observation))[None]

    def td_target(self, batch: Batch, next_value: Tensor) -> Tensor:
        """``y = r + gamma V(s')``, without the second term after a termination; (batch, 1), a constant."""
        return (batch.reward + batch.discount * next_value).detach()

    def actor_slope(self) -> float | None:
        """Not measured."""
        return None

    def set_progress(self, fraction: float) -> None:
        """Sets the step sizes for this fraction (0 to 1) of the training."""
        self.progress = fraction
        for learner in self.learners.values():
            learner.scale_lr(annealed(1.0, self.config.lr_final_fraction, fraction))

    def state(self) -> dict[str, Tensor]:
        """Complete state as named tensors."""
        parts: dict[str, dict[str, Tensor]] = {name: part.state_dict() for name, part in self._parts().items()}
        parts["normalizer_statistics"] = self.normalizer.statistics()
        counters = {"updates": torch.tensor(self.updates), "progress": torch.tensor(self.progress, dtype=torch.float64)}
        parts["agent"] = {"generator": self.generator.get_state(), **counters}
        return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    def policy_state(self) -> dict[str, Tensor]:
        """Actor and normaliser; everything where there is no actor, for such an agent acts with all that it has."""
        state = self.state()
        if "actor" not in self.learners:
            return state
        return {name: tensor for name, tensor in state.items() if name.startswith(("actor.", "normalizer_statistics."))}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restores what `state` gave, bit for bit."""

        def part(name: str) -> dict[str, Tensor]:
            return {key[len(name) + 1 :]: value for key, value in state.items() if key.startswith(name + ".")}

        for name, module_or_optimizer in self._parts().items():
            module_or_optimizer.load_state_dict(part(name))
        self.normalizer.load_statistics(part("normalizer_statistics"))
        self.generator.set_state(state["agent.generator"])
        self.updates = int(state["agent.updates"])
        self.set_progress(float(state["agent.progress"]))

    def _parts(self) -> dict[str, nn.Module | Adam]:
        return {key: part for name, learner in self.learners.items() for key, part in learner.parts(name).items()}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initial weights drawn inside depend on the seed alone, and torch's own generator stays as it was."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        yield
