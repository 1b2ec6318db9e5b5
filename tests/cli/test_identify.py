"""`ddpg-robot identify` as a user calls it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("scipy")
pytest.importorskip("mcap")

from bag_files import mcap_bag
from recorded_session import record


def test_what_cannot_be_identified_is_refused_in_one_line(refused, tmp_path: Path) -> None:
    assert "expected at least 8 s" in refused("identify", record(tmp_path / "short"), "--task", "arm_reach")
    assert "floating base" in refused("identify", "any.mcap", "--task", "quadruped_walk")
    assert "found nothing" in refused("identify", "nowhere.mcap", "--task", "arm_reach")
    assert "found no joint_states" in refused("identify", mcap_bag(tmp_path / "empty", ()), "--task", "arm_reach")
    assert "valid choices: default, off, strong" in refused("identify", "any.mcap", "--preset", "mild")
    assert "prior link_mass" in refused("identify", "any.mcap", "--prior", "off")
    assert not (tmp_path / "runs").exists()
