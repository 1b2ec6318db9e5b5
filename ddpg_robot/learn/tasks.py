"""Any Gymnasium task with Box spaces, seen through flat float32 observations and actions in [-1, 1]."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from ddpg_robot.errors import ConfigError, MissingExtraError, TrainingError, mismatch
from ddpg_robot.spec_json import to_dict

LONGEST_EPISODE = 20_000
"""Steps after which an episode is cut as by a time limit: evaluations and checkpoints wait for its end."""
JUDGED_BY = ("success_rate", "return_mean")
"""What makes an actor the best, unless the task says otherwise."""
RobotOf = Callable[[gymnasium.Env], Any]
"""An environment -> what has its robot's `interface` and `action_scaling`."""


class Step(NamedTuple):
    """What one control step gave."""

    observation: np.ndarray  # (observations,) float32
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


class Task:
    """A Gymnasium environment for the agent. Raises TrainingError on an observation or reward that is not finite.

    Args:
        task: Gymnasium id; `module:id` imports a module first.
        kwargs: keyword arguments of the environment.
        robot_of: finds the robot in an environment, raises a DdpgRobotError where there is none; None: the environment is it.
    """

    def __init__(self, task: str, kwargs: dict[str, Any] | None = None, robot_of: RobotOf | None = None) -> None:
        self.id = task
        self.kwargs = dict(kwargs or {})
        self.env = _make(task, self.kwargs)
        self._robot_of: RobotOf = robot_of or (lambda env: env.unwrapped)
        observation_space = _box(task, "observation space", self.env.observation_space)
        action_space = _box(task, "action space", self.env.action_space)
        if not np.issubdtype(action_space.dtype, np.floating):
            hint = "DDPG needs continuous actions"
            raise ConfigError(mismatch(f"action space of task '{task}'", action_space, "floating numbers", hint=hint))
        low, high = action_space.low.reshape(-1).astype(float), action_space.high.reshape(-1).astype(float)
        if not np.isfinite(high / 2 - low / 2).all():
            raise ConfigError(mismatch(f"action space of task '{task}'", action_space, "finite bounds"))
        if not np.all(low < high):
            raise ConfigError(
                mismatch(f"action space of task '{task}'", action_space, "lower bounds below upper bounds")
            )
        self.agent_settings: dict[str, Any] = dict(getattr(self.env.unwrapped, "agent_settings", {}))
        """Settings of an agent that the task declares as its own: how far ahead to look, how smooth to act."""
        self.judged_by: tuple[str, ...] = getattr(self.env.unwrapped, "judged_by", JUDGED_BY)
        """Figures of an evaluation that make one actor better than another, the first one first."""
        self.observation_size = int(np.prod(observation_space.shape))
        self.action_size = int(np.prod(action_space.shape))
        self._action_shape = action_space.shape
        self._action_type = action_space.dtype
        self._offset, self._scale = high / 2 + low / 2, high / 2 - low / 2
        self._teach: Callable[[], np.ndarray] | None = getattr(self.env.unwrapped, "teacher_action", None)
        self._steps = 0

    def set_progress(self, fraction: float) -> None:
        """Tells a task that grows harder how much of the training is over, 0 to 1; others do not ask."""
        if hasattr(self.env.unwrapped, "training_progress"):
            self.env.unwrapped.training_progress = fraction

    def reset(self, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode that depends on the seed alone; returns its first observation and info."""
        self._steps = 0
        observation, info = self.env.reset(seed=seed)
        return self._checked(observation), info

    def step(self, action: np.ndarray) -> Step:
        """One control step with an action in [-1, 1], shape (actions,). Episodes are cut at `LONGEST_EPISODE`."""
        scaled = (self._offset + self._scale * action).astype(self._action_type).reshape(self._action_shape)
        observation, reward, terminated, truncated, info = self.env.step(scaled)
        reward = float(reward)
        if not np.isfinite(reward):
            raise TrainingError(mismatch(f"reward of task '{self.id}'", reward, "a finite number"))
        self._steps += 1
        truncated = bool(truncated) or self._steps >= LONGEST_EPISODE
        return Step(self._checked(observation), reward, bool(terminated), truncated, info)

    def teacher_action(self) -> np.ndarray | None:
        """What the task's own teacher would do now, (actions,) in [-1, 1]; None where it has none."""
        return None if self._teach is None else (np.asarray(self._teach()) - self._offset) / self._scale

    @property
    def has_teacher(self) -> bool:
        return self._teach is not None

    def close(self) -> None:
        """Frees the environment."""
        self.env.close()

    def describe(self) -> dict[str, Any]:
        """JSON data that names the task; for robots also the policy's interface and the scaling of its actions.

        `action_offset` and `action_scale` turn an action in [-1, 1] into the policy's output in N·m or rad; where
        `target_relative` is true, the joint positions are added to it. `randomization` is there where the task has one.
        """
        data: dict[str, Any] = {
            "task": self.id,
            "task_kwargs": self.kwargs,
            "agent_settings": self.agent_settings,
            "observation_size": self.observation_size,
            "action_size": self.action_size,
            "interface": None,
            "action_offset": self._offset.tolist(),
            "action_scale": self._scale.tolist(),
            "target_relative": False,
        }
        robot = self._robot_of(self.env)
        if hasattr(robot, "interface") and hasattr(robot, "action_scaling"):
            offset, scale = robot.action_scaling
            data["interface"] = to_dict(robot.interface)
            # The box of such a task is [-1, 1]; its own scaling leads on to torques or joint targets.
            data["action_offset"] = (offset + scale * self._offset).tolist()
            data["action_scale"] = (scale * self._scale).tolist()
            data["target_relative"] = bool(getattr(robot, "target_relative", False))
        if getattr(robot, "randomization", None) is not None:
            data["randomization"] = to_dict(robot.randomization)  # resolved: what a preset's name means may change
        return data

    def _checked(self, observation: Any) -> np.ndarray:
        # A copy: environments may reuse their buffer, and the replay's window keeps the array.
        flat = np.array(observation, dtype=np.float32).reshape(-1)
        if len(flat) != self.observation_size:
            expected = f"{self.observation_size} numbers, as its space says"
            raise TrainingError(mismatch(f"observation of task '{self.id}'", f"{len(flat)} numbers", expected))
        if not np.isfinite(flat).all():
            where = np.flatnonzero(~np.isfinite(flat)).tolist()
            raise TrainingError(
                mismatch(f"observation of task '{self.id}'", f"non-finite at {where}", "finite numbers")
            )
        return flat


def _make(task: str, kwargs: dict[str, Any]) -> gymnasium.Env:
    try:
        return gymnasium.make(task, disable_env_checker=True, **kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        raise MissingExtraError(f"task '{task}' needs a package that is not installed: {error}") from error
    except gymnasium.error.UnregisteredEnv as error:
        known = difflib.get_close_matches(task, gymnasium.registry, n=5, cutoff=0.4) or None
        raise ConfigError(mismatch("task", repr(task), "a registered Gymnasium id", known)) from error
    except gymnasium.error.Error as error:
        raise ConfigError(f"task '{task}': {error}") from error
    except ModuleNotFoundError as error:
        if error.name not in (None, task.partition(":")[0]):
            raise
        raise ConfigError(mismatch("task", repr(task), "a Gymnasium id, or module:id of a module there is")) from error
    except TypeError as error:
        raise ConfigError(f"task '{task}' refuses its arguments {kwargs}: {error}") from error


def _box(task: str, what: str, space: gymnasium.Space) -> gymnasium.spaces.Box:
    if not isinstance(space, gymnasium.spaces.Box):
        raise ConfigError(mismatch(f"{what} of task '{task}'", space, "a Box", hint="DDPG needs continuous spaces"))
    if not np.prod(space.shape):
        raise ConfigError(mismatch(f"{what} of task '{task}'", f"no numbers ({space})", "at least one"))
    return space


@contextlib.contextmanager
def open_task(task: str, kwargs: dict[str, Any] | None = None, robot_of: RobotOf | None = None) -> Iterator[Task]:
    """A `Task` that is closed at the end of the `with` block."""
    opened = Task(task, kwargs, robot_of)
    try:
        yield opened
    finally:
        opened.close()


def episode_seed(seed: int, stream: int, episode: int) -> int:
    """Seed of one episode; streams (training 0, evaluation 1, ...) never share episodes."""
    return int(np.random.SeedSequence((seed, stream, episode)).generate_state(1)[0])
