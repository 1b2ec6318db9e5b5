"""MuJoCo stands in for the robot's hardware: motors with limits, firmware that compensates gravity, stands and can damp."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import mujoco
import numpy as np

from ddpg_robot.errors import ConfigError, JointMappingError, mismatch
from ddpg_robot.kinematics import in_heading_frame

MAX_CATCH_UP_S = 0.1
"""A plant that was held up longer than this lets the lost time go instead of racing after it."""
HOLD_FRACTION = 0.1
"""Hold damping, in parts of the effort limit per rad/s, for a model that names none."""
STAND_STIFFNESS = 2.5
"""Of a floating base's firmware that stands, in parts of the effort limit per rad."""


class ImuReading(NamedTuple):
    """What an IMU in the base's frame measures."""

    orientation_wxyz: np.ndarray
    """Base frame to world ``(4,)``."""
    angular_velocity: np.ndarray
    """``(3,)``, rad/s."""
    linear_acceleration: np.ndarray | None
    """Specific force ``(3,)``, m/s^2; None for a model without accelerometer."""


class Plant:
    """A robot of torque motors on hinges, stepped in real time.

    A robot on a floating base stands by itself, in the pose where it was put, until the first command. From then on it is
    left to the commands: without them it is damped, and after a fall it stays where it fell, until `place`.

    Args:
        model: path of the MJCF.
        gravity_compensation: False switches off what the model's ``gravcomp`` does.

    Attributes:
        joint_names: actuated joints in the model's order; all arrays are in this order.
        applied: effort that the motors exerted in the last step ``(n,)``, N·m.
        floating_base: the base moves freely: there is an IMU.

    Raises:
        ConfigError: MuJoCo cannot read the model, or an actuator is no torque motor on a hinge.
    """

    def __init__(self, model: Path, gravity_compensation: bool = True) -> None:
        try:
            self._model = mujoco.MjModel.from_xml_path(str(model))
        except ValueError as error:
            raise ConfigError(mismatch(f"model {model}", " ".join(str(error).split()), "an MJCF model")) from None
        self._data = mujoco.MjData(self._model)
        if not gravity_compensation:
            self._model.body_gravcomp[:] = 0.0
        joints = self._joints()
        self.joint_names = tuple(self._model.joint(j).name for j in joints)
        self._qpos = self._model.jnt_qposadr[joints]
        self._qvel = self._model.jnt_dofadr[joints]
        self._limit = self._model.actuator_ctrlrange[:, 1].copy()
        self._hold_gain = self._hold_damping()
        self._command: np.ndarray | None = None
        free = np.flatnonzero(self._model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)
        self.floating_base = len(free) > 0
        if self.floating_base:
            self._base = int(self._model.jnt_qposadr[free[0]])
            dof = self._model.jnt_dofadr[free[0]]
            # A free joint: translation in the world, turning in its own frame.
            self._base_velocity = self._data.qvel[dof : dof + 6]
        self._force = self._accelerometer()
        self.applied = np.zeros(len(joints))
        self.reset()

    def reset(self) -> None:
        """Puts the robot into the model's first keyframe (or its reference pose), at rest."""
        if self._model.nkey:
            mujoco.mj_resetDataKeyframe(self._model, self._data, 0)
        else:
            mujoco.mj_resetData(self._model, self._data)
        mujoco.mj_forward(self._model, self._data)
        self._home = self._data.qpos.copy()
        self._stand()

    def place(self, names: Sequence[str], position: Sequence[float]) -> None:
        """Moves the robot into a pose, at rest; joints not named stay.

        A robot on a floating base is first put back to where it stood at the start: legs and base must fit together.

        Raises:
            JointMappingError: a joint is unknown, or names and positions differ in number.
        """
        unknown = sorted(set(names) - set(self.joint_names))
        if unknown or len(names) != len(position):
            found = f"{len(position)} positions for {', '.join(names[:20])}"
            raise JointMappingError(mismatch("pose", found, "a position for each known joint", self.joint_names))
        where = [self.joint_names.index(name) for name in names]
        if self.floating_base:
            self._data.qpos[:] = self._home
        self._data.qpos[self._qpos[where]] = position
        self._data.qvel[:] = 0.0
        mujoco.mj_forward(self._model, self._data)
        self._stand()

    def command(self, effort: np.ndarray | None) -> None:
        """Effort to exert from the next step on ``(n,)``, N·m; None holds by damping."""
        self._command = None if effort is None else np.clip(effort, -self._limit, self._limit)
        self._stiffness = self._stiffness if effort is None else np.zeros(len(self._limit))

    def advance(self, seconds: float) -> int:
        """Steps the physics by whole steps, at most `seconds`. Returns the number of steps."""
        steps = int(seconds / self.timestep + 1e-6)
        for _ in range(steps):
            if self._command is None:
                hold = self._stiffness * (self._pose - self._data.qpos[self._qpos])
                hold -= self._hold_gain * self._data.qvel[self._qvel]
                self._data.ctrl[:] = np.clip(hold, -self._limit, self._limit)
            else:
                self._data.ctrl[:] = self._command
            mujoco.mj_step(self._model, self._data)
        self.applied[:] = self._data.qfrc_actuator[self._qvel]
        return steps

    @property
    def timestep(self) -> float:
        """Length of a physics step, s."""
        return float(self._model.opt.timestep)

    @property
    def time(self) -> float:
        """Simulated time, s."""
        return float(self._data.time)

    @property
    def position(self) -> np.ndarray:
        """Joint positions ``(n,)``, rad."""
        return np.asarray(self._data.qpos[self._qpos])

    @property
    def velocity(self) -> np.ndarray:
        """Joint velocities ``(n,)``, rad/s."""
        return np.asarray(self._data.qvel[self._qvel])

    @property
    def imu(self) -> ImuReading:
        """What the IMU of a floating base measures."""
        force = None if self._force is None else self._data.sensordata[self._force]
        return ImuReading(self._data.qpos[self._base + 3 : self._base + 7], self._base_velocity[3:], force)

    @property
    def base_position(self) -> np.ndarray:
        """Position of a floating base in the world ``(3,)``, m."""
        return np.asarray(self._data.qpos[self._base : self._base + 3])

    @property
    def heading_velocity(self) -> np.ndarray:
        """Velocity of a floating base forward, left, up ``(3,)``, m/s, in a frame that turns with its heading alone."""
        return in_heading_frame(self._base_velocity[:3], self._data.qpos[self._base + 3 : self._base + 7])

    def _stand(self) -> None:
        """A floating base holds the pose it is in; a fixed one needs no more than damping."""
        self._pose = self._data.qpos[self._qpos].copy()
        self._stiffness = STAND_STIFFNESS * self._limit if self.floating_base else np.zeros(len(self._limit))

    def _accelerometer(self) -> slice | None:
        found = np.flatnonzero(self._model.sensor_type == mujoco.mjtSensor.mjSENS_ACCELEROMETER)
        return slice(start := self._model.sensor_adr[found[0]], start + 3) if len(found) else None

    def _joints(self) -> np.ndarray:
        model = self._model
        joints = model.actuator_trnid[:, 0]
        hinge = [
            model.actuator_trntype[i] == mujoco.mjtTrn.mjTRN_JOINT
            and model.jnt_type[j] == mujoco.mjtJoint.mjJNT_HINGE
            and model.actuator_biastype[i] == mujoco.mjtBias.mjBIAS_NONE
            and bool(model.actuator_ctrllimited[i])
            for i, j in enumerate(joints)
        ]
        if not hinge or not all(hinge):
            found = [model.actuator(i).name for i, good in enumerate(hinge) if not good] or "no actuators"
            raise ConfigError(mismatch("actuators of the model", found, "torque motors with ctrlrange on hinges"))
        return np.asarray(joints)

    def _hold_damping(self) -> np.ndarray:
        model = self._model
        names = [model.numeric(i).name for i in range(model.nnumeric)]
        if "trip_damping" in names and len(model.numeric("trip_damping").data) == model.nu:
            return np.array(model.numeric("trip_damping").data)
        return HOLD_FRACTION * self._limit
