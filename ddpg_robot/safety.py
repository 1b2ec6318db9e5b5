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
    STALL = "stalled"
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


_BOTH = (False, True)
# One verdict for each combination of (barrier, clamped, slewed), so that a tick allocates none.
_FREE = {(b, c, s): Verdict(barrier=b, clamped=c, slewed=s) for b in _BOTH for c in _BOTH for s in _BOTH}
_UNTOUCHED = _FREE[False, False, False]
_INSIDE = 1 - 1e-9
"""So far inside every bound an effort surely is; nearer to one, the exact comparisons decide."""


FAST = 0.08
"""The barrier looks ahead no longer than this part of the time that a joint takes through its range at its largest speed:
a leg's knee is at its stop in a tenth of a second, and a barrier that damped all of its way would shake a light link."""


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
    velocity_ceiling: float = 0.7
    """Accelerating effort is zero at this fraction of the velocity limit, and braking beyond it."""
    velocity_margin: float = 0.7
    """The barrier fades the accelerating effort to zero over this fraction of the velocity limit."""
    lookahead: float = 0.1
    """The barrier acts on ``position + lookahead * velocity``, s; of fast joints it looks less far ahead, see `FAST`."""
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


def _lookahead(robot: RobotSpec, limits: SafetyLimits) -> Array:
    """How far the barrier looks ahead of each joint ``(n,)``, s."""
    ways = [(joint.position_upper - joint.position_lower) / joint.velocity_limit for joint in robot.joints]
    return np.minimum(limits.lookahead, FAST * np.array(ways))


