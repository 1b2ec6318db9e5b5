"""Specs to JSON and back: every key, type and number of what comes from a file is checked."""

from __future__ import annotations

import dataclasses
import types
import typing
from functools import cache
from typing import Any, Literal, TypeVar, Union

from ddpg_robot.errors import SpecError, mismatch

LARGEST_NUMBER = 1e12
"""Bound of every other number: sums of squares stay finite."""
LATER_FIELDS = ("passive_joints", "joints", "object", "odometry")
"""Fields that the first manifests did not have; of `RobotSpec`, joints are never empty."""
MAX_TEXT = 255
"""Characters of a name, a unit or a frame."""

T = TypeVar("T")


def to_dict(spec: Any) -> dict[str, Any]:
    """The JSON form of a spec: dicts, lists, numbers and strings, floats at full precision.

    Fields that came later and hold nothing are left out: such a file is one that older readers know.
    """
    return dataclasses.asdict(spec, dict_factory=_without_later_fields)


def _without_later_fields(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in items if key not in LATER_FIELDS or value not in ((), None, False)}


def from_dict(cls: type[T], data: Any) -> T:
    """Reads a spec back from its JSON form.

    Raises:
        SpecError: a key is unknown or missing, or a value has the wrong type or is not finite, or a text is not one
            printable line of at most `MAX_TEXT` characters; says where.
    """
    result: T = _decode(cls, data, cls.__name__)
    return result


_hints = cache(typing.get_type_hints)  # evaluates the annotations of a class: once


def _decode(kind: Any, data: Any, path: str) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, data, path)
    if origin in (Union, types.UnionType):
        if type(data) in args:
            return _decode(type(data), data, path)
        return _decode(next(arg for arg in args if arg is not type(None)), data, path)
    if origin is tuple:
        if not isinstance(data, (list, tuple)):
            raise SpecError(mismatch(path, type(data).__name__, "a list"))
        return tuple(_decode(args[0], item, f"{path}[{i}]") for i, item in enumerate(data))
    if origin is dict:
        if not isinstance(data, dict):
            raise SpecError(mismatch(path, type(data).__name__, "an object"))
        return {_decode(args[0], key, path): _decode(args[1], item, f"{path}.{key}") for key, item in data.items()}
    if origin is Literal:
        if data not in args:
            raise SpecError(mismatch(path, repr(data), "a known value", [str(arg) for arg in args]))
        return data
    if type(data) is int and not -(2**63) <= data < 2**63:
        raise SpecError(mismatch(path, f"{str(data)[:40]}...", "a number of at most 64 bits"))
    if kind is float and type(data) in (int, float):
        if not abs(data) <= LARGEST_NUMBER:
            raise SpecError(mismatch(path, data, f"a finite number, at most {LARGEST_NUMBER:g}"))
        return float(data)
    if type(data) is not kind:
        raise SpecError(mismatch(path, f"{type(data).__name__} {str(data)[:40]!r}", kind.__name__))
    if kind is str and not (data.isprintable() and len(data) <= MAX_TEXT):
        raise SpecError(mismatch(path, repr(data[:40]), f"one printable line of at most {MAX_TEXT} characters"))
    return data


def _decode_dataclass(kind: Any, data: Any, path: str) -> Any:
    if not isinstance(data, dict):
        raise SpecError(mismatch(path, type(data).__name__, "an object"))
    hints = _hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = sorted(str(key) for key in data.keys() - fields.keys())
    if unknown:
        raise SpecError(mismatch(path, f"unknown key {', '.join(unknown)}", "known keys", fields))
    missing = [name for name, field in fields.items() if name not in data and field.default is dataclasses.MISSING]
    if missing:
        raise SpecError(mismatch(path, f"no {', '.join(missing)}", "every key", fields))
    return kind(**{name: _decode(hints[name], data[name], f"{path}.{name}") for name in fields if name in data})
