"""A quadruped that learns beside its work: paid at every period, stood up when it falls, and measured by the same benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ros.robot import WAIT_S

from ddpg_robot.dry_run import dry_run
from ddpg_robot.policy import OnnxPolicy, read_manifest, shipped_policy
from ddpg_robot.recording import Mark, Recording
from ddpg_robot_ros.benchmark.online import OnlineTrial, run_online
from ddpg_robot_ros.models import find_model
from ddpg_robot_ros.plant import Plant

pytest.importorskip("torch")
pytest.importorskip("mcap")
pytestmark = pytest.mark.slow

SMALL = {"actor_hidden": [16], "critic_hidden": [16], "warmup_steps": 100, "batch_size": 32}
TICKS = 5


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import ddpg_robot_sim  # noqa: F401 - registers the task
    from ddpg_robot.learn.config import TrainConfig
    from ddpg_robot.learn.trainer import train
    from ddpg_robot_export.exporter import export_run

    out = tmp_path_factory.mktemp("run") / "walk"
    few = {"eval_every": 10_000, "eval_episodes": 1, "final_eval_episodes": 1}
    kwargs = {"control_mode": "pd", "commands": "omni"}
    train(TrainConfig("ddpg_robot/QuadrupedWalk-v0", kwargs, steps=300, out=out, overrides=SMALL, **few))
    export_run(out, out / "walk.onnx", samples=200)
    return out


def weak_robot() -> str:
    """One that its motors cannot carry, JSON."""
    from ddpg_robot_sim.quadruped_walk import QuadrupedWalk

    ranges = {"payload": (3.0, 3.0), "motor_strength": (0.2, 0.2)}
    _, info = QuadrupedWalk("pd", "omni", randomization=ranges).reset(seed=0)
    return json.dumps(info["randomization"])


def recorded(folder: Path) -> np.ndarray:
    parts = []
    for path in folder.glob("*.mcap"):
        with Recording(path) as recording:
            parts += list(recording.blocks())
    rows = np.concatenate(parts)
    return rows[np.argsort(rows["tick"], kind="stable")]


def received(learner: Path) -> int:
    """Transitions that were learnt from."""
    (checkpoint,) = (learner / "checkpoint").glob("step-*")
    return int(json.loads((checkpoint / "state.json").read_text())["received"])


def test_a_robot_that_falls_is_paid_what_its_physics_earn_stood_up_and_learnt_from(run: Path, tmp_path: Path) -> None:
    policy, draw = run / "walk.onnx", weak_robot()
    learner = ("-m", "ddpg_robot.cli", "learner", str(run), str(policy), "--out", str(tmp_path / "learner"))
    trial = OnlineTrial(policy, draw, 0.15, 0, tmp_path, (*learner, "--ratio", "0.1"))
    found = run_online(trial)
    assert found["complete"]
    assert found["rearms"] > 2
    assert found["episodes"]
    assert not any(one["success"] for one in found["episodes"])
    assert found["largest_effort"] <= 1.0
    with np.load(tmp_path / "record" / "truth.npz") as truth:
        height = truth["height"][:, 1]
    assert (height < 0.15).any()
    assert ((height[1:] > 0.25) & (height[:-1] < 0.16)).sum() > 2  # and up again
    rows = recorded(tmp_path / "record")
    assert found["trips"] + (rows["mark"] == Mark.FAILURE).sum() >= found["rearms"] // 2  # one may be asked for twice
    assert np.nanmin(rows["reward"]) < -3.0  # it pays for falls
    assert received(tmp_path / "learner") > 20
    replayed = replay(rows, Plant(find_model("quadruped_walk"), draw=json.loads(draw)), policy)
    assert replayed > 10


def test_a_policy_that_walks_asks_in_shadow_for_what_it_asked_for(tmp_path: Path) -> None:
    policy = shipped_policy("quadruped_walk_pd")
    found = run_online(OnlineTrial(policy, "", 0.12, 0, tmp_path))
    assert [one["success"] for one in found["episodes"]] == [True]
    assert found["episodes"][0]["speed_error"] < 0.4
    rows = recorded(tmp_path / "record")
    # Its gait's clock is the recording's, and it runs at the very same ticks: without either it is 0.27 away from itself.
    same = dry_run(OnnxPolicy.open(policy), rows, 250.0, 0.03)
    assert same.passed, same
    assert same.ticks > 1000


def replay(rows: np.ndarray, plant: Plant, policy: Path) -> int:
    """Repeats on a plant what was recorded, episode by episode; how many rewards were those that it earned."""
    judge = plant.walk_judge(read_manifest(policy).interface)
    plant.place([], [])
    starts = np.flatnonzero((rows["position"] == plant.position).all(axis=1) & (rows["velocity"] == 0).all(axis=1))
    same = 0
    for start in starts[starts > 0]:
        plant.place([], [])
        feet, effort = [judge.feet], [rows["applied_effort"][start - 1]]
        for before, now in zip(rows[start:], rows[start + 1 :]):
            plant.command(before["applied_effort"])
            plant.advance(0.004)
            if not np.array_equal(plant.position, now["position"]):
                break  # it was put elsewhere
            feet.append(judge.feet)
            effort.append(before["applied_effort"])
            if now["phase"] == 1 and np.isfinite(now["reward"]) and len(feet) > TICKS and not now["tripped"]:
                earned = judge.reward(now["command"], effort[-1], effort[-1 - TICKS], feet[-1 - TICKS], judge.fallen)
                assert now["reward"] == earned
                same += 1
    return same


def ddpg_robot(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ddpg_robot.cli", *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=4 * WAIT_S, check=False)


def test_the_benchmark_of_arms_measures_legs_too(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    words = ("--out", "out", "--minutes", 0.15, "--episodes", 1, "--variants", "frozen", "--payload", 1.0)
    done = ddpg_robot(tmp_path, "benchmark", "online", run, *words)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["settings"]["payload"], result["settings"]["friction"]) == (1.0, 1.0)
    (found,) = result["variants"]["frozen"]
    assert found["complete"]
    assert set(found["marks"]["0"]) == {"success_rate", "speed_error_m_s", "return_mean", "limit_hit_rate"}
    assert (tmp_path / "out" / "result.png").read_bytes().startswith(b"\x89PNG")
    assert "m/s" in done.stdout


def test_a_deployment_that_learns_to_walk_is_paid_by_its_plant(run: Path, tmp_path: Path) -> None:
    patient = dict.fromkeys(("state_timeout_periods", "stall_periods", "guard_timeout_periods"), 100.0)
    (tmp_path / "patient.yaml").write_text(
        json.dumps({"/**/policy_node": {"ros__parameters": patient}})
    )  # JSON is YAML
    words = ("--online", run, "--record", "out", "--params-file", "patient.yaml", "--duration", 25)
    done = ddpg_robot(tmp_path, "deploy", run / "walk.onnx", *words)
    assert done.returncode == 0, done.stderr
    assert received(tmp_path / "out" / "learner") > 100


def test_legs_do_not_learn_from_scratch(run: Path, tmp_path: Path) -> None:
    done = ddpg_robot(tmp_path, "benchmark", "online", run, "--variants", "scratch")
    assert done.returncode == 2
    assert (
        done.stderr
        == "error: variant for this robot: found scratch, expected one that makes sense (valid choices: frozen, naive, online)\n"
    )
