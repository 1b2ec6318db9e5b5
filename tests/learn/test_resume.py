"""Real trainings in processes of their own: killed, interrupted, out of disk, resumed."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ddpg_robot.errors import CheckpointError, RunDirectoryError
from ddpg_robot.learn.checkpoint import CheckpointStore, read_tensors
from ddpg_robot.learn.config import TrainConfig
from ddpg_robot.learn.rundir import RunDirectory
from ddpg_robot.learn.trainer import train

# The replay is smaller than the training, so that its ring wraps and old files on disk are dropped.
PROGRAM = """
import sys
from pathlib import Path
from ddpg_robot.errors import DdpgRobotError
from ddpg_robot.learn.config import TrainConfig
from ddpg_robot.learn.trainer import train
overrides = dict(actor_hidden=(16, 16), critic_hidden=(16, 16), batch_size=16, warmup_steps=200, replay_capacity=1000)
try:
    train(TrainConfig(task="learn_envs:learn_test/Drift-v0", preset=sys.argv[2], steps=int(sys.argv[4]), seed=5,
        envs=int(sys.argv[5]), out=Path(sys.argv[1]), resume=True, overrides=overrides, checkpoint_every_s=float(sys.argv[3]),
        eval_every=500, eval_episodes=2, final_eval_episodes=4, log_every=300))
except DdpgRobotError as error:
    sys.exit(f"error: {error}")
"""
STEPS = 2000


def start(out: Path, environment: dict, preset="ddpg", every_s=0.0, steps=STEPS, envs=1) -> subprocess.Popen:
    command = [sys.executable, "-c", PROGRAM, str(out), preset, str(every_s), str(steps), str(envs)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    try:
        _, errors = process.communicate(timeout=250)
    finally:
        process.kill()
    return process.returncode, errors


def wait_for_checkpoint(out: Path, process: subprocess.Popen) -> None:
    while CheckpointStore(out / "checkpoint").latest() is None:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


def final_state(out: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """All tensors, the replay's rows, and the rest of the state but for the times."""
    latest = CheckpointStore(out / "checkpoint").latest()
    tensors = read_tensors(latest / "agent.safetensors")
    state = json.loads((latest / "state.json").read_text())
    chunks = state["replay"].pop("chunks")
    files = [out / "checkpoint" / "replay" / f"rows-{first:012d}-{last:012d}.safetensors" for first, last in chunks]
    tensors["replay"] = torch.cat([read_tensors(file)["rows"] for file in files])[-1000:]
    tensors |= {f"best.{name}": tensor for name, tensor in read_tensors(out / "best" / "actor.safetensors").items()}
    del state["elapsed_s"]
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    state["metrics"] = [{k: v for k, v in row.items() if k not in ("time_s", "steps_per_s")} for row in rows]
    state["evaluation"] = json.loads((out / "evaluation.json").read_text())
    return tensors, state


@pytest.mark.parametrize(("preset", "envs", "kills"), [("ddpg", 1, 2), ("paper", 1, 1), ("max", 3, 1)])
def test_killed_training_resumes_bit_for_bit(tmp_path, subprocess_environment, preset, envs, kills):
    whole = start(tmp_path / "whole", subprocess_environment, preset, every_s=1e9, envs=envs)
    killed_at = []
    for _ in range(kills):
        process = start(tmp_path / "killed", subprocess_environment, preset, every_s=0.05, envs=envs)
        wait_for_checkpoint(tmp_path / "killed", process)
        time.sleep(int.from_bytes(os.urandom(1), "big") / 255)
        process.send_signal(signal.SIGKILL)
        code, errors = finish(process)
        killed_at.append((CheckpointStore(tmp_path / "killed" / "checkpoint").latest().name, code))
        assert code in (-signal.SIGKILL, 0), errors
    assert finish(start(tmp_path / "killed", subprocess_environment, preset, envs=envs))[0] == 0
    assert finish(whole)[0] == 0
    assert not list((tmp_path / "killed").rglob(".*.tmp"))
    tensors, state = final_state(tmp_path / "killed")
    expected_tensors, expected_state = final_state(tmp_path / "whole")
    assert state == expected_state, killed_at
    assert tensors.keys() == expected_tensors.keys()
    for name, tensor in expected_tensors.items():
        assert torch.equal(tensors[name], tensor), (name, killed_at)


def test_ctrl_c_saves_and_ends_with_130(tmp_path, subprocess_environment):
    process = start(tmp_path / "run", subprocess_environment, every_s=1e9, steps=10**6)
    while not (tmp_path / "run" / "metrics.jsonl").is_file() or not (tmp_path / "run" / "metrics.jsonl").read_text():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    code, errors = finish(process)
    assert code == 130
    assert "Traceback" not in errors
    assert CheckpointStore(tmp_path / "run" / "checkpoint").latest() is not None


