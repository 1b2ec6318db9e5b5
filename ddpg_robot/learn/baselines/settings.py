"""Settings that baselines share. Their values are DDPG's own, so that methods are compared and not settings.

The networks alone are smaller: a search over actions passes thousands of rows through them at each update.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.learn.config import NOISES, DdpgConfig

HIDDEN = (128, 128)
"""Units of hidden layers."""
FRACTIONS = {
    "gamma",
    "tau",
    "lr_final_fraction",
    "warmup_repeat_probability",
    "noise_theta",
    "epsilon",
    "epsilon_final",
}
MAY_BE_ZERO = {"warmup_steps", "noise_sigma", "noise_sigma_final"}


@dataclass(frozen=True)
class BaselineConfig:
    """What every baseline has. Actions are in [-1, 1] inside the agent."""

    critic_hidden: tuple[int, ...] = HIDDEN
    """Units of the hidden layers of the network that estimates values."""
    critic_layer_norm: bool = DdpgConfig.critic_layer_norm
    """Layer normalisation after each of its hidden linear layers."""
    critic_lr: float = DdpgConfig.critic_lr
    """Adam's step size for it."""
    lr_final_fraction: float = DdpgConfig.lr_final_fraction
    """Step sizes fall geometrically over training to this fraction of themselves."""
    normalize_observations: bool = DdpgConfig.normalize_observations
    """Subtract the running mean and divide by the running deviation of observations."""
    gamma: float = DdpgConfig.gamma
    """Discount per control step."""
    warmup_steps: int = DdpgConfig.warmup_steps
    """Uniform random actions before the policy acts and learning starts, environment steps."""
    warmup_repeat_probability: float = DdpgConfig.warmup_repeat_probability
    """Probability that a warm-up action is the previous one again: time-correlated warm-up."""

    # The same in every baseline, or where a class below does not make it a setting.
    n_step: ClassVar[int] = 1
    batch_norm: ClassVar[bool] = False
    embedding: ClassVar[int] = 0
    critic_action_layer: ClassVar[int] = 0
    critic_final_init: ClassVar[None] = None
    noise: ClassVar[str] = "gaussian"
    noise_theta: ClassVar[float] = 0.0
    noise_sigma: ClassVar[float] = 0.0
    noise_sigma_final: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, tuple) and (not value or min(value) < 1):
                raise ConfigError(mismatch(name, value, "at least one positive number"))
            if name in FRACTIONS and not 0 <= value <= 1:
                raise ConfigError(mismatch(name, value, "a number from 0 to 1"))
            if name in MAY_BE_ZERO and not value >= 0:
                raise ConfigError(mismatch(name, value, "zero or a positive number"))
            if type(value) in (int, float) and name not in FRACTIONS | MAY_BE_ZERO and not value > 0:
                raise ConfigError(mismatch(name, value, "a positive number"))
        if self.noise not in NOISES:
            raise ConfigError(mismatch("noise", self.noise, "a kind of noise", NOISES))


@dataclass(frozen=True)
class OnlineConfig(BaselineConfig):
    """Of methods that learn from each transition once, when it comes."""

    batch_size: ClassVar[int] = 1
    replay_capacity: ClassVar[int] = 1
    replay_recency: ClassVar[float] = 1.0
    updates_per_step: ClassVar[float] = 1.0


@dataclass(frozen=True)
class ReplayConfig(BaselineConfig):
    """Of methods that learn from minibatches of a replay."""

    batch_size: int = 128
    """Transitions per update."""
    replay_capacity: int = DdpgConfig.replay_capacity
    """Transitions kept; the oldest are overwritten."""
    replay_recency: ClassVar[float] = 1.0
    updates_per_step: float = DdpgConfig.updates_per_step
    """Updates per environment step, after the warm-up."""


@dataclass(frozen=True)
class ActorConfig(BaselineConfig):
    """Of methods with an actor network."""

    actor_hidden: tuple[int, ...] = HIDDEN
    """Units of the actor's hidden layers."""
    actor_lr: float = DdpgConfig.actor_lr
    """Adam's step size for the actor."""
    actor_final_init: float | None = DdpgConfig.actor_final_init
    """The actor's last layer starts uniform within plus and minus this; None: within 1/sqrt(fan-in)."""


@dataclass(frozen=True)
class NoiseConfig(BaselineConfig):
    """Of methods that explore with the trainer's noise on their best action."""

    noise: Literal["ou", "gaussian"] = DdpgConfig.noise
    """Exploration noise: Ornstein-Uhlenbeck or independent Gaussian."""
    noise_theta: float = DdpgConfig.noise_theta
    """Ornstein-Uhlenbeck: pull towards zero per step."""
    noise_sigma: float = DdpgConfig.noise_sigma
    """Deviation of the noise's increments, in units of the [-1, 1] action box."""
    noise_sigma_final: float = DdpgConfig.noise_sigma_final
    """The deviation falls (or rises) geometrically over training to this."""
