"""Other libraries' agents leave the same rows as ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddpg_robot.errors import ConfigError
from ddpg_robot.learn.config import TrainConfig
from ddpg_robot.learn.peers import PeerConfig, main, train_peer
from ddpg_robot.learn.rundir import RunDirectory
from ddpg_robot.learn.trainer import train

pytest.importorskip("stable_baselines3")
TINY = {"learning_starts": 50, "batch_size": 8, "policy_kwargs": {"net_arch": [8]}}


def config(out: Path, peer: str = "sb3_ddpg", **changes) -> PeerConfig:
    settings = {"steps": 700, "eval_every": 300, "eval_episodes": 2, "final_eval_episodes": 3, "log_every": 250}
    return PeerConfig("Pendulum-v1", preset=peer, out=out, **{**settings, "overrides": TINY, **changes})


def test_a_peer_is_evaluated_on_the_episodes_of_our_agents(tmp_path: Path) -> None:
    train_peer(config(tmp_path / "peer"))
    ours = {"actor_hidden": (8,), "critic_hidden": (8,), "batch_size": 8, "warmup_steps": 50}
    changes = {"steps": 700, "eval_every": 300, "eval_episodes": 2, "final_eval_episodes": 3, "overrides": ours}
    train(TrainConfig("Pendulum-v1", out=tmp_path / "ours", **changes))
    rows, our_rows = (
        [
            row
            for line in (tmp_path / name / "metrics.jsonl").open()
            if (row := json.loads(line))["kind"] == "evaluation"
        ]
        for name in ("peer", "ours")
    )
    assert [row["step"] for row in rows] == [row["step"] for row in our_rows] == [400, 600, 700]
    assert all(row.keys() == other.keys() for row, other in zip(rows, our_rows))
    episodes, our_episodes = (
        [row["seed"] for row in json.loads((tmp_path / name / "evaluation.json").read_text())["per_episode"]]
        for name in ("peer", "ours")
    )
    assert episodes == our_episodes


def test_an_interrupted_peer_starts_again_from_the_beginning(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    run.metrics_file.write_text('{"kind": "train", "step": 250}\n')
    main(json.dumps({"task": "Pendulum-v1", "preset": "sb3_td3", "steps": 100, "seed": 4, "out": str(run.path)}))
    assert [json.loads(line)["step"] for line in run.metrics_file.open()] == [100]
    settings = json.loads(run.settings_file.read_text())["settings"]
    assert (settings["peer"], settings["seed"]) == ("sb3_td3", 4)
    assert settings["agent"]["policy_delay"] == 2
    assert settings["agent"]["noise_sigma"] == 0.1


def test_unknown_peers_and_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"peer: found 'sb3_ppo'.*valid choices: sb3_ddpg, sb3_td3"):
        config(tmp_path, peer="sb3_ppo").settings()
    with pytest.raises(ConfigError, match=r"setting: found 'gama', expected an argument of DDPG"):
        config(tmp_path, overrides={"gama": 0.9}).settings()


def test_a_task_that_does_not_suit_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(json.dumps({"task": "CartPole-v1", "preset": "sb3_ddpg", "out": str(tmp_path / "run")}))
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: action space of task 'CartPole-v1'")
    assert not (tmp_path / "run").exists()
