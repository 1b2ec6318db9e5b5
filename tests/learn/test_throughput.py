from __future__ import annotations

import pytest

from ddpg_robot.learn.throughput import format_throughput, main


def test_a_contestant_prints_its_rate_in_steps_per_second(capsys):
    main(["ddpg", "1", "250"])
    assert 1 < float(capsys.readouterr().out.splitlines()[-1]) < 1e5


def test_a_peer_prints_its_rate_too(capsys):
    pytest.importorskip("stable_baselines3")
    main(["sb3_ddpg", "1", "100"])
    assert 1 < float(capsys.readouterr().out.splitlines()[-1]) < 1e5


def test_the_table_says_which_peer_is_not_installed():
    rows = {"default, 1 thread": {"median": 300.0, "rates": [290.0, 300.0, 310.0]}}
    text = format_throughput({"task": "T", "machine": "m", "rows": rows, "ratio_sb3": 2.5, "ratio_sbx": None})
    assert "290 300 310" in text
    assert "Stable-Baselines3 DDPG: 2.50 times as fast" in text
    assert "SBX DDPG: not installed (pip install 'ddpg-robot[bench]')" in text
