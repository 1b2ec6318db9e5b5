"""The reward that a learner computes of a robot's transitions is the simulator's own."""

from __future__ import annotations

import numpy as np
import pytest

from ddpg_robot.transition import transition_dtype
from ddpg_robot_sim.arm_reach import ArmReach


@pytest.mark.parametrize("mode", ["effort", "pd"])
def test_transitions_are_rewarded_as_the_steps_that_they_were(mode: str) -> None:
    task = ArmReach(mode)
    task.reset(seed=1)
    rng, rewards, made = np.random.default_rng(0), [], []
    terminated = False
    for step in range(200):
        one = np.zeros((), transition_dtype(task.interface))
        one["before"]["effort"] = task.effort
        action = rng.uniform(-1, 1, 7) * (0.3 if step < 150 else 1.0)
        _, reward, terminated, _, _ = task.step(action)
        one["command"], one["terminated"] = task.command.values, terminated
        one["after"]["position"], one["after"]["velocity"] = task.truth.position, task.truth.velocity
        one["after"]["effort"] = task.effort
        rewards.append(reward)
        made.append(one)
        if terminated:
            break
    # The simulator knows where the hand was one physics step ago.
    np.testing.assert_allclose(task.reward_of(np.stack(made)), rewards, atol=0.02)
    failed = np.stack(made[:1])
    quiet = task.reward_of(failed)
    failed["terminated"] = True
    assert task.reward_of(failed) < quiet - 5
