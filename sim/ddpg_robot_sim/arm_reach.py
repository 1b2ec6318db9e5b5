"""`arm_reach`: a 7-joint torque-controlled arm brings its hand to a point and holds it there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import mujoco
import numpy as np

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.kinematics import ChainKinematics
from ddpg_robot.observation import observation_spec
from ddpg_robot.spec import CommandSpec, ControlSpec, PolicyInterface, RobotSpec
from ddpg_robot_sim.base import RobotTask, model_path, robot_from_model
from ddpg_robot_sim.computed_torque import ComputedTorque
from ddpg_robot_sim.randomization import Randomization
from ddpg_robot_sim.rewards import ReachReward

# Targets: a box of 40 x 60 x 45 cm before the arm, base frame, m.
TARGET = CommandSpec("point", "base", 3, "m", lower=(0.3, -0.3, 0.2), upper=(0.7, 0.3, 0.65))
TERMS = ("joint_position", "joint_velocity", "last_effort", "command", "target_error", "target_direction_joints")

CONTROL_PERIOD = 0.02  # s
TICKS_PER_ACTION = 5  # control law and safety filter at 250 Hz
EPISODE_SECONDS = 4.0
HOLD_SECONDS = 0.5
SUCCESS_DISTANCE = 0.02  # m, during the whole of the last HOLD_SECONDS
TRIP_PENALTY = 10.0
START_SPREAD = 0.8  # rad around home; as varied as the poses in which the arm ends up after a row of targets

# What the policy may ask for, mode effort: of the effort limit; mode pd: rad around the joint's measured position.
EFFORT_SCALE = np.full(7, 0.18)
TARGET_RANGE = np.full(7, 0.35)
# The arm's own weight takes up to 45 N·m at the second joint, less further on, nothing at the vertical first one.
EFFORT_SCALE_UNCOMPENSATED = np.array([0.18, 0.55, 0.35, 0.4, 0.25, 0.4, 0.18])
TARGET_RANGE_UNCOMPENSATED = np.array([0.35, 0.8, 0.5, 0.6, 0.35, 0.5, 0.35])
# Mode pd: TARGET_RANGE * KP / KD is the speed at which a joint settles, 80 % of its limit at most, and twice
# TARGET_RANGE * KP, the torque of a full reversal at that speed, is within its effort limit.
KP = (60.0, 60.0, 60.0, 60.0, 15.0, 15.0, 10.0)
KD = (12.0, 12.0, 12.0, 12.0, 2.5, 2.5, 2.0)
# With these gains the fastest of the arm's motions is damped at up to 115 rad/s (the largest eigenvalue of inertia^-1 kd over
# the start poses), and a loop that is 16 ms late rings. With the low ones it is 50 rad/s; targets may be further away, since
# what they have to hold against gravity is no less.
KP_LOW = (30.0, 30.0, 15.0, 30.0, 7.5, 7.5, 6.0)
KD_LOW = (7.0, 7.0, 3.5, 7.0, 1.7, 1.7, 1.4)
TARGET_RANGE_LOW = np.full(7, 0.45)


class Reach(RobotTask):
    """An arm brings its hand to a point and holds it there; which arm, and where, a subclass says.

    Args:
        model: of the arm alone, gravity compensated or not.
        robot: the same arm, as a policy sees it.
        control: how the policy's output becomes torque.
        scale: what the policy may ask for ``(n,)``, N·m or rad.
        target: the box of targets.
        home: pose that the posture's cost is about ``(n,)``, rad.
        start_region: bounds of the poses that episodes begin in ``(n,)`` each, rad.
        places: names of the site at the hand and of the body that shows the target.
        seconds: length of an episode, s.
        render_mode: ``rgb_array`` or None.
        randomization: see `RobotTask`.
    """

    agent_settings: ClassVar[dict[str, Any]] = {
        "gamma": 0.97,
        "n_step": 3,
        "smoothness": 0.1,
        "lr_final_fraction": 0.1,
        "noise_sigma_final": 0.02,
        "tau": 0.01,
        "batch_size": 128,
        "replay_recency": 1.0,
    }
    """What an agent should take over: the end is 1.3 s ahead and about millimetres, which small steps, little noise and slow
    targets show; smaller batches cost less; torque that alternates ruins gears."""

    def __init__(
        self,
        model: mujoco.MjModel,
        robot: RobotSpec,
        control: ControlSpec,
        scale: np.ndarray,
        target: CommandSpec,
        home: np.ndarray,
        start_region: tuple[np.ndarray, np.ndarray],
        places: tuple[str, str],
        seconds: float,
        render_mode: str | None,
        randomization: str | Mapping[str, Any] | Randomization,
    ) -> None:
        assert robot.chain is not None  # whoever reaches has one
        self.home = home
        self.start_region = start_region
        self.places = places
        lower, upper = (np.array([getattr(j, f"position_{side}") for j in robot.joints]) for side in ("lower", "upper"))
        self._lower, self._upper = lower, upper
        self._velocity_limit = np.array([joint.velocity_limit for joint in robot.joints])
        self._reward = ReachReward(robot, home, TRIP_PENALTY)
        interface = PolicyInterface(robot, control, observation_spec(TERMS, robot, target), target)
        scaling = (np.zeros(robot.n_joints), scale)
        super().__init__(model, interface, scaling, control.mode == "pd", render_mode, randomization)
        self._steps = round(seconds / control.period)
        self._hold_steps = round(HOLD_SECONDS / control.period)
        self._site = model.site(places[0]).id
        self._mocap = model.body(places[1]).mocapid[0]
        self._kinematics = ChainKinematics(robot.chain)
        self._step = 0
        self._held = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        options = options or {}
        start = self._start_pose()
        target = self.np_random.uniform(self.interface.command.lower, self.interface.command.upper)
        if not options.get("keep_pose", False):
            mujoco.mj_resetData(self.model, self.data)
            self.data.qpos[self._qpos] = options.get("joint_position", start)
            self._safety.reset()
        self.command.values[:] = options.get("target", target)
        self.data.mocap_pos[self._mocap] = self.command.values
        drawn = self.draw_robot(options)
        mujoco.mj_forward(self.model, self.data)
        self.read_state()
        self._step = self._held = 0
        return self.observe(), {**self._info(self._distance(), limit_hit=False), **drawn}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        last_effort = self.effort.copy()
        verdict = self.run_action(action)
        self._step += 1
        distance = self._distance()
        self._held = self._held + 1 if distance <= SUCCESS_DISTANCE else 0
        position, velocity = self.truth.position, self.truth.velocity
        reward = self._reward.step(distance, position, velocity, self.effort, last_effort, verdict.tripped)
        beyond = (position < self._lower) | (position > self._upper) | (np.abs(velocity) > self._velocity_limit)
        limit_hit = verdict.tripped or verdict.clamped or bool(beyond.any())
        return self.observe(), reward, verdict.tripped, self._step >= self._steps, self._info(distance, limit_hit)

    def reward_of(self, transitions: Any) -> np.ndarray:
        """What `step` would have given for a robot's transitions ``(k,)``, by the same function of what was measured."""
        return self._reward.of_transitions(transitions)

    def may_start_at(self, pose: np.ndarray) -> bool:
        """Whether the hand is in the box of the targets: as if the arm had just reached one."""
        self._kinematics.update(pose)
        tip = self._kinematics.tip
        return bool((tip >= self.interface.command.lower).all() and (tip <= self.interface.command.upper).all())

    def _start_pose(self) -> np.ndarray:
        while True:
            pose = self.np_random.uniform(*self.start_region)
            if self.may_start_at(pose):
                return pose

    def _distance(self) -> float:
        return float(np.linalg.norm(self.command.values - self.data.site_xpos[self._site]))

    def _info(self, distance: float, limit_hit: bool) -> dict[str, Any]:
        return {
            "is_success": self._held >= self._hold_steps,
            "distance": distance,
            "limit_hit": limit_hit,
            "target": self.command.values.tolist(),
        }


