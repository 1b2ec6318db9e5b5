"""MuJoCo stands in for the robot's hardware: motors with limits, firmware that compensates gravity, stands and can damp."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mujoco
import numpy as np

from ddpg_robot.errors import ConfigError, JointMappingError, MissingExtraError, mismatch
from ddpg_robot.kinematics import in_heading_frame
from ddpg_robot.spec import PolicyInterface
from ddpg_robot.state import RobotState

MAX_CATCH_UP_S = 0.1
"""A plant that was held up longer than this lets the lost time go instead of racing after it."""
HOLD_FRACTION = 0.1
"""Hold damping, in parts of the effort limit per rad/s, for a model that names none."""
STAND_STIFFNESS = 2.5
"""Of a floating base's firmware that stands, in parts of the effort limit per rad."""


class Base(NamedTuple):
    """A floating base as it is, not as sensors say."""

    pose: np.ndarray
    """Position in the world, m, and orientation, base frame to world, wxyz ``(7,)``."""
    velocity: np.ndarray
    """In the world ``(3,)``, m/s."""
    turning: np.ndarray
    """Angular velocity in the base's frame ``(3,)``, rad/s."""

    @property
    def heading_velocity(self) -> np.ndarray:
        """Velocity forward, left, up ``(3,)``, m/s, in a frame that turns with the heading alone."""
        return in_heading_frame(self.velocity, self.pose[3:])


def read_draw(text: str) -> dict[str, Any] | None:
    """A draw of a domain randomisation: JSON, or a file of it; None for an empty text.

    Raises:
        ConfigError: neither a file nor JSON.
    """
    if not text:
        return None
    try:
        content = text if text.lstrip().startswith("{") else Path(text).expanduser().read_text()
        return dict(json.loads(content))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(mismatch("draw", f"{text[:80]!r} ({error})", "a JSON object, or a file of one")) from None


