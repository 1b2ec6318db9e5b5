"""`quadruped_walk`: a torque-controlled quadruped walks at the velocity it is told, from joint states and an IMU alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import mujoco
import numpy as np

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.kinematics import in_heading_frame, rotation_matrix
from ddpg_robot.observation import GAIT_FREQUENCY, observation_spec
from ddpg_robot.spec import CommandSpec, ControlSpec, PolicyInterface
from ddpg_robot_sim.base import RobotTask, model_path, robot_from_model
from ddpg_robot_sim.randomization import PRESETS, Randomization
from ddpg_robot_sim.trot import Trot
from ddpg_robot_sim.walk_judge import LEGS, WalkJudge

# Forward and left m/s, yaw rate rad/s. The unit is that of the first two; ROS gives them as geometry_msgs/Twist.
COMMANDS = {
    "forward": CommandSpec("velocity", "base", 3, "m/s", lower=(0.0, 0.0, 0.0), upper=(1.0, 0.0, 0.0)),
    "omni": CommandSpec("velocity", "base", 3, "m/s", lower=(0.0, -0.3, -0.6), upper=(1.0, 0.3, 0.6)),
}
TERMS = (
    "joint_position",
    "joint_velocity",
    "last_effort",
    "projected_gravity",
    "base_angular_velocity",
    "command",
    "gait_clock",
)
# With 16 ms of delay the effort before the last one is still on its way when the next one is chosen.
EFFORT_TERMS = (*TERMS, "previous_effort")

# Torque that is held for 20 ms lets the legs ring; joint targets may wait as long, their law runs at every tick.
CONTROL_PERIOD = {"effort": 0.01, "pd": 0.02}  # s
TICKS_PER_ACTION = 5  # control law and safety filter at 500 and 250 Hz
EPISODE_SECONDS = 20.0
COMMAND_SECONDS = 5.0  # the next command comes after so long
STAND_PROBABILITY = 0.1  # of a command of zero
SOFT_START_SECONDS = 1.0  # at rest under a command of zero, while the torque of a soft start grows
LOWEST_GAIN = 0.2  # of a soft start that the teacher makes up for
START_SPREAD = 0.15  # rad around the standing pose
START_SPEED = 0.3  # m/s and rad/s

# What the policy may ask for, mode effort: of the effort limit, around the torque of standing; mode pd: rad around the
# standing pose.
EFFORT_SCALE = np.full(12, 0.7)
TARGET_RANGE = np.tile((0.3, 0.6, 0.6), 4)  # hip, thigh, calf
# What an agent should take over: a second ahead at either rate; torque that alternates ruins gears; noise that legs bear,
# and less of it and smaller steps in the end; slow targets. In mode effort the actor has to know what a PD law knows: more
# units, a teacher whose word weighs more, to the end, and many states for few updates.
SHARED = {
    "smoothness": 0.05,
    "noise_sigma": 0.06,
    "noise_sigma_final": 0.02,
    "lr_final_fraction": 0.1,
    "tau": 0.01,
    "teacher_weight": 5.0,
    "batch_size": 128,
    "replay_recency": 1.0,
}
AGENT = {
    "effort": {
        **SHARED,
        "gamma": 0.99,
        "n_step": 5,
        "actor_hidden": (384, 384),
        "actor_lr": 1e-3,
        "lr_final_fraction": 0.03,
        "batch_size": 256,
        "updates_per_step": 0.25,
        "teacher_weight": 20.0,
        "teacher_weight_final": 10.0,
    },
    "pd": {**SHARED, "gamma": 0.98, "n_step": 3, "teacher_weight_final": 0.5},
}
PARTS = ("hip", "thigh", "calf")
KP, KD = (40.0,) * 12, (1.0,) * 12
# In mode effort the PD law is the teacher's alone, which foresees the state that it acts in and can afford more damping:
# the errors of a pupil then die away on robots that are late (docs/transfer.md).
TEACHER_KD = {"effort": 2.0, "pd": KD[0]}

# What randomisation means for 15 kg on four legs; the other ranges are those of every robot.
LEGGED: dict[str, dict[str, Any]] = {
    "default": {"payload": (0.0, 1.5), "push_impulse": (0.0, 5.0)},
    "strong": {"payload": (0.0, 3.0), "push_impulse": (0.0, 15.0)},
}
# A state that is 15 ms late, and lost once more, is older than the safety filter allows at 100 Hz: 20 ms. In mode pd a law
# that is 16 ms late makes legs ring.
LEGGED_DELAYS: dict[str, dict[str, Any]] = {
    "effort": {"strong": {"state_delay_ms": (0.0, 10.0)}},
    "pd": {
        "default": {"effort_delay_ms": (0.0, 4.0), "state_delay_ms": (0.0, 4.0)},
        "strong": {"effort_delay_ms": (0.0, 10.0), "state_delay_ms": (0.0, 8.0)},
    },
}


class QuadrupedWalk(RobotTask):
    """Walk at the commanded velocity for 20 s. Success: no fall.

    The observation holds what the robot measures; the speed that the reward and the metrics compare with the command is the
    simulator's. Half of the episodes begin as a deployment does, at rest, with the soft start of the safety filter and nothing
    asked; the others in a pose and at a speed that are random.

    Args:
        control_mode: ``effort`` or ``pd``.
        commands: ``forward``, 0 to 1 m/s, or ``omni``, also sideways and turning.
        render_mode: ``rgb_array`` or None.
        randomization: a preset (``off``, ``default``, ``strong``), or fields of `Randomization`.
        soft_start: whether episodes begin with a soft start; None: half of them do.

    Reset options: ``command`` ``(3,)`` m/s, m/s, rad/s, for the whole episode; ``soft_start`` bool; ``draw`` is a former
    episode's ``info["randomization"]``, whose robot comes again.
    """

    judged_by: ClassVar[tuple[str, ...]] = ("return_mean",)
    """What makes an actor the best: success alone is had by standing still."""

    def __init__(
        self,
        control_mode: str = "effort",
        commands: str = "forward",
        render_mode: str | None = None,
        randomization: str | Mapping[str, Any] | Randomization = "off",
        soft_start: bool | None = None,
    ) -> None:
        if control_mode not in ("effort", "pd"):
            raise ConfigError(mismatch("control_mode", repr(control_mode), "a mode", ("effort", "pd")))
        if commands not in COMMANDS:
            raise ConfigError(mismatch("commands", repr(commands), "a set of commands", COMMANDS))
        model = mujoco.MjModel.from_xml_path(str(model_path("quadruped_walk")))
        robot = robot_from_model(model, "quadruped12", None, gravity_compensated=False)
        self._home = model.key("home").qpos.copy()
        stand = self._home[7:]
        period, gains = CONTROL_PERIOD[control_mode], (KP, KD) if control_mode == "pd" else ()
        control = ControlSpec(period, control_mode, TICKS_PER_ACTION, *gains)
        self.agent_settings: dict[str, Any] = AGENT[control_mode]
        if control_mode == "effort":
            effort_limit = np.array([joint.effort_limit for joint in robot.joints])
            scaling = (standing_effort(model), EFFORT_SCALE * effort_limit)
        else:
            scaling = (stand + standing_effort(model) / KP, TARGET_RANGE)  # targets that carry the robot in this pose
        command = COMMANDS[commands]
        terms = EFFORT_TERMS if control_mode == "effort" else TERMS
        interface = PolicyInterface(robot, control, observation_spec(terms, robot, command), command)
        self.presets = _presets(control_mode)
        super().__init__(model, interface, scaling, False, render_mode, randomization)
        self.camera = "follow"
        self._judge = WalkJudge(self.model, self.data, interface)
        self._steps = round(EPISODE_SECONDS / control.period)
        self._command_steps = round(COMMAND_SECONDS / control.period)
        self._soft_start = soft_start
        self._teacher = _teacher(model, control_mode)
        self._step = 0
        self._errors = np.zeros(2)
        self._fixed_command: Any = None
        self._asked, self._begin = np.zeros(command.size), 0
        self._operator = np.random.default_rng()  # who gives the commands of an episode

    @classmethod
    def keywords_of(cls, interface: PolicyInterface) -> dict[str, Any]:
        """The keyword arguments that make the task of a policy's interface."""
        names = [name for name, spec in COMMANDS.items() if spec == interface.command]
        return {"control_mode": interface.control.mode, **({"commands": names[0]} if names else {})}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        options = options or {}
        mujoco.mj_resetData(self.model, self.data)
        # The gait's clock does not begin with the episode.
        self.data.time = self.np_random.integers(500) * self.model.opt.timestep
        self.data.qpos[:] = self._home
        drawn_start = bool(self.np_random.random() < 0.5)
        soft_start = options.get("soft_start", drawn_start if self._soft_start is None else self._soft_start)
        if not soft_start:
            self.data.qpos[self._qpos] += self.np_random.uniform(-START_SPREAD, START_SPREAD, self.model.nu)
            self.data.qvel[:6] = self.np_random.uniform(-START_SPEED, START_SPEED, 6)
        heading = self.np_random.uniform(-np.pi, np.pi)
        self.data.qpos[3:7] = (np.cos(heading / 2), 0.0, 0.0, np.sin(heading / 2))
        self._fixed_command = options.get("command")
        self._operator = np.random.default_rng(self.np_random.integers(2**32))
        self._asked = self._next_command()
        drawn = self.draw_robot(options)
        mujoco.mj_forward(self.model, self.data)
        self.data.qpos[2] -= self._judge.foot_heights.min()  # the lowest foot touches the floor
        mujoco.mj_forward(self.model, self.data)
        self._safety.rearm() if soft_start else self._safety.reset()
        self._begin = round(SOFT_START_SECONDS / self.interface.control.period) if soft_start else 0
        self.command.values[:] = 0.0 if soft_start else self._asked
        self.read_state()
        self._step = 0
        self._errors[:] = 0.0
        return self.observe(), {**self._info(fallen=False, limit_hit=False), **drawn}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        last_effort, last_feet = self.effort.copy(), self._judge.feet
        verdict = self.run_action(action)
        self._step += 1
        asked = self.command.values
        fallen = verdict.tripped or self._judge.fallen
        reward = self._judge.reward(asked, self.effort, last_effort, last_feet, fallen)
        error, turn_error = self._judge.miss(asked)
        self._errors += (np.linalg.norm(error), abs(turn_error))
        info = self._info(fallen, limit_hit=verdict.tripped or verdict.clamped)
        self._ask()
        return self.observe(), reward, fallen, self._step >= self._steps, info

    def teacher_action(self) -> np.ndarray:
        """What a scripted trot would do now, ``(12,)`` in [-1, 1]. It knows the true velocity, and how late its command acts."""
        data = self.data if self._hardware is None else self._hardware.foreseen()
        offset, scale = self.action_scaling
        orientation, turning = data.qpos[3:7], data.qvel[3:6]
        velocity = in_heading_frame(data.qvel[:3], orientation)
        velocity[2] = turning[2]
        # Its targets are those of the middle of the time for which they will be held.
        time = data.time + self.interface.control.period / 2
        lean = rotation_matrix(orientation)[2, :2]
        output = self._teacher.targets(time, self.command.values, velocity, lean, turning)
        # A soft start exerts a part of what is asked for: who asks for more stays on his feet meanwhile.
        position, gain = data.qpos[self._qpos], max(self._safety.gain, LOWEST_GAIN)
        lead = (output - position) / gain
        if self.interface.control.mode == "effort":
            output = KP[0] * lead - TEACHER_KD["effort"] / gain * data.qvel[self._qvel]
        else:
            output = position + lead
        return np.clip((output - offset) / scale, -1.0, 1.0)

    def _ask(self) -> None:
        """Gives the command that is due."""
        since = self._step - self._begin
        if since > 0 and since % self._command_steps == 0:
            self._asked = self._next_command()
        if since >= 0:
            self.command.values[:] = self._asked

    def _next_command(self) -> np.ndarray:
        command = self.interface.command
        values = self._operator.uniform(command.lower, command.upper)
        if self._operator.random() < STAND_PROBABILITY:
            values[:] = 0.0
        return values if self._fixed_command is None else np.asarray(self._fixed_command, dtype=float)

    def _info(self, fallen: bool, limit_hit: bool) -> dict[str, Any]:
        speed, turn = self._errors / max(self._step, 1)
        return {
            "is_success": self._step >= self._steps and not fallen,
            "limit_hit": limit_hit,
            "target": self._asked.tolist(),
            "metrics": {"speed_error_m_s": float(speed), "turn_error_rad_s": float(turn)},
        }


