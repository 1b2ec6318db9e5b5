"""A Gymnasium task judges what a robot did elsewhere: its own reward, its own end of an episode, the robot's motion."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import numpy as np

from ddpg_robot.state import Command
from ddpg_robot_sim.gymnasium_robot import robot_of, target_of


class Start(NamedTuple):
    """How an episode begins."""

    joints: tuple[str, ...]
    motion: np.ndarray
    """Positions and velocities of the joints ``(2, k)``, rad and rad/s, of slides m and m/s."""
    target: np.ndarray | None
    """What the robot is asked for ``(3,)``, m; None where it takes no command."""


class GymnasiumJudge:
    """Puts the motion of a robot into a Gymnasium task in the place of its own physics.

    Args:
        env: the task, its time limit included.

    Raises:
        ConfigError: as `robot_of`.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        self._env, self._task = env, env.unwrapped
        self._robot = robot_of(env)
        model, spec = self._task.model, self._robot.interface.robot
        joints = [model.joint(name).id for name in spec.measured_joints]
        self._joints, self._qpos, self._qvel = spec.measured_joints, model.jnt_qposadr[joints], model.jnt_dofadr[joints]
        self._gear = self._robot.action_scaling[1]
        self._motion = np.zeros((2, len(joints)))
        self._task.do_simulation = self._follow

    @property
    def period(self) -> float:
        """Time between two steps, s."""
        return float(self._robot.interface.control.period)

    def start(self, seed: int) -> Start:
        """Begins the episode of this seed."""
        self._env.reset(seed=seed)
        data, command = self._task.data, self._robot.interface.command
        asked = Command(command.size)
        target_of(self._task.model, data, self._robot.layout, asked)
        motion = np.stack([data.qpos[self._qpos], data.qvel[self._qvel]])
        return Start(self._joints, motion, asked.values if command.size else None)

    def step(self, motion: np.ndarray, effort: np.ndarray) -> tuple[float, bool]:
        """One control period of the robot.

        Args:
            motion: positions and velocities at its end ``(2, k)``, joints as in `Start`.
            effort: what the motors exerted in it ``(n,)``, N·m.

        Returns:
            The reward, and whether the episode is over.
        """
        self._motion = motion
        space: Any = self._env.action_space
        action = (effort / self._gear).astype(space.dtype)
        _, reward, terminated, truncated, _ = self._env.step(np.clip(action, space.low, space.high))
        return float(reward), bool(terminated or truncated)

    def _follow(self, ctrl: np.ndarray, n_frames: int) -> None:
        """Gymnasium's `do_simulation`: the robot has moved, the task only looks."""
        qpos, qvel = self._task.data.qpos.copy(), self._task.data.qvel.copy()
        qpos[self._qpos], qvel[self._qvel] = self._motion
        self._task.data.ctrl[:] = ctrl
        self._task.set_state(qpos, qvel)
