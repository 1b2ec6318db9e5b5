"""One exception tree. Each message says what was found, what was expected, and what to do."""

from __future__ import annotations

from collections.abc import Iterable

LONGEST_PART = 300
"""Characters of one part of a message."""


class DdpgRobotError(Exception):
    """Base of every error that a user can cause and a user can mend. The command line prints it as one line."""


class SpecError(DdpgRobotError):
    """A robot, control or observation description is malformed or contradicts itself."""


class PolicyFileError(DdpgRobotError):
    """A policy file cannot be trusted: truncated, changed, of another schema, or not a policy at all."""


class ObservationError(DdpgRobotError):
    """Observation terms cannot be built: unknown term, wrong size, or a quantity the robot does not give."""


class MessageError(DdpgRobotError):
    """The bytes of a message are too many, or are no message of their topic's type."""


class JointMappingError(DdpgRobotError):
    """Joint names or field sizes of a message do not match the policy's robot."""


class CommandError(DdpgRobotError):
    """An operator's command is in another frame, out of the policy's bounds, or not finite."""


class RateError(DdpgRobotError):
    """A control rate that the policy was not trained for."""


class MissingExtraError(DdpgRobotError):
    """An optional part of the package is not installed."""


class ConfigError(DdpgRobotError):
    """A setting, task or preset is unknown or out of range."""


class TrainingError(DdpgRobotError):
    """Training cannot go on, for example because a loss is no longer finite."""


class CheckpointError(DdpgRobotError):
    """A checkpoint is missing, damaged, could not be written, or belongs to other settings."""


class ParityError(DdpgRobotError):
    """The exported graph does not reproduce the trained actor."""


class RecordingError(DdpgRobotError):
    """A recording or a bag cannot be read: damaged, foreign, or without what is looked for."""


class RunDirectoryError(DdpgRobotError):
    """A run directory exists already, or is not a run directory."""


def mismatch(
    what: str, found: object, expected: object, choices: Iterable[str] | None = None, hint: str | None = None
) -> str:
    """Words an error in the project's one form: ``what: found X, expected Y (valid choices: ...). hint``.

    What is long, because a file or a message says so, is cut: the words after it would not be read.
    """
    text = f"{_cut(what)}: found {_cut(found)}, expected {_cut(expected)}"
    if choices is not None:
        text += f" (valid choices: {', '.join(sorted(choices))})"
    return f"{text}. {hint}" if hint else text


def _cut(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_PART else f"{text[:LONGEST_PART]}..."
