"""One update, against autograd and against numbers worked out by hand."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from ddpg_robot.learn.config import DdpgConfig, resolve_agent
from ddpg_robot.learn.ddpg import Ddpg
from ddpg_robot.learn.eager import EagerDdpg
from ddpg_robot.learn.native import native
from ddpg_robot.learn.networks import TargetNetwork, flatten_parameters
from ddpg_robot.learn.normalizer import Returns
from ddpg_robot.learn.replay import Batch, Replay

SMALL = {"actor_hidden": (16, 12), "critic_hidden": (16, 12), "batch_size": 32, "replay_capacity": 100}
PLAIN = {**SMALL, "newest_in_targets": False, "critic_expectile": 0.5}
VARIANTS = {
    "ddpg": resolve_agent("ddpg", SMALL),
    "max": resolve_agent("max", {**SMALL, "embedding": 16}),
    "paper": resolve_agent("paper", SMALL),
    "plain": resolve_agent("ddpg", PLAIN),
    "penalty": resolve_agent("ddpg", {**SMALL, "saturation_penalty": 0.5, "actor_final_init": 2.0}),
    "smooth": resolve_agent("ddpg", {**SMALL, "smoothness": 0.3}),
    "plain twins": resolve_agent("ddpg", {**PLAIN, "critics": 2}),
    "embedded twins": resolve_agent("ddpg", {**PLAIN, "critics": 2, "embedding": 16}),
    "taught": resolve_agent("ddpg", {**SMALL, "teacher_weight": 0.7}),
    "late action, no layer norm": resolve_agent(
        "ddpg", {**SMALL, "critic_action_layer": 1, "critic_layer_norm": False}
    ),
    "late action": resolve_agent("ddpg", {**SMALL, "critic_action_layer": 1, "critic_weight_decay": 0.01}),
}


@pytest.fixture(autouse=True, params=["native", "torch"])
def implementation(request, monkeypatch):
    """Every test with both ways to compute an update."""
    if request.param == "torch":
        monkeypatch.setenv("DDPG_ROBOT_NATIVE", "0")
    native.cache_clear()
    assert (native() is None) == (request.param == "torch")
    yield request.param
    native.cache_clear()


def random_batch(agent: Ddpg, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    taught = agent.config.teacher_weight > 0
    replay = Replay(64, 5, 2, agent.config.batch_size, taught)
    for _ in range(64):
        observation, following = rng.normal(1.0, 3.0, (2, 5))
        agent.normalizer.observe(observation)
        agent.returns.observe([rng.normal(2.0)])
        teacher = (rng.uniform(-1, 1, 2),) if taught else ()
        replay.add(observation, rng.uniform(-1, 1, 2), rng.normal(), 0.9 * (rng.random() > 0.2), following, *teacher)
    return replay.sample(rng)


def reference_update(agent: Ddpg, batch: Batch) -> dict[str, torch.Tensor]:
    """The same update by autograd and torch.optim, on copies of the agent's modules."""
    config = agent.config
    actor, pair, critics, target_actor, target_critics = (
        copy.deepcopy(m)
        for m in (
            agent.actor,
            agent.pair_embedding,
            agent.critics,
            agent.target_actor.module,
            agent.target_critics.module,
        )
    )
    for module in (actor, pair, critics):
        module.train().requires_grad_(True)
        for parameter in module.parameters():
            parameter.grad = None
    observation, following = agent.normalizer(batch.observation), agent.normalizer(batch.next_observation)
    generator = torch.Generator()
    generator.set_state(agent.generator.get_state())
    if config.embedding:
        embedding_optimizer = torch.optim.Adam((*actor.embedding.parameters(), *pair.parameters()), config.embedding_lr)
        foretold = pair.mlp(torch.cat((actor.embedding(observation), batch.action), dim=1))
        (foretold - actor.embedding(following).detach()).square().mean().backward()
    with torch.no_grad():
        observation, following = actor.features(observation), actor.features(following)
        later_action = action = torch.tanh(target_actor(following))
        if config.target_noise:
            noise = torch.zeros_like(action).normal_(0, config.target_noise, generator=generator)
            action = (action + noise.clamp(-config.target_noise_clip, config.target_noise_clip)).clamp(-1, 1)
        judges = [*target_critics, *(critics if config.newest_in_targets else [])]
        next_value = torch.cat([critic(following, pair(following, action)) for critic in judges], dim=1).amin(
            dim=1, keepdim=True
        )
        unit = config.value_scale / agent.returns.rms if config.value_scale else 1.0
        y = batch.reward * unit + batch.discount * next_value
        if config.value_margin is not None:
            lowest, highest = agent.returns.bounds(config.value_margin)
            y = torch.minimum(torch.maximum(y, torch.tensor(lowest * unit)), torch.tensor(highest * unit))
    optimizer = torch.optim.Adam(critics.parameters(), config.critic_lr, weight_decay=config.critic_weight_decay)
    errors = torch.cat([critic(observation, pair(observation, batch.action).detach()) - y for critic in critics], dim=1)
    caution = torch.abs(config.critic_expectile - (errors > 0).float())
    (2 * caution * errors.square()).mean(dim=0).sum().backward()
    optimizer.step()
    optimizer = torch.optim.Adam(actor.mlp.parameters(), config.actor_lr)
    preactivation = actor.mlp(observation)
    pair.requires_grad_(False)
    loss = -critics[0](observation, pair(observation, torch.tanh(preactivation))).mean()
    loss = loss + config.saturation_penalty * (preactivation.abs() - 1).clamp(min=0).square().mean()
    loss = loss + config.smoothness * (torch.tanh(preactivation) - later_action).square().sum(1).mean()
    if batch.teacher_action is not None:
        loss = loss + config.teacher_weight * (torch.tanh(preactivation) - batch.teacher_action).square().sum(1).mean()
    loss.backward()
    optimizer.step()
    if config.embedding:
        embedding_optimizer.step()
    for source, follower in ((actor.mlp, target_actor), (critics, target_critics)):
        for key, value in follower.state_dict().items():
            if value.is_floating_point():
                value.lerp_(source.state_dict()[key], config.tau)
    modules = {"actor": actor, "critics": critics, "target_actor": target_actor, "target_critics": target_critics}
    modules |= {"pair_embedding": pair} if config.embedding else {}
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


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_are_those_of_autograd(variant):
    fast, eager = (kind(5, 2, VARIANTS[variant], seed=3) for kind in (Ddpg, EagerDdpg))
    losses = zip(*(agent.update(random_batch(agent)) for agent in (fast, eager)), strict=True)
    assert all(one == pytest.approx(other, rel=1e-5) for one, other in losses)
    names = [name for name in fast.state() if name.endswith("_optimizer.mean")]  # averages of the gradients
    assert len(names) == (4 if VARIANTS[variant].embedding else 2)
    for name in names:
        exact = eager.state()[name]
        assert (fast.state()[name] - exact).norm() < 1e-6 * exact.norm(), name


