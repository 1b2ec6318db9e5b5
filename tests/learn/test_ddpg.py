"""One update, against autograd and against numbers worked out by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from ddpg_robot.learn.config import DdpgConfig, resolve_agent
from ddpg_robot.learn.ddpg import Ddpg
from ddpg_robot.learn.networks import TargetNetwork, flatten_parameters
from ddpg_robot.learn.replay import Batch, Replay

SMALL = {"actor_hidden": (16, 12), "critic_hidden": (16, 12), "batch_size": 32, "replay_capacity": 100}
VARIANTS = {
    "default": resolve_agent("default", SMALL),
    "paper": resolve_agent("paper", SMALL),
    "penalty": resolve_agent("default", {**SMALL, "saturation_penalty": 0.5, "actor_final_init": 2.0}),
    "late action": resolve_agent("default", {**SMALL, "critic_action_layer": 1, "critic_weight_decay": 0.01}),
}


def random_batch(agent: Ddpg, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    replay = Replay(64, 5, 2, agent.config.batch_size)
    for _ in range(64):
        observation, following = rng.normal(1.0, 3.0, (2, 5))
        agent.normalizer.observe(observation)
        replay.add(observation, rng.uniform(-1, 1, 2), rng.normal(), 0.9 * (rng.random() > 0.2), following)
    return replay.sample(rng)


def reference_update(agent: Ddpg, batch: Batch) -> dict[str, torch.Tensor]:
    """The same update by autograd and torch.optim, on copies of the agent's modules."""
    config = agent.config
    actor, critic, target_actor, target_critic = (
        copy.deepcopy(m) for m in (agent.actor, agent.critic, agent.target_actor.module, agent.target_critic.module)
    )
    for module in (actor, critic):
        module.train().requires_grad_(True)
        for parameter in module.parameters():
            parameter.grad = None
    observation, following = agent.normalizer(batch.observation), agent.normalizer(batch.next_observation)
    generator = torch.Generator()
    generator.set_state(agent.generator.get_state())
    with torch.no_grad():
        later_action = action = target_actor(following)
        if config.target_noise:
            noise = torch.zeros_like(action).normal_(0, config.target_noise, generator=generator)
            action = (action + noise.clamp(-config.target_noise_clip, config.target_noise_clip)).clamp(-1, 1)
        y = batch.reward + batch.discount * target_critic(following, action)
    optimizer = torch.optim.Adam(critic.parameters(), config.critic_lr, weight_decay=config.critic_weight_decay)
    nn.functional.mse_loss(critic(observation, batch.action), y).backward()
    optimizer.step()
    optimizer = torch.optim.Adam(actor.parameters(), config.actor_lr)
    preactivation = actor.mlp(observation)
    loss = -critic(observation, torch.tanh(preactivation)).mean()
    loss = loss + config.saturation_penalty * (preactivation.abs() - 1).clamp(min=0).square().mean()
    loss = loss + config.smoothness * (torch.tanh(preactivation) - later_action).square().sum(1).mean()
    loss.backward()
    optimizer.step()
    modules = {"actor": actor, "critic": critic, "target_actor": target_actor, "target_critic": target_critic}
    for name in ("actor", "critic"):
        online, target = modules[name].state_dict(), modules[f"target_{name}"].state_dict()
        for key, value in target.items():
            if value.is_floating_point():
                value.lerp_(online[key], config.tau)
    return {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_update_equals_autograd_and_torch_optimisers(variant):
    agent = Ddpg(5, 2, VARIANTS[variant], seed=3)
    batch = random_batch(agent)
    expected = reference_update(agent, batch)
    agent.update(batch)
    found = agent.state()
    for name, value in expected.items():
        if "num_batches_tracked" not in name:
            torch.testing.assert_close(
                found[name], value, rtol=1e-5, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}"
            )


def constant_agent(value: float, config: DdpgConfig) -> Ddpg:
    """An agent whose target critic says `value` everywhere."""
    agent = Ddpg(1, 1, config, seed=0)
    for parameter in agent.target_critic.module.parameters():
        parameter.zero_()
    agent.target_critic.module.after[-1].bias.fill_(value)
    return agent


def critic_loss_of(agent: Ddpg, reward: float, discount: float) -> float:
    """Loss of one update where all transitions are equal and the critic says 0 everywhere."""
    for parameter in agent.critic.parameters():
        parameter.data.zero_()
    size = agent.config.batch_size
    row = torch.zeros(size, 1)
    return agent.update(Batch(row, row, row + reward, row + discount, row)).critic


