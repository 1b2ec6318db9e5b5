"""What each deviation of a preset from another is worth: the same trainings with one of them taken back at a time."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from ddpg_robot.learn.config import agent_to_dict, resolve_agent
from ddpg_robot.learn.suite.plan import Plan

TOGETHER = (
    ("actor_hidden", "critic_hidden"),
    ("critics", "newest_in_targets"),
    ("critic_layer_norm", "batch_norm"),
    ("actor_final_init", "critic_final_init"),
    ("target_noise", "target_noise_clip"),
    ("actor_lr", "critic_lr", "lr_final_fraction"),
    ("warmup_steps", "warmup_repeat_probability"),
    ("noise", "noise_theta", "noise_sigma", "noise_sigma_final"),
)
"""Settings that are one decision."""


def deviations(preset: str, reference: str) -> dict[str, dict[str, Any]]:
    """Every decision in which a preset differs: its settings in the reference as text, such as ``n_step=1``, and as fields."""
    own, other = (agent_to_dict(resolve_agent(name)) for name in (preset, reference))
    groups = [*TOGETHER, *((name,) for name in own if not any(name in group for group in TOGETHER))]
    found = {}
    for group in groups:
        fields = {name: other[name] for name in group if own[name] != other[name]}
        if fields:
            found[", ".join(f"{name}={_text(value)}" for name, value in fields.items())] = fields
    return found


def without_each(plan: Plan, reference: str) -> dict[str, Plan]:
    """The benchmark itself, as ``nothing``, and the same with each deviation from `reference` taken back.

    What the benchmark overrides stays as it is.
    """
    plans = {"nothing": dataclasses.replace(plan, out=plan.out / "nothing")}
    for text, fields in deviations(plan.template.preset, reference).items():
        if fields.keys() & plan.template.overrides.keys():
            continue
        template = dataclasses.replace(plan.template, overrides={**plan.template.overrides, **fields})
        out = plan.out / re.sub(r"[^\w.=-]+", "_", text).strip("_")
        plans[text] = dataclasses.replace(plan, template=template, out=out)
    return plans


def _text(value: Any) -> str:
    return str(value).replace(" ", "").lower()
