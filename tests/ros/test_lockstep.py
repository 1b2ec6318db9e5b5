"""A plant in lockstep: no tick is lost however slow the machine is, and robot time is the plant's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddpg_robot_ros.processes import ProcessFailedError

pytest.importorskip("mcap")

from ddpg_robot.policy import read_manifest, shipped_policy
from ddpg_robot.recording import Recording
from ddpg_robot_ros.benchmark.online import OnlineTrial, read_episodes, run_online


def test_a_trial_in_lockstep_has_every_tick_at_its_time_and_reaches_its_targets(tmp_path: Path) -> None:
    policy = shipped_policy("arm_reach_pd")
    found = run_online(OnlineTrial(policy, "", 0.2, 0, tmp_path))
    (path,) = (tmp_path / "record").glob("*.mcap")
    with Recording(path) as recording:
        rows = np.concatenate(list(recording.blocks()))
    assert (np.diff(rows["tick"].astype(int)) == 1).all()
    stamps = rows["stamp"][1:]
    assert np.isclose(np.diff(stamps), 0.004, atol=1e-6).mean() > 0.999
    assert not rows["tripped"].any()  # nor at the first tick, to which the plant's clock was far ahead of the node's
    assert found["complete"]
    assert found["rearms"] == 0
    assert found["largest_effort"] <= 1.0
    assert len(found["episodes"]) >= 2
    assert all(one["success"] for one in found["episodes"])
    again = read_episodes(tmp_path / "record", read_manifest(policy))
    assert again["episodes"] == found["episodes"]


def test_a_robot_that_walks_is_judged_by_how_far_it_is_from_its_command(tmp_path: Path) -> None:
    found = run_online(OnlineTrial(shipped_policy("quadruped_walk_pd"), "", 0.3, 0, tmp_path))
    assert found["complete"]
    assert found["trips"] == 0
    assert len(found["episodes"]) >= 2
    for one in found["episodes"]:
        assert not one["tripped"]
        assert one["success"] == (one["speed_error"] <= 0.15)
    assert any(one["success"] for one in found["episodes"])


def test_a_learner_that_cannot_start_ends_the_trial(tmp_path: Path) -> None:
    learner = ("-m", "ddpg_robot.cli", "learner", str(tmp_path / "none"), "arm_reach_pd")
    with pytest.raises(ProcessFailedError, match="learner_node ended by itself"):
        run_online(OnlineTrial(shipped_policy("arm_reach_pd"), "", 0.2, 0, tmp_path / "out", learner))
