"""What a check found, and how it is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

SHOWN = 8
"""Names or values that one line shows; the rest is counted."""


class Level(str, Enum):
    """What a check came to."""

    OK = "ok"
    WARNING = "warning"
    FAIL = "FAIL"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    check: str
    level: Level
    found: str
    expected: str = ""
    """What a good robot shows; empty where `found` is good."""
    hint: str = ""
    """What to do."""

    def line(self) -> str:
        """The finding as one line."""
        text = f"{self.found}, expected {self.expected}" if self.expected else self.found
        return f"{self.level.value:8} {self.check:19} {text}{'. ' + self.hint if self.hint else ''}"


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, found)


def warning(check: str, found: str, expected: str = "", hint: str = "") -> Finding:
    """It may work; somebody should look."""
    return Finding(check, Level.WARNING, found, expected, hint)


def fail(check: str, found: str, expected: str, hint: str = "") -> Finding:
    """The policy would not run, or not do what it should."""
    return Finding(check, Level.FAIL, found, expected, hint)


def skipped(check: str, reason: str, hint: str = "") -> Finding:
    """It could not be checked."""
    return Finding(check, Level.SKIPPED, reason, "", hint)


def overall(findings: Sequence[Finding]) -> Level:
    """FAIL when anything failed, else warning when anything was warned of, else ok."""
    levels = {finding.level for finding in findings}
    return next((level for level in (Level.FAIL, Level.WARNING) if level in levels), Level.OK)


def summary(findings: Sequence[Finding]) -> str:
    """The final verdict as one line."""
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    failures, warnings = counts[Level.FAIL], counts[Level.WARNING]
    rest = f"{counts[Level.OK]} ok, {warnings} {'warning' if warnings == 1 else 'warnings'}"
    rest += f", {counts[Level.SKIPPED]} skipped"
    if failures:
        what = "1 check failed" if failures == 1 else f"{failures} checks failed"
        return f"NOT READY: {what} ({rest}). Do not enable torque."
    return f"Ready{', with warnings' if warnings else ''}: {rest}."


def quoted(names: Sequence[str]) -> str:
    """Names from messages as a list in quotes: shortened, and without control characters."""
    shown = ", ".join(repr(name[:40]) for name in names[:SHOWN]) or "none"
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"


def listed(items: Sequence[str]) -> str:
    """Words of our own as a list, shortened."""
    shown = ", ".join(items[:SHOWN]) or "none"
    return shown if len(items) <= SHOWN else f"{shown} and {len(items) - SHOWN} more"
