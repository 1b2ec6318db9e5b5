"""A quadruped over real DDS: plant with IMU, guard and policy node, commanded by velocities."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from policy_factory import write_policy
from ros.robot import PATIENT, WAIT_S

from ddpg_robot.errors import ConfigError
from ddpg_robot.learn.config import resolve_agent
from ddpg_robot.learn.networks import Actor
from ddpg_robot.learn.normalizer import Normalizer
from ddpg_robot_export.actor import DeployedActor
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.processes import Deployment, wait_until
from ddpg_robot_ros.trial import await_start
from ddpg_robot_ros.walk_trial import Walker, run_walk
from ddpg_robot_sim.quadruped_walk import QuadrupedWalk

PATIENT_NODE = {**PATIENT, "guard_timeout_periods": 100.0}


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy file whose joint targets are the standing pose, whatever it observes."""
    task = QuadrupedWalk("pd")
    size, n = task.interface.observation.size, task.interface.robot.n_joints
    actor = Actor(size, n, resolve_agent("ddpg", {"actor_final_init": 1e-6}))
    deployed = DeployedActor(task.interface, Normalizer(size, True), actor, *task.action_scaling)
    return write_policy(tmp_path_factory.mktemp("policy") / "standing.onnx", deployed, samples=200)


def test_a_walk_over_ros_measures_how_far_the_robot_is_from_what_it_was_told(standing: Path) -> None:
    commands = np.array([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]])
    finished: list[int] = []

    def note(done: int, total: int) -> None:
        finished.append(done)

    for _ in range(3):  # a quadruped that gets no torque for 100 ms falls, and a busy machine may pause as long
        result = run_walk(standing, commands, 3.0, note, policy_parameters=PATIENT_NODE)
        if result["success_rate"] == 1.0:
            break
    stood, refused = result["per_episode"]
    assert finished[-2:] == [1, 2]
    assert result["success_rate"] == 1.0
    assert stood["speed_error_m_s"] < 0.1
    assert refused["speed_error_m_s"] == pytest.approx(0.5, abs=0.1)
    assert result["speed_error_m_s"] == pytest.approx(0.25, abs=0.1)
    assert len(stood["velocity"]) > 20


def test_a_robot_that_was_stopped_lies_down_and_can_be_stood_up_again(standing: Path) -> None:
    with (
        Deployment(standing, policy_parameters=PATIENT_NODE) as deployment,
        Operator(deployment.manifest.robot) as operator,
    ):
        walker = Walker(operator)
        await_start(deployment, operator)
        send = [sys.executable, "-m", "ddpg_robot_ros.send_velocity", "0.5", "0", "0"]
        subprocess.run(send, check=True, timeout=WAIT_S)
        assert wait_until(lambda: walker.walk(np.zeros(3), 1.0)["success"], WAIT_S)  # it falls when the machine pauses
        assert operator.trigger("policy_node/estop").success
        assert wait_until(lambda: not walker.walk(np.zeros(3), 0.2)["success"], WAIT_S)  # and stands it up
        assert wait_until(lambda: walker.walk(np.zeros(3), 2.0)["success"], WAIT_S)


def test_commands_of_the_wrong_shape_are_refused(standing: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected an array \(m, 3\)"):
        run_walk(standing, np.zeros((3, 2)))