def test_a_second_signal_ends_at_once_and_the_last_checkpoint_stays(tmp_path, subprocess_environment):
    out = tmp_path / "run"
    process = start(out, subprocess_environment, every_s=0.5, steps=10**6)
    wait_for_checkpoint(out, process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    code, errors = finish(process)
    assert code == 130
    assert "Traceback" not in errors
    assert read_tensors(CheckpointStore(out / "checkpoint").latest() / "agent.safetensors")


def check_survives_failed_writing(out: Path, process: subprocess.Popen) -> None:
    code, errors = finish(process)
    assert code == 1
    lines = [line for line in errors.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, errors
    assert "cannot write" in lines[0]
    assert "Traceback" not in errors
    assert not list(out.rglob(".*.tmp"))
    latest = CheckpointStore(out / "checkpoint").latest()
    assert read_tensors(latest / "agent.safetensors")
    for first, last in json.loads((latest / "state.json").read_text())["replay"]["chunks"]:
        rows = read_tensors(out / "checkpoint" / "replay" / f"rows-{first:012d}-{last:012d}.safetensors")["rows"]
        assert len(rows) == last - first


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 2 MB; None where this user may not mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        yield None
        return
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_full_disk_leaves_the_last_checkpoint_intact_and_resumes(tmp_path, small_disk, subprocess_environment):
    out = (small_disk or tmp_path) / "run"
    process = start(out, subprocess_environment)
    wait_for_checkpoint(out, process)
    if small_disk is None:  # the nearest thing without root: files may no longer grow beyond 1 kB
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, 1000))
    else:
        with (small_disk / "ballast").open("wb", buffering=0) as ballast, pytest.raises(OSError, match="No space left"):
            while True:
                ballast.write(bytes(4096))
    check_survives_failed_writing(out, process)
    if small_disk is not None:
        (small_disk / "ballast").unlink()
    assert finish(start(out, subprocess_environment, every_s=1e9))[0] == 0


def tiny(out: Path, **changes) -> TrainConfig:
    overrides = {"actor_hidden": (8,), "critic_hidden": (8,), "batch_size": 8, "warmup_steps": 50}
    settings = {"task": "learn_envs:learn_test/Drift-v0", "steps": 120, "overrides": overrides, "out": out}
    settings |= {"eval_every": 60, "eval_episodes": 1, "final_eval_episodes": 2}
    return TrainConfig(**{**settings, **changes})


def test_existing_run_directory_is_refused_and_left_alone(tmp_path):
    out = train(tiny(tmp_path / "run"))
    before = sorted((file, file.stat().st_mtime_ns) for file in out.rglob("*"))
    with pytest.raises(RunDirectoryError, match=r"run directory: found .* exists, expected a new path"):
        train(tiny(out))
    assert sorted((file, file.stat().st_mtime_ns) for file in out.rglob("*")) == before


def test_directory_that_is_no_run_is_not_resumed(tmp_path):
    (tmp_path / "notes.txt").write_text("precious")
    with pytest.raises(RunDirectoryError, match="expected a training run"):
        train(tiny(tmp_path, resume=True))
    assert (tmp_path / "notes.txt").read_text() == "precious"


def test_resuming_with_other_settings_names_them(tmp_path):
    out = train(tiny(tmp_path / "run"))
    with pytest.raises(CheckpointError, match=r"agent.gamma: found 0.99, expected 0.5; steps: found 120, expected 130"):
        train(tiny(out, resume=True, steps=130, overrides={**tiny(out).overrides, "gamma": 0.5}))


def test_resuming_a_finished_run_returns_at_once(tmp_path):
    out = train(tiny(tmp_path / "run"))
    metrics = (out / "metrics.jsonl").read_text()
    assert train(tiny(out, resume=True)) == out
    assert (out / "metrics.jsonl").read_text() == metrics


def test_a_run_that_goes_on_elsewhere_is_not_resumed_beside_it(tmp_path, subprocess_environment):
    out = tmp_path / "run"
    first = start(out, subprocess_environment, steps=50_000)
    wait_for_checkpoint(out, first)
    code, errors = finish(start(out, subprocess_environment, steps=50_000))
    assert code == 1, errors
    assert "in use by another process, expected a free one" in errors
    assert first.poll() is None
    first.send_signal(signal.SIGINT)
    assert finish(first)[0] == 130


def test_damaged_checkpoint_is_named(tmp_path):
    out = train(tiny(tmp_path / "run"))
    file = CheckpointStore(RunDirectory(out).checkpoints).latest() / "agent.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    (out / "evaluation.json").unlink()
    with pytest.raises(CheckpointError, match=r"agent.safetensors.*unreadable"):
        train(tiny(out, resume=True))