@pytest.mark.skipif(not getattr(native(), "has_bfloat16", False), reason="no cc that multiplies in bfloat16 here")
@pytest.mark.parametrize("implementation", ["native"], indirect=True)
@pytest.mark.parametrize(("preset", "rounding"), [("ddpg", 0.05), ("max", 0.1)])  # six layers more are in the way
def test_updates_in_bfloat16_are_those_in_float32_within_its_rounding(preset, rounding):
    wide = {"actor_hidden": (128, 96), "critic_hidden": (128, 96), "batch_size": 32, "replay_capacity": 100}
    gradients: dict[str, list[torch.Tensor]] = {"float32": [], "bfloat16": []}
    for precision, found in gradients.items():
        for seed in range(8):
            agent = Ddpg(5, 2, resolve_agent(preset, {**wide, "precision": precision}), seed)
            assert agent.bfloat16 == (precision == "bfloat16")
            agent.update(random_batch(agent))
            state = agent.state()
            found += [state["actor_optimizer.mean"], state["critic_optimizer.mean"]]  # averages of the gradients
    for network in (0, 1):
        exact, rounded = (torch.cat(gradients[precision][network::2]) for precision in gradients)
        assert exact.dtype == rounded.dtype == torch.float32
        # bfloat16 has 8 bits: 0.4 % in each product, of terms that partly cancel in the mean over a batch.
        assert 0 < (exact - rounded).norm() < rounding * exact.norm()


