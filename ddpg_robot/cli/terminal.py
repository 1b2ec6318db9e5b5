"""What a terminal reads and shows: ``key=value`` options, tables, a progress line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from ddpg_robot.errors import ConfigError, mismatch


def key_values(option: str, pairs: Iterable[str]) -> dict[str, Any]:
    """Reads ``key=value`` pairs; values are JSON where they can be (true, 0.5, [400,300]), text otherwise.

    Raises:
        ConfigError: a pair without key or without ``=``.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not (key and sign):
            raise ConfigError(mismatch(option, repr(pair), "key=value"))
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found


def is_figure(value: object) -> bool:
    """True for a number that belongs in a table; False for None, lists, texts and flags."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def figures(result: Mapping[str, Any]) -> dict[str, float | None]:
    """The single figures of a result, None where one could not be measured; lists and texts are left out."""
    return {name: value for name, value in result.items() if value is None or is_figure(value)}


def print_table(columns: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints one row per figure and one column per place where it was measured."""
    names = [name for name in dict.fromkeys(n for c in columns.values() for n in c) if any_figure(columns, name)]
    width = max(map(len, names))
    if len(columns) > 1:
        print(" " * width, *(f"{place:>12}" for place in columns))
    for name in names:
        print(f"{name:<{width}}", *(f"{cell(column.get(name)):>12}" for column in columns.values()))


def any_figure(columns: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    """True when at least one column has a number of this name."""
    return any(is_figure(column.get(name)) for column in columns.values())


def cell(value: Any) -> str:
    """A figure as a table shows it: four significant digits, a dash where there is none."""
    return f"{value:.4g}" if is_figure(value) else "-"


def episode_progress(done: int, total: int) -> None:
    """A progress line on a terminal; nothing elsewhere."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\repisode {done}/{total}", end=end, file=sys.stderr, flush=True)
