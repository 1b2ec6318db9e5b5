"""Learning beside a running robot: DDPG from a mix of simulated and real transitions, and a gate for what may leave."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpg_robot.errors import CheckpointError, ConfigError, TrainingError, mismatch
from ddpg_robot.learn.agents import make_agent, settings_from_dict
from ddpg_robot.learn.checkpoint import CheckpointStore
from ddpg_robot.learn.ddpg import Ddpg, Losses
from ddpg_robot.learn.networks import Actor
from ddpg_robot.learn.replay import Batch, NStepWindow, Replay
from ddpg_robot.learn.rundir import RunDirectory

Reward = Callable[[NDArray[Any]], NDArray[np.float64]]
"""Transitions ``(k,)`` as `ddpg_robot.transition` makes them -> their rewards ``(k,)``."""


@dataclass(frozen=True)
class OnlineSettings:
    """How the learner learns."""

    robot_share: float = 0.5
    """Share of the robot's own transitions in a minibatch; the rest comes from simulation."""
    updates_per_transition: float = 1.0
    """Updates for each transition of the robot."""
    capacity: int = 200_000
    """Transitions of the robot that are kept."""
    held_out: int = 20
    """Every so manieth transition is not learnt from: the gate judges candidates by these."""
    largest_step: float = 0.1
    """Gate: largest root mean square distance between a candidate's actions and those of the policy that drives, in
    units of the action's range of -1 to 1."""
    value_margin: float = 0.0
    """Gate: how much worse than the driving policy's the candidate's mean value may be, in deviations of the values."""
    progress: float = 0.7
    """Step sizes are those after this part of the training: 1 for the smallest, at its end."""
    seed: int = 0
    """Of the minibatches."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not math.isfinite(getattr(self, field.name)):
                raise ConfigError(mismatch(f"online {field.name}", getattr(self, field.name), "a finite number"))
        if not 0 < self.robot_share <= 1:
            raise ConfigError(mismatch("online robot_share", self.robot_share, "above 0, at most 1"))
        for name in ("updates_per_transition", "capacity", "largest_step"):
            if getattr(self, name) <= 0:
                raise ConfigError(mismatch(f"online {name}", getattr(self, name), "a number > 0"))
        if not 0 <= self.progress <= 1:
            raise ConfigError(mismatch("online progress", self.progress, "0 to 1"))
        if self.held_out < 2:
            raise ConfigError(mismatch("online held_out", self.held_out, "at least 2"))


PARTS = (1.0, 0.5, 0.25, 0.125)
"""How far a candidate goes from the policy that drives towards the newest actor."""
HELD_OUT = "online.held_out"


class MixedReplay:
    """Minibatches of which a share comes from the robot, the rest from simulation.

    Args:
        simulation: transitions of the training.
        robot: the robot's own.
        batch_size: transitions of a minibatch.
        robot_share: share of the robot's, once it has any.
    """

    def __init__(self, simulation: Replay, robot: Replay, batch_size: int, robot_share: float) -> None:
        self._simulation, self._robot = simulation, robot
        self._split = max(1, round(robot_share * batch_size))
        self._rows = np.zeros((batch_size, robot.width), np.float32)

    def sample(self, rng: np.random.Generator) -> Batch:
        """A minibatch; views on a buffer that the next `sample` overwrites."""
        rows, split = self._rows, self._split if len(self._simulation) else len(self._rows)
        for part, source in ((rows[:split], self._robot), (rows[split:], self._simulation)):
            if len(part):
                part[:] = source.rows[rng.integers(0, len(source), len(part))]
        return self._robot.batch_of(rows)


@dataclass(frozen=True)
class Judgement:
    """What the gate found of a candidate."""

    passed: bool
    reason: str
    """Why it was refused; empty where it passed."""
    step: float
    """Root mean square distance of its actions from those of the policy that drives."""
    value_change: float
    """Mean gain in value over the policy that drives, in deviations of the values."""
    states: int
    """Held-out states that it was judged by."""


class OnlineLearner:
    """The agent of a training run, learning on from what a robot does.

    A run that had a teacher keeps its word in what simulation gave. Beside a robot nobody knows what the teacher has to know;
    what the robot carried out stands in its place, which draws the actor towards what has driven (Fujimoto and Gu 2021, arXiv
    2106.06860).

    Args:
        run_dir: the run whose agent and replay it begins with.
        reward: computes rewards.
        ticks: ticks of the robot's loop per run of the policy.
        settings: see there.

    Attributes:
        agent: the agent.
        robot: replay of the robot's transitions.
        owed: updates that are to be made for what was received.
        received: transitions taken so far.

    Raises:
        RunDirectoryError: not a run directory. CheckpointError: nothing saved, or damaged.
        ConfigError: the run's algorithm is not DDPG.
    """

    def __init__(self, run_dir: Path, reward: Reward, ticks: int, settings: OnlineSettings) -> None:
        run = RunDirectory(run_dir)
        trained, task = run.settings()["settings"], run.task()
        if trained["algorithm"] != "ddpg":
            raise ConfigError(mismatch(f"algorithm of run '{run_dir}'", trained["algorithm"], "ddpg"))
        config = settings_from_dict("ddpg", trained["agent"])
        sizes = task["observation_size"], task["action_size"]
        agent = make_agent("ddpg", *sizes, config, trained["seed"])
        assert isinstance(agent, Ddpg)
        self.agent = agent
        self._taught = config.teacher_weight > 0
        simulation = Replay(config.replay_capacity, *sizes, config.batch_size, self._taught)
        tensors, _ = CheckpointStore(run.checkpoints).load(simulation)
        try:
            agent.load_state(tensors)
        except (RuntimeError, KeyError) as error:
            raise CheckpointError(mismatch(f"agent in '{run_dir}'", f"other tensors ({error})", "its own")) from error
        agent.set_progress(settings.progress)
        self.robot = Replay(settings.capacity, *sizes, config.batch_size, self._taught)
        self.received = 0
        self._mixed = MixedReplay(simulation, self.robot, config.batch_size, settings.robot_share)
        self._window = NStepWindow(config.n_step, config.gamma)
        self._reward, self._settings, self._ticks = reward, settings, ticks
        self._offset, self._scale = (np.array(task[f"action_{name}"]) for name in ("offset", "scale"))
        self._relative = bool(task["target_relative"])
        self._rng = np.random.default_rng(settings.seed)
        self._held_out: list[NDArray[np.float32]] = []
        self.owed = 0.0
        self._next_tick: int | None = None
        self._last_observation: NDArray[np.float32] | None = None

    def add(self, transitions: NDArray[Any]) -> None:
        """Takes transitions of the robot, oldest first; n-step returns never lead across a gap between them.

        Raises:
            TrainingError: a reward is not finite.
        """
        rewards = self._reward(transitions)
        if not np.isfinite(rewards).all():
            raise TrainingError(mismatch("reward of the robot", rewards.tolist(), "finite numbers"))
        for one, reward, action in zip(transitions, rewards, self._actions(transitions)):
            if self._next_tick is not None and int(one["tick"]) != self._next_tick:
                self._close()
            self.received += 1
            if self.received % self._settings.held_out == 0:
                self._held_out = [*self._held_out[-999:], one["observation"].copy()]
                self._close()
                continue
            terminated, ended = bool(one["terminated"]), bool(one["ended"])
            self._last_observation = one["next_observation"].copy()
            step = one["observation"].copy(), action, float(reward), self._last_observation, terminated, ended
            self._window.add(self.robot, *step, action if self._taught else None)
            self._next_tick = None if terminated or ended else int(one["tick"]) + self._ticks
        self.owed += len(transitions) * self._settings.updates_per_transition

    def learn(self, most: int) -> Losses | None:
        """Makes the updates that are owed, at most so many at once; what the last of them reported, None without any."""
        losses = None
        while self.owed >= 1 and most > 0 and len(self.robot) >= self.agent.config.batch_size:
            losses = self.agent.update(self._mixed.sample(self._rng))
            self.owed, most = self.owed - 1, most - 1
        return losses

    def propose(self, driving: Actor, same_units: bool) -> tuple[Actor, Judgement]:
        """The actor that would be exported now, drawn towards the one that drives until the gate lets it pass.

        Args:
            driving: who drives.
            same_units: its observations are normalised as the agent's are: weights between the two make sense.

        Returns:
            The actor that goes furthest of those that pass, or the nearest one that was refused; and what the gate found.
        """
        newest, actor = self.agent.averaged_actor.module, copy.deepcopy(driving)
        for part in PARTS if same_units else PARTS[:1]:
            with torch.no_grad():
                for mine, old, new in zip(actor.parameters(), driving.parameters(), newest.parameters()):
                    mine.copy_(torch.lerp(old, new, part))
            judgement = self.judge(lambda raw: driving(self.agent.normalizer(raw)), actor)
            if judgement.passed or judgement.states < 2:
                break
        return actor.requires_grad_(False).eval(), judgement

    @torch.inference_mode()
    def judge(self, driving: Callable[[Tensor], Tensor], candidate: Actor | None = None) -> Judgement:
        """Compares a candidate with the policy that drives, on held-out states of the robot.

        Args:
            driving: raw observations ``(k, observations)`` -> its actions ``(k, actions)`` in [-1, 1].
            candidate: None for what the agent would export now.
        """
        count = len(self._held_out)
        candidate = candidate or self.agent.averaged_actor.module
        weights = (*candidate.parameters(), *self.agent.policy_state().values())
        if not all(bool(tensor.isfinite().all()) for tensor in weights):
            return Judgement(False, "a weight is not finite", math.nan, math.nan, count)
        if count < 2:
            return Judgement(False, "no held-out states yet", math.nan, math.nan, count)
        observations = torch.from_numpy(np.stack(self._held_out))
        normal = self.agent.normalizer(observations)
        new, old = candidate(normal), driving(observations)
        step = float((new - old).square().mean().sqrt())
        values = [self.agent.value(normal, action) for action in (new, old)]
        change = float((values[0] - values[1]).mean() / values[1].std().clamp(min=1e-9))
        reason = ""
        if not (math.isfinite(step) and math.isfinite(change)):
            reason = "its actions or values are not finite"
        elif step > self._settings.largest_step:
            reason = f"its actions are {step:.3f} from the driving policy's, at most {self._settings.largest_step:g}"
        elif change < -self._settings.value_margin:
            reason = f"its value is {-change:.3f} deviations worse, at most {self._settings.value_margin:g}"
        return Judgement(not reason, reason, step, change, count)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON data of a checkpoint, beside the replay of the robot."""
        size = self.robot.width
        held_out = np.stack(self._held_out) if self._held_out else np.zeros((0, size), np.float32)
        tensors = {**self.agent.state(), HELD_OUT: torch.from_numpy(held_out)}
        return tensors, {"received": self.received, "owed": self.owed, "rng": self._rng.bit_generator.state}

    def load_state(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Goes on from what `state` gave; steps that no n-step return had taken in are lost."""
        self._held_out = list(tensors[HELD_OUT].numpy().copy())
        self.agent.load_state({name: tensor for name, tensor in tensors.items() if name != HELD_OUT})
        self.agent.set_progress(self._settings.progress)
        self.received, self.owed = state["received"], state["owed"]
        self._rng.bit_generator.state = state["rng"]

    def _actions(self, transitions: NDArray[Any]) -> NDArray[np.float32]:
        """The actions in [-1, 1] that the robot carried out ``(k, actions)``."""
        output = transitions["executed_output"].astype(np.float64) - self._offset
        if self._relative:
            output = output - transitions["before"]["position"]
        return np.clip(output / self._scale, -1.0, 1.0).astype(np.float32)

    def _close(self) -> None:
        """A gap: what is in the window becomes shorter returns, bootstrapped where the gap begins."""
        if self._last_observation is not None:
            self._window.close(self.robot, self._last_observation)
        self._next_tick, self._last_observation = None, None
