"""Changes the policy of a robot that is under control: at rest, on probation, and back when it trips or is judged so."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

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
    candidate: bool = False
    """Learnt online: it passes its probation only where somebody judges it worth keeping."""


class News(NamedTuple):
    """Something that happened to a policy."""

    event: Literal["drives", "kept", "back", "withdrawn"]
    driver: Driver
    text: str
    """A line for the log."""


class HotSwap:
    """Who drives, who waits for a safe point, and who comes back.

    A safe point is a tick in which no trip is latched and every joint is slower than `rest_speed`. Whatever trips during
    the probation brings the former policy back; the trip stays latched, and it is the former policy that a rearm starts.
    A candidate is judged: kept, or sent back at the next safe point, as it is when its probation ends without a word.
    All methods are the control loop's thread's.

    Args:
        driver: who drives first.
        rest_speed: ``(n,)``, rad/s.
        probation: s.
        now: the loop's time, s.
        verdict_timeout: probation of a candidate, s.

    Attributes:
        driver: who drives.
        retired: drivers that do so no more; whoever reads this takes them out and closes their recorders.
        news: what happened; whoever reads it takes it out.
    """

    def __init__(
        self,
        driver: Driver,
        rest_speed: Array,
        probation: float,
        now: Callable[[], float] = time.monotonic,
        verdict_timeout: float = math.inf,
    ) -> None:
        self.driver = driver
        self.retired: deque[Driver] = deque()
        self.news: deque[News] = deque()
        self._rest_speed = rest_speed
        self._probation, self._verdict_timeout, self._now = probation, verdict_timeout, now
        self._verdict: tuple[bool, str] | None = None
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
        return 0.0 if self._former is None else max(1e-3, self._until - self._now())

    def propose(self, driver: Driver | None) -> None:
        """Lets a policy wait for the next safe point, in the place of one that waits already; None: nobody."""
        before, self._next = self._next, driver
        if before is not None:
            self.retired.append(before)
            self.news.append(News("withdrawn", before, f"policy '{before.source}' waits no more"))

    def judge(self, source: str, keep: bool, why: str) -> None:
        """Ends the probation of a candidate: it stays, or goes at the next safe point."""
        if self._former is not None and self.driver.source == source:
            self._verdict = keep, why

    def settle(self) -> None:
        """The loop has ended: nobody waits any more; whoever drives has passed, but for a candidate that nobody has judged."""
        if self._former is not None and self.driver.candidate:
            self.news.append(
                News("withdrawn", self.driver, f"policy '{self.driver.source}': the loop ended on its probation")
            )
            self.driver, self._former = self._former, self.driver
        self.retired.extend(driver for driver in (self._next, self._former) if driver is not None)
        self._next = self._former = None

    def look(self, velocity: Array, tripped: bool) -> bool:
        """Once per tick, where something is `pending`, before the tick. True when there is news."""
        following, driver = self._next, self.driver
        rests = not tripped and bool((np.abs(velocity) <= self._rest_speed).all())
        if self._former is not None:
            over = self._now() > self._until
            keep, why = self._verdict or (over and not driver.candidate, "nobody judged it")
            if tripped:
                return self._go_back("tripped on probation")
            if keep:
                return self._keep()
            if rests and (over or self._verdict is not None):
                return self._go_back(f"is sent back, {why}")
        if following is None or not rests:
            return False
        if self._former is not None:
            self.retired.append(self._former)
        self.driver, self._former, self._next, self._verdict = following, driver, None, None
        probation = self._verdict_timeout if following.candidate else self._probation
        self._until = self._now() + probation
        following.controller.begin()
        text = f"policy '{following.source}' drives, on probation for {probation:g} s"
        self.news.append(News("drives", following, text))
        return True

    def _keep(self) -> bool:
        assert self._former is not None
        self.retired.append(self._former)
        self._former = None
        self.news.append(News("kept", self.driver, f"policy '{self.driver.source}' has passed its probation"))
        return True

    def _go_back(self, why: str) -> bool:
        assert self._former is not None
        driver, self.driver, self._former = self.driver, self._former, None
        self.driver.controller.begin()
        self.retired.append(driver)
        self.news.append(News("back", driver, f"policy '{driver.source}' {why}: '{self.driver.source}' is back"))
        return True
