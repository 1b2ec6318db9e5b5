"""The timing benchmark measures what it says, beside its floor. Whether this machine meets the targets is not tested."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ddpg_robot.errors import ConfigError, RateError
from ddpg_robot_ros.benchmark import benchmark_loop
from ddpg_robot_ros.timing import COLUMNS, LoopTiming, percentiles


@pytest.mark.slow
def test_the_benchmark_measures_both_loops_and_the_floor(spring: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "loop.json"
    result = benchmark_loop(spring, 250.0, 1.5, out)
    assert json.loads(out.read_text())["inference_share"] == 0.5
    for name in ("floor", "deadline", "timer"):
        loop = result["loops"][name]
        assert loop["ticks"] > 100
        assert 0 < loop["cpu_percent"] < 150
        assert 0 < loop["lateness"]["p50"] <= loop["lateness"]["p99"] <= loop["lateness"]["max"]
    for name in ("deadline", "timer"):
        assert not result["loops"][name]["tripped"]
        assert result["loops"][name]["work"]["p50"] > result["loops"]["floor"]["work"]["p50"]
        assert result["loops"][name]["state_to_command"]["p50"] > 0
    text = capsys.readouterr().out
    assert "rclpy timer" in text
    assert "state to command p99.9, us" in text


def test_the_benchmark_refuses_what_the_node_refuses(spring: Path) -> None:
    with pytest.raises(RateError):
        benchmark_loop(spring, 333.0, 1.0)
    with pytest.raises(ConfigError):
        benchmark_loop(spring, 250.0, 0.0)


def test_timing_keeps_the_newest_rows_in_order(tmp_path: Path) -> None:
    timing = LoopTiming(capacity=4)
    for i in range(6):
        timing.add(float(i), 0.0, float("nan"), 0.0)
    assert timing.newest()[:, 0].tolist() == [2.0, 3.0, 4.0, 5.0]
    assert timing.newest(2)[:, 0].tolist() == [4.0, 5.0]
    timing.save(tmp_path / "timing.npz", rate=250.0)
    with np.load(tmp_path / "timing.npz") as data:
        assert data["lateness"].tolist() == [2.0, 3.0, 4.0, 5.0]
        assert set(COLUMNS) < set(data)


def test_percentiles_leave_out_what_was_not_measured() -> None:
    assert percentiles(np.array([1.0, np.nan, 3.0]))["p50"] == 2.0
    assert np.isnan(percentiles(np.array([np.nan]))["max"])
