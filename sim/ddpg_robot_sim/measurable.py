"""What Gymnasium's MuJoCo tasks observe and no robot measures, and the options that leave it out. Needs no MuJoCo."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

UNMEASURED = {
    "cinert": "inertias",
    "cvel": "velocities of every body",
    "qfrc_actuator": "torques of the motors",
    "cfrc_ext": "contact forces",
}
"""Part of an observation -> what it is."""
OPTION = "include_{}_in_observation"
"""A task's option to leave such a part out."""


def measurable(task_class: Callable[..., Any]) -> dict[str, bool]:
    """The keyword arguments of a task that leave out what no robot measures."""
    known = inspect.signature(task_class).parameters
    return {option: False for option in map(OPTION.format, UNMEASURED) if option in known}


def named(options: dict[str, Any]) -> str:
    """What some of these options leave out, in words; empty for none."""
    return ", ".join(what for key, what in UNMEASURED.items() if options.get(OPTION.format(key)) is False)
