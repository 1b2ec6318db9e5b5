"""The safety filter: proposed effort + state -> safe effort + verdict. The robot and the training environment run the same one.

Order, every tick: finite -> fresh -> within limits -> position and velocity barrier -> effort clamp -> slew limit.
The first three trip. A trip is latched: damping goes out until `SafetyFilter.rearm`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.spec import RobotSpec
from ddpg_robot.state import Array, RobotState


class TripReason(Enum):
    """Why the robot was stopped."""

    NOT_FINITE = "not finite"
    STALE_STATE = "stale state"
    POSITION_LIMIT = "position beyond limit"
    VELOCITY_LIMIT = "velocity beyond limit"
    TILT = "tilt beyond limit"
    ESTOP = "emergency stop"
    FAULT = "fault"


class Verdict(NamedTuple):
    """What the filter did in one tick."""

    tripped: bool = False
    reason: TripReason | None = None
    detail: str = ""
    barrier: bool = False
    """A joint was held back from a position or velocity limit."""
    clamped: bool = False
    """A proposed effort was beyond the joint's effort limit."""
    slewed: bool = False
    """An effort changed faster than the joint's effort rate limit allows."""


# One verdict for each combination of (barrier, clamped, slewed), so that a tick allocates none.
_FREE = {(b, c, s): Verdict(barrier=b, clamped=c, slewed=s) for b in (0, 1) for c in (0, 1) for s in (0, 1)}


