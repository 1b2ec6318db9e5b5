"""Exploration on a robot: smooth torque noise within a budget that the policy file caps, none where a limit is near.

Independent noise at every step shakes a robot and explores little, for what it does in one step it undoes in the next.
The noise here is an Ornstein-Uhlenbeck process, continued exactly from one run of the policy to the next:
``x' = a x + sqrt(1 - a^2) e``, ``a = exp(-period / correlation_time)``, ``e ~ N(0, 1)``; the torque is
``share * limit * clip(x / 2, -1, 1)``, fading to zero before a limit of position, velocity or tilt. Whatever it makes of
the policy's output then goes through control law and safety filter like any other output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from ddpg_robot.controller import PolicyController
from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.observation import Float32
from ddpg_robot.policy import Policy
from ddpg_robot.safety import SafetyLimits
from ddpg_robot.spec import ControlSpec, RobotSpec
from ddpg_robot.state import Array, RobotState

DEVIATIONS = 2.0
"""The noise is bounded where a normal variable has so many deviations."""


@dataclass(frozen=True)
class ExplorationSettings:
    """How a robot explores. What is largest is capped by the policy file, whatever stands here."""

    share: float = 0.05
    """Largest noise torque of a joint, as a share of its effort limit; its deviation is half of that."""
    correlation_time: float = 0.15
    """Time after which the noise has forgotten all but 37 % of itself, s."""
    position_margin: float = 0.3
    """The noise fades to zero over this distance before a position limit, rad."""
    velocity_margin: float = 0.5
    """It fades to zero between this share of `velocity_ceiling` and the ceiling."""
    velocity_ceiling: float = 0.6
    """Share of the velocity limit at which no noise is left."""
    tilt_margin: float = 0.3
    """It fades to zero over this angle before the tilt limit of a floating base, rad."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(mismatch(f"exploration {field.name}", value, "a finite number > 0"))
        for name in ("velocity_margin", "velocity_ceiling"):
            if getattr(self, name) >= 1:
                raise ConfigError(mismatch(f"exploration {name}", getattr(self, name), "a share below 1"))


class Explorer:
    """Adds noise to a policy's outputs.

    Args:
        robot: whose limits bound it.
        control: of the policy: its period, and in mode ``pd`` the stiffness that turns torque into a joint target.
        limits: settings of the safety filter: where it trips on tilt.
        settings: see there.
        cap: largest share that the policy file allows.
        rng: source of the noise.

    Attributes:
        active: False: no noise, until somebody sets it again (any thread).
        noise: what the last run of the policy was given ``(n,)``, N·m; the same buffer at every call.

    Raises:
        ConfigError: the settings ask for more than the policy file allows.
    """

    def __init__(
        self,
        robot: RobotSpec,
        control: ControlSpec,
        limits: SafetyLimits,
        settings: ExplorationSettings,
        cap: float,
        rng: np.random.Generator,
    ) -> None:
        self._share = settings.share
        self.check(cap)
        n = robot.n_joints
        effort, velocity, lower, upper = (
            np.array([getattr(joint, name) for joint in robot.joints])
            for name in ("effort_limit", "velocity_limit", "position_lower", "position_upper")
        )
        self._largest = settings.share * effort
        self._decay = math.exp(-control.period / settings.correlation_time)
        self._spread = math.sqrt(1 - self._decay**2)
        self._middle, self._half_range = (lower + upper) / 2, (upper - lower) / 2
        self._position_margin = settings.position_margin
        self._ceiling = settings.velocity_ceiling * velocity
        self._velocity_margin = (1 - settings.velocity_margin) * self._ceiling
        self._tilt_end, self._tilt_margin = limits.tilt_limit, settings.tilt_margin
        stiffness = None if control.kp is None else np.array(control.kp)
        # A joint without stiffness has no target to move: it is not explored.
        self._per_effort = (
            np.ones(n) if stiffness is None else np.divide(1.0, stiffness, out=np.zeros(n), where=stiffness > 0)
        )
        self._rng = rng
        self._process: Array = np.zeros(n)
        self._draw: Array = np.zeros(n)
        self._output: Float32 = np.zeros(n, np.float32)
        self.active = True
        self.noise: Array = np.zeros(n)

    def check(self, cap: float) -> None:
        """Raises ConfigError where a policy file allows less than is asked for."""
        if self._share > cap:
            expected = f"at most {cap:g}, what the policy file allows" if cap else "none: the policy file allows none"
            raise ConfigError(mismatch("exploration share", self._share, expected))

    def reset(self) -> None:
        """Forgets the noise: an episode begins, and it grows from zero."""
        self._process[:] = 0.0

    def explore(self, output: Float32, state: RobotState) -> Float32:
        """The output with noise added ``(n,)``; the same buffer at every call.

        Args:
            output: of the policy ``(n,)``, N·m or rad.
            state: the newest state.
        """
        process, noise = self._process, self.noise
        self._rng.standard_normal(out=self._draw)
        process *= self._decay
        process += self._spread * self._draw
        np.clip(process / DEVIATIONS, -1.0, 1.0, out=noise)
        noise *= self._largest
        noise *= self.freedom(state) if self.active else 0.0
        self._output[:] = output + noise * self._per_effort
        return self._output

    def freedom(self, state: RobotState) -> Array:
        """How much of the noise is let through ``(n,)``: 1 far from every limit, 0 at one, and where anything is not finite."""
        room = (self._half_range - np.abs(state.position - self._middle)) / self._position_margin
        np.minimum(room, (self._ceiling - np.abs(state.velocity)) / self._velocity_margin, out=room)
        if state.floating_base:
            _, x, y, _ = state.orientation_wxyz
            tilt = math.acos(min(1.0, max(-1.0, 1 - 2 * (x * x + y * y))))
            np.minimum(room, (self._tilt_end - tilt) / self._tilt_margin, out=room)
        freedom: Array = np.nan_to_num(room.clip(0.0, 1.0), nan=0.0, copy=False)
        return freedom


class ExploringController(PolicyController):
    """A controller whose policy explores. Without online learning none is made, and nothing of it runs.

    Args:
        explorer: adds the noise; the rest as `PolicyController`.
    """

    def __init__(
        self,
        explorer: Explorer,
        policy: Policy,
        limits: SafetyLimits,
        rate: float | None = None,
        predecessor: PolicyController | None = None,
    ) -> None:
        super().__init__(policy, limits, rate, predecessor)
        self.explorer = explorer

    def act(self, state: RobotState) -> Float32:
        """The policy's output for what was built last, with noise added."""
        return self.explorer.explore(super().act(state), state)

    def rearm(self) -> None:
        """Ends a trip with a soft start; the noise grows from zero too."""
        super().rearm()
        self.explorer.reset()