def test_critic_target_is_reward_plus_discounted_target_value():
    # y = 2 + 0.9 * 10 = 11, loss = (0 - 11)^2
    assert critic_loss_of(constant_agent(10.0, VARIANTS["default"]), 2.0, 0.9) == pytest.approx(121.0)


def test_critic_target_after_termination_is_the_reward_alone():
    assert critic_loss_of(constant_agent(10.0, VARIANTS["default"]), 2.0, 0.0) == pytest.approx(4.0)


def test_actor_climbs_the_action_value():
    """With Q(s, a) = a, the policy gradient raises the action; by hand: d mean Q / d bias = 1 - a^2."""
    config = resolve_agent("default", {**SMALL, "critic_layer_norm": False, "critic_lr": 1e-30})
    agent = Ddpg(1, 1, config, seed=0)
    first, last = agent.critic.after[0], agent.critic.after[-1]
    for parameter in agent.critic.parameters():
        parameter.data.zero_()
    first.weight.data[0, 1], first.bias.data[0] = 1.0, 5.0  # stays above 0 where ReLU is the identity
    agent.critic.after[2].weight.data[0, 0] = last.weight.data[0, 0] = 1.0
    row = torch.zeros(config.batch_size, 1)
    before = agent.act(np.zeros(1, np.float32)).copy()
    agent.update(Batch(row, row, row, row, row))
    gradient = agent.actor.mlp[-1].bias.grad.item()
    assert gradient == pytest.approx(-(1.0 - before.item() ** 2), abs=1e-5)
    assert agent.act(np.zeros(1, np.float32)).item() > before.item()


def test_target_network_moves_by_tau():
    source = nn.Linear(1, 1)
    flat = flatten_parameters(source)
    target = TargetNetwork(source, flat)
    start = target.module.weight.item()
    source.weight.data.fill_(start + 8.0)
    target.follow(0.25)
    assert target.module.weight.item() == pytest.approx(start + 2.0)
    target.follow(0.25)
    assert target.module.weight.item() == pytest.approx(start + 3.5)


def test_actor_is_updated_at_every_nth_update_of_the_critic():
    agent = Ddpg(5, 2, resolve_agent("default", {**SMALL, "actor_delay": 3}), seed=0)
    batch = random_batch(agent)
    assert [agent.update(batch).actor is not None for _ in range(6)] == [True, False, False, True, False, False]


def test_step_sizes_fall_linearly_to_their_final_fraction():
    agent = Ddpg(5, 2, resolve_agent("default", {**SMALL, "lr_final_fraction": 0.1, "actor_lr": 1e-3}), seed=0)
    agent.set_progress(0.5)
    assert agent.actor_optimizer.lr == pytest.approx(0.55e-3)
    agent.set_progress(1.0)
    assert agent.actor_optimizer.lr == pytest.approx(1e-4)


def test_restored_agent_goes_on_bit_for_bit():
    for config in VARIANTS.values():
        agent = Ddpg(5, 2, config, seed=3)
        batch = random_batch(agent)
        agent.update(batch)
        saved = {name: tensor.clone() for name, tensor in agent.state().items()}
        agent.update(batch)
        other = Ddpg(5, 2, config, seed=99)
        other.load_state(saved)
        other.update(batch)
        for name, tensor in agent.state().items():
            assert torch.equal(tensor, other.state()[name]), name


def test_acting_equals_the_actor_module():
    agent = Ddpg(5, 2, VARIANTS["paper"], seed=1)
    agent.update(random_batch(agent))
    observation = np.linspace(-2, 2, 5, dtype=np.float32)
    with torch.no_grad():
        expected = agent.actor.eval()(agent.normalizer(torch.tensor(observation[None])))[0]
    torch.testing.assert_close(torch.tensor(agent.act(observation)), expected)


def test_normalizer_gives_mean_zero_and_deviation_one():
    agent = Ddpg(3, 1, VARIANTS["default"], seed=0)
    samples = np.random.default_rng(0).normal([5.0, -3.0, 0.0], [2.0, 0.01, 100.0], (5000, 3)).astype(np.float32)
    for sample in samples:
        agent.normalizer.observe(sample)
    normalized = agent.normalizer(torch.tensor(samples))
    torch.testing.assert_close(normalized.mean(0), torch.zeros(3), atol=2e-3, rtol=0)
    torch.testing.assert_close(normalized.std(0), torch.ones(3), atol=2e-3, rtol=0)
    np.testing.assert_allclose(agent.normalizer.normalize(samples[0]), normalized[0], rtol=1e-6)
