"""Training and evaluation end to end, in this process."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import learn_envs
import numpy as np
import pytest

from ddpg_robot.errors import CheckpointError, ConfigError, RunDirectoryError, TrainingError
from ddpg_robot.learn.checkpoint import CheckpointStore, load_actor, load_policy, read_tensors
from ddpg_robot.learn.config import TrainConfig, resolve_agent
from ddpg_robot.learn.evaluate import evaluate
from ddpg_robot.learn.replay import Replay
from ddpg_robot.learn.rollout import Rollout
from ddpg_robot.learn.tasks import LONGEST_EPISODE, episode_seed, open_task
from ddpg_robot.learn.trainer import score, train

DRIFT = "learn_test/Drift-v0"
SPACES = "learn_test/Spaces-v0"
TINY = {"actor_hidden": (8,), "critic_hidden": (8,), "batch_size": 8, "warmup_steps": 50}


def config(out: Path, task: str = DRIFT, **changes) -> TrainConfig:
    settings = {"steps": 400, "overrides": TINY, "eval_every": 100, "eval_episodes": 2, "final_eval_episodes": 3}
    return TrainConfig(task=task, out=out, **{**settings, "log_every": 100, **changes})


def test_pendulum_learns_to_swing_up(tmp_path):
    overrides = {"actor_hidden": (64, 64), "critic_hidden": (64, 64), "batch_size": 64, "warmup_steps": 500}
    overrides |= {"actor_lr": 1e-3, "critic_lr": 1e-3, "lr_final_fraction": 1.0}
    overrides |= {"noise_sigma": 0.2, "noise_sigma_final": 0.2}
    out = train(config(tmp_path / "run", "Pendulum-v1", steps=3000, overrides=overrides, eval_every=1500))
    # A random policy gets about -1200, the best possible is about -150.
    assert json.loads((out / "evaluation.json").read_text())["return_mean"] > -700


def test_a_run_leaves_the_files_that_it_promises(tmp_path):
    out = train(config(tmp_path / "run"))
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "train"] == [100, 200, 300, 400]
    assert len([row for row in rows if row["kind"] == "evaluation"]) == 4
    assert {"return", "success", "steps_per_s", "critic_loss", "actor_loss", "q_mean"} <= rows[-2].keys()
    assert len(list((out / "tensorboard").iterdir())) == 1
    settings = json.loads((out / "settings.json").read_text())
    assert settings["settings"]["task"] == DRIFT
    assert len(settings["config_hash"]) == 64
    task = json.loads((out / "task.json").read_text())
    assert (task["observation_size"], task["action_size"], task["interface"]) == (2, 1, None)
    evaluation = json.loads((out / "evaluation.json").read_text())
    assert evaluation["episodes"] == len(evaluation["per_episode"]) == 3


def test_a_task_that_grows_harder_is_told_how_far_the_training_is_and_evaluated_at_its_hardest(tmp_path):
    learn_envs.Harder.told.clear()
    train(config(tmp_path / "run", "learn_test/Harder-v0", steps=200, eval_every=10**6))
    told = learn_envs.Harder.told
    learning, final = told[:-3], told[-3:]  # final_eval_episodes
    assert learning[0] == 0.0
    assert learning == sorted(learning)
    assert 0.7 < learning[-1] < 1.0
    assert set(final) == {1.0}


@pytest.mark.parametrize(("weight", "low", "high"), [(5.0, 0.4, 0.9), (0.0, -1.01, -0.4)])
def test_an_actor_does_as_the_teacher_of_its_task_where_it_is_told_to(tmp_path, weight, low, high):
    overrides = {
        "teacher_weight": weight,
        "teacher_weight_final": weight,
        "actor_averaging": 1.0,
        "actor_lr": 5e-3,
        "critic_lr": 5e-3,
        "batch_size": 64,
        "replay_recency": 1.0,  # 350 updates: the teacher's part of them should not depend on it
        "warmup_steps": 50,
    }
    overrides |= {"actor_hidden": (32,), "critic_hidden": (64,)}
    train(config(tmp_path / "run", "learn_test/Taught-v0", overrides=overrides))
    act = load_policy(tmp_path / "run").act
    assert all(low < act(np.array([position, 0.5], np.float32))[0] < high for position in (-1.0, 0.0, 1.0))


def test_the_teacher_acts_during_the_warm_up_and_is_asked_in_every_state():
    settings = resolve_agent("ddpg", {**TINY, "teacher_weight": 1.0})
    with open_task("learn_test/Taught-v0") as task:
        rollout = Rollout(task, settings, np.random.default_rng(0), np.random.default_rng(1))
        replay = Replay(10, 2, 1, 4, taught=True)
        rollout.reset(seed=0, episode=0, progress=0.0)
        assert rollout.teach() == pytest.approx([0.6])
        rollout.step(np.array([-0.2]), replay)
    batch = replay.sample(np.random.default_rng(0))
    assert batch.action.numpy() == pytest.approx(-0.2)
    assert batch.teacher_action.numpy() == pytest.approx(0.6)


def test_nobody_is_asked_in_a_task_without_a_teacher():
    settings = resolve_agent("ddpg", {**TINY, "teacher_weight": 1.0})
    with open_task(DRIFT) as task:
        rollout = Rollout(task, settings, np.random.default_rng(0), np.random.default_rng(1))
        rollout.reset(seed=0, episode=0, progress=0.0)
        assert rollout.teach() is None


def test_a_training_leaves_the_processs_arithmetic_as_it_was(tmp_path):
    train(config(tmp_path / "run", steps=60))
    assert np.float32(1e-39) * np.float32(1.0) > 0


@pytest.mark.parametrize(("envs", "rate", "updates"), [(1, 1.0, 350), (1, 0.25, 88), (5, 0.25, 88), (5, 2.0, 700)])
def test_environments_take_turns_and_updates_keep_their_rate(tmp_path, envs, rate, updates):
    out = train(config(tmp_path / "run", envs=envs, overrides={**TINY, "warmup_steps": 50, "updates_per_step": rate}))
    latest = CheckpointStore(out / "checkpoint").latest()
    state = json.loads((latest / "state.json").read_text())
    assert state["step"] == 400
    assert int(read_tensors(latest / "agent.safetensors")["agent.updates"]) == updates
    rows = read_tensors(next((out / "checkpoint" / "replay").iterdir()))["rows"]
    step = rows[:, 1]  # the observation's second number: steps / 30
    assert (step[: envs + 1] == 0).tolist() == [True] * envs + [False]
    starts = rows[step == 0, 0].tolist()
    assert envs < len(starts) == len(set(starts)) == state["episode"]  # every episode has a seed of its own


@pytest.mark.parametrize("final", [1.0, 9.0])
def test_new_transitions_are_drawn_more_and_more_often_over_a_training(tmp_path, monkeypatch, final):
    sample, asked = Replay.sample, []

    def noted(self, rng, recency=None):
        asked.append(recency)
        return sample(self, rng, recency)

    monkeypatch.setattr(Replay, "sample", noted)
    train(config(tmp_path / "run", steps=100, overrides={**TINY, "warmup_steps": 49, "replay_recency": final}))
    assert asked == pytest.approx([final ** (step / 100) for step in range(50, 101)], rel=1e-12)


def test_tensorboard_reads_the_curves(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = train(config(tmp_path / "run"))
    events = EventAccumulator(str(out / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/return")] == [100, 200, 300, 400]
    assert events.Scalars("evaluation/return_mean")


def test_loaded_actors_act_as_they_were_evaluated(tmp_path):
    out = train(config(tmp_path / "run"))
    evaluation = json.loads((out / "evaluation.json").read_text())
    actor = load_actor(out, "best")
    again = evaluate(actor.act, DRIFT, {}, 3, evaluation["seed"])
    assert again["per_episode"] == evaluation["per_episode"]
    assert actor.steps == evaluation["step"]
    assert load_actor(out, "last").steps == 400
    assert not actor.actor.training


def test_loading_from_nothing_says_so(tmp_path):
    with pytest.raises(RunDirectoryError, match=r"without settings.json, expected a training run"):
        load_actor(tmp_path)
    out = train(config(tmp_path / "run"))
    with pytest.raises(ConfigError, match="valid choices: best, last"):
        load_actor(out, "worst")
    (out / "best" / "actor.safetensors").write_bytes(b"not tensors")
    with pytest.raises(CheckpointError, match="unreadable"):
        load_actor(out)


def test_action_boxes_are_rescaled_both_ways():
    with open_task(DRIFT, {"low": -3.0, "high": 7.0}) as task:
        task.reset(0)
        for action in (-1.0, 0.0, 1.0):
            task.step(np.array([action]))
        assert task.env.unwrapped.actions == [-3.0, 2.0, 7.0]
        description = task.describe()
    assert (description["action_offset"], description["action_scale"]) == ([2.0], [5.0])


@pytest.mark.parametrize(
    ("task", "kwargs", "message"),
    [
        ("Pendulm-v1", {}, r"task: found 'Pendulm-v1'.*valid choices: .*Pendulum-v1"),
        ("no_such_module:Pendulum-v1", {}, "task: found 'no_such_module:Pendulum-v1'"),
        ("learn_test/Buttons-v0", {}, r"action space of task .*: found Discrete\(2\), expected a Box"),
        ("FrozenLake-v1", {}, r"observation space of task .*: found Discrete\(16\), expected a Box"),
        (SPACES, {"observation": "dict"}, r"observation space of task .*: found Dict\(.*expected a Box"),
        (SPACES, {"observation": "tuple"}, r"observation space of task .*: found Tuple\(.*expected a Box"),
        (SPACES, {"observation": "empty"}, r"observation space of task .*: found no numbers \(Box"),
        (SPACES, {"action": "dict"}, r"action space of task .*: found Dict\(.*expected a Box"),
        (SPACES, {"action": "empty"}, r"action space of task .*: found no numbers \(Box"),
        (SPACES, {"action": "integer"}, r"action space of task .*: found Box\(-5, 5, .*expected floating numbers"),
        (DRIFT, {"high": math.inf}, "expected finite bounds"),
        (DRIFT, {"high": -1.0}, "expected lower bounds below upper bounds"),
        (DRIFT, {"gravity": 3}, "refuses its arguments"),
    ],
)
def test_unsuitable_tasks_are_refused_before_anything_is_written(tmp_path, task, kwargs, message):
    with pytest.raises(ConfigError, match=message):
        train(config(tmp_path / "run", task, task_kwargs=kwargs))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("bad", "message"), [("reward", "reward of task"), ("observation", r"non-finite at \[1\]")])
def test_values_that_are_not_finite_stop_the_training(tmp_path, bad, message):
    with pytest.raises(TrainingError, match=message):
        train(config(tmp_path / "run", task_kwargs={"bad": bad}))


def test_observations_of_another_size_than_declared_stop_the_training(tmp_path):
    with pytest.raises(
        TrainingError, match=r"observation of task .*: found 2 numbers, expected 1 numbers, as its space"
    ):
        train(config(tmp_path / "run", SPACES, task_kwargs={"observation": "short"}))


def test_the_widest_action_box_that_numbers_can_hold_is_rescaled():
    with open_task(SPACES, {"action": "huge"}) as task:
        assert task.describe()["action_scale"] == [1.7e308]


def test_rewards_of_any_size_are_learnt_in_units_of_their_returns(tmp_path):
    out = train(config(tmp_path / "run", task_kwargs={"bad": "size"}))
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [row["critic_loss"] for row in rows if row["kind"] == "train"]
    assert len(losses) == 4 and max(losses) < 1e4  # in squares of the critic's unit


def test_diverging_losses_stop_the_training(tmp_path):
    with pytest.raises(TrainingError, match=r"losses at step \d+: .*inf.*expected finite numbers"):
        train(config(tmp_path / "run", task_kwargs={"bad": "size"}, overrides={**TINY, "value_scale": 0.0}))


def test_evaluation_reports_success_errors_and_limits():
    result = evaluate(lambda observation: -observation[:1], DRIFT, {}, episodes=10, seed=3)
    errors = [row["final_error"] for row in result["per_episode"]]
    assert result["success_rate"] == np.mean([error < 0.5 for error in errors])
    assert result["within_5cm_rate"] == np.mean([error < 0.05 for error in errors])
    assert result["final_error_median_m"] == pytest.approx(np.median(errors))
    assert (result["limit_hit_rate"], result["length_mean"], result["episodes"]) == (0.0, 30.0, 10)


def test_evaluation_leaves_out_what_the_task_does_not_tell():
    result = evaluate(lambda observation: np.zeros(1), "Pendulum-v1", None, episodes=1, seed=0)
    for key in ("success_rate", "within_5cm_rate", "final_error_median_m", "limit_hit_rate"):
        assert result[key] is None


def test_evaluation_reports_the_mean_of_the_figures_that_a_task_measures():
    result = evaluate(lambda observation: np.zeros(1), "learn_test/Measured-v0", {}, episodes=5, seed=3)
    places = [row["metrics"]["place_m"] for row in result["per_episode"]]
    assert len(set(places)) == 5
    assert result["place_m"] == pytest.approx(np.mean(places))


def test_a_task_says_what_makes_an_actor_the_best():
    worse, better = {"success_rate": 1.0, "return_mean": 1.0}, {"success_rate": 0.0, "return_mean": 2.0}
    with open_task("learn_test/Measured-v0") as judged, open_task(DRIFT) as usual:
        by_return, by_success = judged.judged_by, usual.judged_by
    assert score(better, by_return) > score(worse, by_return)
    assert score(better, by_success) < score(worse, by_success)


def test_evaluation_needs_no_torch():
    program = "import sys, ddpg_robot.learn.evaluate; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0


def test_evaluations_never_see_an_episode_of_training():
    training = {episode_seed(seed, 0, episode) for seed in range(3) for episode in range(1000)}
    evaluation = {episode_seed(seed, 1, episode) for seed in range(3) for episode in range(200)}
    assert not training & evaluation


def test_a_task_without_end_is_cut_so_that_it_is_evaluated_and_saved(tmp_path):
    forever = "learn_test/Forever-v0"
    changes = {"steps": LONGEST_EPISODE + 50, "eval_every": 10**6, "final_eval_episodes": 1}
    run = train(config(tmp_path / "run", forever, **changes, overrides={**TINY, "warmup_steps": 10**6}))
    assert json.loads((run / "evaluation.json").read_text())["length_mean"] == LONGEST_EPISODE
    assert any("cut at 20,000 steps" in text for text in warnings_of(run))


def test_a_finished_run_may_keep_its_networks_alone(tmp_path):
    run = train(config(tmp_path / "run", keep_replay=False))
    assert load_actor(run, "last").steps == 400
    assert not list(run.rglob("rows-*"))
    before = (run / "evaluation.json").read_bytes()
    assert train(config(tmp_path / "run", resume=True)) == run  # nothing left to do
    assert (run / "evaluation.json").read_bytes() == before


def warnings_of(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["text"] for row in rows if row["kind"] == "warning"]


def test_the_batch_that_broke_an_update_is_kept(tmp_path):
    with pytest.raises(TrainingError, match=r"Their batch is in .*nonfinite_batch\.safetensors"):
        train(config(tmp_path / "run", task_kwargs={"bad": "size"}, overrides={**TINY, "value_scale": 0.0}))
    batch = read_tensors(tmp_path / "run" / "nonfinite_batch.safetensors")
    assert batch["observation"].shape == (8, 2)
    assert batch["reward"].abs().max() > 1e29


def test_a_diverging_critic_is_named_early_with_what_to_try(tmp_path):
    overrides = {**TINY, "critic_lr": 30.0, "critic_layer_norm": False, "gamma": 0.5, "n_step": 1}
    run = train(config(tmp_path / "run", overrides=overrides, steps=300, log_every=20))
    (text,) = [text for text in warnings_of(run) if "Q diverges" in text]
    assert "Try a smaller critic_lr" in text


def test_a_saturated_actor_is_named_early_with_what_to_try(tmp_path):
    overrides = {**TINY, "actor_lr": 1.0, "saturation_penalty": 0.0, "smoothness": 0.0}
    run = train(config(tmp_path / "run", overrides=overrides, steps=300, log_every=20))
    (text,) = [text for text in warnings_of(run) if "saturated" in text]
    assert "Try a larger saturation_penalty" in text


def test_a_sound_training_warns_of_nothing(tmp_path):
    assert warnings_of(train(config(tmp_path / "run", steps=300, log_every=20))) == []
