"""The shipped walking policies, in process."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import ddpg_robot_sim  # noqa: F401 - registers the tasks
from ddpg_robot.cli.sources import actor_of

POLICIES = ["quadruped_walk", "quadruped_walk_pd"]
COMMANDS = [[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [1.0, 0.0, 0.0], [0.4, 0.3, 0.0], [0.4, 0.0, -0.6]]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_it_walks_at_the_velocity_it_is_told(policy, command):
    act, task, kwargs = actor_of(policy, None)
    env = gymnasium.make(task, **kwargs).unwrapped
    observation, _ = env.reset(seed=3, options={"command": command, "soft_start": True})
    for _ in range(round(8.0 / env.interface.control.period)):
        observation, _, terminated, _, info = env.step(np.clip(act(observation), -1.0, 1.0))
        assert not terminated
    assert info["metrics"]["speed_error_m_s"] < 0.2  # the first second, in which it stands and sets off, included