def _presets(control_mode: str) -> dict[str, Randomization]:
    delays = LEGGED_DELAYS[control_mode]
    return {name: replace(ranges, **LEGGED.get(name, {}), **delays.get(name, {})) for name, ranges in PRESETS.items()}


def _teacher(model: mujoco.MjModel, control_mode: str) -> Trot:
    hips, thighs, feet = (model.body_pos[[model.body(f"{leg}_{part}").id for leg in LEGS]] for part in PARTS)
    weight = float(model.body_mass.sum() * -model.opt.gravity[2])
    legs = ((hips + thighs)[:, :2], thighs[:, 1], -float(feet[0, 2]))
    return Trot(*legs, weight, KP[0], TEACHER_KD[control_mode], GAIT_FREQUENCY)


def standing_effort(model: mujoco.MjModel) -> np.ndarray:
    """Joint torques that carry the robot in its standing pose, a quarter of its weight on each foot ``(n,)``, N·m."""
    data = mujoco.MjData(model)
    data.qpos[:] = model.key("home").qpos
    mujoco.mj_forward(model, data)
    share = float(model.body_mass.sum() * -model.opt.gravity[2]) / 4
    jacobian, pushed = np.zeros((3, model.nv)), np.zeros(model.nv)
    for leg in LEGS:
        foot = model.geom(f"{leg}_foot")
        mujoco.mj_jac(model, data, jacobian, None, data.geom_xpos[foot.id], int(foot.bodyid[0]))
        pushed += share * jacobian[2]
    joints = model.jnt_dofadr[model.actuator_trnid[:, 0]]
    return (data.qfrc_bias - pushed)[joints]
