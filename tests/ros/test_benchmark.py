"""The benchmarks measure what they say, beside a floor. Whether this machine meets the targets is not tested."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ros.robot import WAIT_S, alive, children

from ddpg_robot.errors import ConfigError, RateError
from ddpg_robot_ros.benchmark.conditions import NAMES, chosen, line, measure_conditions, refusal
from ddpg_robot_ros.benchmark.guard_latency import added
from ddpg_robot_ros.benchmark.loop import benchmark_loop
from ddpg_robot_ros.benchmark.measure import figures
from ddpg_robot_ros.benchmark.soak_result import result_of
from ddpg_robot_ros.realtime import Realtime
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
    with pytest.raises(ConfigError, match=r"found .gurad., expected a known one"):
        chosen(["gurad"])


@pytest.mark.slow
def test_each_condition_is_measured_beside_a_floor_of_its_own(spring: Path, capsys) -> None:
    results = measure_conditions(spring, 250.0, 1.5, chosen(["record", "all"]))
    assert list(results) == list(NAMES)
    text = capsys.readouterr().out
    for name, result in results.items():
        assert line(name, result) in text
        if name.startswith("realtime") and refusal(Realtime(priority=1)):
            assert "limits.conf" in result["left_out"]
            continue
        for loop in (result["loop"], result["floor"]):
            assert loop["ticks"] + loop["lost"] > 100
            assert 0 < loop["lateness"]["p50"] <= loop["lateness"]["p99"] <= loop["lateness"]["max"]
    guard = results["guard"]["guard"]
    assert guard["messages"] > 100
    assert 0 < guard["latency"]["p50"] <= guard["latency"]["max"]
    assert "the guard adds, us: p50" in text


def test_a_condition_that_the_system_does_not_allow_is_left_out_with_the_reason() -> None:
    cpus = os.sched_getaffinity(0)
    if len(cpus) < 2:
        pytest.skip("there is no processor that could be forbidden")
    realtime = Realtime(cpus=(max(cpus),))
    assert refusal(realtime) == ""
    os.sched_setaffinity(0, {min(cpus)})
    try:
        reason = refusal(realtime)
    finally:
        os.sched_setaffinity(0, cpus)
    assert reason.startswith(f"realtime.cpus: found [{max(cpus)}], expected processors of this process")
    assert reason in line("realtime", {"left_out": reason})


def test_what_the_guard_adds_counts_from_the_newest_command_before_it() -> None:
    commanded = np.array([1_000_000, 2_000_000, 3_000_000])
    passed = np.array(
        [900_000, 1_100_000, 3_300_000]
    )  # the first has no command before it, the second was passed on late
    assert added(commanded, passed).tolist() == pytest.approx([1e-4, 3e-4])


SOAK = [sys.executable, "-m", "ddpg_robot.cli", "benchmark", "soak", "--rate", "250"]


@pytest.mark.slow
def test_a_soak_finds_every_estop_in_recording_and_diagnostics(tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    command = [*SOAK, "--minutes", "0.25", "--estop-every", "3", "--out", str(out), "--record", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * WAIT_S)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    estops = result["trips"]["estops"]
    assert len(estops) >= 1
    assert all(one["recorded"] and one["reported"] and one["rearmed"] for one in estops)
    assert sum(one["ticks"] for one in result["minutes"]) == result["overall"]["ticks"] > 1000
    assert result["missing"] == 0
    assert set(result["memory"]) == {"policy_node", "effort_guard"}
    assert all(min(one["bytes"]) > 1e6 for one in result["memory"].values())
    assert f"estops: {len(estops)} asked for, {len(estops)} recorded" in done.stdout
    assert len(list(tmp_path.glob("*.mcap"))) == 1
    if importlib.util.find_spec("matplotlib"):
        assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_ends_a_soak_with_the_figures_so_far_and_no_process_left(tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    process = subprocess.Popen([*SOAK, "--minutes", "60", "--out", str(out)], stderr=subprocess.PIPE, text=True)
    family: set[int] = set()
    for text in process.stderr:
        family.update(children(process.pid))
        if "to go" in text:
            break
    assert len(family) == 3
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, text
    assert not any(alive(pid) for pid in family)
    assert json.loads(out.read_text())["overall"]["ticks"] > 0


def test_a_soak_that_was_too_short_or_lost_a_trip_says_so() -> None:
    estop = {"time": 105.0, "reported": True, "rearmed": True}
    memory = {
        "policy_node": [(100.0 + 60 * i, 50_000_000 + 1_000_000 * i) for i in range(6)],
        "effort_guard": [(100.0, 1)],
    }
    result = result_of(100.0, memory, [estop], [], 500.0)
    assert result["memory"]["policy_node"]["grown_bytes"] == 3_000_000  # from the second minute on
    assert list(result["targets"].values()) == [False, None, False]
    assert not result["trips"]["estops"][0]["recorded"]


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


def test_figures_are_of_the_window_and_not_of_the_loops_end(tmp_path: Path) -> None:
    timing, path = LoopTiming(), tmp_path / "timing.npz"
    for lateness in (0.0, 0.0, 0.25, 0.0, 0.0, 0.35):  # at 10 Hz: the last ticks missed 3 deadlines, the third 2
        timing.add(lateness, 0.0, float("nan"), float("nan"))
    timing.save(path)
    with np.load(path) as data:
        ended = float(data["ended"])
    result = figures(path, 10.0, (ended - 0.95, ended - 0.45), 0.0)
    assert (result["ticks"], result["lost"]) == (3, 2)
    assert result["lateness"]["max"] == 0.25


def test_percentiles_leave_out_what_was_not_measured() -> None:
    assert percentiles(np.array([1.0, np.nan, 3.0]))["p50"] == 2.0
    assert np.isnan(percentiles(np.array([np.nan]))["max"])
