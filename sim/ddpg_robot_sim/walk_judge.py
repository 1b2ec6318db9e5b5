"""What walking is worth, by the true state of a simulated quadruped: the task asks it, and a plant that pays a policy."""

from __future__ import annotations

import mujoco
import numpy as np

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.kinematics import in_heading_frame, rotation_matrix
from ddpg_robot.spec import PolicyInterface
from ddpg_robot_sim.rewards import walk_reward

LEGS = ("FL", "FR", "RL", "RR")
FALL_PENALTY = 5.0
HEIGHT = 0.27  # m, of the base while it walks
LOWEST = 0.15  # m; a base below has fallen


class WalkJudge:
    """Reward, speed and fall of a quadruped at each control period, in whatever simulation it walks.

    Args:
        model: of the robot, with a free joint first, a keyframe ``home`` and a foot of each of `LEGS`.
        data: its state; looked at, never changed.
        interface: of the policy that walks.

    Raises:
        ConfigError: the model is of another robot.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, interface: PolicyInterface) -> None:
        wanted = [*(f"{leg}_foot" for leg in LEGS), "trunk", "head"]
        known = {model.geom(i).name for i in range(model.ngeom)}
        if not known.issuperset(wanted) or interface.command.kind != "velocity":
            found = f"'{interface.robot.name}', command {interface.command.kind}"
            raise ConfigError(mismatch("robot to be paid for walking", found, f"a quadruped with {', '.join(wanted)}"))
        joints = model.actuator_trnid[:, 0]
        self._qpos = model.jnt_qposadr[joints]
        self._stand = model.key("home").qpos[self._qpos].copy()
        self._effort_limit = np.array([joint.effort_limit for joint in interface.robot.joints])
        self._period = interface.control.period
        self._data = data
        self._feet = np.array([model.geom(name).id for name in wanted[: len(LEGS)]])
        self._trunk = [model.geom(name).id for name in wanted[len(LEGS) :]]
        self._foot_radius = float(model.geom_size[self._feet[0], 0])

    @property
    def feet(self) -> np.ndarray:
        """Where the feet are on the floor ``(legs, 2)``, m."""
        return self._data.geom_xpos[self._feet, :2].copy()

    @property
    def foot_heights(self) -> np.ndarray:
        """Lowest point of each foot over the floor ``(legs,)``, m."""
        return self._data.geom_xpos[self._feet, 2] - self._foot_radius

    @property
    def fallen(self) -> bool:
        """The base is too low, or trunk or head touch something."""
        return bool(self._data.qpos[2] < LOWEST or np.isin(self._data.contact.geom, self._trunk).any())

    def miss(self, asked: np.ndarray) -> tuple[np.ndarray, float]:
        """Asked minus true velocity: forward and left ``(2,)``, m/s, and turning, rad/s."""
        velocity = in_heading_frame(self._data.qvel[:3], self._data.qpos[3:7])
        return asked[:2] - velocity[:2], float(asked[2] - self._data.qvel[5])

    def reward(
        self, asked: np.ndarray, effort: np.ndarray, last_effort: np.ndarray, last_feet: np.ndarray, fallen: bool
    ) -> float:
        """Reward of the control period that ends now.

        Args:
            asked: velocity forward and left, m/s, turning, rad/s ``(3,)``.
            effort: commanded last ``(n,)``, N·m.
            last_effort: commanded last before the period.
            last_feet: `feet` when it began.
            fallen: the robot has fallen, or the safety filter stopped it.
        """
        data = self._data
        orientation, turning = data.qpos[3:7], data.qvel[3:6]
        error, turn_error = self.miss(asked)
        now, before = effort / self._effort_limit, last_effort / self._effort_limit
        reward = walk_reward(
            velocity_error=error,
            turn_error=turn_error,
            bounce=float(data.qvel[2]),
            sway=turning[:2],
            lean=rotation_matrix(orientation)[2, :2],
            height_error=float(data.qpos[2] - HEIGHT),
            effort=now,
            effort_change=now - before,
            sprawl=(data.qpos[self._qpos] - self._stand)[::3],
            foot_height=self.foot_heights,
            foot_speed=np.linalg.norm(data.geom_xpos[self._feet, :2] - last_feet, axis=1) / self._period,
        )
        return reward - FALL_PENALTY if fallen else reward
