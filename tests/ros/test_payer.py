"""Who pays a walking robot: the task's own reward to the last bit, and nothing where a period has no meaning."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from ros.robot import WAIT_S

from ddpg_robot.errors import ConfigError, RateError
from ddpg_robot.policy import read_manifest, shipped_policy
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.models import find_model
from ddpg_robot_ros.payer import Payer
from ddpg_robot_ros.plant import Plant
from ddpg_robot_ros.processes import wait_until
from ddpg_robot_sim.quadruped_walk import QuadrupedWalk

ASKED = (0.4, 0.1, -0.2)
CHANGED = {"payload": (3.0, 3.0), "motor_strength": (0.85, 0.85)}


class Track:
    """A simulated task and a plant with the same robot in the same state, and who pays it."""

    def __init__(self, mode: str) -> None:
        self.task = QuadrupedWalk(mode, "omni", randomization=CHANGED)
        _, info = self.task.reset(seed=3, options={"command": ASKED, "soft_start": False})
        self.plant = Plant(find_model("quadruped_walk"), draw=info["randomization"])
        data = self.plant._data
        data.qpos[:], data.qvel[:], data.time = self.task.data.qpos, self.task.data.qvel, self.task.data.time
        self.plant._begin()
        self.plant.command(np.zeros(12))
        self.plant.measure()
        name = "quadruped_walk" if mode == "effort" else "quadruped_walk_pd"
        self.manifest = read_manifest(shipped_policy(name))
        self.operator = Operator(self.manifest.robot)
        self.period = self.manifest.control.loop_period
        self.payer = Payer(self.operator.node, self.plant, self.manifest, 1 / self.period)
        self.efforts: list[np.ndarray] = []
        motors = self.task._hardware.command

        def command(effort: np.ndarray) -> None:
            self.efforts.append(effort.copy())
            motors(effort)

        self.task._hardware.command = command

    def asks(self, velocity: tuple[float, float, float]) -> bool:
        """Sends a velocity until the payer pays for it."""

        def paid() -> bool:
            self.operator.send_velocity(velocity)
            heard = np.allclose(self.payer._command.command.values, velocity)
            return math.isfinite(self.payer.reward()) and heard

        return wait_until(paid, WAIT_S)

    def step(self, action: np.ndarray) -> tuple[float, bool, list[float]]:
        """The task's reward, whether it ended, and what was paid at each tick of the same period on the plant."""
        self.efforts.clear()
        _, reward, terminated, _, _ = self.task.step(action)
        paid = []
        for effort in self.efforts:
            self.plant.command(effort)
            self.plant.advance(self.period)
            self.plant.measure()
            paid.append(self.payer.reward())
        return reward, terminated, paid


@pytest.fixture(params=["effort", "pd"])
def track(request: pytest.FixtureRequest) -> Iterator[Track]:
    one = Track(request.param)
    with one.operator:
        yield one


def test_a_robot_is_paid_what_its_task_pays_to_the_last_bit_and_loses_the_same_when_it_falls(track: Track) -> None:
    assert track.asks(ASKED)
    rng, steps, terminated = np.random.default_rng(0), 0, False
    while not terminated and steps < 500:
        steps += 1
        action = track.task.teacher_action() + rng.normal(0.0, 0.05, 12)
        if steps > 60:
            action[:6] = 1.0  # it topples
        reward, terminated, paid = track.step(np.clip(action, -1.0, 1.0))
        if not terminated:
            assert paid[-1] == reward
            assert math.isfinite(sum(paid))
    assert steps > 60
    assert terminated
    assert min(paid) < -3.0
    # The plant pays for the fall at its very tick, the task when its period ends.
    assert min(paid) == pytest.approx(reward, abs=0.5)


def test_nothing_is_paid_for_a_period_in_which_the_robot_was_put_elsewhere_left_alone_or_asked_for_something_else(
    track: Track,
) -> None:
    assert track.asks(ASKED)
    ticks = track.manifest.control.ticks_per_action

    def unpaid() -> int:
        """States without a reward, until there is one."""
        count = 0
        while not math.isfinite(track.payer.reward()):
            count += 1
        return count

    assert unpaid() == 0
    track.plant.place([], [])
    track.payer.forget()
    assert unpaid() == ticks
    assert track.asks((0.0, 0.0, 0.0))
    track.operator.send_velocity(ASKED)
    assert wait_until(lambda: math.isnan(track.payer.reward()), WAIT_S)
    assert unpaid() == 2 * ticks
    track.plant.command(None)
    assert math.isnan(track.payer.reward())
    track.plant.command(np.zeros(12))
    assert unpaid() == ticks


def test_only_a_quadruped_is_paid_and_at_a_rate_that_its_policy_knows(track: Track) -> None:
    arm = read_manifest(shipped_policy("arm_reach"))
    with pytest.raises(ConfigError, match="expected a quadruped"):
        Payer(track.operator.node, Plant(find_model("arm_reach")), arm, 250.0)
    with pytest.raises(RateError):
        Payer(track.operator.node, track.plant, track.manifest, 333.0)
