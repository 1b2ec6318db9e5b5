"""A Gymnasium task judges what a robot did elsewhere: its own reward, its own end of an episode, the robot's motion."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import mujoco
import numpy as np

from ddpg_robot.state import Command, RobotState
from ddpg_robot_sim.gymnasium_robot import command_of, read_state, robot_of


class Start(NamedTuple):
    """How an episode begins."""

    joints: tuple[str, ...]
    """Those that are measured, and those on which an object moves."""
    motion: np.ndarray
    """Positions and velocities of the joints ``(2, k)``, rad and rad/s, of slides m and m/s."""
    state: RobotState
    """What is measured then."""
    target: np.ndarray | None
    """What the robot is asked for ``(3,)``, m; None where nobody need ask."""


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
        self._object_joints = self._robot.layout.object_joints
        self._joints = (*spec.measured_joints, *self._object_joints)
        joints = [model.joint(name).id for name in self._joints]
        self._qpos, self._qvel = model.jnt_qposadr[joints], model.jnt_dofadr[joints]
        self._gear = self._robot.action_scaling[1]
        self._motion = np.zeros((2, len(joints)))
        self._object_origin = np.zeros(0)
        self._state = RobotState.of(spec)
        self._task.do_simulation = self._follow

    @property
    def period(self) -> float:
        """Time between two steps, s."""
        return float(self._robot.interface.control.period)

    def start(self, seed: int) -> Start:
        """Begins the episode of this seed."""
        self._env.reset(seed=seed)
        data, command = self._task.data, self._robot.interface.command
        asked, state = Command(command.size), RobotState.of(self._robot.interface.robot)
        command_of(self._task.model, data, self._robot.layout, asked)
        read_state(self._task.model, data, self._robot.interface.robot, state)
        self._motion = np.stack([data.qpos[self._qpos], data.qvel[self._qvel]])
        n = len(self._object_joints)
        self._object_origin = state.object_position[:n] - self._motion[0, len(self._joints) - n :]
        return Start(self._joints, self._motion.copy(), state, None if command.is_given else asked.values)

    def step(self, state: RobotState, effort: np.ndarray) -> tuple[float, bool]:
        """One control period of the robot.

        Args:
            state: what is measured at its end.
            effort: what the motors exerted in it ``(n,)``, N·m.

        Returns:
            The reward, and whether the episode is over.
        """
        n = state.measured.shape[1]
        self._motion[:, :n] = state.measured
        self._state = state
        self._motion[0, n:] = state.object_position[: len(self._object_joints)] - self._object_origin
        space: Any = self._env.action_space
        action = (effort / self._gear).astype(space.dtype)
        _, reward, terminated, truncated, _ = self._env.step(np.clip(action, space.low, space.high))
        return float(reward), bool(terminated or truncated)

    def _follow(self, ctrl: np.ndarray, n_frames: int) -> None:
        """Gymnasium's `do_simulation`: the robot has moved, the task only looks."""
        qpos, qvel = self._task.data.qpos.copy(), self._task.data.qvel.copy()
        qpos[self._qpos], qvel[self._qvel] = self._motion
        if self._robot.layout.odometry:
            state = self._state
            qpos[:7] = *state.base_position, *state.base_orientation_wxyz
            qvel[:6] = *state.base_velocity, *state.angular_velocity
        self._task.data.ctrl[:] = ctrl
        self._task.set_state(qpos, qvel)
        mujoco.mj_rnePostConstraint(self._task.model, self._task.data)  # contact forces, which cost Ant something
