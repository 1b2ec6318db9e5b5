"""What every torque-driven MuJoCo task shares: the robot's spec read from its model, and the tick loop of the robot.

A tick in simulation is a tick on the robot: newest state -> control law -> safety filter -> motors, by the same code.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np

from ddpg_robot.control import ControlLaw
from ddpg_robot.errors import ConfigError, SpecError, mismatch
from ddpg_robot.observation import ObservationBuilder
from ddpg_robot.safety import SafetyFilter, SafetyLimits, Verdict
from ddpg_robot.spec import ChainLink, JointSpec, KinematicChain, PolicyInterface, RobotSpec
from ddpg_robot.state import Command, RobotState
from ddpg_robot_sim.draw import draw, draw_from
from ddpg_robot_sim.hardware import Hardware
from ddpg_robot_sim.randomization import PRESETS, Randomization, ranges_of
from ddpg_robot_sim.render import no_gl


def model_path(name: str) -> Path:
    """Path of a shipped MJCF model, for example ``arm_reach``."""
    return Path(str(resources.files(__package__) / "models" / f"{name}.xml"))


def robot_from_model(model: mujoco.MjModel, name: str, tip_site: str | None, gravity_compensated: bool) -> RobotSpec:
    """Reads joints, limits and chain from a model whose every actuator is a torque motor on a hinge.

    The model's ``<custom>`` numerics ``velocity_limit``, ``effort_rate_limit`` and ``trip_damping`` give per joint what
    MJCF has no field for.

    Raises:
        SpecError: a numeric is missing or has the wrong size.
    """
    joint_ids = model.actuator_trnid[:, 0]
    custom = {key: _numeric(model, key) for key in ("velocity_limit", "effort_rate_limit", "trip_damping")}
    joints = tuple(
        JointSpec(
            name=model.joint(j).name,
            effort_limit=float(model.actuator_ctrlrange[i, 1]),
            velocity_limit=float(custom["velocity_limit"][i]),
            position_lower=float(model.jnt_range[j, 0]),
            position_upper=float(model.jnt_range[j, 1]),
            damping=float(custom["trip_damping"][i]),
            effort_rate_limit=float(custom["effort_rate_limit"][i]),
        )
        for i, j in enumerate(joint_ids)
    )
    chain = _chain(model, joint_ids, tip_site) if tip_site else None
    floating = bool((model.jnt_type == mujoco.mjtJoint.mjJNT_FREE).any())
    return RobotSpec(name, joints, gravity_compensated, floating, chain)


def _numeric(model: mujoco.MjModel, key: str) -> np.ndarray:
    names = [model.numeric(i).name for i in range(model.nnumeric)]
    if key not in names:
        raise SpecError(mismatch(f"custom numeric '{key}' of the model", "none", f"{model.nu} values", names))
    values = model.numeric(key).data
    if len(values) != model.nu:
        raise SpecError(mismatch(f"custom numeric '{key}' of the model", f"{len(values)} values", f"{model.nu}"))
    return values


def _chain(model: mujoco.MjModel, joint_ids: np.ndarray, tip_site: str) -> KinematicChain:
    links = tuple(
        ChainLink(
            joint=model.joint(j).name,
            translation=tuple(model.body_pos[model.jnt_bodyid[j]].tolist()),
            quaternion_wxyz=tuple(model.body_quat[model.jnt_bodyid[j]].tolist()),
            axis=tuple(model.jnt_axis[j].tolist()),
        )
        for j in joint_ids
    )
    return KinematicChain(links, tuple(model.site(tip_site).pos.tolist()), tip_site)


class RobotTask(gymnasium.Env):
    """A robot, its loop, and an observation made by the core's builder. A task adds reset, reward and success.

    Actions are ``(n,)`` in [-1, 1]; ``offset + scale * action`` is the policy's output in N·m or rad.

    Attributes:
        state: what the sensors say: all that control law, safety filter and observation see.
        truth: the true state, for reward and success; the same object without randomisation.
        randomization: from what each episode's robot is drawn; None for the model as it is.
        training_progress: how much of a training is over, 0 to 1, for randomisation that grows; whoever trains sets it.
    """

    presets: Mapping[str, Randomization] = PRESETS
    """Names that the task's setting `randomization` may have."""
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - Gymnasium's own convention

    def __init__(
        self,
        model: mujoco.MjModel,
        interface: PolicyInterface,
        action_scaling: tuple[np.ndarray, np.ndarray],
        target_relative: bool,
        render_mode: str | None = None,
        randomization: str | Mapping[str, Any] | Randomization = "off",
    ) -> None:
        self.model = model
        self.data = mujoco.MjData(model)
        self.interface = interface
        self.action_scaling = action_scaling
        self.target_relative = target_relative
        self.render_mode = render_mode
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / interface.control.period)}
        robot, control = interface.robot, interface.control
        joint_ids = model.actuator_trnid[:, 0]
        self._qpos = model.jnt_qposadr[joint_ids].astype(np.intp)
        self._qvel = model.jnt_dofadr[joint_ids].astype(np.intp)
        self._take_qpos, self._take_qvel = self.data.qpos.take, self.data.qvel.take
        free = np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)
        if len(free):
            # A free joint speaks like an IMU: orientation base to world, turning in the base's own frame.
            qpos, qvel = model.jnt_qposadr[free[0]] + 3, model.jnt_dofadr[free[0]] + 3
            self._orientation, self._turning = self.data.qpos[qpos : qpos + 4], self.data.qvel[qvel : qvel + 3]
        self._substeps = round(control.loop_period / model.opt.timestep)
        if abs(self._substeps * model.opt.timestep - control.loop_period) > 1e-9:
            expected = f"a whole multiple of the physics step {model.opt.timestep} s"
            raise SpecError(mismatch("loop period", control.loop_period, expected))
        self.state = RobotState(robot.n_joints, robot.floating_base)
        self.command = Command(interface.command.size)
        self._builder = ObservationBuilder(robot, interface.observation, interface.command)
        self._law = ControlLaw(control, robot.n_joints)
        limits = SafetyLimits()
        self._safety = SafetyFilter(robot, limits, control.loop_period)
        self.truth = self.state
        self.training_progress = 1.0
        self.randomization: Randomization | None = None
        self._hardware: Hardware | None = None
        self._state_age = 0.0
        ranges = ranges_of(randomization, self.presets)
        if not ranges.changes_nothing:
            self._use_hardware(ranges, limits.state_timeout)
        self._renderer: mujoco.Renderer | None = None
        self.camera: int | str = -1  # the free one; or a camera of the model
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (interface.observation.size,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (robot.n_joints,), np.float32)

    def _use_hardware(self, ranges: Randomization, state_timeout: float) -> None:
        """From now on each episode has a robot of its own, and `state` is what its sensors say."""
        latest = (ranges.state_delay_ms[1] + ranges.state_jitter_ms[1]) * 1e-3
        if latest >= state_timeout:
            expected = f"less than the safety filter's state timeout, {state_timeout * 1e3:g} ms"
            raise ConfigError(mismatch("state_delay_ms + state_jitter_ms", f"up to {latest * 1e3:g} ms", expected))
        robot = self.interface.robot
        self.randomization = ranges
        self.truth = RobotState(robot.n_joints, robot.floating_base)
        velocity_limit = np.array([joint.velocity_limit for joint in robot.joints])
        self._hardware = Hardware(self.model, self.data, velocity_limit, self._read)
        draw(ranges, np.random.default_rng(0), self._hardware.links, robot.n_joints)  # refuses ranges of another robot

    def draw_robot(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Gives the model the robot of the next episode; for `reset`, after all other chance and before ``mj_forward``.

        Args:
            options: of `reset`; ``draw`` is a former episode's ``info["randomization"]``, whose robot comes again.

        Returns:
            What `reset` adds to its info: ``randomization``, nothing where there is none.

        Raises:
            ConfigError: the draw is none, or is for another robot, or the task has no randomisation.
        """
        given = options.get("draw")
        if self._hardware is None or self.randomization is None:
            if given is not None:
                raise ConfigError(mismatch("reset option 'draw'", "a draw", "none in a task with randomization=off"))
            return {}
        if given is None:
            ranges = self.randomization.at(self.training_progress)
            drawn = draw(ranges, self.np_random, self._hardware.links, self.interface.robot.n_joints)
        else:
            drawn = draw_from(given)
        self._hardware.fit(drawn)
        return {"randomization": dict(vars(drawn))}

    def read_state(self) -> None:
        """MjData -> `truth` and `state`, at the start of an episode."""
        self._builder.forget()
        self._read(self.truth)
        if self._hardware is not None:
            self._hardware.start()
            self._state_age = self._hardware.measure(self.state)

    def _read(self, state: RobotState) -> None:
        """MjData -> `state`; nothing else in simulation looks at positions and velocities."""
        # Arguments without names, indices of numpy's own type, and "clip": five times as fast as `qpos[indices]`.
        self._take_qpos(self._qpos, 0, state.position, "clip")
        self._take_qvel(self._qvel, 0, state.velocity, "clip")
        if state.floating_base:
            state.orientation_wxyz[:] = self._orientation
            state.angular_velocity[:] = self._turning
        state.stamp = self.data.time

    def run_action(self, action: np.ndarray) -> Verdict:
        """One control period: holds the policy's output over its ticks. Returns the last verdict."""
        offset, scale = self.action_scaling
        output = offset + scale * np.clip(action, -1.0, 1.0)
        if self.target_relative:
            output += self.state.position
        verdict = Verdict()
        for _ in range(self.interface.control.ticks_per_action):
            verdict = self._safety.step(self._law.effort(output, self.state), self.state, self._state_age)
            self._advance()
        if self._hardware is not None:
            self._read(self.truth)
        return verdict

    def _advance(self) -> None:
        """One tick of physics under the effort of the safety filter, and what is measured at its end."""
        hardware = self._hardware
        if hardware is None:
            self.data.ctrl[:] = self._safety.effort
            mujoco.mj_step(self.model, self.data, self._substeps)
            self._read(self.state)
        else:
            hardware.command(self._safety.effort)
            hardware.advance(self._substeps)
            self._state_age = hardware.measure(self.state)

    @property
    def effort(self) -> np.ndarray:
        """Effort commanded in the last tick ``(n,)``, N·m."""
        return self._safety.effort

    def observe(self) -> np.ndarray:
        """The observation terms end to end, float32 ``(size,)``."""
        self._builder.build(self.state, self.command, self._safety.effort)
        return self._builder.flat().copy()

    def render(self) -> np.ndarray:
        """An RGB picture ``(height, width, 3)`` of the scene, uint8. Raises MissingExtraError where nothing can be drawn."""
        if self._renderer is None:
            try:
                self._renderer = mujoco.Renderer(self.model, height=480, width=640)
            except Exception as error:  # MuJoCo raises whatever the GL binding raises
                raise no_gl(error) from error
        self._renderer.update_scene(self.data, self.camera)
        return self._renderer.render()

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
