"""A robot of one's own from the command line: a task file, then every sub-command takes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from own_robots import SERVOS, mjcf, urdf, write

pytest.importorskip("mujoco")
Refused = Callable[..., str]


def test_new_robot_writes_a_file_that_says_what_to_do_next_and_keeps_one_that_exists(
    call, refused: Refused, tmp_path: Path
) -> None:
    write(tmp_path, urdf(), "three.urdf")
    done = call("new-robot", "three.urdf", "--end-effector", "tool0")
    assert done.returncode == 0, done.stderr
    assert "ddpg-robot train three.toml" in done.stdout
    text = (tmp_path / "three.toml").read_text()
    assert 'model = "three.urdf"' in text
    assert "three.toml exists" in refused("new-robot", "three.urdf", "--end-effector", "tool0")
    assert (tmp_path / "three.toml").read_text() == text


def test_a_model_that_cannot_be_used_ends_in_one_line(refused: Refused, tmp_path: Path) -> None:
    write(tmp_path, mjcf(SERVOS))
    assert "--actuators motor" in refused("new-robot", "three.xml", "--end-effector", "tool")
    assert "valid choices: body forearm" in refused(
        "new-robot", "three.xml", "--end-effector", "grip", "--actuators", "motor"
    )
    assert "nothing at" in refused("new-robot", "none.xml", "--end-effector", "tool")
    assert "suffix .toml" in refused("new-robot", "three.xml", "--end-effector", "tool", "--out", "three.yaml")
    assert not list(tmp_path.glob("*.toml"))


def test_a_task_file_that_cannot_be_used_ends_in_one_line(refused: Refused, tmp_path: Path) -> None:
    assert "task file: found nothing at none.toml" in refused("train", "none.toml")
    (tmp_path / "bad.toml").write_text("name = ")
    assert "task file bad.toml: found" in refused("train", "bad.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe\x00")
    assert "expected TOML" in refused("train", "bad.toml")
    (tmp_path / "bad.toml").write_text("x = " + "[" * 10_000)
    assert "expected TOML" in refused("train", "bad.toml")
    (tmp_path / "bad.toml").write_text('name = "three"')
    assert "found no model" in refused("train", "bad.toml")
    assert "task file: found nothing" in refused("deploy", "arm_reach", "--robot", "none.toml")


@pytest.mark.slow
@pytest.mark.train
@pytest.mark.timeout(900)  # a dozen processes
def test_every_sub_command_takes_a_robot_of_ones_own(call, refused: Refused, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    write(tmp_path, mjcf())
    assert call("new-robot", "three.xml", "--end-effector", "tool", "--out", "robots/three.toml").returncode == 0
    task = "robots/three.toml"
    short = ("--steps", "400", "--eval-every", "400", "--eval-episodes", "1", "--final-eval-episodes", "1")
    done = call("train", task, *short)
    assert done.returncode == 0, done.stderr
    run = "runs/three-seed0"
    assert call("evaluate", run, "--episodes", "1").returncode == 0
    assert call("export", run, "--out", "three.onnx", "--samples", "10000").returncode == 0
    shown = json.loads(call("inspect", "three.onnx", "--json").stdout)
    assert shown["training"]["robot_file"]["joints.effort_limit.0"] == 20.0
    assert shown["training"]["robot_file"]["model"] == "three.xml"  # the name alone, not where it is on this machine
    assert str(tmp_path) not in json.dumps(shown)
    assert "task file   three, model three.xml" in call("inspect", "three.onnx").stdout
    assert call("verify", "three.onnx").returncode == 0
    assert call("evaluate", "three.onnx", "--task", task, "--episodes", "1").returncode == 0
    assert "--task FILE.toml" in refused("evaluate", "three.onnx", "--episodes", "1")
    assert call("report", run).returncode == 0

    changed = (tmp_path / task).read_text().replace("effort_limit = [20.0", "effort_limit = [19.0")
    (tmp_path / task).write_text(changed)
    assert "effort_limit" in refused("evaluate", "three.onnx", "--task", task, "--episodes", "1")
    line = refused("train", task, *short, "--resume")
    assert "robot.joints.effort_limit" in line
    pytest.importorskip("rclpy")
    assert "--robot FILE.toml" in refused("deploy", "three.onnx")
    assert "effort_limit of robots/three.toml: found 19.0" in refused("deploy", "three.onnx", "--robot", task)
