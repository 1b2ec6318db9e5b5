"""What the trainer asks of an agent, and the algorithms there are, by name."""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.learn.config import WITH_PRESETS, DdpgConfig, TrainConfig, resolve_agent, with_overrides

if TYPE_CHECKING:
    from torch import Tensor

    from ddpg_robot.learn.ddpg import Losses
    from ddpg_robot.learn.normalizer import Normalizer
    from ddpg_robot.learn.replay import Batch

ALGORITHMS = {
    "ddpg": "ddpg_robot.learn.ddpg:Ddpg",
    "ddpg_eager": "ddpg_robot.learn.eager:EagerDdpg",
    "stochastic_ac": "ddpg_robot.learn.baselines.stochastic_ac:StochasticActorCritic",
    "deterministic_ac": "ddpg_robot.learn.baselines.deterministic_ac:DeterministicActorCritic",
    "off_policy_ac": "ddpg_robot.learn.baselines.deterministic_ac:OffPolicyActorCritic",
    "dqn": "ddpg_robot.learn.baselines.dqn:Dqn",
    "naf": "ddpg_robot.learn.baselines.naf:Naf",
    "q_sampling": "ddpg_robot.learn.baselines.q_search:SamplingQ",
    "q_cem": "ddpg_robot.learn.baselines.q_search:CrossEntropyQ",
    "q_gradient": "ddpg_robot.learn.baselines.q_search:GradientQ",
}
"""Name -> module and class, imported when it is asked for."""


class Agent(Protocol):
    """What the trainer asks of an agent, which is made from (observation_size, action_size, config, seed).

    Random numbers of an agent come from generators of its own, which are part of its state; `act` leaves that state as it
    is, so that an evaluation changes nothing.
    """

    online: bool
    """True: it learns from each transition as it comes. False: from minibatches of the replay."""
    config: Any
    """Its settings. The trainer reads gamma, n_step, batch_size, replay_capacity, replay_recency,
    updates_per_step, warmup_steps, warmup_repeat_probability, noise, noise_theta, noise_sigma and noise_sigma_final."""
    normalizer: Normalizer

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The best action that it knows, (actions,) in [-1, 1], for a raw observation, (observations,)."""
        ...

    def explore(self, observation: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """The action to learn from, (actions,) in [-1, 1]; `noise` is the trainer's, (actions,), to add or to ignore."""
        ...

    def begin_round(self) -> None:
        """Tells that episodes begin, one in each environment; `observe_episode` takes each of them before the next round."""
        ...

    def observe_episode(self, rewards: list[float]) -> None:
        """Takes the rewards of an episode of training that is over."""
        ...

    def update(self, batch: Batch) -> Losses:
        """One update from `batch_size` transitions."""
        ...

    def actor_slope(self) -> float | None:
        """Mean slope of the actor's tanh over the last batch; None without an actor that could saturate."""
        ...

    def set_progress(self, fraction: float) -> None:
        """Tells which fraction (0 to 1) of the training is over."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Complete state as named tensors."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restores what `state` gave, bit for bit."""
        ...

    def policy_state(self) -> dict[str, Tensor]:
        """What acting needs: actor and normaliser as ``actor.*`` and ``normalizer_statistics.*``, or all of `state`."""
        ...


def make_agent(algorithm: str, observation_size: int, action_size: int, config: Any, seed: int) -> Agent:
    """An untrained agent. Raises ConfigError on an unknown algorithm, or settings that do not suit the sizes."""
    agent: Agent = _agent_class(algorithm)(observation_size, action_size, config, seed)
    return agent


def resolve_settings(
    algorithm: str, preset: str, overrides: dict[str, Any], declared: dict[str, Any] | None = None
) -> Any:
    """The settings of an agent: DDPG's preset, or a baseline's own, with some fields replaced.

    Args:
        algorithm: key of `ALGORITHMS`.
        preset: of DDPG.
        overrides: fields to replace.
        declared: what the task declares for DDPG, below the overrides; a baseline takes what it has of it.

    Raises:
        ConfigError: an unknown algorithm, preset, field, an ill-typed value, or a preset for a baseline.
    """
    declared = declared or {}
    if algorithm in WITH_PRESETS:
        return resolve_agent(preset, {**declared, **overrides})
    settings = _agent_class(algorithm).settings()
    if preset != TrainConfig.preset:
        raise ConfigError(mismatch("preset", repr(preset), f"none: presets are ddpg's, and this is {algorithm}"))
    own = {name: value for name, value in declared.items() if name in {f.name for f in dataclasses.fields(settings)}}
    return with_overrides(settings, {**own, **overrides})


def settings_from_dict(algorithm: str, data: dict[str, Any]) -> Any:
    """Settings of a run from their JSON data. Raises ConfigError naming missing or unknown fields."""
    settings = DdpgConfig() if algorithm in WITH_PRESETS else _agent_class(algorithm).settings()
    expected = {f.name for f in dataclasses.fields(settings)}
    if set(data) != expected:
        fields = f"exactly the fields of {type(settings).__name__}"
        raise ConfigError(mismatch("agent settings", sorted(set(data) ^ expected), fields))
    return with_overrides(settings, data)


def _agent_class(algorithm: str) -> Any:
    if algorithm not in ALGORITHMS:
        raise ConfigError(mismatch("algorithm", repr(algorithm), "a known algorithm", ALGORITHMS))
    module, _, name = ALGORITHMS[algorithm].partition(":")
    return getattr(importlib.import_module(module), name)
