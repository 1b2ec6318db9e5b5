"""Trials: which actor is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ddpg_robot.learn.checkpoint import CheckpointStore, load_actor, read_tensors
from ddpg_robot.learn.config import TrainConfig, resolve_agent
from ddpg_robot.learn.ddpg import Ddpg
from ddpg_robot.learn.normalizer import Normalizer
from ddpg_robot.learn.rundir import RunDirectory
from ddpg_robot.learn.trainer import train
from ddpg_robot.learn.trials import Trials


class Contest:
    """Trials of an actor of one number, which changes from round to round."""

    def __init__(self, every: int, episodes: int) -> None:
        self.every, self.episodes = every, episodes
        self.actor = nn.Linear(1, 1, bias=False)
        self.normalizer = Normalizer(1)
        self.trials = self.new_trials()

    def new_trials(self) -> Trials:
        return Trials(self.actor, self.normalizer, self.every, self.episodes)

    def round(self, number: float, *returns: float) -> float | None:
        """A round with the actor at this number; what drove in it where it was a trial."""
        self.actor.weight.data.fill_(number)
        self.trials.begin()
        if not self.trials.running:
            return None
        for value in returns:
            self.trials.observe_episode(value)
        return self.trials.tried.actor.weight.item()

    @property
    def kept(self) -> float:
        return self.trials.kept.actor.weight.item()


def test_the_copy_whose_mean_return_is_the_highest_is_kept():
    contest = Contest(every=1, episodes=2)
    assert contest.round(1.0, 50.0) == 1.0
    assert contest.round(2.0, 40.0) == 1.0, "the same copy drives until it has driven enough"
    assert not contest.trials.found
    assert contest.round(3.0, 46.0) == 3.0
    assert contest.kept == 1.0
    assert contest.round(4.0, 60.0) == 3.0
    assert contest.round(5.0, 52.0) == 5.0
    assert contest.kept == 3.0
    assert contest.round(6.0, 7.0) == 3.0, "5 was behind at once; the one that is kept drives again"
    assert contest.round(7.0, 38.0) == 7.0
    assert contest.round(8.0, 39.0) == 7.0
    assert contest.round(9.0) == 9.0
    assert contest.kept == 7.0, "3 had 46, 60 and then 7, a mean of 37.7"


def test_a_copy_that_falls_behind_in_a_later_episode_is_not_kept():
    contest = Contest(every=1, episodes=3)
    for value in (10.0, 10.0, 10.0):
        contest.round(1.0, value)
    contest.round(2.0, 12.0)
    contest.round(3.0, 7.0)
    assert contest.round(4.0, 10.0) == 1.0
    assert contest.kept == 1.0


def test_who_is_tried_and_kept_sees_what_it_saw_when_it_was_copied():
    contest = Contest(every=1, episodes=2)
    contest.normalizer.observe(np.array([4.0]))
    contest.round(1.0, 50.0)
    contest.normalizer.observe(np.array([8.0]))
    contest.round(2.0, 50.0)
    contest.round(3.0, 0.0)
    assert contest.trials.kept.state_dict()["normalizer_statistics.mean"].item() == 4.0
    assert contest.trials.tried.normalizer.normalize(np.array([6.0])).item() == 0.0
    contest.round(4.0, 0.0)
    assert contest.kept == 1.0
    assert contest.trials.tried.normalizer.normalize(np.array([4.0])).item() == 0.0, "the one that is kept drives again"


def test_one_in_so_many_rounds_is_a_trial_and_all_its_episodes_count():
    contest = Contest(every=3, episodes=2)
    assert [contest.round(float(n), 1.0 * n, 2.0 * n) for n in range(1, 8)] == [None, None, 3.0, None, None, 6.0, None]
    assert contest.kept == 6.0


def test_without_trials_nobody_is_kept():
    contest = Contest(every=0, episodes=1)
    assert [contest.round(1.0) for _ in range(5)] == [None] * 5
    assert not contest.trials.found


def test_a_restored_contest_goes_on_as_if_never_stopped():
    one, other = Contest(1, 2), Contest(1, 2)
    rng = np.random.default_rng(0)
    for number in range(40):
        other.trials.load_state_dict({name: value.clone() for name, value in one.trials.state_dict().items()})
        number_and_return = float(number), float(rng.normal(number))
        assert one.round(*number_and_return) == other.round(*number_and_return)
        assert one.kept == other.kept
        other.trials = other.new_trials()
    assert one.kept > 0


def test_an_actor_on_trial_drives_without_noise_and_the_kept_one_acts():
    agent = Ddpg(3, 2, resolve_agent("ddpg", {"trial_every": 1, "trial_episodes": 1, "actor_final_init": 0.3}), seed=0)
    observation, noise = np.ones(3, np.float32), np.full(2, 0.5)
    agent.begin_round()
    assert not agent.trials.running, "before the first update there is nobody to try"
    agent.updates = 1
    first = agent.act(observation)
    agent.begin_round()
    np.testing.assert_array_equal(agent.explore(observation, noise), first)
    agent.observe_episode([1.0, 2.0])
    with torch.no_grad():
        for network in (agent.actor, agent.averaged_actor.module):
            network.mlp[-1].bias.add_(0.3)
    second = agent._average(observation)
    agent.begin_round()
    np.testing.assert_array_equal(agent.act(observation), first)
    np.testing.assert_array_equal(agent.explore(observation, noise), second)
    torch.testing.assert_close(agent.policy_state()["actor.mlp.4.bias"], agent.trials.kept.actor.mlp[4].bias)
    agent.observe_episode([4.0])
    agent.begin_round()
    np.testing.assert_array_equal(agent.act(observation), second)


@pytest.mark.parametrize("envs", [1, 3])
def test_a_run_keeps_the_actor_of_its_trials(tmp_path: Path, envs: int):
    small = {"actor_hidden": (16,), "critic_hidden": (16,), "warmup_steps": 300, "batch_size": 32, "embedding": 8}
    overrides = {**small, "trial_every": 2, "trial_episodes": 2}
    config = TrainConfig("Pendulum-v1", steps=3000, envs=envs, out=tmp_path / "run", overrides=overrides)
    run = RunDirectory(train(config))
    state = read_tensors(CheckpointStore(run.checkpoints).latest() / "agent.safetensors")
    assert len(state["trials.kept_returns"]) >= 2, "nobody was kept"
    kept = load_actor(run.path, "last").actor.state_dict()
    for name, value in kept.items():
        torch.testing.assert_close(value, state[f"trials.kept.actor.{name}"], rtol=0, atol=0)
