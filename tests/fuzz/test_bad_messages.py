"""2,000 bad messages, as bytes and over DDS: refused in one clear line, or read as what they say; never a crash."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from fuzz.trials import COUNT, try_mutants

pytestmark = pytest.mark.ros


def test_bad_messages_are_refused_in_one_line_or_read_as_what_they_say(tmp_path: Path) -> None:
    mutants, total = try_mutants("messages", COUNT, tmp_path)
    outcomes = Counter(one["outcome"] for one in mutants)
    assert min(outcomes["refused"], outcomes["accepted"]) > 0.2 * COUNT
    assert total["grown_bytes"] < 100e6
    assert total["read_bytes"] < 10_000  # codecs that mutants are made with
    assert total["slowest_s"] < 1.0


def test_bad_messages_over_dds_leave_the_nodes_subscriptions_alive(tmp_path: Path) -> None:
    mutants, total = try_mutants("wire", COUNT // 5, tmp_path)
    outcomes = Counter(one["outcome"] for one in mutants)
    assert min(outcomes["refused"], outcomes["accepted"]) > 0.1 * len(mutants)
    assert total["grown_bytes"] < 200e6
