"""The learner beside a robot: what it makes of transitions, how it mixes, and what its gate lets out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import ddpg_robot_sim  # noqa: F401 - registers the task
from ddpg_robot.errors import ConfigError, TrainingError
from ddpg_robot.learn.checkpoint import load_actor
from ddpg_robot.learn.config import TrainConfig
from ddpg_robot.learn.online import OnlineLearner, OnlineSettings
from ddpg_robot.learn.rundir import RunDirectory
from ddpg_robot.learn.trainer import train
from ddpg_robot.spec import PolicyInterface
from ddpg_robot.spec_json import from_dict
from ddpg_robot.transition import transition_dtype

TICKS = 5
SMALL = {"actor_hidden": [16], "critic_hidden": [16], "warmup_steps": 100, "batch_size": 32, "n_step": 3, "gamma": 0.9}


@pytest.fixture(scope="module", params=["effort", "pd"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / request.param
    mode = {"control_mode": request.param}
    few = {"eval_episodes": 1, "final_eval_episodes": 1}
    train(TrainConfig("ddpg_robot/ArmReach-v0", mode, steps=400, out=out, overrides=SMALL, **few))
    return out


def interface_of(run: Path) -> PolicyInterface:
    return from_dict(PolicyInterface, RunDirectory(run).task()["interface"])


def transitions(run: Path, ticks: list[int], seed: int = 0) -> np.ndarray:
    """Made-up transitions at these ticks, each with the tick as its stamp."""
    rng = np.random.default_rng(seed)
    made = np.zeros(len(ticks), transition_dtype(interface_of(run)))
    made["tick"] = made["stamp"] = ticks
    made["observation"] = rng.normal(size=made["observation"].shape)
    made["next_observation"] = rng.normal(size=made["next_observation"].shape)
    made["before"]["position"] = rng.normal(size=made["before"]["position"].shape)
    made["executed_output"] = made["before"]["position"] * interface_of(run).control.mode.startswith("pd")
    return made


def learner(run: Path, reward=lambda made: made["stamp"], **settings: object) -> OnlineLearner:
    return OnlineLearner(run, reward, TICKS, OnlineSettings(**{"held_out": 1000, **settings}))


def test_returns_of_several_steps_never_lead_across_a_gap(run: Path) -> None:
    one = learner(run)
    made = transitions(run, [1, 6, 11, 16, 31, 36])
    one.add(made)
    one.add(transitions(run, [101], seed=1))
    rows = one.robot.rows[: one.robot.total]
    size, actions = made["observation"].shape[1], one.agent.config and 7
    rewards, discounts = rows[:, size + actions], rows[:, size + actions + 1]
    expected = [1 + 0.9 * 6 + 0.81 * 11, 6 + 0.9 * 11 + 0.81 * 16, 11 + 0.9 * 16, 16, 31 + 0.9 * 36, 36]
    np.testing.assert_allclose(rewards, expected, rtol=1e-6)
    np.testing.assert_allclose(discounts, [0.9**3, 0.9**3, 0.9**2, 0.9, 0.9**2, 0.9], rtol=1e-6)
    np.testing.assert_array_equal(rows[3, -size:], made["next_observation"][3])


def test_a_termination_is_not_bootstrapped(run: Path) -> None:
    one, made = learner(run), transitions(run, [1, 6])
    made["terminated"][1] = True
    one.add(made)
    assert one.robot.rows[:2, made["observation"].shape[1] + 8].tolist() == [0, 0]


def test_actions_are_what_the_robot_carried_out_in_the_actors_units(run: Path) -> None:
    one, made = learner(run), transitions(run, [1])
    scale = np.array(RunDirectory(run).task()["action_scale"])
    made["executed_output"] += 0.5 * scale
    made["executed_output"][:, 0] += 9 * scale[0]
    one.add(made)
    one.add(transitions(run, [100]))
    size = made["observation"].shape[1]
    np.testing.assert_allclose(one.robot.rows[0, size : size + 7], [1.0, *[0.5] * 6], atol=1e-5)


def test_updates_follow_the_robots_transitions_at_the_stated_ratio_and_mix(run: Path) -> None:
    one = learner(run, updates_per_transition=2.0, robot_share=0.25)
    one.add(transitions(run, list(range(1, 151, 5))))  # 30: too few for a minibatch yet
    assert one.learn(1000) is None
    one.add(transitions(run, list(range(151, 301, 5)), seed=1))
    before = one.agent.updates
    assert one.learn(50) is not None
    assert one.learn(1000) is not None
    assert one.agent.updates - before == 120
    mine = {row.tobytes() for row in one.robot.rows[: one.robot.total]}
    batch = torch.cat(one._mixed.sample(np.random.default_rng(0))[:5], dim=1).numpy()
    assert sum(row.tobytes() in mine for row in batch) == 8  # of 32


def test_a_run_that_had_a_teacher_learns_on_with_what_the_robot_did_in_the_teachers_place(tmp_path: Path) -> None:
    mode, few = {"control_mode": "pd"}, {"eval_episodes": 1, "final_eval_episodes": 1}
    train(TrainConfig("ddpg_robot/QuadrupedWalk-v0", mode, steps=400, out=tmp_path / "run", overrides=SMALL, **few))
    rewards = np.linspace(0, 1, 40)
    one = learner(tmp_path / "run", lambda made: rewards[: len(made)])
    assert one.agent.config.teacher_weight > 0
    one.add(transitions(tmp_path / "run", list(range(1, 201, TICKS))))
    rows, size = one.robot.rows[: one.robot.total], (one.robot.width - 2 * 12 - 2) // 2
    np.testing.assert_array_equal(rows[:, -12:], rows[:, size : size + 12])  # the teacher's action, and the robot's
    before = one.agent.updates
    assert one.learn(10) is not None
    assert one.agent.updates == before + 10


def test_a_reward_that_is_none_is_refused(run: Path) -> None:
    with pytest.raises(TrainingError, match="reward"):
        learner(run, lambda made: np.full(len(made), np.nan)).add(transitions(run, [1]))


def test_the_gate_passes_what_drives_and_refuses_leaps_worse_values_and_weights_that_are_none(run: Path) -> None:
    one = learner(run, held_out=2)
    actor = load_actor(run, "last")

    def driving(observations: torch.Tensor) -> torch.Tensor:
        return actor.actor(actor.normalizer(observations))

    assert "no held-out states" in one.judge(driving).reason
    one.add(transitions(run, list(range(1, 201, 5))))
    judgement = one.judge(driving)
    assert (judgement.passed, judgement.states) == (True, 20)
    assert judgement.step == pytest.approx(0, abs=1e-6)
    assert "from the driving policy's" in one.judge(lambda observations: driving(observations) * 0 + 0.9).reason
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        weights = list(one.agent.averaged_actor.module.parameters())
        for weight in weights:
            weight.add_(0.005 * torch.randn(weight.shape, generator=generator))
        near = one.judge(driving)
        assert 0 < near.step < 0.1
        assert near.passed == (near.value_change >= 0)
        strict = learner(run, held_out=2, value_margin=-1e9)
        strict.add(transitions(run, list(range(1, 201, 5))))
        assert "deviations worse" in strict.judge(driving).reason
        weights[0].fill_(torch.nan)
    assert "not finite" in one.judge(driving).reason


@pytest.mark.parametrize(("name", "bad"), [("robot_share", 0.0), ("updates_per_transition", -1.0), ("held_out", 1)])
def test_settings_that_make_no_sense_are_refused(name: str, bad: float) -> None:
    with pytest.raises(ConfigError, match=name):
        OnlineSettings(**{name: bad})
