"""`ddpg-robot transfer`: a policy on robots that differ, as numbers and as a page."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from ddpg_robot.cli.terminal import EpisodeProgress
from ddpg_robot.cli.transfer import Bench, failing, scores
from ddpg_robot.report.transfer import heat_map, transfer_page
from ddpg_robot_sim.changes import stressed


def test_a_shipped_policy_is_measured_beside_another_a_reference_and_chance(call, tmp_path: Path) -> None:
    words = ("--beside", "arm_reach", "--episodes", 1, "--cell-episodes", 0, "--no-film", "--out", "found")
    done = call("transfer", "arm_reach", *words)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found" / "transfer.json").read_text())
    stress = found["stress"]
    assert set(stress) == {"policy", "beside", "reference", "random"}
    assert stress["policy"] == stress["beside"]  # the same one, on the same episodes
    assert stress["policy"]["nominal"]["success_rate"] == 1.0
    assert stress["reference"]["together"]["success_rate"] == 1.0
    assert stress["random"]["nominal"]["success_rate"] == 0.0
    assert found["scores"]["policy"]["nominal"] > 0.9
    page = (tmp_path / "found" / "transfer.html").read_text()
    assert "beside it: arm_reach" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize("name", ["arm_reach_robust", "arm_reach_pd_robust"])
def test_a_robust_policy_reaches_its_targets_under_the_whole_stress(name: str) -> None:
    result = Bench(name, None, {}, seed=100).run(stressed(), episodes=5)
    assert result["success_rate"] >= 0.8


def test_the_progress_of_a_transfer_ends_with_its_last_episode(monkeypatch, capsys) -> None:
    def run(bench: Bench, ranges: object, episodes: int, actor: object = None) -> dict:
        for episode in range(episodes):
            bench._tell(episode + 1, episodes)
        return {"success_rate": 1.0, "return_mean": 1.0}

    monkeypatch.setattr(Bench, "run", run)
    monkeypatch.setattr(EpisodeProgress, "PLAIN_EVERY_S", 0.0)
    Bench("arm_reach", None, {}, seed=100).measure(episodes=3, cell_episodes=2, beside="arm_reach")
    lines = capsys.readouterr().err.splitlines()
    everything = len(lines)
    assert lines[0].startswith(f"episode 1/{everything}, ETA ")
    assert lines[-1] == f"episode {everything}/{everything}, ETA 0 s"


@pytest.mark.parametrize("words", [("--episodes", 0), ("--task", "Pendulum-v1"), ("--task-option", "wind=1")])
def test_what_cannot_be_measured_is_refused(refused, words: tuple) -> None:
    refused("transfer", "arm_reach", *words)


def test_a_run_directory_cannot_be_driven_over_ros(refused, tmp_path: Path) -> None:
    assert "export the run" in refused("transfer", tmp_path, "--ros", 1)


def test_the_first_failing_level_is_the_nearest_on_either_side() -> None:
    levels, rates = (0.7, 0.8, 1.0, 1.2, 1.3), [0.0, 0.5, 1.0, 0.95, 0.2]
    assert failing(levels, rates, 1.0, 0.9) == {"below": 0.8, "above": 1.3}
    assert failing(levels, [1.0] * 5, 1.0, 0.9) == {"below": None, "above": None}


def test_a_score_is_zero_for_chance_and_one_for_the_reference() -> None:
    def rows(value: float) -> dict:
        return {"nominal": {"return_mean": value, "success_rate": float(value > 0)}}

    stress = {"policy": rows(5.0), "beside": rows(-2.0), "reference": rows(8.0), "random": rows(-2.0)}
    assert scores(stress) == {"policy": {"nominal": 0.7}, "beside": {"nominal": 0.0}}
    assert scores({"policy": rows(5.0), "random": rows(0.0)}) == {}


def test_there_is_no_score_where_the_reference_itself_fails() -> None:
    fallen = {"together": {"return_mean": 0.5, "success_rate": 0.0}}
    walks = {"together": {"return_mean": 3.0, "success_rate": 0.0}}
    assert scores({"policy": walks, "reference": fallen, "random": fallen})["policy"]["together"] is None


LEVELS = {"xs": [0.8, 1.2], "ys": [0.5, 2], "success_rate": [[1.0, 0.85], [0.95, 0.0]]}
GRID = {"who": "policy", "x": "mass", "y": "friction", **LEVELS}


def test_a_heat_map_rings_the_cells_under_the_bar_and_says_each_one() -> None:
    root = ElementTree.fromstring(heat_map(GRID, 0.9))
    cells = [node for node in root if node.tag == "rect"]
    assert [node.get("class") for node in cells] == ["cell", "cell low", "cell", "cell low"]
    assert cells[0][0].text == "mass 0.8, friction 2: 95 %"  # the largest y on top
    assert cells[3][0].text == "mass 1.2, friction 0.5: 85 %"


def test_the_page_of_a_whole_measurement_has_every_part() -> None:
    row = {"success_rate": 1.0, "return_mean": 2.0}
    axis = {"words": "mass", "unit": "factor", "levels": [0.8, 1.0], "success_rate": [0.5, 1.0]}
    found = {
        "policy": "mine", "beside": None, "task": "ddpg_robot/ArmReach-v0", "control_mode": "pd", "seed": 21,
        "episodes": 3, "cell_episodes": 2, "kept": 1.0, "scores": {"policy": {"nominal": 0.8, "together": 0.7}},
        "stress": {"policy": {"nominal": row, "together": row}},
        "axes": {"mass": {**axis, "first_failing": {"below": 0.8, "above": None}}}, "grids": [GRID],
    }  # fmt: skip
    page = transfer_page(found, [("<img alt='x'>", "A success"), ("", "No films: no GL.")])
    for words in ("Where it fails first", "One at a time", "mine: mass and friction", "A success", "No films: no GL."):
        assert words in page