@pytest.mark.skipif(not getattr(native(), "has_bfloat16", False), reason="no cc that multiplies in bfloat16 here")
@pytest.mark.parametrize("implementation", ["native"], indirect=True)
def test_after_a_restore_products_in_bfloat16_use_the_restored_parameters():
    config = resolve_agent(
        "ddpg", {"actor_hidden": (96, 96), "critic_hidden": (96, 96), "batch_size": 32, "precision": "bfloat16"}
    )
    one, other = (Ddpg(5, 2, config, seed) for seed in (1, 2))
    batch = random_batch(one)
    one.update(batch)
    other.load_state(one.state())
    other.returns.load_state_dict(one.returns.state_dict())
    assert one.update(batch) == other.update(batch)


def constant_agent(value: float, config: DdpgConfig) -> Ddpg:
    """An agent whose target critic says `value` everywhere."""
    agent = Ddpg(1, 1, config, seed=0)
    for parameter in agent.target_critics.module.parameters():
        parameter.zero_()
    agent.target_critics.module[0].after[-1].bias.fill_(value)
    return agent


def critic_loss_of(agent: Ddpg, reward: float, discount: float) -> float:
    """Loss of one update where all transitions are equal and the critic says 0 everywhere."""
    for parameter in agent.critics.parameters():
        parameter.data.zero_()
    size = agent.config.batch_size
    row = torch.zeros(size, 1)
    return agent.update(Batch(row, row, row + reward, row + discount, row)).critic


def test_critic_target_is_reward_plus_discounted_target_value():
    # y = 2 + 0.9 * 10 = 11, loss = (0 - 11)^2
    assert critic_loss_of(constant_agent(10.0, VARIANTS["plain"]), 2.0, 0.9) == pytest.approx(121.0)


def test_critic_target_after_termination_is_the_reward_alone():
    assert critic_loss_of(constant_agent(10.0, VARIANTS["plain"]), 2.0, 0.0) == pytest.approx(4.0)


def test_of_two_critics_targets_take_the_smaller_value():
    agent = constant_agent(10.0, VARIANTS["plain twins"])
    agent.target_critics.module[1].after[-1].bias.fill_(4.0)
    # y = 2 + 0.9 * 4 = 5.6 for both critics: loss = 2 * (0 - 5.6)^2
    assert critic_loss_of(agent, 2.0, 0.9) == pytest.approx(2 * 5.6**2)


@pytest.mark.parametrize(("target_says", "loss"), [(10.0, (2 + 0.9 * 0) ** 2), (-3.0, (2 - 0.9 * 3) ** 2)])
def test_of_the_target_critic_and_the_critic_targets_take_the_smaller_value(target_says, loss):
    agent = constant_agent(target_says, resolve_agent("ddpg", {**SMALL, "critic_expectile": 0.5}))
    assert critic_loss_of(agent, 2.0, 0.9) == pytest.approx(loss)  # the critic itself says 0


@pytest.mark.parametrize(("reward", "loss"), [(2.0, 2 * 0.4 * 2**2), (-2.0, 2 * 0.6 * 2**2)])
def test_a_value_above_its_target_weighs_more_than_one_below(reward, loss):
    assert critic_loss_of(constant_agent(0.0, VARIANTS["ddpg"]), reward, 1.0) == pytest.approx(
        loss
    )  # the critic says 0


def test_returns_are_those_of_every_step_to_the_end_of_its_episode():
    returns = Returns(gamma=0.5)
    assert returns.rms == 0.0
    returns.observe([2.0, 4.0])  # 2 + 0.5 * 4 = 4, and 4
    returns.observe([-1.0])
    assert returns.rms == pytest.approx(np.sqrt((16 + 16 + 1) / 3))


def test_bounds_of_returns_are_the_lowest_and_the_highest_and_a_margin():
    returns = Returns(gamma=0.5)
    assert returns.bounds(0.25) == (-np.inf, np.inf)
    returns.observe([-1.0, 4.0])  # -1 + 0.5 * 4 = 1, and 4
    assert returns.bounds(0.0) == (1.0, 4.0)
    returns.observe([0.0])
    assert returns.bounds(0.25) == (-1.0, 5.0)
    restored = Returns(gamma=0.5)
    restored.load_state_dict(returns.state_dict())
    assert restored.bounds(0.25) == (-1.0, 5.0)