@dataclass(frozen=True)
class SafetyLimits:
    """Settings of the filter. The joints' own limits come from the robot's spec and cannot be widened here."""

    state_timeout: float = 0.04
    """Oldest usable state, s. The node sets it to a number of control periods."""
    position_tolerance: float = 0.01
    """Trip this far beyond a position limit, rad (encoders are noisy at an end stop)."""
    velocity_tolerance: float = 0.05
    """Trip at this fraction above the velocity limit."""
    position_margin: float = 0.15
    """The barrier fades the effort towards a limit over this distance, rad."""
    velocity_margin: float = 0.25
    """The barrier fades the accelerating effort over this last fraction of the velocity limit."""
    lookahead: float = 0.1
    """The barrier acts on ``position + lookahead * velocity``, s."""
    tilt_limit: float = 0.8
    """Largest tilt of a floating base from upright, rad."""
    soft_start: float = 0.5
    """Time over which effort grows from zero after a start or a rearm, s."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(mismatch(f"safety limit {field.name}", value, "a finite number >= 0"))
        for name in ("position_margin", "velocity_margin", "state_timeout"):
            if getattr(self, name) == 0:
                raise ConfigError(mismatch(f"safety limit {name}", 0, "a number > 0"))


class SafetyFilter:
    """Turns proposed effort into safe effort, or into damping once tripped.

    Attributes:
        effort: the safe effort of the last `step` ``(n,)``, N·m; the same buffer at every call.
        reason: why it tripped, None while it runs.
        detail: which joint, which value.
    """

    def __init__(self, robot: RobotSpec, limits: SafetyLimits, loop_period: float) -> None:
        n = robot.n_joints
        joints = robot.joints
        self._names = robot.joint_names
        self._limits = limits
        self._effort_limit = np.array([joint.effort_limit for joint in joints])
        self._damping = np.array([joint.damping for joint in joints])
        self._slew = np.array([joint.effort_rate_limit for joint in joints]) * loop_period
        lower = np.array([joint.position_lower for joint in joints])
        upper = np.array([joint.position_upper for joint in joints])
        velocity = np.array([joint.velocity_limit for joint in joints])
        self._middle = (lower + upper) / 2
        self._trip_range = (upper - lower) / 2 + limits.position_tolerance
        self._trip_velocity = velocity * (1 + limits.velocity_tolerance)
        # Row 0 speaks of the upper limits, row 1 of the lower ones mirrored, so one expression serves both.
        self._position_bounds = np.stack([upper, -lower])  # (2, n)
        self._velocity_bounds = np.stack([velocity, velocity])
        self._velocity_margin = limits.velocity_margin * velocity
        self._cos_tilt = math.cos(min(limits.tilt_limit, math.pi))
        self._ramp = loop_period / limits.soft_start if limits.soft_start > 0 else 1.0
        self._gain = 1.0
        self._room = np.zeros((2, n))
        self._speed_room = np.zeros((2, n))
        self._scratch = np.zeros(n)
        self._last = np.zeros(n)
        self._tripped: Verdict | None = None
        self.effort: Array = np.zeros(n)

    @property
    def tripped(self) -> bool:
        return self._tripped is not None

    @property
    def reason(self) -> TripReason | None:
        return self._tripped.reason if self._tripped else None

    @property
    def detail(self) -> str:
        return self._tripped.detail if self._tripped else ""

    def step(self, proposed: NDArray[np.floating], state: RobotState, state_age: float) -> Verdict:
        """One tick.

        Args:
            proposed: effort that the control law asks for ``(n,)``, N·m.
            state: the newest state.
            state_age: its age, s.

        Returns:
            The verdict; the safe effort is in `effort`.
        """
        if self._tripped is None:
            self._check(proposed, state, state_age)
        if self._tripped is not None:
            self._damp(state, state_age)
            return self._tripped
        return self._limit(proposed, state)

    def trip(self, reason: TripReason, detail: str) -> None:
        """Latches a trip. The first reason stands until `rearm`."""
        if self._tripped is None:
            self._tripped = Verdict(tripped=True, reason=reason, detail=detail)

    def rearm(self) -> None:
        """Ends a trip and starts softly: effort grows from zero over `SafetyLimits.soft_start`."""
        self.reset()
        self._gain = 0.0

    def reset(self) -> None:
        """Forgets trip and last effort, without a soft start (a new episode in simulation)."""
        self._tripped = None
        self._gain = 1.0
        self._last[:] = 0.0
        self.effort[:] = 0.0

    def _check(self, proposed: NDArray[np.floating], state: RobotState, state_age: float) -> None:
        # A sum is finite only if every part is: one cheap reduction instead of a mask.
        if not math.isfinite(state.position.sum() + state.velocity.sum() + proposed.sum()):
            self._trip_not_finite(proposed, state)
            return
        if not abs(state_age) <= self._limits.state_timeout:
            limit = self._limits.state_timeout
            self.trip(TripReason.STALE_STATE, f"state is {state_age * 1e3:.1f} ms old, limit {limit * 1e3:.1f} ms")
            return
        scratch = self._scratch
        np.subtract(state.position, self._middle, out=scratch)
        np.abs(scratch, out=scratch)
        scratch -= self._trip_range
        if scratch.max() > 0:
            self._trip_joint(TripReason.POSITION_LIMIT, int(scratch.argmax()), state.position, "rad")
            return
        np.abs(state.velocity, out=scratch)
        scratch -= self._trip_velocity
        if scratch.max() > 0:
            self._trip_joint(TripReason.VELOCITY_LIMIT, int(scratch.argmax()), state.velocity, "rad/s")
            return
        if state.floating_base:
            _, x, y, _ = state.orientation_wxyz
            cos_tilt = 1 - 2 * (x * x + y * y)
            if not cos_tilt >= self._cos_tilt:
                self.trip(TripReason.TILT, f"cosine of tilt {cos_tilt:.2f}, limit {self._cos_tilt:.2f}")

    def _limit(self, proposed: NDArray[np.floating], state: RobotState) -> Verdict:
        limits, room, speed_room, effort = self._limits, self._room, self._speed_room, self.effort
        # Room left in units of the margin, towards the upper (row 0) and the lower limit (row 1): 1 = free, -1 = turn back.
        np.multiply(state.velocity, limits.lookahead, out=room[0])
        room[0] += state.position
        np.negative(room[0], out=room[1])
        np.subtract(self._position_bounds, room, out=room)
        room /= limits.position_margin
        speed_room[0] = state.velocity
        np.negative(state.velocity, out=speed_room[1])
        np.subtract(self._velocity_bounds, speed_room, out=speed_room)
        speed_room /= self._velocity_margin
        np.minimum(room, speed_room, out=room)
        np.clip(room, -1.0, 1.0, out=room)
        room *= self._effort_limit
        np.negative(room[1], out=room[1])
        np.clip(proposed, -self._effort_limit, self._effort_limit, out=self._scratch)
        np.maximum(self._scratch, room[1], out=effort)
        np.minimum(effort, room[0], out=effort)
        clamped = bool((self._scratch != proposed).any())
        barrier = bool((effort != self._scratch).any())
        if self._gain < 1.0:
            self._gain = min(1.0, self._gain + self._ramp)
            effort *= self._gain
        np.subtract(effort, self._last, out=self._scratch)
        slewed = bool(np.abs(self._scratch, out=room[0]).__gt__(self._slew).any())
        if slewed:
            np.clip(self._scratch, -self._slew, self._slew, out=self._scratch)
            np.add(self._last, self._scratch, out=effort)
        self._last[:] = effort
        return _FREE[barrier, clamped, slewed]

    def _damp(self, state: RobotState, state_age: float) -> None:
        """``-damping * velocity`` within the effort limits; zero where the velocity is not known."""
        if abs(state_age) <= self._limits.state_timeout:
            np.multiply(state.velocity, self._damping, out=self.effort)
            np.negative(self.effort, out=self.effort)
            np.clip(self.effort, -self._effort_limit, self._effort_limit, out=self.effort)
            self.effort[~np.isfinite(self.effort)] = 0.0
        else:
            self.effort[:] = 0.0
        self._last[:] = self.effort

    def _trip_joint(self, reason: TripReason, index: int, values: Array, unit: str) -> None:
        self.trip(reason, f"joint '{self._names[index]}' at {values[index]:.3f} {unit}")

    def _trip_not_finite(self, proposed: NDArray[np.floating], state: RobotState) -> None:
        quantities = {"position": state.position, "velocity": state.velocity, "proposed effort": proposed}
        for quantity, values in quantities.items():
            bad = np.flatnonzero(~np.isfinite(values))
            if len(bad):
                self.trip(TripReason.NOT_FINITE, f"{quantity} of joint '{self._names[bad[0]]}' is {values[bad[0]]}")
                return
        self.trip(TripReason.NOT_FINITE, "a quantity overflows")