class ArmReach(Reach):
    """Reach a target from a random pose. Success: within 2 cm during the whole last half second.

    Args:
        control_mode: ``effort`` or ``pd``.
        gravity_compensated: False leaves the arm's weight to the policy.
        gains: of mode ``pd``: ``high``, or ``low`` ones that bear 16 ms of delay.
        render_mode: ``rgb_array`` or None.
        randomization: a preset (``off``, ``default``, ``strong``), or fields of `Randomization`.

    Reset options: ``target`` ``(3,)`` m; ``joint_position`` ``(7,)`` rad; ``keep_pose`` True goes on from where the arm is;
    ``draw`` is a former episode's ``info["randomization"]``, whose robot comes again.
    """

    def __init__(
        self,
        control_mode: str = "effort",
        gravity_compensated: bool = True,
        gains: str = "high",
        render_mode: str | None = None,
        randomization: str | Mapping[str, Any] | Randomization = "off",
    ) -> None:
        if control_mode not in ("effort", "pd"):
            raise ConfigError(mismatch("control_mode", repr(control_mode), "a mode", ("effort", "pd")))
        if gains not in ("high", "low"):
            raise ConfigError(mismatch("gains", repr(gains), "a pair of kp and kd", ("high", "low")))
        model = mujoco.MjModel.from_xml_path(str(model_path("arm_reach")))
        if not gravity_compensated:
            model.body_gravcomp[:] = 0.0
        robot = robot_from_model(model, "arm7", "hand", gravity_compensated)
        home = model.key("home").qpos.copy()
        lower, upper = (np.array([getattr(j, f"position_{side}") for j in robot.joints]) for side in ("lower", "upper"))
        start = np.maximum(home - START_SPREAD, lower + 0.2), np.minimum(home + START_SPREAD, upper - 0.2)
        if control_mode == "effort":
            control = ControlSpec(CONTROL_PERIOD, "effort", TICKS_PER_ACTION)
            effort_limit = np.array([joint.effort_limit for joint in robot.joints])
            scale = (EFFORT_SCALE if gravity_compensated else EFFORT_SCALE_UNCOMPENSATED) * effort_limit
        elif gains == "low":
            control = ControlSpec(CONTROL_PERIOD, "pd", TICKS_PER_ACTION, KP_LOW, KD_LOW)
            scale = TARGET_RANGE_LOW if gravity_compensated else 2 * TARGET_RANGE_UNCOMPENSATED
        else:
            control = ControlSpec(CONTROL_PERIOD, "pd", TICKS_PER_ACTION, KP, KD)
            scale = TARGET_RANGE if gravity_compensated else TARGET_RANGE_UNCOMPENSATED
        places = ("hand", "target")
        super().__init__(
            model, robot, control, scale, TARGET, home, start, places, EPISODE_SECONDS, render_mode, randomization
        )
        self._teacher = ComputedTorque(self.model, self.data, self._site, home)

    @classmethod
    def keywords_of(cls, interface: PolicyInterface) -> dict[str, Any]:
        """The keyword arguments that make the task of a policy's interface."""
        compensated = interface.robot.gravity_compensated
        gains = {"gains": "low"} if interface.control.kp == KP_LOW else {}
        return {"control_mode": interface.control.mode, "gravity_compensated": compensated, **gains}

    def teacher_action(self) -> np.ndarray:
        """What computed torque with full knowledge of the arm would do now, ``(7,)`` in [-1, 1]."""
        effort, control = self._teacher.effort(self.command.values), self.interface.control
        if control.kp is None or control.kd is None:
            output = effort
        else:
            # The PD law will work from the measured state; this target's torque is right for the true one.
            output = (effort + np.array(control.kd) * self.data.qvel[self._qvel]) / control.kp
        return np.clip(output / self.action_scaling[1], -1.0, 1.0)
