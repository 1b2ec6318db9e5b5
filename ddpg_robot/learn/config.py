"""Every setting of an agent and of a training run, and the presets."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ddpg_robot.errors import ConfigError, mismatch


@dataclass(frozen=True)
class DdpgConfig:
    """All hyperparameters of one agent. The field values here are those of preset `ddpg`.

    Actions are in [-1, 1] inside the agent, whatever the task's box is.
    """

    # Networks
    actor_hidden: tuple[int, ...] = (256, 256)
    """Units of the actor's hidden layers."""
    critic_hidden: tuple[int, ...] = (256, 256)
    """Units of the critic's hidden layers."""
    critic_action_layer: int = 0
    """Layer of the critic that the action enters: 0 is the first, 1 the second (as in the paper)."""
    critics: int = 1
    """Critics that differ in their initial weights alone."""
    newest_in_targets: bool = True
    """A target takes the smallest of all target critics' values (of two: clipped double Q-learning, Fujimoto et al. 2018);
    with this, of the critics' own values too."""
    critic_expectile: float = 0.4
    """The critic says this expectile of its targets instead of their mean, which is 0.5 (Newey & Powell 1987): below it,
    values that vary from target to target are judged with caution."""
    critic_layer_norm: bool = True
    """Layer normalisation after each hidden linear layer of the critic."""
    batch_norm: bool = False
    """Batch normalisation of the actor's and of the critic's layers before the action enters, as in the paper."""
    actor_final_init: float | None = 6e-4
    """The actor's last layer starts uniform within plus and minus this; None: within 1/sqrt(fan-in)."""
    critic_final_init: float | None = None
    """The critic's last layer starts uniform within plus and minus this; None: within 1/sqrt(fan-in)."""
    embedding: int = 0
    """Units of the embeddings of a state and of a state with an action that actor and critics see beside them, and that learn
    by foretelling the next state's embedding (Fujimoto et al. 2023, arXiv 2306.02451); 0: none."""
    normalize_observations: bool = True
    """Subtract the running mean and divide by the running deviation of observations. Frozen into the export."""

    # Update
    gamma: float = 0.99
    """Discount per control step."""
    n_step: int = 1
    """Rewards that are summed before the critic's target bootstraps."""
    tau: float = 0.02
    """Polyak coefficient: targets move by this fraction of the distance, per update of their network."""
    actor_averaging: float = 3e-4
    """Polyak coefficient of the average of the actor that is evaluated, kept and exported: over its last 1/this updates, or
    the last tenth of all where that is less; 1: the actor as it is."""
    trial_every: int = 0
    """In every n-th round of training episodes a copy of that average drives without noise, and the copy whose mean
    return was the highest is what is evaluated, kept and exported instead (Fujimoto et al. 2023, arXiv 2306.02451); 0: never."""
    trial_episodes: int = 5
    """Episodes that a copy must have driven for that."""
    batch_size: int = 256
    """Transitions per update."""
    replay_capacity: int = 1_000_000
    """Transitions kept; the oldest are overwritten."""
    replay_recency: float = 4.0
    """The age of a transition that is drawn is a uniform number to a power, times the replay's length: above 1, what the
    policy does now comes more often than what it did once. The power rises geometrically over training from 1, where all are
    alike, to this."""
    updates_per_step: float = 1.0
    """Critic updates per environment step, after the warm-up; 0.25: one at every fourth step."""
    actor_delay: int = 2
    """The actor is updated at every n-th update of the critic."""
    target_noise: float = 0.1
    """Deviation of Gaussian noise on the target policy's action (target smoothing); 0 switches it off."""
    target_noise_clip: float = 0.3
    """Bound of that noise."""
    saturation_penalty: float = 0.001
    """Weight of the mean squared excess of the actor's pre-activation beyond 1, added to the actor's loss."""
    smoothness: float = 0.0
    """Weight, in the actor's loss, of the squared distance to the target actor's action one n-step later: a policy that
    shakes in simulation shakes the robot (Mysore et al. 2021, arXiv 2012.06644)."""
    teacher_weight: float = 0.0
    """Weight, in the actor's loss, of the squared distance to what the task's teacher does in the same state, where it has
    one; the teacher also acts during the warm-up then. 0: nobody is asked."""
    teacher_weight_final: float = 0.0
    """The weight falls geometrically over training to this; linearly where it is 0."""
    value_scale: float = 10.0
    """The critic works in units in which discounted returns have this root mean square, whatever the task's unit of reward
    (van Hasselt et al. 2016, arXiv 1602.07714); 0: in the task's own."""

    value_margin: float | None = 0.2
    """A critic's target leaves the range of discounted returns that episodes of training have had by no more than this part
    of the range; None: it may say anything."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the products in an update; parameters and their gradients are float32 in any case. `auto`: bfloat16 where there
    is a C compiler and the processor has instructions for it (AMX, AVX-512 BF16)."""

    # Optimisers
    actor_lr: float = 5e-4
    """Adam's step size for the actor."""
    critic_lr: float = 1e-3
    """Adam's step size for the critic."""
    embedding_lr: float = 3e-4
    """Adam's step size for the embeddings."""
    lr_final_fraction: float = 0.3
    """All step sizes fall geometrically over training to this fraction of themselves."""
    critic_weight_decay: float = 0.0
    """L2 weight decay of the critic."""

    # Exploration
    warmup_steps: int = 5000
    """Uniform random actions before the policy acts and learning starts, environment steps."""
    warmup_repeat_probability: float = 0.9
    """Probability that a warm-up action is the previous one again, in every other episode: held actions reach what
    independent ones never do, and the other way round."""
    noise: Literal["ou", "gaussian"] = "ou"
    """Exploration noise: Ornstein-Uhlenbeck or independent Gaussian."""
    noise_sigma: float = 0.1
    """Deviation of the noise's increments, in units of the [-1, 1] action box."""
    noise_sigma_final: float = 0.05
    """The deviation falls (or rises) geometrically over training to this; linearly where one of them is 0."""
    noise_theta: float = 0.15
    """Ornstein-Uhlenbeck: pull towards zero per step."""

    def __post_init__(self) -> None:
        positive = (
            "tau",
            "actor_averaging",
            "batch_size",
            "replay_capacity",
            "replay_recency",
            "n_step",
            "updates_per_step",
            "actor_delay",
            "trial_episodes",
            "actor_lr",
        )
        for name in (*positive, "critic_lr", "embedding_lr", "critics"):
            if not getattr(self, name) > 0:
                raise ConfigError(mismatch(name, getattr(self, name), "a positive number"))
        fractions = ("gamma", "tau", "actor_averaging", "lr_final_fraction", "warmup_repeat_probability", "noise_theta")
        for name in fractions:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(mismatch(name, getattr(self, name), "a number from 0 to 1"))
        not_negative = ("target_noise", "target_noise_clip", "saturation_penalty", "smoothness", "critic_weight_decay")
        others = (
            "embedding",
            "trial_every",
            "teacher_weight",
            "teacher_weight_final",
            "value_scale",
            "warmup_steps",
            "noise_sigma",
            "noise_sigma_final",
        )
        for name in (*not_negative, *others):
            if not getattr(self, name) >= 0:
                raise ConfigError(mismatch(name, getattr(self, name), "zero or a positive number"))
        for name in ("actor_hidden", "critic_hidden"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise ConfigError(mismatch(name, getattr(self, name), "at least one positive number"))
        if self.value_margin is not None and not self.value_margin >= 0:
            raise ConfigError(mismatch("value_margin", self.value_margin, "zero, a positive number or None"))
        if not 0 < self.critic_expectile < 1:
            raise ConfigError(mismatch("critic_expectile", self.critic_expectile, "a number between 0 and 1"))
        for name, choices in (("noise", NOISES), ("precision", PRECISIONS)):
            if getattr(self, name) not in choices:
                raise ConfigError(mismatch(name, getattr(self, name), "a known one", choices))
        if not 0 <= self.critic_action_layer < len(self.critic_hidden):
            raise ConfigError(mismatch("critic_action_layer", self.critic_action_layer, "an index into critic_hidden"))
        if self.embedding and self.batch_norm:
            raise ConfigError(mismatch("embedding", self.embedding, "0 with batch_norm"))
        if self.replay_capacity < self.batch_size:
            raise ConfigError(
                mismatch("replay_capacity", self.replay_capacity, f"at least {self.batch_size}, one batch")
            )


WITH_PRESETS = ("ddpg", "ddpg_eager")
"""Algorithms whose settings are `DdpgConfig`; baselines have their own."""
NOISES = ("ou", "gaussian")
PRECISIONS = ("auto", "float32", "bfloat16")

PRESETS: dict[str, DdpgConfig] = {
    # Lillicrap et al. 2016, section 7 (experiment details), low-dimensional observations.
    "paper": DdpgConfig(
        actor_hidden=(400, 300),
        critic_hidden=(400, 300),
        critic_action_layer=1,
        critics=1,
        newest_in_targets=False,
        critic_expectile=0.5,
        critic_layer_norm=False,
        batch_norm=True,
        actor_final_init=3e-3,
        critic_final_init=3e-3,
        embedding=0,
        normalize_observations=False,
        gamma=0.99,
        n_step=1,
        tau=1e-3,
        actor_averaging=1.0,
        trial_every=0,
        trial_episodes=5,
        batch_size=64,
        replay_capacity=1_000_000,
        replay_recency=1.0,
        updates_per_step=1,
        actor_delay=1,
        target_noise=0.0,
        target_noise_clip=0.0,
        saturation_penalty=0.0,
        smoothness=0.0,
        teacher_weight=0.0,
        teacher_weight_final=0.0,
        value_scale=0.0,
        value_margin=None,
        precision="float32",
        actor_lr=1e-4,
        critic_lr=1e-3,
        embedding_lr=0.0003,
        lr_final_fraction=1.0,
        critic_weight_decay=1e-2,
        warmup_steps=0,
        warmup_repeat_probability=0.0,
        noise="ou",
        noise_sigma=0.2,
        noise_sigma_final=0.2,
        noise_theta=0.15,
    ),
    "ddpg": DdpgConfig(),
    "max": DdpgConfig(embedding=96, trial_every=4, batch_size=128),
}


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    task: str
    """Gymnasium id with Box spaces; `module:id` imports a module that registers it first."""
    task_kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the task."""
    algorithm: str = "ddpg"
    """`ddpg`, or one of the baselines in `agents.ALGORITHMS`."""
    preset: str = "ddpg"
    """Name of DDPG's preset; baselines have none."""
    steps: int = 100_000
    """Environment steps of the whole training."""
    envs: int = 1
    """Environments that take turns. Evaluations and checkpoints come when all of their episodes are over."""
    seed: int = 0
    """Seed of everything random in the run."""
    out: Path = Path("runs/train")
    """Run directory; must not exist, unless `resume`."""
    resume: bool = False
    """Go on from the last checkpoint in `out`; starts from the beginning where there is none."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Fields of the agent's settings that differ from the preset."""
    threads: int = 1
    """CPU threads of torch."""
    eval_every: int = 5000
    """Environment steps between evaluations (at the end of the episode that reaches them)."""
    eval_episodes: int = 20
    """Episodes of one evaluation during training."""
    final_eval_episodes: int = 50
    """Episodes of the last evaluation, which chooses between the last actor and the best so far."""
    keep_replay: bool = True
    """Keep the last checkpoint's replay when the run is finished; without it, its networks alone."""
    checkpoint_every_s: float = 60.0
    """Wall-clock seconds between checkpoints (at ends of episodes)."""
    log_every: int = 1000
    """Environment steps between rows of metrics.jsonl and TensorBoard."""

    def __post_init__(self) -> None:
        for name in ("steps", "envs", "threads", "eval_every", "eval_episodes", "final_eval_episodes", "log_every"):
            if getattr(self, name) < 1:
                raise ConfigError(mismatch(name, getattr(self, name), "a positive whole number"))
        if not 0 <= self.seed < 2**63:
            raise ConfigError(mismatch("seed", self.seed, "a whole number from 0 to 2^63 - 1"))

    @property
    def label(self) -> str:
        """What tells this agent from others of the same task: the preset, or the baseline's name."""
        return self.preset if self.algorithm == "ddpg" else self.algorithm

    def agent_settings(self, declared: dict[str, Any] | None = None) -> Any:
        """The agent's settings: those of the preset, then those that the task declares, then the overrides.

        Preset `paper` is what was published, whatever the task declares. Raises ConfigError where a setting is unknown or
        unsuitable.
        """
        from ddpg_robot.learn.agents import resolve_settings  # it knows this module

        return resolve_settings(
            self.algorithm, self.preset, self.overrides, None if self.preset == "paper" else declared
        )

    def settings(self, declared: dict[str, Any] | None = None) -> dict[str, Any]:
        """Everything that the result depends on, resolved, as JSON data. A resumed run must have the same."""
        agent = agent_to_dict(self.agent_settings(declared))
        names = ("task", "task_kwargs", "algorithm", "steps", "envs", "seed", "threads", "eval_every", "eval_episodes")
        run = {name: getattr(self, name) for name in names}
        run["preset"] = self.preset if self.algorithm in WITH_PRESETS else None
        run |= {"final_eval_episodes": self.final_eval_episodes, "log_every": self.log_every}
        run["declared"] = declared or {}  # what the task declares about agents
        return json.loads(json.dumps({**run, "agent": agent}, default=_plain))


def resolve_agent(preset: str, overrides: dict[str, Any] | None = None) -> DdpgConfig:
    """The preset with some fields replaced. Raises ConfigError on an unknown preset, field, or ill-typed value."""
    if preset not in PRESETS:
        raise ConfigError(mismatch("preset", repr(preset), "a known preset", PRESETS))
    return with_overrides(PRESETS[preset], overrides or {})


def with_overrides(settings: Any, overrides: dict[str, Any]) -> Any:
    """Settings of any agent with some fields replaced. Raises ConfigError on an unknown field or an ill-typed value."""
    hints = typing.get_type_hints(type(settings))
    names = [f.name for f in dataclasses.fields(settings)]  # hints also has what is fixed for an agent
    resolved = {}
    for name, value in overrides.items():
        if name not in names:
            raise ConfigError(mismatch("setting", repr(name), f"a field of {type(settings).__name__}", names))
        resolved[name] = _coerce(name, value, hints[name])
    return dataclasses.replace(settings, **resolved)


def agent_to_dict(config: Any) -> dict[str, Any]:
    """JSON data of an agent's settings. `agents.settings_from_dict` is the reverse."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}


def annealed(first: float, last: float, fraction: float) -> float:
    """Value at this fraction of a training, which goes geometrically from first to last, linearly where one is 0."""
    if first > 0 and last > 0:
        return first * (last / first) ** fraction
    return first + (last - first) * fraction


def digest(data: Any) -> str:
    """SHA-256 of the canonical JSON of some data, as hexadecimal."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """JSON form of numpy values and paths in task arguments."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _coerce(name: str, value: Any, hint: Any) -> Any:
    """A setting's value in the type of its field; whole numbers pass for floats, lists for tuples."""
    if hint in (tuple[int, ...],) and isinstance(value, (list, tuple)) and all(type(v) is int for v in value):
        return tuple(value)
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and type(value) is int:
        return value
    if hint in (float, float | None) and type(value) in (int, float):
        return float(value)
    if hint == float | None and value is None:
        return None
    if typing.get_origin(hint) is Literal and value in typing.get_args(hint):
        return value
    expected = typing.get_args(hint) if typing.get_origin(hint) is Literal else getattr(hint, "__name__", str(hint))
    if hint in (tuple[int, ...],):
        expected = "a list of whole numbers, as in [256,256]"
    raise ConfigError(mismatch(f"setting {name}", repr(value), expected))
