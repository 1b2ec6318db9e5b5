"""Sensors as they are: noise, zeros that are off, steps of encoders, measurements that come late or never."""

from __future__ import annotations

import math

import mujoco
import numpy as np

from ddpg_robot.state import Array, RobotState
from ddpg_robot_sim.draw import Draw

BLOCK = 256
"""Measurements whose noise is drawn at once."""


class Sensors:
    """Turns true states, one per physics step, into what a robot's controller is told.

    Args:
        n_joints: joints of the robot.
        floating_base: it has an IMU.
        timestep: physics step, s.

    Attributes:
        newest: true state after the last physics step.
    """

    newest: RobotState

    def __init__(self, n_joints: int, floating_base: bool, timestep: float) -> None:
        self._timestep = timestep
        self._n = n_joints
        self._floating = floating_base
        self._past: list[RobotState] = []
        self._turn: Array = np.zeros(4)
        self._noise: Array = np.zeros((BLOCK, 2, n_joints))
        self._imu_noise: Array = np.zeros((BLOCK, 2, 3))

    def start(self, draw: Draw, rng: np.random.Generator, truth: RobotState) -> None:
        """Becomes the sensors of a draw. Before this, the robot has been in the state `truth` for ever."""
        self._rng = rng
        self._delay = draw.state_delay_ms * 1e-3 / self._timestep  # physics steps
        self._jitter = draw.state_jitter_ms * 1e-3 / self._timestep
        self._dropout = draw.state_dropout
        # Whole arrays: numpy takes longer over a single number.
        self._resolution = np.full(self._n, draw.position_resolution) if draw.position_resolution else None
        self._spread = np.array([[draw.position_noise], [draw.velocity_noise]])
        self._bias = np.stack([draw.position_bias, np.zeros(self._n)])
        self._imu_spread = np.array([[draw.orientation_noise], [draw.angular_velocity_noise]])
        self._imu_bias = np.array([draw.orientation_bias, draw.angular_velocity_bias])
        depth = math.ceil(self._delay + self._jitter) + 2
        while len(self._past) < depth:
            self._past.append(RobotState(self._n, self._floating))
        for state in self._past:
            _copy(truth, state)
        self._depth = len(self._past)
        self.newest = self._past[0]
        self._step = 0
        self._taken = -self._depth
        self._row = BLOCK

    def next(self) -> RobotState:
        """A physics step is over: becomes `newest`, and is to be filled with the true state."""
        self._step += 1
        self.newest = self._past[self._step % self._depth]
        return self.newest

    def measure(self, state: RobotState) -> float:
        """Fills `state` with the newest measurement that has arrived; where none has, the one before stands.

        Returns:
            Its age, s.
        """
        if self._row == BLOCK:
            self._draw_noise()
        lost, jitter = self._chances[self._row]
        taken = self._step - round(self._delay + self._jitter * jitter)
        first = self._taken == -self._depth
        if taken > self._taken and (first or lost >= self._dropout):
            self._taken = taken
            self._fill(self._past[taken % self._depth], state)
        self._row += 1
        return (self._step - self._taken) * self._timestep

    def _fill(self, truth: RobotState, state: RobotState) -> None:
        np.add(truth.motion, self._noise[self._row], state.motion)
        resolution, position = self._resolution, state.position
        if resolution is not None:
            np.divide(position, resolution, position)
            np.rint(position, position)
            np.multiply(position, resolution, position)
        state.stamp = truth.stamp
        if self._floating:
            turn, rate = self._imu_noise[self._row]
            self._turn[:] = 1.0, *(0.5 * turn)  # a small rotation about the base's own axes
            mujoco.mju_mulQuat(state.orientation_wxyz, truth.orientation_wxyz, self._turn)
            mujoco.mju_normalize4(state.orientation_wxyz)
            np.add(truth.angular_velocity, rate, out=state.angular_velocity)

    def _draw_noise(self) -> None:
        self._row = 0
        self._chances = self._rng.random((BLOCK, 2)).tolist()
        self._rng.standard_normal(out=self._noise)
        self._noise *= self._spread
        self._noise += self._bias
        if self._floating:
            self._rng.standard_normal(out=self._imu_noise)
            self._imu_noise *= self._imu_spread
            self._imu_noise += self._imu_bias


def _copy(source: RobotState, target: RobotState) -> None:
    target.motion[:] = source.motion
    target.orientation_wxyz[:] = source.orientation_wxyz
    target.angular_velocity[:] = source.angular_velocity
    target.stamp = source.stamp
