"""The replay's memory, measured on a real process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ddpg_robot.errors import ConfigError
from ddpg_robot.learn.replay_cost import benchmark_replay


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell the memory in use")
def test_transitions_take_their_float32_size_and_little_more() -> None:
    program = "import json; from ddpg_robot.learn.replay_cost import benchmark_replay as b; r = b(capacity=100_000); "
    program += "print(json.dumps(r))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["raw_bytes"] == 100_000 * 4 * (105 + 8 + 1 + 1 + 105)
    assert 0.9 < result["resident_bytes"] / result["raw_bytes"] < 1.2
    assert list(result["rows"]) == ["10000", "100000"]
    assert "100,000" in done.stdout


def test_a_capacity_below_the_smallest_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="capacity: found 5, expected at least 10000"):
        benchmark_replay(capacity=5)
