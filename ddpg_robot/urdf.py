"""The joints of a URDF and their limits. The file may come from anybody: nothing in it is trusted."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from ddpg_robot.errors import ConfigError, mismatch

LARGEST_URDF = 4 * 1024 * 1024
"""Bytes of a description that is looked at; meshes are files of their own."""


@dataclass(frozen=True)
class UrdfJoint:
    """A joint of a URDF; None where it says nothing, or nothing usable."""

    kind: str
    effort: float | None
    """N·m."""
    velocity: float | None
    """rad/s."""
    lower: float | None
    """rad."""
    upper: float | None
    """rad."""


def read_urdf(path: Path) -> dict[str, UrdfJoint]:
    """The joints of a URDF file by name.

    Raises:
        ConfigError: there is no such file, or it is no URDF.
    """
    if not path.is_file():
        raise ConfigError(mismatch("URDF", path, "a file"))
    with path.open("rb") as file:
        return parse_urdf(file.read(LARGEST_URDF + 1))


def parse_urdf(data: bytes) -> dict[str, UrdfJoint]:
    """The joints of a URDF by name.

    Raises:
        ConfigError: it is too large, declares a document type or entities, or is no URDF.
    """
    if len(data) > LARGEST_URDF:
        raise ConfigError(mismatch("URDF", f"more than {LARGEST_URDF:,} bytes", f"at most {LARGEST_URDF:,}"))
    try:
        text = data.decode("utf-8")  # the one encoding, so that nothing below can be hidden in another one
    except UnicodeDecodeError:
        raise ConfigError(mismatch("URDF", "another encoding", "UTF-8")) from None
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ConfigError(mismatch("URDF", "a document type or entities", "none: they can grow without bounds"))
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise ConfigError(mismatch("URDF", f"no XML ({error})", "a robot description")) from None
    if root.tag != "robot":
        hint = "Expand a xacro file first: xacro robot.urdf.xacro > robot.urdf" if "xacro" in text[:2000] else None
        raise ConfigError(mismatch("URDF", f"an element {root.tag[:40]!r}", "an element 'robot'", hint=hint))
    return {element.get("name", ""): _joint(element) for element in root.findall("joint")}


def _joint(element: ElementTree.Element) -> UrdfJoint:
    limit = element.find("limit")

    def number(field: str, default: str | None = None) -> float | None:
        text = default if limit is None else limit.get(field, default)
        try:
            value = math.nan if text is None or len(text) > 40 else float(text)
        except ValueError:
            return None
        return value if math.isfinite(value) else None

    # Exporters write 0 for a limit that they do not know; a missing position limit is 0 by the URDF's rules.
    effort, velocity = number("effort") or None, number("velocity") or None
    position = None if limit is None else "0"
    return UrdfJoint(element.get("type", ""), effort, velocity, number("lower", position), number("upper", position))
