"""Multiple shooting: many short simulations, each from a measured state, under the recorded efforts.

A long simulation runs away from what was recorded however good the model is, and its error is no use to a fit. A short one
begins again where the robot was. That start was measured with noise; what an error of the start would explain is
discounted (`Shooting.whiten`), so the fit neither trusts it nor has to fit it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import mujoco
import numpy as np
from mujoco import rollout

from ddpg_robot.errors import RecordingError, mismatch
from ddpg_robot.state import Array
from ddpg_robot_sim.identification.motion import Motion

MOST_THREADS = 4
STATE = mujoco.mjtState.mjSTATE_FULLPHYSICS


@dataclass(frozen=True)
class Noise:
    """Standard deviations of what was measured."""

    position: Array
    """``(n,)``, rad."""
    velocity: Array
    """``(n,)``, rad/s."""

    @property
    def both(self) -> Array:
        """``(2 n,)``."""
        return np.concatenate([self.position, self.velocity])


class Shooting:
    """Short simulations against a motion.

    Args:
        model: sizes, physics step and joints of all models that are simulated.
        motion: what the robot did.
        horizon: length of a simulation, s.
        most: largest number of simulations; spread evenly over the motion.
        part: (from, to) of the motion's usable time, 0 to 1.

    Attributes:
        count: number of simulations.
        measured: states to compare with ``(samples, 2 n)``: position, velocity.
        segment: which simulation each of them belongs to ``(samples,)``.

    Raises:
        RecordingError: no stretch without a gap is so long.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        motion: Motion,
        horizon: float,
        most: int = 150,
        part: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        joints = model.actuator_trnid[:, 0]
        self._qpos, self._qvel = model.jnt_qposadr[joints].ravel(), model.jnt_dofadr[joints].ravel()
        self._nq, self._n = model.nq, len(joints)
        self._dt = float(model.opt.timestep)
        self._steps = round(horizon / self._dt)
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._datas = [mujoco.MjData(model) for _ in range(min(MOST_THREADS, processors))]  # one per thread
        self._rest = mujoco.MjData(model)
        self._state_size = mujoco.mj_stateSize(model, STATE)
        starts = _starts(motion, self._steps * self._dt, part)
        if not len(starts):
            raise RecordingError(
                mismatch(
                    motion.source, "no stretch without a gap", f"some of {horizon:g} s, the length of a simulation"
                )
            )
        starts = starts[np.linspace(0, len(starts) - 1, min(most, len(starts))).round().astype(int)]
        self.count = len(starts)
        self._begin = motion.time[starts]
        self._start = np.concatenate([motion.position[starts], motion.velocity[starts]], axis=1)  # (count, 2 n)
        self._efforts(motion)
        self._samples(motion, starts)

    def _efforts(self, motion: Motion) -> None:
        """Impulse of the commands up to each change ``(k + 1, n)``: its differences are means over physics steps."""
        times, effort = motion.effort_time, motion.effort
        self._effort_time = np.append(times, times[-1] + 10.0)
        impulse = np.zeros((len(times) + 1, self._n))
        np.cumsum(effort * np.diff(self._effort_time)[:, None], axis=0, out=impulse[1:])
        self._effort, self._impulse = np.append(effort, effort[-1:], axis=0), impulse

    def _samples(self, motion: Motion, starts: np.ndarray) -> None:
        ends = np.searchsorted(motion.time, self._begin + self._steps * self._dt, side="right")
        rows = [np.arange(a + 1, b) for a, b in zip(starts, ends)]
        taken = np.concatenate(rows)
        self.segment = np.repeat(np.arange(self.count), [len(row) for row in rows])
        self.measured = np.concatenate([motion.position[taken], motion.velocity[taken]], axis=1)
        self.time = motion.time[taken]
        at = np.minimum((self.time - self._begin[self.segment]) / self._dt, self._steps - 1e-9)
        self._floor = at.astype(int)
        self._part = (at - self._floor)[:, None]

    def control(self, delay: float) -> Array:
        """Commands as they reach the motors after a delay, s: means over physics steps ``(count, steps, n)``, N·m."""
        edges = self._begin[:, None] + np.arange(self._steps + 1) * self._dt - delay  # (count, steps + 1)
        where = np.clip(np.searchsorted(self._effort_time, edges, side="right") - 1, 0, len(self._effort) - 1)
        past = np.maximum(edges - self._effort_time[where], 0.0)[..., None]
        impulse = self._impulse[where] + past * self._effort[where]
        return np.diff(impulse, axis=1) / self._dt

    def simulate(self, model: mujoco.MjModel, delay: float, shift: Array | None = None) -> Array:
        """States at the times of `measured` ``(samples, 2 n)``.

        Args:
            model: of the robot.
            delay: of its motors, s.
            shift: is added to every start ``(2 n,)``, rad and rad/s.
        """
        start = self._start if shift is None else self._start + shift
        mujoco.mj_getState(model, self._rest, initial := np.zeros(self._state_size), STATE)
        states = np.tile(initial, (self.count, 1))
        states[:, 1 + self._qpos], states[:, 1 + self._nq + self._qvel] = start[:, : self._n], start[:, self._n :]
        found, _ = rollout.rollout([model] * self.count, self._datas, states, self.control(delay))
        path = np.concatenate([states[:, None], found], axis=1)  # (count, steps + 1, state)
        columns = np.concatenate([1 + self._qpos, 1 + self._nq + self._qvel])
        path = path[:, :, columns]
        before, after = path[self.segment, self._floor], path[self.segment, self._floor + 1]
        return np.nan_to_num(before + self._part * (after - before), nan=1e3, posinf=1e3, neginf=-1e3)

    def start_effects(self, model: mujoco.MjModel, delay: float, noise: Noise) -> list[tuple[Array, Array]]:
        """What errors of the start, as large as the noise, do to each simulation.

        Returns:
            For each: orthonormal directions ``(r, 2 n)`` (r: residuals of that simulation) and their sizes ``(2 n,)``, in
            standard deviations.
        """
        base, scale = self.simulate(model, delay), noise.both
        effects = []
        for i, size in enumerate(scale):
            shift = np.zeros(2 * self._n)
            shift[i] = step = 1e-4 if i < self._n else 1e-3
            effects.append((self.simulate(model, delay, shift) - base) / scale * (size / step))
        stacked = np.stack(effects, axis=-1)  # (samples, 2 n, 2 n)
        found = []
        for k in range(self.count):
            left, sizes, _ = np.linalg.svd(stacked[self.segment == k].reshape(-1, 2 * self._n), full_matrices=False)
            found.append((left, sizes))
        return found

    def whiten(self, residual: Array, effects: list[tuple[Array, Array]]) -> Array:
        """Residuals in standard deviations ``(samples, 2 n)`` -> as independent numbers of unit variance, flat.

        With a start as uncertain as the measurement their covariance is ``1 + U s² Uᵀ`` for each simulation, whose inverse
        root is ``1 - U (1 - 1/√(1 + s²)) Uᵀ``.
        """
        result = np.empty_like(residual)
        for k, (left, sizes) in enumerate(effects):
            rows = self.segment == k
            flat = residual[rows].ravel()
            flat = flat - left @ ((1 - 1 / np.sqrt(1 + sizes**2)) * (left.T @ flat))
            result[rows] = flat.reshape(-1, 2 * self._n)
        return result.ravel()


def _starts(motion: Motion, length: float, part: tuple[float, float]) -> np.ndarray:
    """States from which a simulation of this length fits, one behind the other, into a part of the usable time."""
    total, done, starts = motion.usable_seconds, 0.0, []
    for first, last in motion.usable():
        begin, end = motion.time[first], motion.time[last - 1]
        at = begin
        while at + length <= end:
            if part[0] * total <= done + (at - begin) and done + (at - begin) + length <= part[1] * total + 1e-9:
                starts.append(first + int(np.searchsorted(motion.time[first:last], at)))
            at += length
        done += end - begin
    return np.array([start for start in starts if motion.time[start] + length <= motion.time[-1]], int)
