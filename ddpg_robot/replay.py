"""Runs a recording through the node's own path once more, and says term by term where the two differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpg_robot.controller import PolicyController
from ddpg_robot.errors import JointMappingError, RecordingError, mismatch
from ddpg_robot.policy import OnnxPolicy
from ddpg_robot.recording import ADDED, REASONS, TERM_PREFIX, Mode, Recording, Session, TickLayout
from ddpg_robot.safety import TripReason, Verdict
from ddpg_robot.state import Command, RobotState

EXTERNAL = (TripReason.STALL, TripReason.ESTOP, TripReason.FAULT)
"""Trips whose cause is not in the numbers: the replay takes them over."""
SHOWN_VERDICTS = 5
_FLAGS = ("tripped", "reason", "barrier", "clamped", "slewed")


@dataclass
class Difference:
    """How far one quantity of the replay is from the recording."""

    name: str
    unit: str
    ticks: int = 0
    """Ticks that were compared."""
    max_abs: float = 0.0
    """Largest absolute difference, in `unit`."""
    beyond: int = 0
    """Ticks that differ by more than the tolerance."""
    first_tick: int | None = None
    """The first of them."""

    def add(self, ticks: NDArray[Any], one: NDArray[Any], other: NDArray[Any], tolerance: float) -> None:
        """Compares rows ``(m, size)``; NaN equals NaN and nothing else."""
        if not len(ticks):
            return
        with np.errstate(invalid="ignore"):  # infinity minus infinity
            apart = np.abs(one.astype(np.float64) - other.astype(np.float64)).reshape(len(ticks), -1)
        same = (one == other) | (np.isnan(one) & np.isnan(other))
        apart[same.reshape(apart.shape)] = 0.0
        worst = np.where(np.isnan(apart), np.inf, apart).max(axis=1)
        self.ticks += len(ticks)
        self.max_abs = max(self.max_abs, float(worst.max()))
        beyond = np.flatnonzero(worst > tolerance)
        self.beyond += len(beyond)
        if self.first_tick is None and len(beyond):
            self.first_tick = int(ticks[beyond[0]])


@dataclass
class ReplayReport:
    """What a replay found."""

    tolerance: float
    approximate: bool
    """A plain bag does not say what the node read when: nearest in time was compared."""
    notes: list[str] = field(default_factory=list)
    """What limits the comparison."""
    ticks: int = 0
    in_control: int = 0
    """Ticks in which the policy was in control: neither tripped nor without a command."""
    differences: list[Difference] = field(default_factory=list)
    verdicts: int = 0
    """Ticks with another verdict."""
    first_verdicts: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """True when nothing differs by more than the tolerance and every verdict is the same."""
        return self.ticks > 0 and not self.verdicts and not any(one.beyond for one in self.differences)


class Rerun:
    """A controller that is fed the ticks of a recording, as the node's was.

    Args:
        policy: an opened policy.
        session: of the recording.
        layout: fields of its ticks.

    Raises:
        JointMappingError: the recording is of other joints. RecordingError: of another kind of robot or command.
        RateError: the policy cannot run at the recorded rate.
    """

    def __init__(self, policy: OnnxPolicy, session: Session, layout: TickLayout) -> None:
        interface = policy.interface
        robot = interface.robot
        if session.joints != robot.joint_names:
            found, expected = ", ".join(session.joints), ", ".join(robot.joint_names)
            raise JointMappingError(mismatch("joints of the recording", found, expected))
        own = TickLayout.of(interface).dtype
        for name in own.names or ():
            here, there = own[name].shape, layout.dtype[name].shape if name in (layout.dtype.names or ()) else None
            if not name.startswith(TERM_PREFIX) and here != there and not (name in ADDED and there is None):
                raise RecordingError(mismatch(f"'{name}' of the recording", there, f"{here}, as the policy has it"))
        self.controller = PolicyController(policy, session.limits, session.rate)
        self.terms = {
            name: term[0]
            for name, term in self.controller.builder.terms.items()
            if name in layout.terms and layout.dtype[TERM_PREFIX + name].shape == term[0].shape
        }
        self.skipped = self.dropped = 0
        self._own = own
        self._has_modes = "mode" in (layout.dtype.names or ())
        self._state = RobotState.of(robot)
        self._command = Command(interface.command.size)
        self._before: Any = None
        self.controller.rearm()

    def run(
        self, rows: NDArray[Any], trips: dict[int, tuple[TripReason, str]]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Runs the ticks of a block.

        Returns:
            What this controller made of them, and which of them count: after ticks that were dropped, and
            after a hot swap, the first one is only taken over.
        """
        mine = np.zeros(len(rows), self._own)
        counts = np.ones(len(rows), bool)
        with np.errstate(invalid="ignore", over="ignore"):
            for i in range(len(rows)):
                counts[i] = self._tick(rows[i], mine[i : i + 1], trips)
        return mine, counts

    def _tick(self, row: Any, mine: NDArray[Any], trips: dict[int, tuple[TripReason, str]]) -> bool:
        controller, before, tick = self.controller, self._before, int(row["tick"])
        self._before = row
        if before is None and not row["waiting"] and not row["tripped"]:  # a hot swap: another policy drove until here
            self._take_over(row, trips)
            return False
        if before is not None and tick != int(before["tick"]) + 1:
            self.dropped += max(0, tick - int(before["tick"]) - 1)
            self.skipped += 1
            self._take_over(row, trips)
            return False
        if self._has_modes and (row["mode"] == Mode.STOPPING or (row["mode"] != Mode.POLICY and not row["tripped"])):
            self._take_over(row, trips)
            return False
        if before is not None and row["rearms"] != before["rearms"]:
            controller.rearm()
        safety, reason = controller.safety, _reason(row)
        if reason is not None and not safety.tripped and (before is None or reason in EXTERNAL):
            safety.trip(reason, trips.get(tick, (reason, ""))[1])
        state, command = self._state, self._command
        state.position[:], state.velocity[:], state.stamp = row["position"], row["velocity"], float(row["stamp"])
        if state.floating_base:
            state.orientation_wxyz[:], state.angular_velocity[:] = row["orientation_wxyz"], row["angular_velocity"]
        if state.passive.size:
            state.passive[:] = row["passive_position"], row["passive_velocity"]
        if state.more:
            state.motion_age[:] = row["motion_age"]
        for name, values in state.more:
            values[:] = row[name]
        command.values[:] = row["command"]
        verdict = controller.drive(state, command, float(row["age"]), bool(row["waiting"]))
        mine["proposed_effort"], mine["applied_effort"] = controller.proposed, controller.effort
        mine["output"] = controller.output
        for name, term in self.terms.items():
            mine[TERM_PREFIX + name] = term
        for name, flag in zip(_FLAGS, _flags(verdict)):
            mine[name] = flag
        if verdict.tripped != bool(row["tripped"]):
            self._take_over(row, trips)  # or every tick from here on would differ
        return True

    def _take_over(self, row: Any, trips: dict[int, tuple[TripReason, str]]) -> None:
        """Goes on from where the recording was after this tick."""
        controller, reason = self.controller, _reason(row)
        controller.resume(int(row["phase"]), row["output"], row["applied_effort"], float(row["gain"]))
        for name, term in self.terms.items():
            term[:] = row[TERM_PREFIX + name]
        if reason is not None:
            controller.safety.trip(reason, trips.get(int(row["tick"]), (reason, ""))[1])