class Plant:
    """A robot of torque motors on hinges, stepped in real time. What a motor exerts is its gear times its ctrl.

    A robot on a floating base stands by itself, in the pose where it was put, until the first command. From then on it is
    left to the commands: without them it is damped, and after a fall it stays where it fell, until `place`. One whose base
    moves on passive joints, as a planar walker's, hangs still until the first command: no firmware could hold it upright.

    Args:
        model: path of the MJCF, or of the task file (.toml) of a robot of one's own.
        gravity_compensation: False switches off what the model's ``gravcomp`` does.
        draw: the robot that an episode of a task with domain randomisation had: ``info["randomization"]``.
        passive_joints: hinges and slides without a motor that are measured all the same.
        more: what else is measured, of `RobotSpec.more_state`; the object is the model's body of that name.

    Attributes:
        joint_names: actuated joints in the model's order; all arrays are in this order.
        measured_joints: those, and the passive ones.
        applied: effort that the motors exerted in the last step ``(n,)``, N·m.
        floating_base: the base moves freely: there is an IMU.
        base: of a floating base, views that follow the simulation.
        measured: what the sensors said in the last `measure`.

    Raises:
        ConfigError: MuJoCo cannot read the model, an actuator is no torque motor on a hinge, a passive joint is unknown, or the
            draw is for another robot.
        MissingExtraError: a draw or a task file, and no ddpg_robot_sim.
    """

    def __init__(
        self,
        model: Path,
        gravity_compensation: bool = True,
        draw: Mapping[str, Any] | None = None,
        passive_joints: Sequence[str] = (),
        more: Iterable[str] = (),
    ) -> None:
        self._model = _robot_of_file(model) if model.suffix == ".toml" else _robot_of_mjcf(model)
        self._data = mujoco.MjData(self._model)
        if not gravity_compensation:
            self._model.body_gravcomp[:] = 0.0
        joints = self._joints()
        self.joint_names = tuple(self._model.joint(j).name for j in joints)
        self._qpos = self._model.jnt_qposadr[joints]
        self._qvel = self._model.jnt_dofadr[joints]
        measured = np.concatenate([joints, self._passive(passive_joints)])
        self.measured_joints = (*self.joint_names, *passive_joints)
        self._all_qpos, self._all_qvel = self._model.jnt_qposadr[measured], self._model.jnt_dofadr[measured]
        self._hangs = len(passive_joints) > 0
        self._gear = self._model.actuator_gear[:, 0] * self._model.actuator_gainprm[:, 0]
        self._limit = self._model.actuator_ctrlrange[:, 1] * self._gear
        self._hold_gain = self._hold_damping()
        self._command: np.ndarray | None = None
        free = np.flatnonzero(self._model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)
        self.floating_base = len(free) > 0
        if self.floating_base:
            qpos, qvel = self._model.jnt_qposadr[free[0]], self._model.jnt_dofadr[free[0]]
            moving = self._data.qvel[
                qvel : qvel + 6
            ]  # a free joint: translation in the world, turning in its own frame
            self.base = Base(self._data.qpos[qpos : qpos + 7], moving[:3], moving[3:])
        self._force = self._accelerometer()
        self.applied = np.zeros(len(joints))
        self.measured = RobotState(len(joints), self.floating_base, len(passive_joints), more)
        self._truth = RobotState(len(joints), self.floating_base, len(passive_joints), more)
        self._object = self._body("object") if "object_position" in dict(self.measured.more) else None
        if "base_position" in dict(self.measured.more) and not self.floating_base:
            raise ConfigError(
                mismatch("base of the model", "a fixed one", "a free joint: the policy's robot has odometry")
            )
        if draw is not None and self.measured.more:
            raise ConfigError(mismatch("draw", "a robot whose state has more than joints and IMU", "none such"))
        self._hardware = None if draw is None else self._drawn(draw)
        self.reset()

    def reset(self) -> None:
        """Puts the robot into the model's first keyframe (or its reference pose), at rest."""
        if self._model.nkey:
            mujoco.mj_resetDataKeyframe(self._model, self._data, 0)
        else:
            mujoco.mj_resetData(self._model, self._data)
        self._home = self._data.qpos.copy()
        self._begin()

    def place(
        self,
        names: Sequence[str],
        position: Sequence[float],
        velocity: Sequence[float] = (),
        base: RobotState | None = None,
    ) -> None:
        """Moves the robot into a pose, at rest unless velocities are given; joints not named stay.

        Hinges and slides of other things in the model may be named too: those that an object moves on.

        A robot on a floating base is first put back to where it stood at the start: legs and base must fit together. Or its base
        gets the pose and the velocities of the state `base`.

        Raises:
            JointMappingError: a joint is unknown, or names, positions and velocities differ in number.
        """
        known = self._movable()
        unknown = sorted(set(names) - set(known))
        if unknown or len(names) != len(position) or len(velocity) not in (0, len(names)):
            found = f"{len(position)} positions, {len(velocity)} velocities for {', '.join(names[:20])}"
            raise JointMappingError(mismatch("pose", found, "a position for each known joint", known))
        where = [known[name] for name in names]
        if self.floating_base:
            self._data.qpos[:] = self._home
        self._data.qpos[self._model.jnt_qposadr[where]] = position
        self._data.qvel[:] = 0.0
        if len(velocity):
            self._data.qvel[self._model.jnt_dofadr[where]] = velocity
        if base is not None and self.floating_base:
            self.base.pose[:] = (*base.base_position, *base.base_orientation_wxyz)
            self.base.velocity[:], self.base.turning[:] = base.base_velocity, base.angular_velocity
        self._data.ctrl[:] = self._data.qacc_warmstart[:] = 0.0  # nothing of what was before
        self._begin()

    def command(self, effort: np.ndarray | None) -> None:
        """Effort to exert from the next step on ``(n,)``, N·m; None holds by damping."""
        self._command = None if effort is None else np.clip(effort, -self._limit, self._limit)
        if effort is not None:
            self._stiffness = 0.0
            self._hangs = False
        if self._hardware is not None and self._command is not None:
            self._hardware.command(self._command)

    def advance(self, seconds: float) -> int:
        """Steps the physics by whole steps, at most `seconds`. Returns the number of steps."""
        steps = int(seconds / self.timestep + 1e-6)
        if self._hangs:
            self._data.time += steps * self.timestep
            return steps
        if self._hardware is not None:
            self._hardware.advance(steps, self._holding if self._command is None else None)
        for _ in range(steps if self._hardware is None else 0):
            if self._command is None:
                self._data.ctrl[:] = np.clip(self._holding(), -self._limit, self._limit) / self._gear
            else:
                self._data.ctrl[:] = self._command / self._gear
            mujoco.mj_step(self._model, self._data)
        self.applied[:] = self._data.qfrc_actuator[self._qvel]
        return steps

    def measure(self) -> float | None:
        """Fills `measured`. Returns its age, s; None where nothing new has come (a draw may lose or delay it)."""
        if self._hardware is None:
            self._read(self.measured)
            return 0.0
        before = self.measured.stamp
        age = self._hardware.measure(self.measured)
        return age if self.measured.stamp != before or age == 0.0 else None

    @property
    def commanded(self) -> np.ndarray | None:
        """Effort that was commanded last, within its limits ``(n,)``, N·m; None while the firmware holds."""
        return self._command

    @property
    def truth(self) -> RobotState:
        """What the sensors would say if they were perfect; the same buffer at every call."""
        self._read(self._truth)
        return self._truth

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
    def specific_force(self) -> np.ndarray | None:
        """What an accelerometer measures ``(3,)``, m/s^2; None for a model that has none."""
        return None if self._force is None else np.asarray(self._data.sensordata[self._force])

    def walk_judge(self, interface: PolicyInterface) -> Any:
        """Who knows what the walking of this robot is worth: the simulated task's own.

        Raises:
            ConfigError: the robot is no quadruped, or the policy's command no velocity. MissingExtraError: no ddpg_robot_sim.
        """
        try:
            from ddpg_robot_sim.walk_judge import WalkJudge
        except ModuleNotFoundError as error:
            raise _missing_sim(error) from None
        return WalkJudge(self._model, self._data, interface)

    def _begin(self) -> None:
        mujoco.mj_forward(self._model, self._data)
        if self._hardware is not None:
            self._hardware.start()
        # A floating base holds the pose it is in; a fixed one needs no more than damping.
        self._pose = self.position
        self._stiffness = STAND_STIFFNESS if self.floating_base else 0.0

    def _holding(self) -> np.ndarray:
        """What the firmware exerts without a command ``(n,)``, N·m."""
        stiffness = self._stiffness * self._limit
        return stiffness * (self._pose - self.position) - self._hold_gain * self.velocity

    def _read(self, state: RobotState) -> None:
        state.measured[0] = self._data.qpos[self._all_qpos]
        state.measured[1] = self._data.qvel[self._all_qvel]
        if self.floating_base:
            state.orientation_wxyz[:] = self.base.pose[3:]
            state.angular_velocity[:] = self.base.turning
            state.base_position[:], state.base_orientation_wxyz[:] = self.base.pose[:3], self.base.pose[3:]
            state.base_velocity[:] = self.base.velocity
        if self._object is not None:
            mujoco.mj_kinematics(self._model, self._data)  # a step leaves bodies where they were at its beginning
            state.object_position[:] = self._data.xpos[self._object]
        state.stamp = self.time

    def _accelerometer(self) -> slice | None:
        found = np.flatnonzero(self._model.sensor_type == mujoco.mjtSensor.mjSENS_ACCELEROMETER)
        return slice(start := self._model.sensor_adr[found[0]], start + 3) if len(found) else None

    def _drawn(self, draw: Mapping[str, Any]) -> Any:
        """The hardware of a draw: the very code of the simulated tasks."""
        try:
            from ddpg_robot_sim.draw import draw_from
            from ddpg_robot_sim.hardware import Hardware
        except ModuleNotFoundError as error:
            raise _missing_sim(error) from None
        velocity_limit = self._numeric("velocity_limit")
        if velocity_limit is None:
            raise ConfigError(
                mismatch("custom numeric 'velocity_limit' of the model", "none", f"{self._model.nu} values")
            )
        hardware = Hardware(self._model, self._data, velocity_limit, self._read)
        hardware.fit(draw_from(draw))
        return hardware

    def _joints(self) -> np.ndarray:
        model = self._model
        joints = model.actuator_trnid[:, 0]
        hinge = [
            model.actuator_trntype[i] == mujoco.mjtTrn.mjTRN_JOINT
            and model.jnt_type[j] == mujoco.mjtJoint.mjJNT_HINGE
            and model.actuator_biastype[i] == mujoco.mjtBias.mjBIAS_NONE
            and model.actuator_dyntype[i] == mujoco.mjtDyn.mjDYN_NONE
            and model.actuator_gear[i, 0] * model.actuator_gainprm[i, 0] > 0
            and bool(model.actuator_ctrllimited[i])
            for i, j in enumerate(joints)
        ]
        if not hinge or not all(hinge):
            found = [model.actuator(i).name for i, good in enumerate(hinge) if not good] or "no actuators"
            raise ConfigError(mismatch("actuators of the model", found, "torque motors with ctrlrange on hinges"))
        return np.asarray(joints)

    def _passive(self, names: Sequence[str]) -> np.ndarray:
        free = self._movable()
        unknown = sorted(set(names) - (set(free) - set(self.joint_names)))
        if unknown:
            raise ConfigError(mismatch("passive joints", ", ".join(unknown), "hinges or slides without a motor", free))
        return np.array([free[name] for name in names], dtype=int)

    def _movable(self) -> dict[str, int]:
        """Name -> index of every hinge and slide."""
        model, kinds = self._model, (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
        return {model.joint(j).name: j for j in range(model.njnt) if model.jnt_type[j] in kinds}

    def _body(self, name: str) -> int:
        bodies = [self._model.body(b).name for b in range(self._model.nbody)]
        if name not in bodies:
            raise ConfigError(
                mismatch("bodies of the model", f"no '{name}'", "the object of the policy's robot", bodies)
            )
        return bodies.index(name)

    def _hold_damping(self) -> np.ndarray:
        damping = self._numeric("trip_damping")
        return HOLD_FRACTION * self._limit if damping is None else damping

    def _numeric(self, key: str) -> np.ndarray | None:
        """A custom numeric of the model with a value for each joint, None where it has none."""
        model = self._model
        names = [model.numeric(i).name for i in range(model.nnumeric)]
        if key in names and len(model.numeric(key).data) == model.nu:
            return np.array(model.numeric(key).data)
        return None


def _robot_of_mjcf(path: Path) -> mujoco.MjModel:
    try:
        return mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        raise ConfigError(mismatch(f"model {path}", " ".join(str(error).split()), "an MJCF model")) from None


def _robot_of_file(path: Path) -> mujoco.MjModel:
    try:
        from ddpg_robot_sim.robot_model import compile_robot
    except ModuleNotFoundError as error:
        raise _missing_sim(error) from None
    return compile_robot(path)


def _missing_sim(error: ModuleNotFoundError) -> MissingExtraError:
    hint = 'pip install "ddpg-robot[sim]"'
    return MissingExtraError(mismatch("installed packages", f"no {error.name}", "extra sim", hint=hint))
