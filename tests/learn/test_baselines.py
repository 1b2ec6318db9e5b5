"""The methods that led to DDPG: one update against numbers worked out by hand, and each in a whole training."""

from __future__ import annotations

import json
import math
from pathlib import Path

import learn_envs  # noqa: F401  (registers the tasks)
import numpy as np
import pytest
import torch

from ddpg_robot.errors import CheckpointError, ConfigError
from ddpg_robot.learn.agents import ALGORITHMS, make_agent, resolve_settings, settings_from_dict
from ddpg_robot.learn.baselines.dqn import grid_bytes
from ddpg_robot.learn.checkpoint import load_actor, load_policy
from ddpg_robot.learn.config import WITH_PRESETS, TrainConfig, agent_to_dict
from ddpg_robot.learn.evaluate import evaluate
from ddpg_robot.learn.replay import Batch, Replay
from ddpg_robot.learn.trainer import train

BASELINES = [name for name in ALGORITHMS if name not in WITH_PRESETS]
SEARCHES = ["q_sampling", "q_cem", "q_gradient"]
ONLINE = ["stochastic_ac", "deterministic_ac", "off_policy_ac"]
WITH_ACTOR = [*ONLINE, "naf"]


def small(algorithm: str, **changes) -> dict:
    """Overrides that make an agent small."""
    names = [
        name for name in ("actor_hidden", "critic_hidden") if hasattr(resolve_settings(algorithm, "ddpg", {}), name)
    ]
    sizes = {name: [16] for name in names} | {"warmup_steps": 50}
    return sizes | ({} if algorithm in ONLINE else {"batch_size": 16, "replay_capacity": 300}) | changes


def agent_of(algorithm: str, observations: int = 3, actions: int = 2, **changes):
    config = resolve_settings(algorithm, "ddpg", small(algorithm, **changes))
    return make_agent(algorithm, observations, actions, config, seed=3)


def batch_of(
    agent, reward: float, discount: float, action: float = 0.5, observations: int = 3, actions: int = 2
) -> Batch:
    """A batch of equal transitions between two states."""
    rows = torch.ones(agent.config.batch_size, 1)
    now, then = rows * torch.linspace(-1, 1, observations), rows * torch.linspace(1, 0, observations)
    return Batch(now, rows * torch.full((actions,), action), rows * reward, rows * discount, then)


def run(out: Path, algorithm: str, task: str = "Pendulum-v1", **changes) -> Path:
    few = {"candidates": 8} if algorithm in SEARCHES else {}
    few |= {"candidates": 2, "ascent_steps": 2} if algorithm == "q_gradient" else {}
    settings = {"steps": 300, "overrides": small(algorithm) | few, "eval_every": 150, "eval_episodes": 1}
    settings |= {"final_eval_episodes": 2, "log_every": 100}
    return train(TrainConfig(task=task, algorithm=algorithm, out=out, **{**settings, **changes}))


def values(network: torch.nn.Module, value: float) -> None:
    """Makes a network say `value` everywhere."""
    for parameter in network.parameters():
        parameter.data.zero_()
    list(network.modules())[-1].bias.data.fill_(value)


# Each in a whole training


@pytest.mark.parametrize("algorithm", BASELINES)
def test_each_trains_evaluates_and_comes_back_from_its_run(tmp_path, algorithm):
    out = run(tmp_path / "run", algorithm)
    settings = json.loads((out / "settings.json").read_text())["settings"]
    assert (settings["algorithm"], settings["preset"]) == (algorithm, None)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert math.isfinite([row for row in rows if row["kind"] == "train"][-1]["critic_loss"])
    evaluation = json.loads((out / "evaluation.json").read_text())
    policy = load_policy(out)
    again = evaluate(policy.act, "Pendulum-v1", {}, 2, evaluation["seed"])
    assert again["per_episode"] == evaluation["per_episode"]
    assert policy.steps == evaluation["step"]


@pytest.mark.parametrize("algorithm", ["stochastic_ac", "dqn", "q_cem"])  # random numbers of their own
def test_an_interrupted_training_goes_on_bit_for_bit(tmp_path, algorithm, monkeypatch):
    """The checkpoint of a training that was cut short is put where a new process would find it."""
    drift = {"task": "learn_envs:learn_test/Drift-v0", "checkpoint_every_s": 0.0}
    whole = run(tmp_path / "whole", algorithm, **drift)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ddpg_robot.learn.trainer.Training._evaluate", cut_short)
        run(tmp_path / "cut", algorithm, **drift)
    cut = run(tmp_path / "cut", algorithm, resume=True, **drift)
    expected, found = load_state(whole), load_state(cut)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    assert (cut / "evaluation.json").read_text() == (whole / "evaluation.json").read_text()


