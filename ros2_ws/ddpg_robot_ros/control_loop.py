"""The control loop: a thread with absolute deadlines that turns the newest state into a safe effort, tick by tick."""

from __future__ import annotations

import contextlib
import gc
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ddpg_robot.errors import CommandError
from ddpg_robot.rate import PeriodicLoop
from ddpg_robot.recording import Mode
from ddpg_robot.safety import TripReason, Verdict
from ddpg_robot.spec import RobotSpec
from ddpg_robot.state import Array
from ddpg_robot_ros.episodes import Episodes
from ddpg_robot_ros.guard_watch import GuardWatch
from ddpg_robot_ros.hot_swap import Driver, HotSwap
from ddpg_robot_ros.inputs import CommandInput, StateInput
from ddpg_robot_ros.lockstep import ClockTime, LockstepLoop
from ddpg_robot_ros.realtime import Realtime
from ddpg_robot_ros.timing import LoopTiming
from ddpg_robot_ros.transport import steady_memory

ORDINARY = Realtime()
ZERO_TICKS = 3
"""How often the farewell's zero effort is published."""


@dataclass
class Counts:
    """What happened in all ticks since the loop was made."""

    ticks: int = 0
    lost: int = 0
    clamped: int = 0
    slewed: int = 0
    barrier: int = 0
    refused_commands: int = 0


