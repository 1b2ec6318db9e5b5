"""A loop that follows ``/clock``, tick by tick: for a plant whose time is not the processor's."""

from __future__ import annotations

import threading

from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from ddpg_robot.rate import PeriodicLoop
from ddpg_robot_ros.convert import stamp_seconds
from ddpg_robot_ros.transport import COMMAND_QOS, MessageWait, Newest

POLL_S = 0.1
"""A clock that stands still holds up whoever stops the loop for so long."""


class ClockTime:
    """The newest time of ``/clock``; taken by one thread, read by any.

    Args:
        node: owner of the subscription.

    Attributes:
        seconds: the time, s; 0 before the first message.
        spoken: there has been a message.
    """

    def __init__(self, node: Node) -> None:
        self.seconds = 0.0
        self.spoken = False
        self._clock = Newest(node, Clock, "/clock", COMMAND_QOS)
        self._wait = MessageWait(node, self._clock)

    def __call__(self) -> float:
        return self.seconds

    def follow(self) -> bool:
        """Sleeps until the clock speaks, at most `POLL_S`; whether it did."""
        return self._wait.wait(POLL_S) and self.look()

    def look(self) -> bool:
        """Takes the newest time, where there is one that was not taken yet; whether there was."""
        message = self._clock.take()
        if message is not None:
            self.seconds, self.spoken = stamp_seconds(message.clock), True
        return message is not None

    def destroy(self) -> None:
        """Ends the subscription."""
        self._clock.destroy()


class LockstepLoop(PeriodicLoop):
    """A `PeriodicLoop` whose deadlines are the clock's; it also wakes where the loop is stopped and the clock stands still.

    Args:
        period: s.
        clock: the time.
        stopping: set when nobody waits for the clock any more.
    """

    def __init__(self, period: float, clock: ClockTime, stopping: threading.Event) -> None:
        super().__init__(period)
        self._clock, self._stopping = clock, stopping
        self._due = 0.0

    def start(self) -> None:
        self._clock.look()  # it has gone on since somebody looked last
        self._due = self._clock.seconds + self.period

    def wait(self) -> float:
        while self._clock.seconds < self._due - 1e-6:
            if not self._clock.follow() and self._stopping.is_set():
                break
        self.ticks += 1
        lateness = max(0.0, self._clock.seconds - self._due)
        missed = int(lateness / self.period + 1e-6)
        self.lost += missed
        self._due += (1 + missed) * self.period
        return lateness