class _Freedom:
    """Tells with one matrix product whether an effort lies strictly inside every bound of the filter.

    All bounds are linear in position q, velocity v, proposed effort u and last effort. In units of its own width, each
    row of ``matrix @ (q, v, u, last, 1)`` must lie between -1 and 1: q and v against the trips, u against the effort
    limit, ``u - last`` against the slew limit, and against the barriers ``u * fade + q + lookahead * v`` and
    ``u * fade + v``. A NaN anywhere is inside nothing.

    Attributes:
        last: the effort of the tick before ``(n,)``, N·m; the owner writes it.
    """

    def __init__(self, robot: RobotSpec, limits: SafetyLimits, slew: Array) -> None:
        n = robot.n_joints
        eye, none = np.eye(n), np.zeros((n, n))
        effort, velocity, lower, upper = (
            np.array([getattr(joint, name) for joint in robot.joints])
            for name in ("effort_limit", "velocity_limit", "position_lower", "position_upper")
        )
        half, middle = (upper - lower) / 2, (upper + lower) / 2
        fade_position = np.diag(limits.position_margin / effort)
        fade_velocity = np.diag(limits.velocity_margin * velocity / effort)
        rows = (  # factors of q, v, u, last; middle; width
            (eye, none, none, none, middle, half + limits.position_tolerance),
            (none, eye, none, none, 0 * middle, velocity * (1 + limits.velocity_tolerance)),
            (none, none, eye, none, 0 * middle, effort),
            (none, none, eye, -eye, 0 * middle, slew),
            (eye, np.diag(_lookahead(robot, limits)), fade_position, none, middle, half),
            (none, eye, fade_velocity, none, 0 * middle, limits.velocity_ceiling * velocity),
        )
        with np.errstate(divide="ignore", invalid="ignore"):  # a width of zero: nothing is ever inside
            self._matrix = np.vstack(
                [np.column_stack([*factors, -centre]) / width[:, None] for *factors, centre, width in rows]
            )
        self._inputs = np.ones(4 * n + 1)
        self._motion = self._inputs[: 2 * n].reshape(2, n)
        self._proposed = self._inputs[2 * n : 3 * n]
        self.last: Array = self._inputs[3 * n : 4 * n]
        self.last[:] = 0.0
        self._rows = np.zeros(6 * n)

    def holds(self, proposed: NDArray[np.floating], state: RobotState) -> bool:
        """True where nothing would trip, and nothing of `proposed` would be changed."""
        self._motion[:] = state.motion
        self._proposed[:] = proposed
        rows = np.dot(self._matrix, self._inputs, out=self._rows)
        np.abs(rows, out=rows)
        return rows.item(rows.argmax()) < _INSIDE  # argmax: the first NaN, if there is one


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
        self._only_motors = not (robot.floating_base or robot.passive_joints or robot.more_state)
        effort_limit = np.array([joint.effort_limit for joint in joints])
        self._effort_upper, self._effort_lower = effort_limit, -effort_limit
        self._damping = np.array([-joint.damping for joint in joints])
        self._slew = np.array([joint.effort_rate_limit for joint in joints]) * loop_period
        lower = np.array([joint.position_lower for joint in joints])
        upper = np.array([joint.position_upper for joint in joints])
        velocity = np.array([joint.velocity_limit for joint in joints])
        self._middle = np.stack([(lower + upper) / 2, np.zeros(n)])  # (2, n) as RobotState.motion
        self._trip_range = np.stack(
            [(upper - lower) / 2 + limits.position_tolerance, velocity * (1 + limits.velocity_tolerance)]
        )
        # Room towards the upper limits (row 0) and the lower ones mirrored (row 1), of position and velocity: (2, 2, n).
        ceiling = limits.velocity_ceiling * velocity
        self._bounds = np.stack([[upper, ceiling], [-lower, ceiling]])
        self._signs = np.array([1.0, -1.0])[:, None, None]
        self._fade = np.stack(
            [effort_limit / limits.position_margin, effort_limit / (limits.velocity_margin * velocity)]
        )
        self._cos_tilt = math.cos(limits.tilt_limit) if limits.tilt_limit < math.pi else -math.inf
        self._ramp = loop_period / limits.soft_start if limits.soft_start > 0 else 1.0
        self._gain = 1.0
        self._excess = np.zeros((2, n))
        self._ahead = np.zeros((2, n))  # predicted position, velocity
        self._predicted = self._ahead[0]
        self._lookahead = _lookahead(robot, limits)
        self._room, self._cap = np.zeros((2, 2, n)), np.zeros((2, n))
        self._room_position, self._room_velocity = self._room[:, 0], self._room[:, 1]
        self._cap_upper, self._cap_lower = self._cap
        self._before, self._change = np.zeros(n), np.zeros(n)
        self._freedom = _Freedom(robot, limits, self._slew)
        self._last = self._freedom.last
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

    @property
    def gain(self) -> float:
        """How far the soft start is, 0 to 1."""
        return self._gain

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
            # Most ticks ask for nothing that the filter would change: one product says so, and the rest is spared.
            fresh = abs(state_age) <= self._limits.state_timeout
            if fresh and self._gain == 1.0 and self._only_motors and self._freedom.holds(proposed, state):
                self.effort[:] = self._last[:] = proposed
                return _UNTOUCHED
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

    def resume(self, effort: Array, gain: float) -> None:
        """Goes on after a tick of another filter that was not tripped: its `effort` and its `gain`."""
        self._tripped = None
        self._gain = gain
        self._last[:] = effort
        self.effort[:] = effort

    def _check(self, proposed: NDArray[np.floating], state: RobotState, state_age: float) -> None:
        if not math.isfinite(proposed.dot(proposed)):
            # The state comes first: a NaN in it is why a policy proposes one, and the operator should read the cause.
            self._trip_not_finite("position", state.position)
            self._trip_not_finite("velocity", state.velocity)
            self._trip_beside_joints(state)
            self._trip_not_finite("proposed effort", proposed)
            return
        self._trip_beside_joints(state)  # a network may swallow a NaN: max(0, NaN) can be 0
        if self.tripped:
            return
        if not abs(state_age) <= self._limits.state_timeout:
            limit = self._limits.state_timeout
            self.trip(TripReason.STALE_STATE, f"state is {state_age * 1e3:.1f} ms old, limit {limit * 1e3:.1f} ms")
            return
        excess = self._excess
        np.subtract(state.motion, self._middle, out=excess)
        np.abs(excess, out=excess)
        np.subtract(excess, self._trip_range, out=excess)
        worst = int(excess.argmax())  # the first NaN, if there is one
        if not excess.item(worst) <= 0:
            self._trip_motion(state, worst)
        elif state.floating_base:
            _, x, y, _ = state.orientation_wxyz
            cos_tilt = 1 - 2 * (x * x + y * y)
            if not cos_tilt >= self._cos_tilt:
                self.trip(TripReason.TILT, f"cosine of tilt {cos_tilt:.2f}, limit {self._cos_tilt:.2f}")

    def _limit(self, proposed: NDArray[np.floating], state: RobotState) -> Verdict:
        effort, before, change, ahead, cap = self.effort, self._before, self._change, self._ahead, self._cap
        np.maximum(proposed, self._effort_lower, out=before)
        np.minimum(before, self._effort_upper, out=before)
        np.subtract(before, proposed, out=change)
        clamped = change.dot(change) > 0
        # The barrier's caps: effort limit times the room left in units of the margin, from 1 (free) to -1 (turn back).
        np.multiply(state.velocity, self._lookahead, out=self._predicted)
        np.add(self._predicted, state.position, out=self._predicted)
        ahead[1] = state.velocity
        np.multiply(self._signs, ahead, out=self._room)
        np.subtract(self._bounds, self._room, out=self._room)
        np.multiply(self._room, self._fade, out=self._room)
        np.minimum(self._room_position, self._room_velocity, out=cap)
        np.minimum(cap, self._effort_upper, out=cap)
        np.maximum(cap, self._effort_lower, out=cap)
        np.negative(self._cap_lower, out=self._cap_lower)
        np.maximum(before, self._cap_lower, out=effort)
        np.minimum(effort, self._cap_upper, out=effort)
        np.subtract(effort, before, out=change)
        barrier = change.dot(change) > 0
        if self._gain < 1.0:
            self._gain = min(1.0, self._gain + self._ramp)
            np.multiply(effort, self._gain, out=effort)
        before[:] = effort
        last = self._last
        np.subtract(last, self._slew, out=change)
        np.maximum(effort, change, out=effort)
        np.add(last, self._slew, out=change)
        np.minimum(effort, change, out=effort)
        np.subtract(effort, before, out=change)
        slewed = change.dot(change) > 0
        last[:] = effort
        return _FREE[barrier, clamped, slewed]

    def _damp(self, state: RobotState, state_age: float) -> None:
        """``-damping * velocity`` within the effort limits; zero where the velocity is not known."""
        # A camera that is dead leaves the joints' velocities known.
        age = state.motion_age.item() if state.more else state_age
        if abs(age) <= self._limits.state_timeout:
            np.multiply(state.velocity, self._damping, out=self.effort)
            self.effort[~np.isfinite(self.effort)] = 0.0  # before the clamp, which would make full torque of infinity
            np.clip(self.effort, self._effort_lower, self._effort_upper, self.effort)
        else:
            self.effort[:] = 0.0
        self._last[:] = self.effort

    def _trip_beside_joints(self, state: RobotState) -> None:
        """Trips where something is not finite that no joint with a motor says."""
        if state.floating_base and not np.isfinite(state.angular_velocity).all():
            self.trip(TripReason.NOT_FINITE, f"angular velocity of the base is {state.angular_velocity.tolist()}")
        if state.passive.size and not np.isfinite(state.passive).all():
            self.trip(TripReason.NOT_FINITE, f"passive joints are at {state.passive.tolist()}")
        for name, values in state.more:
            if not np.isfinite(values).all():
                self.trip(TripReason.NOT_FINITE, f"{name.replace('_', ' ')} is {values.tolist()}")

    def _trip_motion(self, state: RobotState, worst: int) -> None:
        if not np.isfinite(state.motion).all():
            self._trip_not_finite("position", state.position)
            self._trip_not_finite("velocity", state.velocity)
            return
        n = len(self._names)
        reason, unit = ((TripReason.POSITION_LIMIT, "rad"), (TripReason.VELOCITY_LIMIT, "rad/s"))[worst // n]
        self.trip(reason, f"joint '{self._names[worst % n]}' at {state.motion.item(worst):.3f} {unit}")

    def _trip_not_finite(self, quantity: str, values: NDArray[np.floating]) -> None:
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            self.trip(TripReason.NOT_FINITE, f"{quantity} of joint '{self._names[bad[0]]}' is {values[bad[0]]}")
        elif quantity == "proposed effort":
            self.trip(TripReason.NOT_FINITE, f"{quantity} overflows")
