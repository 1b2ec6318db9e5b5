"""State + command -> safe effort, one tick at a time: the very path that the robot, the benchmarks and the checks run."""

from __future__ import annotations

import numpy as np

from ddpg_robot.control import ControlLaw
from ddpg_robot.errors import ObservationError, RateError, mismatch
from ddpg_robot.observation import Float32, ObservationBuilder
from ddpg_robot.policy import Policy
from ddpg_robot.safety import SafetyFilter, SafetyLimits, TripReason, Verdict
from ddpg_robot.state import Array, Command, RobotState


def ticks_per_action(rate: float, period: float) -> int:
    """Ticks of a loop at `rate` Hz per run of a policy with `period` s.

    Raises:
        RateError: the rate is not a whole multiple of the policy's.
    """
    ticks = rate * period
    if not (ticks > 0.5 and abs(ticks - round(ticks)) < 1e-6 * ticks):
        raise RateError(mismatch("control rate", f"{rate:g} Hz", f"a whole multiple of the policy's {1 / period:g} Hz"))
    return round(ticks)


class PolicyController:
    """Runs the policy every period, control law and safety filter every tick.

    Args:
        policy: an opened policy.
        limits: settings of the safety filter.
        rate: ticks per second; None for the rate at which the policy was trained.
        predecessor: shares this controller's safety filter, so that its last effort, soft start and trips go on.

    Attributes:
        safety: the filter (trip, rearm, reason).
        effort: the safe effort of the last tick ``(n,)``, N·m; the same buffer at every call.
        proposed: what the control law last asked for ``(n,)``, N·m; the same buffer at every call.
        output: the policy's last output ``(n,)``, N·m or rad.
        phase: ticks since the policy ran last; it runs at 0.
        damper: the filter that is tripped for good; its effort is the damping torque that follows any trip.

    Raises:
        RateError: the rate is not a whole multiple of the policy's.
    """

    def __init__(
        self,
        policy: Policy,
        limits: SafetyLimits,
        rate: float | None = None,
        predecessor: PolicyController | None = None,
    ) -> None:
        interface = policy.interface
        control = interface.control
        self.rate = 1 / control.loop_period if rate is None else rate
        self._ticks = ticks_per_action(self.rate, control.period)
        self.phase = 0
        self._policy = policy
        self.builder = ObservationBuilder(interface.robot, interface.observation, interface.command)
        policy.bind(self.builder)
        self._law = ControlLaw(control, interface.robot.n_joints)
        if predecessor is None:
            self.safety = SafetyFilter(interface.robot, limits, 1 / self.rate)
            self.damper = SafetyFilter(interface.robot, limits, 1 / self.rate)
            self.damper.trip(TripReason.FAULT, "damping")
        else:
            self.safety, self.damper = predecessor.safety, predecessor.damper
        self.output: Float32 = np.zeros(interface.robot.n_joints, np.float32)
        self.effort: Array = self.safety.effort
        self.proposed: Array = self._law.proposed
        self._zero: Array = np.zeros(interface.robot.n_joints)

    def step(self, state: RobotState, command: Command, state_age: float) -> Verdict:
        """One tick: newest state and command in, safe effort in `effort`.

        Args:
            state: newest state.
            command: newest command.
            state_age: age of the state, s.
        """
        if self.phase == 0:
            self.builder.build(state, command, self.effort)
            self.output = self.act(state)
        self.phase = (self.phase + 1) % self._ticks
        return self.safety.step(self._law.effort(self.output, state), state, state_age)

    def act(self, state: RobotState) -> Float32:
        """The policy's output for what was built last ``(n,)``, N·m or rad; a buffer that the next call overwrites."""
        return self._policy.run()

    def drive(self, state: RobotState, command: Command, state_age: float, waiting: bool) -> Verdict:
        """One tick of a deployment: damped while tripped, or while nobody has asked for anything; else as `step`.

        Args:
            state: newest state.
            command: newest command.
            state_age: age of the state, s.
            waiting: no command has been given yet.
        """
        if self.safety.tripped:
            return self.safety.step(self._zero, state, state_age)
        if not waiting:
            return self.step(state, command, state_age)
        self.damper.step(self._zero, state, state_age)
        return self.safety.step(self.damper.effort, state, state_age)

    def obey(self, effort: Array, state: RobotState, command: Command, state_age: float) -> Verdict:
        """One tick in which somebody else drives, behind the same filter; what the policy would observe is built all the same.

        Args:
            effort: what is asked for ``(n,)``, N·m.
            state: newest state.
            command: newest command.
            state_age: age of the state, s.
        """
        if self.safety.tripped:
            return self.safety.step(self._zero, state, state_age)
        if self.phase == 0:
            self.builder.build(state, command, self.effort)
        self.phase = (self.phase + 1) % self._ticks
        self.proposed[:] = effort
        return self.safety.step(self.proposed, state, state_age)

    def rehearse(self, state: RobotState, command: Command) -> None:
        """Runs policy and control law on a state, and lets nothing come of it.

        Raises:
            ObservationError: what they propose is not finite.
        """
        self.builder.build(state, command, np.zeros_like(self.effort))
        proposed = self._law.effort(self._policy.run(), state)
        if not np.isfinite(proposed).all():
            raise ObservationError(mismatch("proposed effort", proposed.tolist(), "finite numbers"))

    def rearm(self) -> None:
        """Ends a trip with a soft start; the policy runs again at the very next tick."""
        self.begin()
        self.safety.rearm()

    def begin(self) -> None:
        """Lets the policy run at the very next tick, as in the first one of an episode."""
        self.phase = 0
        self.builder.forget()

    def resume(self, phase: int, output: Float32, effort: Array, gain: float) -> None:
        """Goes on after a tick of another controller: `phase`, `output`, `effort` and soft start become as it left them."""
        self.phase = phase % self._ticks
        self.output = output.copy()
        self.safety.resume(effort, gain)
