"""How long something takes, for people."""

from __future__ import annotations

import math


def duration(seconds: float) -> str:
    """Seconds as words: ``7 s``, ``11 min 5 s``, ``2 h 4 min``; ``unknown`` where they are not finite."""
    if not math.isfinite(seconds):
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
