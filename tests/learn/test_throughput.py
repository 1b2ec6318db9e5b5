"""`benchmark train` in small."""

from __future__ import annotations

import json

import pytest

from ddpg_robot.errors import ConfigError
from ddpg_robot.learn.throughput import Contestant, benchmark_train, format_throughput, main


def test_a_contestant_prints_its_rate_in_steps_per_second(capsys):
    main([json.dumps(["ddpg", 1, 1, False, 250])])
    assert 1 < float(capsys.readouterr().out.splitlines()[-1]) < 1e5


def test_a_peer_prints_its_rate_too(capsys):
    pytest.importorskip("stable_baselines3")
    main([json.dumps(["sb3_ddpg", 1, 1, False, 100])])
    assert 1 < float(capsys.readouterr().out.splitlines()[-1]) < 1e5


def test_the_table_says_which_peer_is_not_installed():
    rows = {"ddpg, 1 thread": {"median": 300.0, "rates": [290.0, 300.0, 310.0]}}
    ratios = {"ratio_sb3": 2.5, "ratio_sb3_float32": 2.5, "ratio_sbx": None, "ratio_sb3_td3": 2.0}
    text = format_throughput({"task": "T", "machine": "m", "rows": rows, **ratios})
    assert "290 300 310" in text
    assert "ddpg as peers beside sb3_ddpg: 2.50 times as fast" in text
    assert "ddpg as peers beside sbx_ddpg: not installed (pip install 'ddpg-robot[bench]')" in text


def test_a_contestants_row_says_how_it_runs():
    assert str(Contestant("max", 1)) == "max, 1 thread"
    assert str(Contestant("ddpg", 2, 16)) == "ddpg, 2 threads, 16 environments"
    assert str(Contestant("ddpg", 1, 4, shared=True)) == "ddpg, 1 thread, 4 environments, 1 update for all"


def test_one_environment_is_no_number_of_its_own():
    with pytest.raises(ConfigError, match="envs: found 4 1, expected numbers from 2"):
        benchmark_train(envs=(4, 1))
