from __future__ import annotations

import pytest

from ddpg_robot.errors import ConfigError
from ddpg_robot.learn.agents import ALGORITHMS
from ddpg_robot.learn.scaling import benchmark_scaling, draw_scaling


@pytest.fixture(scope="module")
def result():
    return benchmark_scaling(repeats=1, joints=(1, 6))


def test_every_method_is_timed_and_a_grid_that_does_not_fit_is_not(result):
    rows = result["rows"]
    assert set(rows) == (set(ALGORITHMS) - {"dqn", "ddpg_eager"}) | {"dqn, 3 bins", "dqn, 10 bins"}
    assert rows["dqn, 10 bins"]["act_us"][1] is None
    times = [time for row in rows.values() for key in row for time in row[key]]
    assert sum(time is None for time in times) == 2
    assert all(1 < time < 1e7 for time in times if time is not None)


def test_a_grid_grows_with_the_power_of_the_joints(result):
    grid = result["grids"]["dqn, 3 bins"]
    assert grid["actions"] == [3, 729]
    assert grid["bytes"][1] == grid["bytes"][0] * 3**5


def test_the_costs_become_a_picture(result, tmp_path):
    pytest.importorskip("matplotlib")
    draw_scaling(result, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_no_repeats_are_refused():
    with pytest.raises(ConfigError, match="repeats: found 0"):
        benchmark_scaling(repeats=0)