class ControlLoop:
    """Runs one `PolicyController` on live inputs.

    Before the first command the robot is damped. A trip, whatever its cause, is damped until `rearm`. `stop` ends in
    damping, then zero. No exception leaves a tick: it becomes a trip.

    Args:
        swap: the policy that drives, with control law and safety filter, and what may take its place.
        robot: the policy's robot.
        state: joint state (and IMU) input.
        command: target or velocity input.
        publish: sends an effort ``(n,)``, N·m.
        on_event: called in the loop's thread when the verdict turns or a command is refused; must be quick.
        shutdown_damping: how long `stop` damps before it sends zero, s.
        stall_limit: a tick that comes later than this trips, s: whoever slept so long no longer knows the robot.
        command_every: ticks between two looks for a new command; only the policy reads it, at its own rate.
        guard: tells when the effort guard no longer passes effort on; None where there is none.
        realtime: scheduler and processors of the loop's thread.
        episodes: who drives when the policy does not; None without online learning.
        clock: whose time the ticks follow; None for the processor's own.

    Attributes:
        timing: measurements of every tick.
        counts: what happened.
        refusal: why the last command was refused.
    """

    def __init__(
        self,
        swap: HotSwap,
        robot: RobotSpec,
        state: StateInput,
        command: CommandInput,
        publish: Callable[[Array], None],
        on_event: Callable[[], None],
        shutdown_damping: float,
        stall_limit: float,
        command_every: int = 1,
        guard: GuardWatch | None = None,
        realtime: Realtime = ORDINARY,
        episodes: Episodes | None = None,
        clock: ClockTime | None = None,
    ) -> None:
        self.timing = LoopTiming()
        self.counts = Counts()
        self.refusal = ""
        self.swap = swap
        self._turn_to_driver()
        controller = self._controller
        self._safety = controller.safety
        self._state = state
        self._command = command
        self._publish = publish
        self._on_event = on_event
        self._period = 1 / controller.rate
        self._stall_limit = stall_limit
        self._command_every = command_every
        self._guard = guard
        self._realtime = realtime
        self._episodes, self._obeys = episodes, False
        self._clock = clock
        self._farewell_ticks = math.ceil(shutdown_damping / self._period)
        self._damper = controller.damper
        self._zero: Array = np.zeros(robot.n_joints)
        self._rearms = 0
        self._requests: list[Callable[[], None]] = []
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.verdict = Verdict()

    @property
    def running(self) -> bool:
        """True from `start` to the end of `stop`."""
        return self._thread is not None

    @property
    def waiting(self) -> bool:
        """True while no command has been given yet: the robot is damped."""
        return not self._command.given

    @property
    def tripped(self) -> bool:
        """True from a trip until `rearm`."""
        return self._safety.tripped

    def start(self) -> None:
        """Begins to tick, with a soft start. A trip that was latched before stays latched."""
        self._turn_to_driver()
        if not self.tripped:
            self._controller.rearm()
        if self._guard is not None:
            self._guard.reset()
        self._command.forget()
        if self._episodes is not None:
            self._episodes.begin(self._state.state)
        if self._recorder is not None:
            self._recorder.start()
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="control loop", daemon=True)
        self._thread.start()

    def begin_to_stop(self) -> None:
        """Damps from the next tick on, sends zero, and ends the thread; does not wait for it."""
        self._stopping.set()

    def stop(self) -> None:
        """As `begin_to_stop`, and waits for the end."""
        if self._thread is not None:
            self.begin_to_stop()
            self._thread.join()
            self._thread = None
            self.swap.settle()

    def propose(self, driver: Driver | None) -> None:
        """Lets a policy take over at the next safe point; None: nobody (any thread)."""
        self._request(lambda: self.swap.propose(driver))

    def judge(self, source: str, keep: bool, why: str) -> None:
        """Ends the probation of a candidate (any thread)."""
        self._request(lambda: self.swap.judge(source, keep, why))

    def trip(self, reason: TripReason, detail: str) -> None:
        """Trips before the next tick (any thread)."""
        self._request(lambda: self._safety.trip(reason, detail))

    def rearm(self) -> None:
        """Ends a trip before the next tick, with a soft start (any thread)."""
        self._request(self._rearm)

    def _request(self, change: Callable[[], None]) -> None:
        if self._thread is None:
            change()
        else:
            self._requests.append(change)

    def _run(self) -> None:
        self._realtime.enter()
        clock = self._clock
        loop = PeriodicLoop(self._period) if clock is None else LockstepLoop(self._period, clock, self._stopping)
        lost_before = self.counts.lost
        collect_every = max(1, round(1 / self._period))
        # The filter judges what is not finite; numpy need not warn of it too.
        with steady_memory(), np.errstate(invalid="ignore", over="ignore"):
            loop.start()
            while not self._stopping.is_set():
                lateness = loop.wait()
                try:
                    self._look_for_stall(lateness)
                    self._measured(lateness, self._tick)
                except Exception as error:  # publishing failed; the loop must outlive it
                    self._safety.trip(TripReason.FAULT, f"publishing: {error}")
                self.counts.lost = lost_before + loop.lost
                if loop.ticks % collect_every == 0:
                    gc.collect()  # between ticks, never inside one
            self._farewell(loop)

    def _look_for_stall(self, lateness: float) -> None:
        if lateness > self._stall_limit and not self.waiting:
            detail = f"a tick came {lateness * 1e3:.0f} ms late, limit {self._stall_limit * 1e3:.0f} ms"
            self._safety.trip(TripReason.STALL, detail)

    def _measured(self, lateness: float, tick: Callable[[], float]) -> None:
        """Runs a tick, which publishes and returns the state's age, measures and records it."""
        began = time.perf_counter()
        age = tick()
        published = time.time()
        since_state = published - self._state.latency_from if math.isfinite(age) else math.nan
        work = time.perf_counter() - began
        self.timing.add(lateness, work, age, since_state)
        self.counts.ticks += 1
        if self._recorder is not None:
            timing = (lateness, work, age, since_state)
            self._recorder.add(published, timing, self.counts.ticks, self._rearms, self.waiting, self.verdict)

    def _tick(self) -> float:
        """Reads, decides, publishes. Returns the state's age, s."""
        try:
            while self._requests:
                self._requests.pop(0)()
            self._state.take()
            if self.swap.pending and self.swap.look(self._state.state.velocity, self.tripped):
                self._turn_to_driver()
                self._on_event()
            if self.counts.ticks % self._command_every == 0:
                self._take_command()
            age = self._state.age()
            if self._guard is not None and (complaint := self._guard.check()):
                self._safety.trip(TripReason.FAULT, complaint)
            verdict = self._drive(age)
        except Exception as error:  # nothing may stop the loop from damping
            self._safety.trip(TripReason.FAULT, str(error) or repr(error))
            age = self._state.age()
            verdict = self._safety.step(self._zero, self._state.state, age)
        self._publish(self._safety.effort)
        self._note(verdict)
        return age

    def _drive(self, age: float) -> Verdict:
        controller, state, command = self._controller, self._state.state, self._command.command
        if self._episodes is not None:
            effort = self._episodes.look(state, controller.phase == 0, self.tripped)
            if effort is not None:
                self._obeys = True
                return controller.obey(effort, state, command, age)
            if self._obeys:
                self._obeys, controller.phase = False, 0  # what the policy said before is of no use any more
        return controller.drive(state, command, age, self.waiting)

    def _turn_to_driver(self) -> None:
        self._controller, self._recorder = self.swap.driver.controller, self.swap.driver.recorder

    def _rearm(self) -> None:
        if self._guard is not None:
            self._guard.reset()
        self._start_softly()

    def _start_softly(self) -> None:
        self._controller.rearm()
        self._rearms += 1

    def _take_command(self) -> None:
        waiting = self.waiting
        try:
            if self._command.take() and waiting and not self.tripped:
                self._start_softly()
        except CommandError as error:
            self.counts.refused_commands += 1
            self.refusal = str(error)
            self._on_event()

    def _note(self, verdict: Verdict) -> None:
        counts = self.counts
        counts.clamped += verdict.clamped
        counts.slewed += verdict.slewed
        counts.barrier += verdict.barrier
        before, self.verdict = self.verdict, verdict
        # While a trip is latched the verdict is one and the same object: another object is another trip, or its end.
        if verdict is not before and (verdict.tripped or before.tripped):
            self._on_event()

    def _farewell(self, loop: PeriodicLoop) -> None:
        if self._recorder is not None:
            self._recorder.marks.mode = Mode.STOPPING
        for i in range(self._farewell_ticks + ZERO_TICKS):
            lateness = loop.wait()
            effort = self._damper.effort if i < self._farewell_ticks else self._zero
            with contextlib.suppress(Exception):  # publishing failed; the next tick may succeed
                self._measured(lateness, lambda effort=effort: self._farewell_tick(effort))

    def _farewell_tick(self, effort: Array) -> float:
        with contextlib.suppress(Exception):  # an unusable state only ages
            self._state.take()
        age = self._state.age()
        self._damper.step(self._zero, self._state.state, age)  # writes the damper's effort
        for recorded in (self._controller.proposed, self._controller.effort):
            recorded[:] = effort
        self._publish(effort)
        return age
