"""Presets and settings."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from ddpg_robot.errors import ConfigError
from ddpg_robot.learn.agents import settings_from_dict
from ddpg_robot.learn.config import TrainConfig, agent_to_dict, annealed, resolve_agent
from ddpg_robot.learn.ddpg import Ddpg


def test_paper_preset_carries_every_constant_of_lillicrap_et_al():
    config = resolve_agent("paper")
    assert (config.actor_hidden, config.critic_hidden, config.critic_action_layer) == ((400, 300), (400, 300), 1)
    assert (config.actor_lr, config.critic_lr, config.critic_weight_decay) == (1e-4, 1e-3, 1e-2)
    assert (config.gamma, config.tau, config.batch_size, config.replay_capacity) == (0.99, 1e-3, 64, 1_000_000)
    assert (config.noise, config.noise_theta, config.noise_sigma, config.noise_sigma_final) == ("ou", 0.15, 0.2, 0.2)
    assert (config.actor_final_init, config.critic_final_init) == (3e-3, 3e-3)
    assert config.batch_norm


def test_paper_preset_has_none_of_the_later_inventions():
    config = resolve_agent("paper")
    assert (config.n_step, config.actor_delay, config.updates_per_step, config.warmup_steps) == (1, 1, 1, 0)
    assert config.critics == 1
    assert config.replay_recency == 1.0
    assert (config.target_noise, config.saturation_penalty, config.smoothness, config.value_scale) == (0, 0, 0, 0)
    assert config.lr_final_fraction == 1.0
    assert not config.critic_layer_norm
    assert not config.normalize_observations


def layers(stack: nn.Sequential) -> list[str]:
    return [type(layer).__name__ + str(getattr(layer, "in_features", "")) for layer in stack]


def test_paper_networks_normalise_batches_up_to_the_action():
    agent = Ddpg(17, 6, resolve_agent("paper"), seed=0)
    norm = "BatchNorm1d"
    assert layers(agent.actor.mlp) == [norm, "Linear17", norm, "ReLU", "Linear400", norm, "ReLU", "Linear300"]
    assert layers(agent.critics[0].before) == [norm, "Linear17", norm, "ReLU"]
    assert layers(agent.critics[0].after) == ["Linear406", "ReLU", "Linear300"]


def test_paper_networks_start_within_the_published_bounds():
    agent = Ddpg(17, 6, resolve_agent("paper"), seed=0)
    for stack in (agent.actor.mlp, agent.critics[0].before, agent.critics[0].after):
        for layer in (x for x in stack if isinstance(x, nn.Linear)):
            last = layer.out_features in (6, 1)
            bound = 3e-3 if last else 1 / math.sqrt(layer.in_features)
            assert layer.weight.abs().max().item() <= bound * 1.000001
            assert layer.weight.abs().max().item() > 0.95 * bound


def test_every_setting_survives_json():
    for preset in ("paper", "ddpg"):
        config = resolve_agent(preset)
        assert settings_from_dict("ddpg", agent_to_dict(config)) == config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"gama": 0.9}, r"setting: found 'gama', expected a field of DdpgConfig \(valid choices: .*gamma.*\)"),
        ({"gamma": "high"}, "setting gamma: found 'high', expected float"),
        ({"gamma": 1.5}, "gamma: found 1.5, expected a number from 0 to 1"),
        ({"n_step": 0}, "n_step: found 0, expected a positive number"),
        ({"n_step": 2.5}, "setting n_step: found 2.5, expected int"),
        ({"noise": "pink"}, r"setting noise: found 'pink', expected \('ou', 'gaussian'\)"),
        ({"actor_hidden": []}, "actor_hidden"),
        ({"critic_action_layer": 2}, "critic_action_layer: found 2"),
        ({"replay_capacity": 10}, "replay_capacity: found 10, expected at least 256, one batch"),
        ({"critic_layer_norm": 1}, "setting critic_layer_norm: found 1, expected bool"),
    ],
)
def test_wrong_settings_are_named(overrides, message):
    with pytest.raises(ConfigError, match=message):
        resolve_agent("ddpg", overrides)


def test_unknown_preset_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"preset: found 'best'.*valid choices: ddpg, max, paper"):
        resolve_agent("best")


def test_run_settings_are_plain_json_and_do_not_depend_on_the_directory():
    one = TrainConfig(task="Pendulum-v1", out=Path("a"), overrides={"actor_hidden": [64, 64], "gamma": 1})
    two = TrainConfig(task="Pendulum-v1", out=Path("b"), overrides={"actor_hidden": (64, 64), "gamma": 1.0})
    assert one.settings() == two.settings()
    assert one.settings()["agent"]["actor_hidden"] == [64, 64]


@pytest.mark.parametrize("changes", [{"steps": 0}, {"eval_every": 0}, {"seed": -1}, {"threads": 0}])
def test_impossible_runs_are_refused(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        TrainConfig(task="Pendulum-v1", **changes)


def test_same_seed_gives_the_same_weights_and_leaves_torch_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one, two, other = (Ddpg(3, 1, resolve_agent("ddpg"), seed=s).state()["critics.0.after.0.weight"] for s in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.rand(1), expected)


def test_settings_are_annealed_geometrically_and_linearly_to_zero():
    assert [annealed(0.1, 0.001, fraction) for fraction in (0.0, 0.5, 1.0)] == pytest.approx([0.1, 0.01, 0.001])
    assert [annealed(0.1, 0.0, fraction) for fraction in (0.0, 0.5, 1.0)] == pytest.approx([0.1, 0.05, 0.0])
    assert annealed(0.0, 0.2, 0.25) == pytest.approx(0.05)
    assert annealed(0.0, 0.0, 0.7) == 0.0
