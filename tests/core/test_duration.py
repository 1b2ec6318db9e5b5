"""How long something takes, for people."""

from __future__ import annotations

import math

import pytest

from ddpg_robot.duration import duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (665, "11 min 5 s"), (7479, "2 h 4 min"), (math.inf, "unknown")],
)
def test_a_duration_is_said_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
