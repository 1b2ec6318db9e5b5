"""`ddpg-robot identify` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium
import pytest

pytest.importorskip("scipy")
pytest.importorskip("mcap")

from bag_files import mcap_bag
from identification_trials import drawn_robot, record_draw
from recorded_session import record

from ddpg_robot_sim import TASKS


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_recording_becomes_numbers_a_page_and_a_setting_that_a_task_takes(call, tmp_path: Path) -> None:
    record_draw(tmp_path / "plant.mcap", drawn_robot(209), 209, 12.0)
    done = call("identify", "plant.mcap", "--task", "arm_reach", "--out", "found", timeout=1500)
    assert done.returncode == 0, done
    assert "motor_strength" in done.stdout
    assert "Simulated against recorded" in done.stdout
    assert len(json.loads((tmp_path / "found/identified.json").read_text())["parameters"]) == 36
    assert "<svg" in (tmp_path / "found/report.html").read_text()
    env = gymnasium.make(TASKS["arm_reach"], randomization=str(tmp_path / "found/randomization.json"))
    assert env.reset(seed=1)[1]["randomization"]["effort_delay_ms"] >= 0


def test_what_cannot_be_identified_is_refused_in_one_line(refused, tmp_path: Path) -> None:
    assert "expected at least 8 s" in refused("identify", record(tmp_path / "short"), "--task", "arm_reach")
    assert "floating base" in refused("identify", "any.mcap", "--task", "quadruped_walk")
    assert "found nothing" in refused("identify", "nowhere.mcap", "--task", "arm_reach")
    assert "found no joint_states" in refused("identify", mcap_bag(tmp_path / "empty", ()), "--task", "arm_reach")
    assert "valid choices: default, off, strong" in refused("identify", "any.mcap", "--preset", "mild")
    assert "prior link_mass" in refused("identify", "any.mcap", "--prior", "off")
    assert not (tmp_path / "runs").exists()
