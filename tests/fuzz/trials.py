"""Starts the children that try mutants, and says which mutant failed and how to see it again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COUNT = int(os.environ.get("FUZZ_MUTANTS", "2000"))
"""Mutants of each kind; ``make fuzz`` tries more."""
CHUNK = 2000
CHUNK_TIMEOUT_S = 240.0


def try_mutants(kind: str, count: int, folder: Path) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Tries mutants 0 to `count` in child processes that work in `folder`.

    Returns:
        One record for each mutant, and the largest figures of a child.
    """
    mutants: list[dict[str, Any]] = []
    totals: list[dict[str, float]] = []
    for first in range(0, count, CHUNK):
        lines = run_child(kind, first, min(CHUNK, count - first), folder)
        mutants += lines[:-1]
        totals.append(lines[-1])
    failures = [one for one in mutants if one["outcome"] == "failed"]
    shown = "\n".join(f"{kind} {one['number']} {one['name']}: {one['reason'][:300]}" for one in failures[:20])
    assert not failures, f"{len(failures)} of {count}; again: python -m fuzz.child {kind} NUMBER 1\n{shown}"
    total = {key: max(one[key] for one in totals) for key in totals[0]}
    print(kind, dict(Counter(one["outcome"] for one in mutants)), total)
    for name, outcomes in sorted(by_name(mutants).items()):
        print(f"  {name}: {dict(outcomes)}")
    return mutants, total


def by_name(mutants: list[dict[str, Any]]) -> dict[str, Counter[str]]:
    """Outcomes of each kind of mutation."""
    table: dict[str, Counter[str]] = {}
    for one in mutants:
        table.setdefault(one["name"], Counter())[one["outcome"]] += 1
    return table


def run_child(kind: str, first: int, count: int, folder: Path) -> list[dict[str, Any]]:
    """The lines of one child, which must come to its end."""
    rooms = [str(ROOT / room) for room in ("", "sim", "export", "ros2_ws", "tests")]
    path = os.pathsep.join([*rooms, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.child", kind, str(first), str(count)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=CHUNK_TIMEOUT_S,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{kind} crashed ({done.returncode}) at {lines[-1:]}\n{done.stderr[-2000:]}"
    return [json.loads(line) for line in lines]
