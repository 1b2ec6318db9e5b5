"""A robot of one's own behind topics: its task file is the plant's model, and a policy trained on it moves it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from own_robots import mjcf, write
from ros.robot import WAIT_S

from ddpg_robot.errors import ConfigError
from ddpg_robot.policy import read_manifest
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.models import model_of
from ddpg_robot_ros.plant import Plant
from ddpg_robot_ros.processes import Deployment, wait_until

PATIENT = dict.fromkeys(("state_timeout_periods", "stall_periods", "guard_timeout_periods"), 100.0)


def ddpg_robot(folder: Path, *words: object) -> None:
    command = [sys.executable, "-m", "ddpg_robot.cli", *map(str, words)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task file."""
    folder = tmp_path_factory.mktemp("robot")
    write(folder, mjcf())
    ddpg_robot(folder, "new-robot", "three.xml", "--end-effector", "tool")
    return folder / "three.toml"


def test_the_plant_of_a_task_file_has_its_joints_limits_and_home(robot: Path) -> None:
    plant = Plant(robot)
    assert plant.joint_names == ("waist", "shoulder", "elbow")
    home = plant.position.copy()
    assert np.abs(home).max() > 0.3
    plant.advance(1.0)
    assert np.abs(plant.position - home).max() < 1e-3  # gravity is compensated
    plant.command(np.array([1e3, 0.0, 0.0]))
    plant.advance(plant.timestep)
    assert plant.applied[0] == 20.0


def test_the_plant_of_a_task_file_can_have_a_draw_of_its_task(robot: Path) -> None:
    import gymnasium

    import ddpg_robot_sim

    env = gymnasium.make(ddpg_robot_sim.ROBOT_REACH, robot=str(robot), randomization="strong")
    _, info = env.reset(seed=0)
    plant = Plant(robot, draw=info["randomization"])
    plant.command(np.array([2.0, 0.0, 0.0]))
    plant.advance(0.2)
    assert plant.velocity[0] > 0.0


def test_a_task_file_that_is_none_is_refused_by_the_plant(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("name = ")
    with pytest.raises(ConfigError, match=r"task file bad\.toml"):
        Plant(bad)


@pytest.mark.slow
@pytest.mark.train
def test_a_policy_trained_on_a_task_file_moves_its_robot_over_dds(robot: Path) -> None:
    short = ("--steps", 600, "--eval-every", 600, "--eval-episodes", 1, "--final-eval-episodes", 1)
    ddpg_robot(robot.parent, "train", robot, *short, "--set", "warmup_steps=200", "--out", "run")
    ddpg_robot(robot.parent, "export", "run", "--out", "three.onnx")
    policy = robot.parent / "three.onnx"
    manifest = read_manifest(policy)
    with pytest.raises(ConfigError, match="task file"):
        model_of(manifest.robot, manifest.training.robot_file is not None)  # which robot it is, nobody guesses
    plant = {"model": str(robot)}
    with (
        Deployment(policy, plant_parameters=plant, policy_parameters=PATIENT) as deployment,
        Operator(manifest.robot) as operator,
    ):

        def active() -> bool:
            deployment.check()
            return operator.active() and operator.ready() and operator.watch()

        assert wait_until(active, WAIT_S)
        start = operator.state.position.copy()
        target = np.array(manifest.command.upper)

        def moved() -> bool:
            operator.send_target(target)
            time.sleep(0.1)
            deployment.check()
            return bool(operator.watch() and np.abs(operator.state.position - start).max() > 0.1)

        assert wait_until(moved, WAIT_S)
        assert set(deployment.nodes) == {"plant_node", "effort_guard", "policy_node"}
