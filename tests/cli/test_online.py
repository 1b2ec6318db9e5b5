"""What a user types to learn on a robot, and what is said when it cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ddpg_robot.errors import RunDirectoryError
from ddpg_robot.versions import VersionId, VersionStore


def test_a_trial_that_was_interrupted_before_anything_was_seen_leaves_the_picture_whole(tmp_path, monkeypatch) -> None:
    pytest.importorskip("matplotlib", reason="pictures of benchmarks need the extra bench")
    from ddpg_robot import plot
    from ddpg_robot.cli.online_benchmark import KINDS
    from ddpg_robot.cli.online_result import draw

    figure = plot.new_figure(7.0, 6.0)
    monkeypatch.setattr(plot, "new_figure", lambda *size: figure)
    row = {"minute": 2.0, "success": True, "final_error": 0.02}
    mark = {"0": {"success_rate": 0.5, "final_error_median_m": 0.9}}
    seen, interrupted = {"episodes": [row], "marks": mark}, {"episodes": [], "marks": mark}
    draw({"online": [seen], "scratch": [interrupted]}, KINDS["point"], tmp_path / "it.png")
    labels = [text.get_text() for axes in figure.axes for text in axes.get_yticklabels()]
    assert "0.6" in labels
    assert ".-" not in labels


def test_over_seeds_a_figure_has_a_mean_and_a_range_at_each_minute_that_any_has() -> None:
    from ddpg_robot.cli.online_result import spread

    minutes, mean, low, high = spread([[(2.0, 0.5), (4.0, 1.0)], [(2.0, 0.7)], []])
    assert minutes.tolist() == [2.0, 4.0]
    assert mean == pytest.approx([0.6, 1.0])
    assert low.tolist() == [0.5, 1.0]
    assert high.tolist() == [0.7, 1.0]
    assert spread([[]]).shape == (4, 0)


def test_equal_figures_have_a_mean_within_their_range() -> None:
    from ddpg_robot.cli.online_result import spread

    figures = np.random.default_rng(0).uniform(size=200)
    assert any(np.mean([one] * 3) != one for one in figures)
    _, mean, low, high = spread([list(enumerate(figures))] * 3)
    assert (low == high).all()
    assert (mean == low).all()


def test_what_is_kept_of_a_trial_are_windows_of_two_minutes() -> None:
    from ddpg_robot.cli.online_benchmark import KINDS
    from ddpg_robot.cli.online_result import compact

    rows = [{"minute": at, "success": at > 1, "final_error": 0.01 * at, "weights": "0" * 64} for at in (1, 2, 3)]
    kept = compact({"episodes": rows, "marks": {}, "trips": 0}, KINDS["point"])
    assert kept == {"marks": {}, "trips": 0, "robot": [[2.0, 0.5, 0.015]]}


def test_two_benchmarks_do_not_share_a_directory(tmp_path: Path) -> None:
    from ddpg_robot.cli.online_benchmark import Online
    from ddpg_robot.learn.rundir import locked

    with locked(tmp_path), pytest.raises(RunDirectoryError, match="in use by another process"):
        Online(run=tmp_path / "run", out=tmp_path, variants=("online",)).measure()
    with locked(tmp_path):
        pass


def test_a_policy_of_another_robot_is_refused_before_anything_moves(refused, tmp_path: Path) -> None:
    pytest.importorskip("rclpy")
    pytest.importorskip("mcap")
    from ddpg_robot.learn.config import TrainConfig
    from ddpg_robot.learn.rundir import RunDirectory
    from ddpg_robot.learn.tasks import open_task

    with open_task("ddpg_robot/ArmReach-v0", {}) as task:
        RunDirectory.prepare(TrainConfig("ddpg_robot/ArmReach-v0", out=tmp_path / "run"), task.describe())
    for words in (("learner", "run", "quadruped_walk_pd"), ("deploy", "quadruped_walk_pd", "--online", "run")):
        assert "expected those of run 'run', ['joint1', 'joint2'" in refused(*words)


def test_a_trial_says_how_far_it_is(capsys, monkeypatch) -> None:
    from ddpg_robot.cli.online_benchmark import _Progress

    monkeypatch.setattr(_Progress, "PLAIN_EVERY_S", 0.0)
    progress = _Progress("trial 2/15 (naive, seed 0)", 30.0)
    progress(0.0, 0.1)
    progress(10.0, 4.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("0.0/30 min of the robot, ETA unknown")
    assert lines[1] == "trial 2/15 (naive, seed 0): 10.0/30 min of the robot, ETA 8 min 0 s"


def test_versions_lists_every_version_and_verdict_by_time(call, tmp_path: Path) -> None:
    learner, robot, version = VersionStore(tmp_path / "a"), VersionStore(tmp_path / "b"), VersionId("0123abcd", 3)
    learner.add(version, "sent", step=0.0512345)
    robot.add(version, "drives")
    learner.add(version, "back", "it earns less")
    done = call("versions", "b", "a")
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert [line.split()[2:4] for line in lines] == [[str(version), event] for event in ("sent", "drives", "back")]
    assert "step=0.0512" in lines[0]
    assert "it earns less" in lines[2]
    listed = json.loads(call("versions", "--json", "a").stdout)
    assert [one["event"] for one in listed] == ["sent", "back"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("versions", "nowhere"), "no such directory"),
        (("learner", "nowhere", "arm_reach"), "run directory"),
        (("benchmark", "online", "nowhere", "--variants", "clever"), "frozen, naive, online"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(refused, words: tuple[str, ...], says: str) -> None:
    assert says in refused(*words)
