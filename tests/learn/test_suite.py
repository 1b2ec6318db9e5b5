"""What a benchmark makes of its runs: scores, intervals, curves, and a directory that holds one benchmark only."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from ddpg_robot.errors import ConfigError, RunDirectoryError
from ddpg_robot.learn.config import TrainConfig
from ddpg_robot.learn.rundir import write_json
from ddpg_robot.learn.suite.collect import bootstrap_interval, collect, iqm, read_result, write_result
from ddpg_robot.learn.suite.draw import curves, draw
from ddpg_robot.learn.suite.plan import Plan, Run
from ddpg_robot.learn.suite.table import markdown


def plan(out: Path, seeds: tuple[int, ...] = (0, 1), **changes) -> Plan:
    template = TrainConfig(task="any", steps=2000, **changes)
    return Plan("gym", {"Hopper-v5": ("Hopper-v5", {})}, seeds, template, out)


def write_rows(run: Run, returns: list[float], success: float | None = None) -> None:
    """The rows of a run that was evaluated every 100 steps."""
    run.config.out.mkdir(parents=True)
    rows = [
        {"kind": "evaluation", "step": 100 * i, "time_s": 2.0 * i, "return_mean": value, "success_rate": success}
        for i, value in enumerate(returns, 1)
    ]
    rows.insert(1, {"kind": "train", "step": 100, "time_s": 1.0, "return": 7.0})
    run.files.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"kind": "evaluation", "st')


def test_the_interquartile_mean_leaves_out_the_lowest_and_the_highest_quarter() -> None:
    assert iqm(np.array([100.0, 2.0, 3.0, -50.0])) == 2.5
    assert iqm(np.array([7.0, 0.0, 1.0, 6.0, 2.0, 5.0, 3.0, 400.0])) == (2 + 3 + 5 + 6) / 4
    assert iqm(np.array([1.0, 2.0, 6.0])) == 3.0


def test_the_bootstrap_interval_is_that_of_hand_worked_distributions() -> None:
    assert bootstrap_interval(np.array([5.0])) == (5.0, 5.0)
    # Two seeds: the mean of a resample is 0, 0.5 or 1 with probability 1/4, 1/2, 1/4.
    assert bootstrap_interval(np.array([0.0, 1.0])) == (0.0, 1.0)
    # Of four seeds the middle two count. They are 4, 4 when at least three of four draws are 4: 13 of 256 cases, 5.1 %.
    assert bootstrap_interval(np.array([0.0, 0.0, 0.0, 4.0])) == (0.0, 4.0)
    # Of eight seeds four count. One of them is 8 when three of eight draws are (6.7 % of cases draw as many or more), two
    # of them when four are (1.1 %).
    assert bootstrap_interval(np.array([0.0] * 7 + [8.0])) == (0.0, 2.0)


def test_the_interval_is_the_same_each_time() -> None:
    values = np.random.default_rng(3).normal(size=6)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    low, high = bootstrap_interval(values)
    assert low < iqm(values) < high


def test_final_is_the_mean_of_the_last_ten_evaluations_and_max_the_best(tmp_path: Path) -> None:
    asked = plan(tmp_path / "bench")
    first, second = asked.runs()
    write_rows(first, [50.0] + [0.0] * 5 + [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0])
    write_rows(second, [1.5] * 12)
    result = collect(asked)
    one, other = result["tasks"]["Hopper-v5"]["runs"]
    assert one["final"] == {"return_mean": 5.5}
    assert one["max"] == {"return_mean": 50.0}
    assert (one["time_s"], one["curve"]["step"][-1]) == (32.0, 1600)
    assert other["final"] == {"return_mean": 1.5}
    assert result["tasks"]["Hopper-v5"]["statistics"]["return_mean"] == {
        "mean": 3.5,
        "std": 2.0,
        "iqm": 3.5,
        "iqm_interval": [1.5, 5.5],
        "max": 50.0,
    }


def test_runs_that_are_not_finished_are_named_and_those_without_evaluation_left_out(tmp_path: Path) -> None:
    asked = plan(tmp_path / "bench", seeds=(3, 4))
    write_rows(asked.runs()[0], [1.0, 2.0], success=0.5)
    result = collect(asked)
    assert [(row["seed"], row["step"]) for row in result["incomplete"]] == [(3, 200), (4, 0)]
    (run,) = result["tasks"]["Hopper-v5"]["runs"]
    assert (run["seed"], run["finished"]) == (3, False)
    assert run["final"] == {"return_mean": 1.5, "success_rate": 0.5}
    page = markdown(result, [])
    assert "Not finished: Hopper-v5 seed 3 (step 200), Hopper-v5 seed 4 (step 0)." in page
    assert "50.0 % ± 0.0 %" in page


def test_a_step_that_is_evaluated_twice_counts_once(tmp_path: Path) -> None:
    asked = plan(tmp_path / "bench", seeds=(0,))
    (run,) = asked.runs()
    write_rows(run, [1.0, 2.0])
    text = run.files.metrics_file.read_text().splitlines()
    again = json.loads(text[-2]) | {"return_mean": 9.0, "episodes": 50}
    run.files.metrics_file.write_text("\n".join([*text[:-1], json.dumps(again)]) + "\n")
    assert collect(asked)["tasks"]["Hopper-v5"]["runs"][0]["curve"] == {"step": [100, 200], "return_mean": [1.0, 9.0]}


def test_long_curves_are_thinned_but_keep_both_ends(tmp_path: Path) -> None:
    asked = plan(tmp_path / "bench", seeds=(0,))
    write_rows(asked.runs()[0], [float(i) for i in range(1000)])
    curve = collect(asked)["tasks"]["Hopper-v5"]["runs"][0]["curve"]
    assert len(curve["step"]) == len(curve["return_mean"]) == 201
    assert (curve["step"][0], curve["step"][-1], curve["return_mean"][-1]) == (100, 100_000, 999.0)


def test_a_benchmark_without_any_evaluation_is_a_table_without_figures(tmp_path: Path) -> None:
    result = collect(plan(tmp_path / "bench"))
    assert "| Hopper-v5 |" in markdown(result, [])
    assert result["tasks"]["Hopper-v5"]["statistics"] == {}


def test_results_come_back_as_they_were_written_to_six_digits(tmp_path: Path) -> None:
    asked = plan(tmp_path / "bench", seeds=(0,))
    write_rows(asked.runs()[0], [1234.56789, 1e-5])
    result = collect(asked)
    write_result(result, tmp_path / "result.json")
    again = read_result(tmp_path / "result.json")
    assert again["settings"] == json.loads(json.dumps(result["settings"]))
    assert again["tasks"]["Hopper-v5"]["runs"][0]["curve"]["return_mean"] == [1234.57, 1e-5]
    assert "[1234.57, 1e-05]" in (tmp_path / "result.json").read_text()
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"other.json.*expected JSON of a benchmark"):
        read_result(tmp_path / "other.json")


def test_published_figures_and_other_benchmarks_stand_beside_ours(tmp_path: Path) -> None:
    asked = plan(tmp_path / "bench", seeds=(0,))
    write_rows(asked.runs()[0], [3000.0])
    result = collect(asked)
    page = markdown(result, [result | {"name": "learn_gym_other"}])
    row = next(line for line in page.splitlines() if line.startswith("| Hopper-v5"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:4] == ["3,000 ± 0.0", "3,000 [3,000, 3,000]", "3,000"]
    assert cells[4:] == ["3,000 ± 0.0", "2,197", "3,435 (XuanCe)", "3,472", "3,512 (TD7)"]
    assert "learn_gym_other, 2,000 steps" in page
    assert "Gym v1 to v4" in page


def test_many_other_benchmarks_stand_in_rows_of_their_own(tmp_path: Path) -> None:
    asked = dataclasses.replace(plan(tmp_path / "bench", seeds=(0,), algorithm="naf"), suite="ladder")
    write_rows(asked.runs()[0], [3000.0])
    write_json(asked.runs()[0].files.evaluation_file, {})
    result = collect(asked)
    assert result["name"] == "learn_ladder_naf"
    page = markdown(result, [result | {"name": f"learn_ladder_{name}"} for name in ("ddpg", "dqn", "q_cem")])
    assert [line.split("|")[1].strip() for line in page.splitlines()[-4:]] == ["naf", "ddpg", "dqn", "q_cem"]
    assert "3,000 ± 0.0; 0  " in page
    assert "Tianshou" not in page  # those figures are for runs of 1M steps


def test_a_baseline_is_trained_by_the_command_line_that_names_it(tmp_path: Path) -> None:
    words = " ".join(plan(tmp_path / "bench", algorithm="q_cem", overrides={"elites": 4}).runs()[0].command())
    assert "--algorithm q_cem" in words
    assert "--set elites=4" in words


def test_curves_end_where_their_run_has_come_to() -> None:
    runs = [
        {"curve": {"step": [100, 300], "return_mean": [0.0, 2.0]}},
        {"curve": {"step": [100, 200], "return_mean": [4.0, 4.0]}},
    ]
    steps, values = curves(runs, "return_mean")
    assert (steps[0], steps[-1], values.shape) == (100.0, 300.0, (2, 201))
    assert values[:, 100].tolist() == [1.0, 4.0]
    assert values[0, -1] == 2.0
    assert np.isnan(values[1, -1])


def test_the_picture_has_a_panel_for_each_task(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    asked = plan(tmp_path / "bench")
    asked = dataclasses.replace(asked, tasks={name: (name, {}) for name in ("Hopper-v5", "Pusher-v5", "Pendulum-v1")})
    for run in asked.runs()[:-1]:
        write_rows(run, [1.0, 2.0, 3.0], success=0.5 if run.task == "Pendulum-v1" else None)
    result = collect(asked)
    draw(result, [result], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_more_tasks_and_seeds_join_a_benchmark_but_other_settings_do_not(tmp_path: Path) -> None:
    with plan(tmp_path / "bench", seeds=(2, 0)).opened():
        pass
    with plan(tmp_path / "bench", seeds=(1,)).opened():
        pass
    assert plan(tmp_path / "bench").recorded().seeds == (0, 1, 2)
    with pytest.raises(RunDirectoryError, match=r"another benchmark: gamma: found 0.99, expected 0.5. Choose another"):
        plan(tmp_path / "bench", overrides={"gamma": 0.5}).recorded()
    with (
        pytest.raises(RunDirectoryError, match="preset: found 'ddpg', expected 'paper'"),
        plan(tmp_path / "bench", preset="paper").opened(),
    ):
        pass


def test_a_run_with_other_settings_is_not_mixed_in(tmp_path: Path) -> None:
    asked = plan(tmp_path / "bench", seeds=(0,))
    (run,) = asked.runs()
    write_rows(run, [1.0])
    settings = dataclasses.replace(run.config, overrides={"gamma": 0.5}).settings()
    run.files.settings_file.write_text(json.dumps({"settings": settings, "versions": {}}))
    with pytest.raises(
        RunDirectoryError, match=r"Hopper-v5 seed 0 has other settings: gamma: found 0.5, expected 0.99"
    ):
        collect(asked)


def test_a_directory_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("precious")
    with pytest.raises(RunDirectoryError, match=r"files, but no benchmark.json"), plan(tmp_path).opened():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(RunDirectoryError, match=r"no benchmark.json, expected the --out of a benchmark"):
        plan(tmp_path).recorded()
