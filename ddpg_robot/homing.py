"""The reset procedure of an arm: home under a PD law whose pull can at most keep a slow, steady speed against its damping."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.spec import RobotSpec
from ddpg_robot.state import Array, RobotState

SOFTNESS_S = 0.25
"""Stiffness of a joint: its trip damping over this time."""


class Homing:
    """``clip(kp (home - q), -kd v, kd v) - kd dq/dt`` with v a share of each velocity limit and kd the trip damping.

    The pull is bounded by what the damping takes away at that speed, however far home is: an arm that moves freely goes no
    faster. It has no state of its own: whoever stops asking has stopped it.

    Args:
        robot: whose limits and trip damping it uses.
        home: joint positions ``(n,)``, rad.
        speed: largest speed, a share of each joint's velocity limit.
        tolerance: how near to home is home, rad; friction or a load may keep a joint from coming nearer.

    Raises:
        ConfigError: not one position per joint, or one beyond a limit.
    """

    def __init__(self, robot: RobotSpec, home: Sequence[float], speed: float = 0.2, tolerance: float = 0.15) -> None:
        self.home: Array = np.array(home, dtype=np.float64)
        inside = len(home) == robot.n_joints and all(
            joint.position_lower <= one <= joint.position_upper for joint, one in zip(robot.joints, home)
        )
        if not inside:
            expected = f"{robot.n_joints} positions within the joints' limits, rad"
            raise ConfigError(mismatch("home", list(home), expected))
        self._speed = speed * np.array([joint.velocity_limit for joint in robot.joints])
        self._damping = np.array([joint.damping for joint in robot.joints])
        self._pull = self._damping * self._speed
        self._tolerance = tolerance

    def effort(self, state: RobotState) -> Array:
        """What to ask for ``(n,)``, N·m."""
        error = self.home - state.position
        pull = np.clip(self._damping / SOFTNESS_S * error, -self._pull, self._pull)
        effort: Array = pull - self._damping * state.velocity
        return effort

    def is_home(self, state: RobotState) -> bool:
        """True where every joint is near home and as good as at rest."""
        near = np.abs(self.home - state.position) <= self._tolerance
        slow = np.abs(state.velocity) <= 0.25 * self._speed
        return bool((near & slow).all())
