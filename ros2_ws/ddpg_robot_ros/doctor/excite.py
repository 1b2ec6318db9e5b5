"""Pushes one joint after the other, a little, to see whether it is the one that moves.

Until that is known, damping is not safe either: in a wrong order, or with a wrong sign, it drives the robot. So damping is
bounded to a part of the pulse, pulses begin with the weakest joint and end as soon as anything has moved, and the first
wrong answer ends in zero effort.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable

import numpy as np
from rclpy.duration import Duration
from rclpy.node import Node

from ddpg_robot.errors import DdpgRobotError
from ddpg_robot.rate import PeriodicLoop
from ddpg_robot.safety import SafetyFilter, SafetyLimits, TripReason
from ddpg_robot.spec import PolicyManifest
from ddpg_robot_ros.doctor.findings import Finding, fail
from ddpg_robot_ros.doctor.joints import Recording
from ddpg_robot_ros.doctor.listen import Interrupted
from ddpg_robot_ros.doctor.pulses import CHECK, MOVED_RAD, Excitation, Pulse, pulse_finding, wrong
from ddpg_robot_ros.doctor.timing import TIMEOUT_PERIODS
from ddpg_robot_ros.effort_command import EffortPublisher
from ddpg_robot_ros.inputs import StateInput
from ddpg_robot_ros.transport import EFFORT_TOPIC, steady_memory

DAMPING_SHARE = 0.25
"""Damping of joints that are not known to be right, as a fraction of their pulse."""
FASTEST = 0.25
"""A joint beyond this fraction of its velocity limit runs away: everything ends."""
SETTLE_WINDOWS, REST_S, REST_FRACTION = 10, 0.1, 1 / 3
"""How often a stretch of at least so many s is awaited in which no joint goes this fraction of what counts as moved."""
START_WAIT_S = 5.0
FAREWELL_S, ZERO_TICKS = 0.5, 10
ATTEMPTS, RECOVER_S = 6, 1.0
"""How often a pulse is tried when the state is late, and how long it may take to come in time again."""
ACKNOWLEDGE_S = 1.0


class Stopped(Exception):  # noqa: N818 - the message is a finding of the doctor, no error of the program
    """The excitation cannot go on; says why."""


class Exciter:
    """Commands effort for the length of a `run`.

    Args:
        node: owner of publisher and subscriptions.
        manifest: the policy's.
        excitation: how hard and how long.
        extra_joints: whether joint states of other devices are passed over: ``refuse`` or ``ignore``.
        stopped: asked at every tick whether to end.
    """

    def __init__(
        self,
        node: Node,
        manifest: PolicyManifest,
        excitation: Excitation,
        extra_joints: str,
        stopped: Callable[[], bool],
    ) -> None:
        robot, control = manifest.robot, manifest.control
        self._node, self._robot, self._stopped = node, robot, stopped
        self._period = control.loop_period
        self._timeout = TIMEOUT_PERIODS * control.period
        limits = SafetyLimits(state_timeout=self._timeout, soft_start=0.0)
        self._filter = SafetyFilter(robot, limits, self._period)
        self._state = StateInput(node, robot, extra_joints, "stamp")
        self._publisher = EffortPublisher(node, EFFORT_TOPIC, robot.n_joints)
        self._limit = np.array([joint.effort_limit for joint in robot.joints])
        self._fastest = FASTEST * np.array([joint.velocity_limit for joint in robot.joints])
        self._middle = np.array([(joint.position_lower + joint.position_upper) / 2 for joint in robot.joints])
        self._damping = np.array([joint.damping for joint in robot.joints])
        self._cap = excitation.share * self._limit
        self._ticks = max(1, math.ceil(excitation.pulse / self._period))
        self._loop = PeriodicLoop(self._period)
        self._rows: list[tuple[float, np.ndarray]] = []

    def run(self) -> list[Finding]:
        """Pushes every joint; ends in damping where that is safe, and zero, whatever happens.

        Raises:
            Interrupted: the user wants to end.
        """
        pulses: list[Pulse] = []
        safe, trouble = True, ""
        try:
            with steady_memory(), np.errstate(invalid="ignore", over="ignore"):
                self._await()
                try:
                    self._push_all(pulses)
                except Stopped as error:
                    safe, trouble = False, str(error)
                finally:
                    wrongly = bool(pulses) and wrong(pulses[-1], self._robot)
                    known = len(pulses) == self._robot.n_joints and not wrongly
                    self._farewell(safe and not wrongly, self._limit if known else DAMPING_SHARE * self._cap)
        except Stopped as error:
            trouble = str(error)
        finally:
            self._state.destroy()
            self._node.destroy_publisher(self._publisher.publisher)
        finding = pulse_finding(pulses, self._robot)
        if trouble and not (pulses and wrong(pulses[-1], self._robot)):
            finding = fail(CHECK, f"{trouble} (after {len(pulses)} pulses)", "a robot that obeys", "Find out why first")
        return [finding]

    def recording(self) -> Recording:
        """What the robot did meanwhile."""
        stamp = np.array([row[0] for row in self._rows])
        motion = np.array([row[1] for row in self._rows]).reshape(-1, 2, self._robot.n_joints)
        return Recording(stamp, stamp, motion[:, 0], motion[:, 1])

    def _await(self) -> None:
        """Waits for the state and for the controller to be connected; commands nothing."""
        deadline = time.monotonic() + START_WAIT_S
        while not (self._publisher.publisher.get_subscription_count() and math.isfinite(self._state.age())):
            self._take()
            if self._stopped():
                raise Interrupted
            if time.monotonic() > deadline:
                raise Stopped(f"{self._state.describe()}: no state, or no controller, within {START_WAIT_S:g} s")
            time.sleep(self._period)
        self._loop.start()

    def _push_all(self, pulses: list[Pulse]) -> None:
        for joint in np.argsort(self._limit, kind="stable"):
            pulses.append(self._push(int(joint)))
            if wrong(pulses[-1], self._robot):
                return
        self._settle()

    def _push(self, joint: int) -> Pulse:
        for attempt in range(ATTEMPTS):
            if attempt:
                self._recover()
            if self._settle() and (pulse := self._pulse(joint)) is not None:
                return pulse
        raise Stopped(f"safety filter: {self._filter.detail}")

    def _recover(self) -> None:
        """Lets go until states come in time again, at most `RECOVER_S`, and rearms."""
        for _ in range(math.ceil(RECOVER_S / self._period)):
            self._tick(np.zeros(self._robot.n_joints))  # still tripped: damping, or zero where the state is late
            if abs(self._state.age()) < self._timeout / 2:
                break
        self._filter.rearm()

    def _settle(self) -> bool:
        """Damps until nothing moves any more for the length of a pulse. False when the state was late.

        Raises:
            Stopped: the robot does not come to rest, so that nobody could tell what a push moves.
        """
        state = self._state.state
        for _ in range(SETTLE_WINDOWS):
            start = state.position.copy()
            for _ in range(max(self._ticks, math.ceil(REST_S / self._period))):
                if not self._tick(self._damp()):
                    return False
            moved = np.abs(state.position - start)
            if moved.max() < REST_FRACTION * MOVED_RAD:
                return True
        name, most = self._robot.joint_names[int(moved.argmax())], moved.max()
        raise Stopped(f"'{name}' does not come to rest: {most:.4f} rad without a push, under damping")

    def _pulse(self, joint: int) -> Pulse | None:
        """Pushes away from the nearer end stop until something moves. None when the state was late."""
        state = self._state.state
        start = state.position.copy()
        effort = float(-np.copysign(self._cap[joint], start[joint] - self._middle[joint]))
        moved = np.zeros(self._robot.n_joints)
        for _ in range(self._ticks):
            proposed = self._damp()
            proposed[joint] = effort
            if not self._tick(proposed):
                return None
            moved = state.position - start
            if np.abs(moved).max() > MOVED_RAD:
                break
        return Pulse(joint, effort, moved)

    def _damp(self) -> np.ndarray:
        bound = DAMPING_SHARE * self._cap
        return np.clip(-self._damping * self._state.state.velocity, -bound, bound)

    def _tick(self, proposed: np.ndarray) -> bool:
        """One tick through the safety filter. False when it tripped because the state was late.

        Raises:
            Stopped: it tripped for another reason, or the robot runs away. Interrupted: the user wants to end.
        """
        self._loop.wait()
        if self._stopped():
            raise Interrupted
        self._take()
        state = self._state.state
        self._filter.step(proposed, state, self._state.age())
        self._publisher.publish(np.clip(self._filter.effort, -self._cap, self._cap))  # a trip's damping is bounded too
        if self._filter.tripped:
            if self._filter.reason is not TripReason.STALE_STATE:
                raise Stopped(f"safety filter: {self._filter.reason.value}, {self._filter.detail}")
            return False
        fast = int((np.abs(state.velocity) / self._fastest).argmax())
        if abs(state.velocity[fast]) > self._fastest[fast]:
            name = self._robot.joint_names[fast]
            raise Stopped(f"'{name}' ran away at {state.velocity[fast]:+.2f} rad/s: order or sign of efforts is wrong")
        return True

    def _take(self) -> None:
        before = self._state.latency_from
        with contextlib.suppress(DdpgRobotError):  # an unusable state only ages
            self._state.take()
        if self._state.latency_from != before:
            self._rows.append((self._state.latency_from, self._state.state.motion.copy()))

    def _farewell(self, damp: bool, bound: np.ndarray) -> None:
        """Damps, where that is safe, and sends zero; a robot that damping may drive gets zero at once."""
        self._filter.trip(TripReason.FAULT, "farewell")
        for tick in range(math.ceil(FAREWELL_S / self._period) + ZERO_TICKS if damp else ZERO_TICKS):
            self._loop.wait()
            self._take()
            self._filter.step(np.zeros(len(bound)), self._state.state, self._state.age())
            braking = damp and tick * self._period < FAREWELL_S
            largest = bound if braking else 0.0 * bound
            self._publisher.publish(np.clip(self._filter.effort, -largest, largest))
        self._publisher.publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE_S))
