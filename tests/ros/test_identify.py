"""From a drawn plant behind real DDS, through the policy node's recorder, back to the values that were drawn."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

pytest.importorskip("scipy")
pytest.importorskip("mcap")

from identification_trials import DRAWN, drawn_robot, truth

from ddpg_robot.policy import shipped_policy
from ddpg_robot_ros.benchmark import online
from ddpg_robot_sim import TASKS
from ddpg_robot_sim.identification.identify import identify

SEED = 208
RANGES = {
    "link_mass": (0.9, 1.1),
    "joint_damping": (0.7, 1.4),
    "joint_friction": (0.5, 2.0),
    "armature": (0.8, 1.2),
    "motor_strength": (0.9, 1.1),
    "effort_delay_ms": (0.0, 4.0),
    "position_noise": (1e-4, 1e-4),
    "velocity_noise": (0.005, 0.005),
}
"""Of a good arm."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_plant_that_was_drawn_is_found_again_in_what_the_policy_node_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    robot = drawn_robot(SEED, **RANGES)
    (tmp_path / "draw.json").write_text(json.dumps(robot))
    monkeypatch.setitem(online.HOLD_S, "point", 0.8)  # a new target so often: the arm never rests
    trial = online.OnlineTrial(shipped_policy("arm_reach_pd"), str(tmp_path / "draw.json"), 0.3, SEED, tmp_path)
    online.run_online(trial)
    (recording,) = (tmp_path / "record").glob("*.mcap")
    found = identify(recording, TASKS["arm_reach"], prior=dataclasses.replace(DRAWN, **RANGES))
    errors = {}
    rows = zip(found.fit.parameters, found.fit.intervals(), found.fit.told())
    for parameter, (value, _, _), told in rows:
        true = truth(robot, parameter.field, parameter.index)
        if not parameter.is_factor:
            assert abs(value - true) < 1.0
        elif told:
            errors[f"{parameter.field} {parameter.name}"] = abs(value / true - 1)
    assert len(errors) >= 30
    assert max(errors.values()) < 0.1, errors
    assert found.gap.overall("after")[1] < found.gap.overall("before")[1] / 3
