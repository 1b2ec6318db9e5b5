"""Transitions out of a robot's ticks: what the learner learns from.

A transition goes from one run of the policy to the next. It is made only where every tick between the two is there, follows
the one before and was driven by the same hand, the policy's or a person's, for one and the same command. A tick that is
missing, doubled, late or out of order, a rearm, a new command, an emergency stop, a takeover's beginning or end: each costs
the transition in which it lies, and none is ever made across it. What the reset procedure does is not learnt from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.recording import REASONS, TERM_PREFIX, Mark, Mode, TickLayout
from ddpg_robot.safety import TripReason
from ddpg_robot.spec import PolicyInterface, RobotSpec

ENDS = (TripReason.POSITION_LIMIT, TripReason.VELOCITY_LIMIT, TripReason.TILT)
"""Trips that the policy brought about: they end an episode, as in simulation. After others nothing is known."""


@dataclass
class Counts:
    """What the ticks came to."""

    transitions: int = 0
    lost: int = 0
    """Ticks that never came."""
    doubled: int = 0
    """Ticks that came again, or too late: they are left out."""
    broken: int = 0
    """Runs of the policy that became no transition: something lay between them and the next."""
    not_finite: int = 0
    """Transitions left out for a number that is none."""


def check_learnable(robot: RobotSpec) -> None:
    """Whether transitions of this robot hold all that its rewards are computed from.

    Raises:
        ConfigError: it has more state than joints and IMU tell.
    """
    if robot.more_state:
        found = f"{', '.join(robot.more_state)} in the state of robot '{robot.name}'"
        raise ConfigError(mismatch("online learning", found, "joint states and an IMU alone: train it in simulation"))


def transition_dtype(interface: PolicyInterface) -> np.dtype[Any]:
    """Fields of a transition: states before and after it, what was observed, asked for and applied.

    ``before`` and ``after`` are what a task's reward is computed from: joint state (and base) at the two runs of the policy,
    with the effort that was applied in the tick before each. ``reward`` is what a reward topic said, NaN where none did.
    ``terminated``: a trip that the policy brought about, or somebody called it a failure. ``ended``: the episode did, so or else.

    Raises:
        ConfigError: see `check_learnable`.
    """
    check_learnable(interface.robot)
    n, size = interface.robot.n_joints, interface.observation.size
    side: list[Any] = [("position", "<f8", n), ("velocity", "<f8", n), ("effort", "<f8", n)]
    if interface.robot.floating_base:
        side += [("orientation_wxyz", "<f8", 4), ("angular_velocity", "<f8", 3)]
    return np.dtype(
        [
            ("tick", "<u4"),
            ("stamp", "<f8"),
            ("command", "<f8", interface.command.size),
            ("observation", "<f4", size),
            ("next_observation", "<f4", size),
            ("output", "<f4", n),
            ("proposed_effort", "<f8", n),
            ("applied_effort", "<f8", n),
            ("executed_output", "<f4", n),
            ("reward", "<f8"),
            ("taken_over", "?"),
            ("terminated", "?"),
            ("ended", "?"),
            ("before", side),
            ("after", side),
        ]
    )


class TransitionMaker:
    """Makes transitions from ticks as they come, block by block.

    Args:
        interface: of the policy.
        layout: fields of the ticks.
        ticks: per run of the policy.

    Attributes:
        counts: what the ticks so far came to.
    """

    def __init__(self, interface: PolicyInterface, layout: TickLayout, ticks: int) -> None:
        self.counts = Counts()
        self.dtype = transition_dtype(interface)
        self._ticks, self._period = ticks, interface.control.period
        self._terms = [TERM_PREFIX + name for name in layout.terms]
        self._sides = ["position", "velocity"]
        if interface.robot.floating_base:
            self._sides += ["orientation_wxyz", "angular_velocity"]
        control = interface.control
        self._kp = None if control.kp is None else np.array(control.kp)
        self._kd = None if control.kd is None else np.array(control.kd)
        self._last: Any = None  # the newest tick
        self._elsewhere = 0  # the newest tick that went to another recording since
        self._run: list[Any] = []  # ticks since the policy ran, its own first; empty where they lead to no transition
        self._mark = 0  # what was said since the policy ran
        self._effort_before: NDArray[np.float64] | None = None

    def add(self, rows: NDArray[Any]) -> NDArray[Any]:
        """The transitions that these ticks complete, oldest first.

        Args:
            rows: ticks ``(k,)``, with the fields of the layout, in the order in which they came.
        """
        made = [one for row in rows if (one := self._tick(row)) is not None]
        return np.concatenate(made) if made else np.zeros(0, self.dtype)

    def resume(self, after: int) -> None:
        """The recording goes on after another one of the same loop, whose newest tick was `after`: those are not lost."""
        self._elsewhere = after

    def _tick(self, row: Any) -> NDArray[Any] | None:
        last, self._last = self._last, row
        if last is not None:
            ahead = int(row["tick"]) - int(last["tick"])
            if ahead <= 0:
                self.counts.doubled += 1
                self._last = last
                return None
            if ahead > 1:
                self.counts.lost += max(0, int(row["tick"]) - max(int(last["tick"]), self._elsewhere) - 1)
                self._break()
            elif _apart(row, last):
                self._break()
        self._mark = max(self._mark, int(row["mark"])) if self._run else 0
        transition = self._ended(row) if self._run else None
        if row["tripped"] or row["waiting"] or row["mode"] in (Mode.RESET, Mode.STOPPING):
            self._break()
        elif self._ran(row):
            follows = last is not None and int(row["tick"]) == int(last["tick"]) + 1
            self._break()  # what ran last was not followed to its end
            self._run, self._mark = [row] if follows else [], 0
            self._effort_before = last["applied_effort"] if follows else None
        elif self._run:
            self._run.append(row)
            if len(self._run) > self._ticks:
                self._break()
        return transition

    def _ran(self, row: Any) -> bool:
        """Whether the policy ran in this tick."""
        return int(row["phase"]) == 1 % self._ticks

    def _break(self) -> None:
        self.counts.broken += bool(self._run)
        self._run = []

    def _ended(self, row: Any) -> NDArray[Any] | None:
        """The transition that this tick ends: the next run of the policy, or a trip that the policy brought about."""
        tripped = bool(row["tripped"])
        if tripped and REASONS[int(row["reason"]) - 1] not in ENDS:
            return None
        if not tripped and not (self._ran(row) and len(self._run) == self._ticks):
            return None
        if not tripped and abs(_seconds(self._run[0], row) - self._period) > self._period / 2:
            self._break()  # deadlines were lost, or the clock was set
            return None
        run, self._run = self._run, []
        one = np.zeros(1, self.dtype)
        first = run[0]
        for name in ("tick", "stamp", "command", "output", "proposed_effort"):
            one[name] = first[name]
        applied = np.stack([tick["applied_effort"] for tick in run])
        one["applied_effort"] = applied.mean(0)
        one["executed_output"] = self._executed(run, applied)
        one["reward"] = row["reward"]
        one["taken_over"] = first["mode"] == Mode.TAKEOVER
        one["terminated"] = tripped or self._mark == Mark.FAILURE
        one["ended"] = tripped or bool(self._mark)
        one["observation"] = self._observation(first)
        # A trip ends everything: what would be observed next is of no consequence, and the robot observed nothing more.
        one["next_observation"] = self._observation(first if tripped else row)
        for side, tick, effort in (("before", first, self._effort_before), ("after", row, run[-1]["applied_effort"])):
            for name in self._sides:
                one[side][name] = tick[name]
            one[side]["effort"] = effort
        if not self._finite(one):
            self.counts.not_finite += 1
            return None
        self.counts.transitions += 1
        return one

    def _observation(self, row: Any) -> NDArray[np.float32]:
        return np.concatenate([np.atleast_1d(row[name]) for name in self._terms])

    def _executed(self, run: list[Any], applied: NDArray[np.float64]) -> NDArray[np.floating]:
        """The output that would have led to the efforts that were applied: the policy's own where the filter let it be."""
        limited = any(tick["barrier"] or tick["clamped"] or tick["slewed"] for tick in run) or run[0]["gain"] < 1
        if not limited and run[0]["mode"] == Mode.POLICY:
            return np.asarray(run[0]["output"])
        if self._kp is None or self._kd is None:
            return np.asarray(applied.mean(0))
        position = np.stack([tick["position"] for tick in run])
        velocity = np.stack([tick["velocity"] for tick in run])
        pull = applied + self._kd * velocity
        targets = position + np.divide(pull, self._kp, out=np.zeros_like(pull), where=self._kp > 0)
        return np.asarray(targets.mean(0))

    def _finite(self, one: NDArray[Any]) -> bool:
        apart = ("before", "after", "tick", "reward", "taken_over", "terminated", "ended")
        names = [name for name in self.dtype.names or () if name not in apart]
        parts = [one[name] for name in names]
        parts += [one[side][name] for side in ("before", "after") for name in (*self._sides, "effort")]
        return all(bool(np.isfinite(part).all()) for part in parts)


def _apart(row: Any, last: Any) -> bool:
    """Whether something lies between two ticks that follow one another."""
    other = (row["command"] != last["command"]).any() or row["waiting"]
    return bool(other or any(row[name] != last[name] for name in ("rearms", "mode")))


def _seconds(first: Any, last: Any) -> float:
    """From one tick to another, by the robot's clock where it stamps its states."""
    if first["stamp"] and last["stamp"]:
        return float(last["stamp"] - first["stamp"])
    return (int(last["time"]) - int(first["time"])) * 1e-9