def cut_short(training) -> None:
    """In the place of the first evaluation: everything after the last checkpoint is lost."""
    assert training.store.latest() is not None
    raise KeyboardInterrupt


def load_state(out: Path) -> dict[str, torch.Tensor]:
    from ddpg_robot.learn.checkpoint import CheckpointStore, read_tensors

    return read_tensors(CheckpointStore(out / "checkpoint").latest() / "agent.safetensors")


def test_resuming_with_another_algorithm_is_refused(tmp_path):
    out = run(tmp_path / "run", "deterministic_ac", steps=60)
    with pytest.raises(CheckpointError, match="algorithm: found 'deterministic_ac', expected 'off_policy_ac'"):
        run(out, "off_policy_ac", steps=60, resume=True)


def test_an_actor_is_exportable_and_a_search_says_that_it_has_none(tmp_path):
    with_actor, without = run(tmp_path / "naf", "naf", steps=100), run(tmp_path / "dqn", "dqn", steps=100)
    observation = np.array([0.1, -0.2, 0.3], np.float32)
    assert np.array_equal(load_actor(with_actor).act(observation), load_policy(with_actor).act(observation))
    with pytest.raises(ConfigError, match=r"actor of run .*: found none: dqn searches its actions, expected an actor"):
        load_actor(without)


# Settings


def test_unknown_algorithms_and_settings_list_the_valid_ones():
    with pytest.raises(
        ConfigError, match=r"algorithm: found 'sac', expected a known algorithm \(valid choices: ddpg, .*naf"
    ):
        resolve_settings("sac", "ddpg", {})
    with pytest.raises(
        ConfigError, match=r"setting: found 'tau', expected a field of DqnConfig \(valid choices: batch_size"
    ):
        resolve_settings("dqn", "ddpg", {"tau": 0.1})
    with pytest.raises(ConfigError, match="preset: found 'paper', expected none: presets are ddpg's, and this is naf"):
        resolve_settings("naf", "paper", {})
    with pytest.raises(ConfigError, match="elites: found 65, expected 2 to 64"):
        resolve_settings("q_cem", "ddpg", {"elites": 65})
    with pytest.raises(ConfigError, match="bins: found 1, expected at least 2"):
        resolve_settings("dqn", "ddpg", {"bins": 1})
    with pytest.raises(ConfigError, match=r"gamma: found 1.5, expected a number from 0 to 1"):
        resolve_settings("stochastic_ac", "ddpg", {"gamma": 1.5})


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_settings_survive_json(algorithm):
    config = resolve_settings(algorithm, "ddpg", small(algorithm))
    assert settings_from_dict(algorithm, json.loads(json.dumps(agent_to_dict(config)))) == config


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_acting_leaves_the_state_as_it_is_and_actions_in_their_box(algorithm):
    agent = agent_of(algorithm)
    before = agent.state()
    observation = np.array([3.0, -2.0, 1.0], np.float32)
    action = agent.act(observation).copy()
    assert np.array_equal(agent.act(observation), action)
    assert all(torch.equal(agent.state()[name], tensor) for name, tensor in before.items())
    explored = np.array([agent.explore(observation, np.array([5.0, -5.0])) for _ in range(50)])
    assert action.shape == (2,)
    assert np.abs(explored).max() <= 1.0


# Updates


@pytest.mark.parametrize("algorithm", ["deterministic_ac", "off_policy_ac"])
def test_one_step_actor_critics_bootstrap_from_the_networks_themselves(algorithm):
    agent = agent_of(algorithm)
    values(agent.critic, 10.0)
    # y = 2 + 0.9 * 10 = 11: loss = (10 - 11)^2; after a termination y = 2: loss = (10 - 2)^2
    assert agent.update(batch_of(agent, 2.0, 0.9)).critic == pytest.approx(1.0)
    values(agent.critic, 10.0)
    assert agent.update(batch_of(agent, 2.0, 0.0)).critic == pytest.approx(64.0)


