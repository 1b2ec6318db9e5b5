"""2,000 bad policy files: each is refused in one clear line, or harmless; none crashes, grows, reads or runs anything."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from fuzz.trials import COUNT, try_mutants


def test_bad_files_are_refused_in_one_line_or_are_harmless_and_nothing_else_happens(tmp_path: Path) -> None:
    # Whoever opens a pipe that nobody writes to waits for ever: external data that is looked at ends in a timeout.
    inner = tmp_path / "inner"
    inner.mkdir()
    for folder in (tmp_path, inner):
        os.mkfifo(folder / "canary")
    mutants, total = try_mutants("files", COUNT, inner)
    outcomes = Counter(one["outcome"] for one in mutants)
    assert outcomes["refused"] > 0.7 * COUNT
    assert outcomes["accepted"] > 0.01 * COUNT  # else the mutants are too wild to get past the first check
    assert total["grown_bytes"] < 200e6
    assert total["read_bytes"] < 10_000  # codecs that mutants are made with
    assert total["slowest_s"] < 5.0
