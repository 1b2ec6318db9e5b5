"""What the sub-commands print and leave behind when all is well."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

COMMANDS = (
    "demo",
    "train",
    "evaluate",
    "transfer",
    "export",
    "inspect",
    "verify",
    "deploy",
    "learner",
    "versions",
    "replay",
    "plant",
    "top",
    "doctor",
    "benchmark",
    "report",
)


def test_help_names_every_command_and_a_session(call) -> None:
    for words in ([], ["--help"]):
        done = call(*words)
        assert done.returncode == 0
        assert all(re.search(rf"• {name}\b", done.stdout) for name in COMMANDS), done.stdout
        assert "ddpg-robot train arm_reach --out" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_explains_its_options(call, command: str) -> None:
    done = call(command, "--help")
    assert done.returncode == 0
    assert "usage: ddpg-robot " + command in done.stdout


def test_help_and_version_load_no_heavy_room(call) -> None:
    done = call("--version")
    assert re.fullmatch(r"ddpg-robot \d+\.\d+\.\d+ \(Python 3\.\d+\.\d+, \w+ \w+\)\n", done.stdout)


def test_train_evaluate_and_resume_work_on_any_gymnasium_task(call, tmp_path: Path) -> None:
    train = ("train", "Pendulum-v1", "--steps", "400", "--set", "actor_hidden=[32,32]", "--set", "gamma=0.9")
    done = call(*train, "--out", "run")
    assert done.returncode == 0, done
    assert "steps/s" in done.stderr
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())["settings"]
    assert settings["agent"]["actor_hidden"] == [32, 32]
    assert settings["agent"]["gamma"] == 0.9
    done = call("evaluate", "run", "--episodes", "2", "--json", "--out", "evaluation.json")
    shown = json.loads(done.stdout)
    for key in ("success_rate", "within_5cm_rate", "final_error_median_m", "return_mean", "return_std", "episodes"):
        assert key in shown
    assert shown["episodes"] == 2
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["return_mean"] == shown["return_mean"]
    assert len(written["per_episode"]) == 2
    again = call("evaluate", "run", "--episodes", "2", "--json")
    assert json.loads(again.stdout) == shown
    assert call(*train, "--out", "run", "--resume").returncode == 0


def test_inspect_and_verify_read_a_policy_back(call, policy_file: Path) -> None:
    manifest = json.loads(call("inspect", policy_file, "--json").stdout)
    assert manifest["schema"] == "ddpg_robot.policy/1"
    page = call("inspect", policy_file).stdout
    for joint in manifest["robot"]["joints"]:
        assert joint["name"] in page
    done = call("verify", policy_file)
    assert done.returncode == 0
    assert "ok" in done.stdout


def test_evaluate_puts_a_policy_on_other_robots_and_keeps_what_they_were(call, tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    evaluate = ("evaluate", "arm_reach_pd", "--episodes", "2", "--out", "result.json")
    assert call(*evaluate).returncode == 0
    plain = json.loads((tmp_path / "result.json").read_text())["per_episode"]
    assert call(*evaluate, "--task-option", "randomization=default").returncode == 0
    drawn = json.loads((tmp_path / "result.json").read_text())["per_episode"]
    assert [row["target"] for row in drawn] == [row["target"] for row in plain]
    assert "randomization" not in plain[0]
    assert drawn[0]["randomization"]["payload"] > 0
    assert drawn[0]["randomization"] != drawn[1]["randomization"]


def test_a_randomised_run_says_from_what_its_robots_were_drawn(call, tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    pytest.importorskip("torch")
    words = ("train", "arm_reach", "--steps", "300", "--set", "actor_hidden=[8]", "--set", "critic_hidden=[8]")
    ranges = '{"payload": [0.5, 1.0], "curriculum": 0.5}'
    done = call(*words, "--task-option", f"randomization={ranges}", "--out", "run", "--eval-every", "1000000")
    assert done.returncode == 0, done
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())["settings"]
    assert settings["task_kwargs"]["randomization"] == json.loads(ranges)
    task = json.loads((tmp_path / "run" / "task.json").read_text())
    assert task["randomization"]["payload"] == [0.5, 1.0]
    assert task["randomization"]["link_mass"] == [1.0, 1.0]
    done = call("evaluate", "run", "--episodes", "1", "--json", "--task-option", "randomization=off")
    assert done.returncode == 0, done