def test_the_deterministic_policy_gradient_is_that_of_q_along_the_action():
    agent = agent_of("off_policy_ac", critic_lr=1e-30)
    batch = batch_of(agent, 0.0, 0.0)
    observation = agent.normalizer(batch.observation)
    action = agent.actor(observation)
    (slope,) = torch.autograd.grad(agent.critic(observation, action).sum(), action)  # dQ/da
    agent.update(batch)
    expected = -slope * (1.0 - action.square())  # d -Q / d bias of the last layer: dQ/da times the slope of tanh
    torch.testing.assert_close(agent.actor.mlp[-1].bias.grad, expected[0].detach())


def test_on_policy_acts_as_it_thinks_best_and_off_policy_adds_the_noise():
    observation, noise = np.array([1.0, 0.0, -1.0], np.float32), np.array([0.25, -0.25])
    on, off = agent_of("deterministic_ac"), agent_of("off_policy_ac")
    assert np.array_equal(on.explore(observation, noise), on.act(observation))
    assert np.allclose(off.explore(observation, noise), off.act(observation) + noise)


def test_the_stochastic_actor_moves_towards_actions_that_turned_out_well():
    """By hand: d log N(u; m, s) / dm = (u - m) / s^2, with u = atanh(0.5) = 0.5493, m = 0, s = 0.5: 2.1972."""
    agent = agent_of("stochastic_ac")
    values(agent.actor.mlp, 0.0)
    values(agent.value, 10.0)
    agent.update(batch_of(agent, 2.0, 0.9))  # delta = 2 + 9 - 10 = 1
    assert agent.actor.mlp[-1].bias.grad.tolist() == pytest.approx([-2.1972] * 2, abs=1e-3)
    # d log N / d log s = (u - m)^2 / s^2 - 1 = 0.2069
    assert agent.log_deviation.grad.tolist() == pytest.approx([-0.2069] * 2, abs=1e-3)
    values(agent.actor.mlp, 0.0)
    values(agent.value, 10.0)
    agent.update(batch_of(agent, -1.0, 0.9))  # delta = -2: away from it, twice as fast
    assert agent.actor.mlp[-1].bias.grad[0].item() > 4.0


def test_the_stochastic_policy_is_drawn_from_the_density_that_it_learns_by():
    agent = agent_of("stochastic_ac", actor_final_init=0.5)
    observation = np.array([1.0, 2.0, 0.5], np.float32)
    u = np.arctanh([agent.explore(observation, np.zeros(2)) for _ in range(8000)])
    assert np.tanh(u.mean(axis=0)) == pytest.approx(agent.act(observation), abs=0.03)
    assert u.std(axis=0) == pytest.approx([0.5, 0.5], rel=0.04)


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_q_learning_bootstraps_from_the_target_network(algorithm):
    agent = agent_of(algorithm)
    values(agent.critic, 0.0)
    values(agent.learners["critic"].target.module, 10.0)
    assert agent.update(batch_of(agent, 2.0, 0.9)).critic == pytest.approx(121.0)  # y = 2 + 0.9 * 10


def test_dqn_bootstraps_from_the_best_action_of_a_target_that_is_copied_now_and_then():
    agent = agent_of("dqn", target_every=2)
    target = agent.learners["q"].target.module
    values(agent.q, 0.0)
    values(target, 1.0)
    target[-1].bias.data[4] = 10.0  # of nine actions the fifth
    assert agent.update(batch_of(agent, 2.0, 0.9)).critic == pytest.approx(121.0)
    assert target[-1].bias[4].item() == 10.0
    agent.update(batch_of(agent, 2.0, 0.9))
    assert torch.equal(target[-1].bias, agent.q[-1].bias)


def test_dqns_grid_is_every_combination_once_and_finds_its_own_actions_again():
    agent = agent_of("dqn", actions=3)
    grid = np.array([agent.action(index) for index in range(27)])
    assert len(np.unique(grid, axis=0)) == 27
    assert set(grid.ravel()) == {-1.0, 0.0, 1.0}
    assert agent.index(torch.from_numpy(grid)).ravel().tolist() == list(range(27))
    assert agent.index(torch.tensor([[0.4, -0.6, 0.9]])).item() == agent.index(torch.tensor([[0.0, -1.0, 1.0]])).item()


