"""What is taken back, one decision at a time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ddpg_robot.learn.config import PRESETS, DdpgConfig, TrainConfig, agent_to_dict
from ddpg_robot.learn.suite.ablation import TOGETHER, deviations, without_each
from ddpg_robot.learn.suite.plan import Plan


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "paper"])
def test_every_deviation_is_taken_back_exactly_once(preset):
    own, paper = agent_to_dict(PRESETS[preset]), agent_to_dict(PRESETS["paper"])
    fields = [name for group in deviations(preset, "paper").values() for name in group]
    assert sorted(fields) == sorted(name for name in own if own[name] != paper[name])
    taken_back = {name: value for group in deviations(preset, "paper").values() for name, value in group.items()}
    assert own | taken_back == paper


def test_settings_that_are_one_decision_are_taken_back_together():
    names = [name for group in TOGETHER for name in group]
    assert len(names) == len(set(names))
    assert set(names) <= {field.name for field in dataclasses.fields(DdpgConfig)}
    assert deviations("ddpg", "paper")["critic_layer_norm=false, batch_norm=true"] == {
        "critic_layer_norm": False,
        "batch_norm": True,
    }
    assert deviations("ddpg", "ddpg") == {}


def test_each_variant_is_a_benchmark_of_its_own(tmp_path: Path):
    plan = Plan("gym", {"Hopper-v5": ("Hopper-v5", {})}, (0,), TrainConfig("any", overrides={"tau": 0.5}), tmp_path)
    plans = without_each(plan, "paper")
    assert len({plan.out for plan in plans.values()}) == len(plans) == len(deviations("ddpg", "paper"))  # without tau
    assert plans["nothing"].template.overrides == {"tau": 0.5}
    assert plans["batch_size=64"].template.agent_settings().batch_size == 64
    assert plans["batch_size=64"].template.agent_settings().tau == 0.5
