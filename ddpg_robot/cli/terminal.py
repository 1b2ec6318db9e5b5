"""What a terminal reads and shows: ``key=value`` options, tables, a progress line."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ddpg_robot.duration import duration
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


class ProgressLine:
    """How far something is: a live line on a terminal, a line now and then elsewhere."""

    PLAIN_EVERY_S = 15.0

    def __init__(self) -> None:
        self._last_plain = time.monotonic()

    def show(self, text: str, last: bool) -> None:
        """Shows `text`, the last one on a terminal for good."""
        now = time.monotonic()
        if sys.stderr.isatty():
            print(f"\r{text:75}", end="\n" if last else "", file=sys.stderr, flush=True)
        elif now - self._last_plain >= self.PLAIN_EVERY_S:
            self._last_plain = now
            print(text, file=sys.stderr, flush=True)


class EpisodeProgress(ProgressLine):
    """How many episodes are finished and how long the rest will take.

    Args:
        what: what is counted.
    """

    def __init__(self, what: str = "episode") -> None:
        super().__init__()
        self._what = what
        self._start = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Shows that `done` (at least 1) of `total` are finished."""
        left = (time.monotonic() - self._start) / done * (total - done)
        self.show(f"{self._what} {done}/{total}, ETA {duration(left)}", done == total)