def test_dqns_epsilon_falls_over_the_first_fifth_of_the_training():
    agent = agent_of("dqn")
    found = []
    for fraction in (0.0, 0.1, 0.2, 1.0):
        agent.set_progress(fraction)
        found.append(agent.epsilon)
    assert found == pytest.approx([1.0, 0.525, 0.05, 0.05])


def test_a_grid_that_does_not_fit_is_refused_with_its_size():
    # 10^7 actions * (6 * 129 weights + 3 * 128 rows) * 4 bytes = 46.3 GB
    assert grid_bytes(10, 7, hidden=128, batch_size=128) == 10**7 * (6 * 129 + 3 * 128) * 4
    message = r"action grid: found 10\^7 = 10,000,000 actions, 46.3 GB, expected at most 2 GB \(memory_gb\)"
    with pytest.raises(ConfigError, match=message):
        make_agent("dqn", 21, 7, resolve_settings("dqn", "ddpg", {"bins": 10}), seed=0)


def test_a_grid_that_does_not_fit_leaves_no_run_behind(tmp_path):
    with pytest.raises(ConfigError, match="action grid"):
        run(tmp_path / "run", "dqn", overrides=small("dqn", bins=20_000_000))
    assert not (tmp_path / "run").exists()


def test_nafs_action_is_the_argmax_of_its_q_and_its_value_the_maximum():
    agent = agent_of("naf", actor_final_init=1.0)
    observation = torch.randn(1, 3, generator=torch.Generator().manual_seed(0))
    best = torch.from_numpy(agent.act(observation[0].numpy()).copy())[None]
    tried = torch.rand(5000, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        q = agent.q(observation.expand(5000, 3), tried)
        at_best = agent.q(observation, best).item()
        assert at_best == pytest.approx(agent.value(observation)[0, 0].item(), abs=1e-6)
    assert q.max().item() < at_best
    assert tried[q.argmax()].tolist() == pytest.approx(best[0].tolist(), abs=0.1)


def test_nafs_advantage_is_the_quadratic_form_of_its_triangle():
    """By hand: L = [[1, 0], [3, e]], d = (0.5, -0.25): L^T d = (-0.25, -0.25 e), A = -(0.0625 + 0.0625 e^2) / 2."""
    agent = agent_of("naf")
    values(agent.actor.mlp, 0.0)
    values(agent.value, 0.0)
    agent.value[-1].bias.data[:] = torch.tensor([7.0, 0.0, 3.0, 1.0])  # V; ln 1, 3, ln e
    q = agent.q(torch.zeros(1, 3), torch.tensor([[0.5, -0.25]])).item()
    assert q == pytest.approx(7.0 - 0.03125 * (1.0 + math.e**2))


@pytest.mark.parametrize(("algorithm", "error"), [("q_sampling", 0.3), ("q_cem", 0.12), ("q_gradient", 0.08)])
def test_each_search_finds_the_maximum_of_a_known_quadratic(algorithm, error):
    agent = agent_of(algorithm)
    maximum = torch.tensor([[0.3, -0.6], [-0.9, 0.1], [1.4, 0.0]])  # the last one lies outside of the box
    weights = torch.tensor([1.0, 2.0])

    def quadratic(actions: torch.Tensor) -> torch.Tensor:
        return -((actions - maximum[:, None]).square() * weights).sum(2)

    found = agent.argmax(quadratic, 3, torch.Generator().manual_seed(0))
    assert found.shape == (3, 2)
    assert (found - maximum.clamp(-1, 1)).abs().max().item() < error


def test_online_methods_learn_from_the_newest_transition():
    replay = Replay(1, 1, 1, batch_size=1)
    for value in (1.0, 2.0):
        replay.add(np.array([value]), np.array([0.5]), -value, 0.9, np.array([value + 1]))
    batch = replay.newest()
    assert [tensor.item() for tensor in batch if tensor is not None] == pytest.approx([2.0, 0.5, -2.0, 0.9, 3.0])


def test_the_newest_batch_is_in_order_across_the_end_of_the_ring():
    replay = Replay(4, 1, 1, batch_size=3)
    for value in range(6):
        replay.add(np.array([value]), np.zeros(1), 0.0, 0.0, np.zeros(1))
    assert replay.newest().observation.ravel().tolist() == [3.0, 4.0, 5.0]
