"""A drawn robot: its physics in an MjModel, its motors, its sensors, and who pushes it. Knows nothing of tasks."""

from __future__ import annotations

from collections.abc import Callable

import mujoco
import numpy as np

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.state import Array, RobotState
from ddpg_robot_sim.actuators import Motors
from ddpg_robot_sim.draw import Draw
from ddpg_robot_sim.sensors import Sensors

PAYLOAD = "payload"
"""Body of a model that carries the payload and takes the pushes: without mass of its own, welded to the hand or the trunk."""
PUSH_SECONDS = 0.05
"""A push is a constant force for so long."""

CHANGED = (
    "body_mass",
    "body_inertia",
    "body_gravcomp",
    "dof_frictionloss",
    "dof_damping",
    "dof_armature",
    "geom_friction",
    "pair_friction",
    "actuator_gainprm",
)
"""Fields of an MjModel that a draw changes."""


class Hardware:
    """The robot that a controller is connected to, one draw after the other.

    Args:
        model: its values now are the nominal ones; every draw starts from them.
        data: its state.
        velocity_limit: of each actuated joint ``(n,)``, rad/s.
        read: fills a RobotState with the true state in `data`.

    Raises:
        ConfigError: the model has no body `PAYLOAD`.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        velocity_limit: Array,
        read: Callable[[RobotState], None],
    ) -> None:
        names = [model.body(i).name for i in range(model.nbody)]
        if PAYLOAD not in names:
            expected = f'a body "{PAYLOAD}" where loads sit: <body name="{PAYLOAD}" pos="..."/>'
            raise ConfigError(mismatch("bodies of the model", ", ".join(names), expected))
        self._model, self._data, self._read = model, data, read
        self._scratch = mujoco.MjData(model)
        self._nominal = {name: getattr(model, name).copy() for name in CHANGED}
        self._payload = names.index(PAYLOAD)
        # What joints move and has mass: no world, no target, no payload without a mass of its own.
        self._links = np.flatnonzero((model.body_dofnum[model.body_weldid] > 0) & (model.body_mass > 0))
        joints = model.actuator_trnid[:, 0]
        self._dofs = model.jnt_dofadr[joints]
        floating = bool((model.jnt_type == mujoco.mjtJoint.mjJNT_FREE).any())
        timestep = float(model.opt.timestep)
        self._motors = Motors(model.actuator_ctrlrange[:, 1].copy(), velocity_limit, timestep, data.ctrl)
        self._sensors = Sensors(len(joints), floating, timestep)
        self._truth = RobotState(len(joints), floating)
        self._timestep = timestep
        self._push_steps = max(1, round(PUSH_SECONDS / timestep))

    @property
    def links(self) -> int:
        """Number of links with mass."""
        return len(self._links)

    @property
    def link_names(self) -> tuple[str, ...]:
        """The links with mass, in the order of a draw."""
        return tuple(self._model.body(i).name for i in self._links)

    def fit(self, draw: Draw) -> None:
        """Gives the model the physics of a draw; `start` does the rest once the robot has its pose.

        Raises:
            ConfigError: the draw is for a robot of another number of links or joints.
        """
        draw.require(self.links, len(self._dofs))
        model, nominal = self._model, self._nominal
        for name, values in nominal.items():
            getattr(model, name)[:] = values
        mass = np.ones(model.nbody)
        mass[self._links] = draw.link_mass
        inertia = mass.copy()
        inertia[self._links] *= draw.link_inertia
        model.body_mass *= mass
        model.body_inertia *= inertia[:, None]
        model.body_gravcomp *= draw.gravity_compensation / mass  # firmware holds what it believes the links weigh
        model.body_mass[self._payload] += draw.payload
        model.dof_frictionloss[self._dofs] *= draw.joint_friction
        model.dof_damping[self._dofs] *= draw.joint_damping
        model.dof_armature[self._dofs] *= draw.armature
        model.geom_friction *= draw.contact_friction
        model.pair_friction *= draw.contact_friction
        model.actuator_gainprm[:, 0] *= draw.motor_strength
        mujoco.mj_setConst(model, self._scratch)
        self._draw = draw

    def start(self) -> None:
        """Begins an episode with the draw of the last `fit`, from the state in `data`."""
        draw = self._draw
        sensing, self._rng = (np.random.default_rng((draw.seed, stream)) for stream in range(2))
        self._read(self._truth)
        self._sensors.start(draw, sensing, self._truth)
        self._motors.start(draw, self._rng)
        self._data.xfrc_applied[self._payload] = 0.0
        self._step = 0
        self._pushing = False
        self._push_at = round(draw.push_interval / self._timestep) if draw.push_impulse else -1

    def command(self, effort: Array) -> None:
        """Sends an effort ``(n,)``, N·m, to the motors, which it reaches after its delay."""
        self._motors.command(effort, self._step)

    def advance(self, steps: int, hold: Callable[[], Array] | None = None) -> None:
        """So many physics steps. With `hold` the firmware exerts what this says ``(n,)``, N·m, whatever was commanded."""
        model, data, motors, sensors = self._model, self._data, self._motors, self._sensors
        for step in range(self._step, self._step + steps):
            if step == self._push_at:
                self._push()
            if hold is None:
                motors.exert(step, sensors.newest.velocity)
            else:
                motors.hold(hold())
            mujoco.mj_step(model, data)
            self._read(sensors.next())
        self._step += steps

    def foreseen(self) -> mujoco.MjData:
        """The true state in which a command that is sent now will act; overwritten by the next call.

        Until then the commands on their way are exerted, at full torque and without another push. No robot knows this: it is
        for teachers and references.
        """
        mujoco.mj_copyData(self._scratch, self._model, self._data)
        for effort in self._motors.on_their_way(self._step):
            self._scratch.ctrl[:] = effort
            mujoco.mj_step(self._model, self._scratch)
        return self._scratch

    def measure(self, state: RobotState) -> float:
        """Fills `state` with what the sensors say. Returns its age, s; a lost measurement leaves the one before."""
        return self._sensors.measure(state)

    def _push(self) -> None:
        """Begins a push, or ends one."""
        self._pushing = not self._pushing
        force = np.zeros(3)
        if self._pushing:
            direction = self._rng.standard_normal(3)
            impulse = self._draw.push_impulse / np.linalg.norm(direction) * direction
            force = impulse / (self._push_steps * self._timestep)
            self._push_at += self._push_steps
        else:
            self._push_at += round(self._draw.push_interval / self._timestep) - self._push_steps
        self._data.xfrc_applied[self._payload, :3] = force