@pytest.mark.parametrize(("reward", "loss"), [(-7.0, 1.2 * 1.0), (0.0, 0.0), (9.0, 0.8 * 25.0)])
def test_a_target_stays_within_the_returns_of_training(reward, loss):
    """The critic says 0; returns between 0 and 4 with a margin of a quarter: targets from -1 to 5."""
    agent = constant_agent(0.0, VARIANTS["ddpg"])
    agent.config = dataclasses.replace(agent.config, value_margin=0.25, value_scale=0.0)
    agent.returns.observe([0.0])
    agent.returns.observe([4.0])
    assert critic_loss_of(agent, reward, 1.0) == pytest.approx(loss)


def test_a_change_of_the_returns_unit_leaves_the_values_as_they_are():
    agent = Ddpg(5, 2, resolve_agent("ddpg", {**SMALL, "critics": 2, "value_scale": 10.0, "critic_lr": 1e-30}), seed=0)
    batch = random_batch(agent)
    before = agent.update(batch).q_mean
    rms = agent.returns.rms
    for _ in range(1000):
        agent.returns.observe([50.0])
    assert agent.returns.rms > 10 * rms
    assert agent.update(batch).q_mean == pytest.approx(before, rel=1e-5)


def test_actor_climbs_the_action_value():
    """With Q(s, a) = a, the policy gradient raises the action; by hand: d mean Q / d bias = 1 - a^2."""
    config = resolve_agent("ddpg", {**SMALL, "critic_layer_norm": False, "critic_lr": 1e-30})
    agent = Ddpg(1, 1, config, seed=0)
    first, last = agent.critics[0].after[0], agent.critics[0].after[-1]
    for parameter in agent.critics.parameters():
        parameter.data.zero_()
    first.weight.data[0, 1], first.bias.data[0] = 1.0, 5.0  # stays above 0 where ReLU is the identity
    agent.critics[0].after[2].weight.data[0, 0] = last.weight.data[0, 0] = 1.0
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


def test_the_actor_that_acts_is_an_average_of_the_last_tenth_and_then_of_a_fixed_number_of_updates():
    agent = Ddpg(5, 2, resolve_agent("ddpg", {**SMALL, "actor_delay": 1, "actor_averaging": 0.8}), seed=0)
    batch = random_batch(agent)
    expected = agent.actor.mlp[-1].weight.detach().clone()
    for rate in (10 / 11, 10 / 12, 0.8, 0.8):  # 10 / 13 is less than 0.8
        agent.update(batch)
        expected.lerp_(agent.actor.mlp[-1].weight.detach(), rate)
        torch.testing.assert_close(agent.policy_state()["actor.mlp.4.weight"], expected)


def test_the_papers_actor_acts_as_it_is():
    agent = Ddpg(5, 2, VARIANTS["paper"], seed=0)
    batch = random_batch(agent)
    agent.update(batch)
    observation = np.ones(5, np.float32)
    assert np.array_equal(agent.act(observation), agent.mu(observation))


def test_actor_is_updated_at_every_nth_update_of_the_critic():
    agent = Ddpg(5, 2, resolve_agent("ddpg", {**SMALL, "actor_delay": 3}), seed=0)
    batch = random_batch(agent)
    assert [agent.update(batch).actor is not None for _ in range(6)] == [True, False, False, True, False, False]


def test_step_sizes_fall_geometrically_to_their_final_fraction():
    agent = Ddpg(5, 2, resolve_agent("ddpg", {**SMALL, "lr_final_fraction": 0.1, "actor_lr": 1e-3}), seed=0)
    agent.set_progress(0.5)
    assert agent.actor_optimizer.lr == pytest.approx(1e-3 * 0.1**0.5)
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
    agent = Ddpg(3, 1, VARIANTS["ddpg"], seed=0)
    samples = np.random.default_rng(0).normal([5.0, -3.0, 0.0], [2.0, 0.01, 100.0], (5000, 3)).astype(np.float32)
    for sample in samples:
        agent.normalizer.observe(sample)
    normalized = agent.normalizer(torch.tensor(samples))
    torch.testing.assert_close(normalized.mean(0), torch.zeros(3), atol=2e-3, rtol=0)
    torch.testing.assert_close(normalized.std(0), torch.ones(3), atol=2e-3, rtol=0)
    np.testing.assert_allclose(agent.normalizer.normalize(samples[0]), normalized[0], rtol=1e-6)