def replay(policy: OnnxPolicy, recording: Recording, tolerance: float) -> ReplayReport:
    """Runs a recording through a policy's controller and compares.

    Args:
        policy: an opened policy.
        recording: an opened recording.
        tolerance: largest difference that counts as equal, in each quantity's own unit.

    Raises:
        RecordingError: damaged, or without a single tick. JointMappingError: of other joints. RateError: see `Rerun`.
    """
    report = ReplayReport(tolerance, approximate=False)
    session = recording.session
    if session.weights_sha256 != policy.manifest.weights_sha256:
        report.notes.append(f"recorded with another policy, '{session.policy}'")
    rerun: Rerun | None = None
    for rows in recording.blocks():
        if rerun is None:
            assert recording.layout is not None
            rerun = Rerun(policy, session, recording.layout)
            report.differences = _quantities(policy, rerun)
        mine, counts = rerun.run(rows, recording.trips)
        _compare(report, rows[counts], mine[counts])
    if rerun is None:
        raise RecordingError(mismatch("recording", "no ticks", "at least one"))
    assert recording.layout is not None
    left_out = sorted({*recording.layout.terms} ^ {*rerun.terms} | {*rerun.controller.builder.terms} - {*rerun.terms})
    if left_out:
        report.notes.append(f"terms that only one of the two has: {', '.join(left_out)}")
    if recording.truncated:
        report.notes.append("the recording has no end: its node was killed, or the disk was full")
    if rerun.skipped:
        report.notes.append(f"{rerun.dropped} ticks are missing from the recording, in {rerun.skipped} places")
    return report


def _quantities(policy: OnnxPolicy, rerun: Rerun) -> list[Difference]:
    units = {term.name: term.unit for term in policy.interface.observation.terms}
    output = "rad" if policy.interface.control.mode == "pd" else "N*m"
    return [
        *(Difference(TERM_PREFIX + name, units[name]) for name in rerun.terms),
        Difference("output", output),
        Difference("proposed_effort", "N*m"),
        Difference("applied_effort", "N*m"),
    ]


def _compare(report: ReplayReport, rows: NDArray[Any], mine: NDArray[Any]) -> None:
    in_control = ~rows["tripped"] & ~rows["waiting"]
    report.ticks += len(rows)
    report.in_control += int(in_control.sum())
    for one in report.differences:
        # Terms, output and proposal of other ticks are left over from an earlier one.
        kept = np.ones(len(rows), bool) if one.name == "applied_effort" else in_control
        one.add(rows["tick"][kept], rows[one.name][kept], mine[one.name][kept], report.tolerance)
    other = np.zeros(len(rows), bool)
    for flag in _FLAGS:
        other |= rows[flag] != mine[flag]
    report.verdicts += int(other.sum())
    for i in np.flatnonzero(other)[: SHOWN_VERDICTS - len(report.first_verdicts)]:
        said, says = _worded(rows[i]), _worded(mine[i])
        report.first_verdicts.append(f"tick {rows[i]['tick']}: recorded {said}, replayed {says}")


def _reason(row: Any) -> TripReason | None:
    number = int(row["reason"])
    if number > len(REASONS):
        raise RecordingError(mismatch(f"tick {row['tick']}: reason", number, f"0 .. {len(REASONS)}"))
    return REASONS[number - 1] if number else None


def _flags(verdict: Verdict) -> tuple[int, ...]:
    number = 0 if verdict.reason is None else 1 + REASONS.index(verdict.reason)
    return verdict.tripped, number, verdict.barrier, verdict.clamped, verdict.slewed


def _worded(row: Any) -> str:
    reason = _reason(row)
    if row["tripped"]:
        return f"tripped ({'unknown' if reason is None else reason.value})"
    return " and ".join(name for name in ("barrier", "clamped", "slewed") if row[name]) or "untouched"
