"""Changes the policy of a robot that is under control: at rest, on probation, and back when it trips."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from ddpg_robot.controller import PolicyController
from ddpg_robot.policy import OnnxPolicy
from ddpg_robot.recorder import Recorder
from ddpg_robot.state import Array


@dataclass(frozen=True)
class Driver:
    """A policy that is ready to drive."""

    source: str
    """What the parameter `policy` said."""
    policy: OnnxPolicy
    controller: PolicyController
    recorder: Recorder | None
    """Of its own, for a recording belongs to one policy; None where nothing is recorded."""


class HotSwap:
    """Who drives, who waits for a safe point, and who comes back.

    A safe point is a tick in which no trip is latched and every joint is slower than `rest_speed`. Whatever trips during
    the probation brings the former policy back; the trip stays latched, and it is the former policy that a rearm starts.
    All methods are the control loop's thread's.

    Args:
        driver: who drives first.
        rest_speed: ``(n,)``, rad/s.
        probation: s.

    Attributes:
        driver: who drives.
        retired: drivers that do so no more; whoever reads this takes them out and closes their recorders.
        news: lines for the log; whoever reads them takes them out.
    """

    def __init__(self, driver: Driver, rest_speed: Array, probation: float) -> None:
        self.driver = driver
        self.retired: deque[Driver] = deque()
        self.news: deque[str] = deque()
        self._rest_speed = rest_speed
        self._probation = probation
        self._next: Driver | None = None
        self._former: Driver | None = None
        self._until = math.inf

    @property
    def pending(self) -> bool:
        """There is something to `look` after."""
        return self._next is not None or self._former is not None

    @property
    def waiting(self) -> str:
        """Source of the policy that waits for a safe point; empty when there is none."""
        following = self._next
        return "" if following is None else following.source

    @property
    def probation_left(self) -> float:
        """How long the driver is still on probation, s: above zero until the loop says that it has passed."""
        return 0.0 if self._former is None else max(1e-3, self._until - time.monotonic())

    def propose(self, driver: Driver | None) -> None:
        """Lets a policy wait for the next safe point, in the place of one that waits already; None: nobody."""
        before, self._next = self._next, driver
        if before is not None:
            self.retired.append(before)

    def settle(self) -> None:
        """The loop has ended: nobody waits any more, and whoever drives has passed."""
        self.retired.extend(driver for driver in (self._next, self._former) if driver is not None)
        self._next = self._former = None

    def look(self, velocity: Array, tripped: bool) -> bool:
        """Once per tick, where something is `pending`, before the tick. True when there is news."""
        following, former, driver = self._next, self._former, self.driver
        if former is not None and tripped:
            self.driver, self._former = former, None
            self.news.append(f"policy '{driver.source}' tripped on probation: '{former.source}' is back")
            self.retired.append(driver)
        elif former is not None and time.monotonic() > self._until:
            self._former = None
            self.news.append(f"policy '{driver.source}' has passed its probation")
            self.retired.append(former)
        elif following is not None and not tripped and bool((np.abs(velocity) <= self._rest_speed).all()):
            self.driver, self._former, self._next = following, driver, None
            if former is not None:
                self.retired.append(former)
            self._until = time.monotonic() + self._probation
            following.controller.phase = 0
            self.news.append(f"policy '{following.source}' drives, on probation for {self._probation:g} s")
        else:
            return False
        return True
