"""Bad input ends in one clear line (found, expected, valid choices) and exit code 2, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from policy_factory import mutate

from ddpg_robot.policy import METADATA_KEY

Refused = Callable[..., str]
PENDULUM = ("train", "Pendulum-v1", "--steps", "300")


def test_an_unknown_task_lists_tasks_and_close_gymnasium_ids(refused: Refused) -> None:
    line = refused("train", "arm_reech")
    assert "found 'arm_reech'" in line
    assert "arm_reach" in line.partition("valid choices")[2]
    assert "Pendulum-v1" in refused("train", "Pendulm-v1")


def test_an_unknown_preset_lists_the_presets(refused: Refused) -> None:
    assert "(valid choices: ddpg, max, paper)" in refused(*PENDULUM, "--preset", "papr")


def test_an_unknown_algorithm_lists_the_algorithms_and_baselines_have_no_presets(refused: Refused) -> None:
    assert "q_sampling" in refused(*PENDULUM, "--algorithm", "sac").partition("valid choices: ddpg")[2]
    assert "presets are ddpg's" in refused(*PENDULUM, "--algorithm", "naf", "--preset", "paper")
    assert "memory_gb" in refused(*PENDULUM, "--algorithm", "dqn", "--set", "tau=1").partition("valid choices")[2]
    assert "action grid" in refused(*PENDULUM, "--algorithm", "dqn", "--set", "bins=99999999")


def test_an_unknown_hyperparameter_lists_those_there_are(refused: Refused) -> None:
    assert "found 'gama'" in refused(*PENDULUM, "--set", "gama=0.9")
    assert "gamma" in refused(*PENDULUM, "--set", "gama=0.9").partition("valid choices")[2]


def test_a_setting_of_the_wrong_type_or_range_is_named(refused: Refused) -> None:
    assert "setting gamma" in refused(*PENDULUM, "--set", "gamma=high")
    assert "gamma: found 7" in refused(*PENDULUM, "--set", "gamma=7")
    assert "expected key=value" in refused(*PENDULUM, "--set", "gamma")
    assert "steps: found -5" in refused("train", "Pendulum-v1", "--steps", "-5")
    assert "seed: found -1" in refused(*PENDULUM, "--seed", "-1")


def test_an_unknown_control_mode_or_task_option_is_refused(refused: Refused, call) -> None:
    assert "gravity" in refused("train", "arm_reach", "--task-option", "gravity=false")
    done = call("train", "arm_reach", "--control-mode", "velocity")
    assert done.returncode == 2
    assert "effort" in done.stderr


def test_a_task_without_continuous_actions_is_refused(refused: Refused) -> None:
    assert "expected a Box" in refused("train", "CartPole-v1")


def test_a_run_directory_that_exists_is_left_alone(refused: Refused, tmp_path: Path) -> None:
    precious = tmp_path / "run" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("do not touch")
    assert "exists" in refused(*PENDULUM, "--out", precious.parent)
    assert "settings.json" in refused(*PENDULUM, "--out", precious.parent, "--resume")
    assert precious.read_text() == "do not touch"
    assert [path.name for path in precious.parent.iterdir()] == ["thesis.txt"]


def test_resuming_with_another_seed_names_both(refused: Refused, call, tmp_path: Path) -> None:
    assert call(*PENDULUM, "--out", "run").returncode == 0
    assert "seed: found 0, expected 1" in refused(*PENDULUM, "--out", "run", "--seed", "1", "--resume")


@pytest.mark.skipif(sys.platform != "linux", reason="file size limits as a stand-in for a full disk")
def test_a_full_disk_while_checkpointing_keeps_the_run_and_resume_finishes_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ddpg_robot.cli", "train", "Pendulum-v1", "--steps", "1500", "--out", "run"]

    def small_disk() -> None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, preexec_fn=small_disk, check=False, timeout=120
    )
    assert done.returncode == 2, done
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: cannot write"), done.stderr
    assert "resume" in last
    again = subprocess.run([*command, "--resume"], cwd=tmp_path, capture_output=True, check=False, timeout=120)
    assert again.returncode == 0, again
    assert (tmp_path / "run" / "evaluation.json").exists()


def test_policies_that_cannot_be_trusted_are_refused_by_every_reader(
    refused: Refused, policy_file: Path, tmp_path: Path
) -> None:
    data = policy_file.read_bytes()

    def without_manifest(model: onnx.ModelProto) -> None:
        del model.metadata_props[:]

    def other_schema(model: onnx.ModelProto) -> None:
        entry = next(entry for entry in model.metadata_props if entry.key == METADATA_KEY)
        entry.value = json.dumps(json.loads(entry.value) | {"schema": "ddpg_robot.policy/99"})

    def changed_weight(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        weights = onnx.numpy_helper.to_array(tensor).copy()
        weights.flat[0] += 0.5
        tensor.CopyFrom(onnx.numpy_helper.from_array(weights, tensor.name))

    def nan(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        weights = np.full_like(onnx.numpy_helper.to_array(tensor), np.nan)
        tensor.CopyFrom(onnx.numpy_helper.from_array(weights, tensor.name))

    cases = {
        "truncated": (data[: len(data) // 2], "runcated"),
        "not_onnx": (b"#!/bin/sh\necho hello\n" * 20, "ONNX"),
        "empty": (b"", "ONNX"),
        "no_manifest": (mutate(data, without_manifest), "manifest: found none"),
        "other_schema": (mutate(data, other_schema), "expected 'ddpg_robot.policy/1'"),
        "changed_weight": (mutate(data, changed_weight, keep_hash=True), "weights_sha256"),
        "nan": (mutate(data, nan), "finite"),
    }
    for name, (content, says) in cases.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        line = refused("verify", path)
        assert f"{name}.onnx" in line, line
        assert says in line, line
    for command in ("inspect", "evaluate"):
        assert "changed_weight.onnx" in refused(command, tmp_path / "changed_weight.onnx")


def test_a_policy_that_is_not_there_is_named(refused: Refused) -> None:
    assert "missing.onnx: found nothing" in refused("verify", "missing.onnx")
    assert "shipped policy: found 'arm_reech'" in refused("inspect", "arm_reech")


def test_a_policy_for_another_robot_is_not_evaluated(refused: Refused, policy_file: Path) -> None:
    line = refused("evaluate", policy_file, "--task", "arm_reach")
    assert "robot.name of task" in line


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("mild", "valid choices: default, off, strong"),
        ('{"link_mass": [-1, 1]}', "link_mass: found (-1.0, 1.0)"),
        ('{"wind": [0, 1]}', "unknown key wind"),
    ],
)
def test_a_randomization_that_cannot_be_is_refused(refused: Refused, setting: str, complaint: str) -> None:
    pytest.importorskip("mujoco")
    for words in (("evaluate", "arm_reach_pd"), ("train", "arm_reach")):
        assert complaint in refused(*words, "--task-option", f"randomization={setting}")


def test_a_directory_that_is_no_run_is_neither_evaluated_nor_exported_nor_reported(
    refused: Refused, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for words in (("evaluate", "empty"), ("export", "empty", "--out", "a.onnx"), ("report", "empty")):
        assert "empty" in refused(*words)
    assert "nowhere" in refused("report", "nowhere")
    assert not (tmp_path / "a.onnx").exists()


@pytest.mark.parametrize(
    ("task", "complaint"),
    [
        ("Pendulum-v1", "found no MuJoCo model, expected a robot, or a Gymnasium MuJoCo task"),
        ("InvertedPendulum-v5", "found another at 'slider', expected torque motors on hinges"),
        ("Ant-v5", "Train with --task-option include_cfrc_ext_in_observation=false, as `train` does by itself"),
    ],
)
def test_a_gymnasium_task_without_a_robot_that_could_be_built_is_not_exported(
    call, refused: Refused, tmp_path: Path, task: str, complaint: str
) -> None:
    pytest.importorskip("mujoco")
    words = ("--steps", "60", "--final-eval-episodes", "1", "--task-option", "max_episode_steps=20", "--out", "run")
    assert call("train", task, *words, "--set", "warmup_steps=40", "--whole-observation").returncode == 0
    assert complaint in refused("export", "run", "--out", "a.onnx")
    assert not (tmp_path / "a.onnx").exists()


def test_a_gymnasium_robot_is_trained_for_export_by_its_id_alone(call, tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    words = ("--steps", "60", "--final-eval-episodes", "1", "--set", "warmup_steps=40", "--out", "run")
    trained = call("train", "Ant-v5", *words)
    assert "note: Ant-v5 without contact forces" in trained.stderr
    exported = call("export", "run", "--out", "a.onnx", "--samples", "400")
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "a.onnx").is_file()
    resumed = call("train", "Ant-v5", *words, "--resume")
    assert resumed.returncode == 0, resumed.stderr


@pytest.mark.ros
def test_a_rate_that_is_no_multiple_of_the_policys_is_refused(refused: Refused, policy_file: Path) -> None:
    pytest.importorskip("rclpy")
    line = refused("deploy", policy_file, "--no-plant", "--rate", "70")
    assert "found 70 Hz" in line
    assert "multiple" in line


def test_the_doctor_refuses_settings_and_descriptions_it_cannot_use(refused: Refused, tmp_path: Path) -> None:
    pytest.importorskip("rclpy")
    assert "expected more than 0, at most 600" in refused("doctor", "arm_reach", "--seconds", "0")
    assert "share: found 0.5" in refused("doctor", "arm_reach", "--effort-share", "0.5")
    assert "pulse: found nan" in refused("doctor", "arm_reach", "--pulse", "nan")
    assert "expected a file" in refused("doctor", "arm_reach", "--urdf", tmp_path / "none.urdf")
    (tmp_path / "robot.urdf").write_text("<!DOCTYPE robot []><robot/>")
    assert "document type" in refused("doctor", "arm_reach", "--urdf", tmp_path / "robot.urdf")
    assert "arm_reach_pd" in refused("doctor", "arm_reech").partition("valid choices")[2]


WITHOUT = """
import sys

class Hiding:  # an environment in which one package is not installed
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, *rest):
        return None if name.partition(".")[0] == {missing!r} else self.finder.find_spec(name, *rest)

sys.meta_path = [Hiding(finder) for finder in sys.meta_path]
from ddpg_robot.cli import main
main({words!r})
"""


@pytest.mark.parametrize(
    ("missing", "words", "extras"),
    [
        ("torch", ["train", "Pendulum-v1"], "train"),
        ("mujoco", ["train", "arm_reach"], "sim"),
        ("torch", ["export", "run", "--out", "a.onnx"], "export"),
        ("rclpy", ["deploy"], "ros"),
        ("scipy", ["identify", "bag.mcap"], "fit"),
        ("rclpy", ["doctor", "arm_reach"], "ros"),
    ],
)
def test_a_missing_extra_is_named_with_its_pip_line(missing: str, words: list[str], extras: str) -> None:
    program = WITHOUT.format(missing=missing, words=words)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1, done.stderr
    assert f'pip install "ddpg-robot[{extras}]"' in done.stderr


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write everywhere")
def test_a_place_that_may_not_be_written_is_named(refused: Refused, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "Permission denied" in refused(*PENDULUM, "--out", tmp_path / "run")
