"""The task of a robot's own file, and the files it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from own_robots import mjcf, write

import ddpg_robot_sim
from ddpg_robot.errors import ConfigError
from ddpg_robot.spec import PolicyInterface
from ddpg_robot.spec_json import from_dict, to_dict
from ddpg_robot_sim.new_robot import Given, new_robot
from ddpg_robot_sim.robot_file import read_robot_file
from ddpg_robot_sim.robot_model import compile_robot
from ddpg_robot_sim.robot_text import robot_text


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    """A task file beside its model."""
    made = new_robot(write(tmp_path, mjcf()), "tool")
    out = tmp_path / "three.toml"
    out.write_text(robot_text(made.file, made.notes, out))
    return out


@pytest.fixture
def edited(robot: Path) -> Callable[[str, str], Path]:
    """The task file with the line of one key replaced."""

    def edit(key: str, line: str) -> Path:
        lines = robot.read_text().splitlines()
        found = [i for i, one in enumerate(lines) if one.startswith(f"{key} =")]
        assert len(found) == 1, key
        lines[found[0]] = line
        robot.write_text("\n".join(lines))
        return robot

    return edit


def make(robot: Path, **kwargs: object):
    return gymnasium.make(ddpg_robot_sim.ROBOT_REACH, robot=str(robot), **kwargs).unwrapped


@pytest.mark.parametrize("mode", ["effort", "pd"])
def test_the_task_follows_the_gymnasium_interface(robot: Path, mode: str) -> None:
    check_env(make(robot, control_mode=mode), skip_render_check=True)


def test_mode_and_limits_are_those_of_the_file(robot: Path) -> None:
    env = make(robot)
    assert env.interface.control.mode == "pd"
    assert [joint.effort_limit for joint in env.interface.robot.joints] == [20.0, 20.0, 20.0]
    assert env.interface.robot.chain.tip_frame == "tool"
    assert from_dict(PolicyInterface, json.loads(json.dumps(to_dict(env.interface)))) == env.interface


def test_a_limit_that_is_edited_is_the_motors_and_the_end_stops(edited: Callable[[str, str], Path]) -> None:
    edited("effort_limit", "effort_limit = [5.0, 6.0, 7.0]")
    model = compile_robot(edited("position_upper", "position_upper = [1.0, 1.5, 2.0]"))
    assert model.actuator_ctrlrange[:, 1].tolist() == [5.0, 6.0, 7.0]
    assert model.jnt_range[:, 1].tolist() == [1.0, 1.5, 2.0]


def test_the_arm_stays_where_gravity_is_compensated_and_sinks_where_it_is_not(robot: Path, edited) -> None:
    def moved(env) -> float:
        env.reset(seed=0)
        start = env.state.position.copy()
        for _ in range(40):
            env.step(np.zeros(3))
        return float(np.abs(env.state.position - start).max())

    assert moved(make(robot, control_mode="effort")) < 1e-3
    assert moved(make(edited("gravity_compensated", "gravity_compensated = false"), control_mode="effort")) > 0.05


def test_episodes_begin_with_the_end_effector_among_the_targets(robot: Path) -> None:
    env = make(robot)
    for seed in range(20):
        env.reset(seed=seed)
        tip = env.data.site_xpos[env._site]
        assert (tip >= env.interface.command.lower).all()
        assert (tip <= env.interface.command.upper).all()


def test_with_contacts_no_episode_begins_in_one(tmp_path: Path) -> None:
    wall = '<geom name="wall" type="box" pos="0.45 0.4 0.4" size="0.3 0.25 0.4"/><body name="pedestal"'
    made = new_robot(write(tmp_path, mjcf().replace('<body name="pedestal"', wall, 1)), "tool")
    content = made.file.content() | {"contacts": True}
    env = gymnasium.make(ddpg_robot_sim.ROBOT_REACH, robot=content).unwrapped
    free = gymnasium.make(ddpg_robot_sim.ROBOT_REACH, robot=made.file.content()).unwrapped
    for seed in range(20):
        env.reset(seed=seed)
        assert env.data.ncon == 0
    free.reset(seed=0, options={"joint_position": [0.6, 1.0, 0.3]})
    assert free.data.ncon == 0
    env.reset(seed=0, options={"joint_position": [0.6, 1.0, 0.3]})
    assert env.data.ncon > 0


def test_a_randomised_robot_of_ones_own_carries_its_payload_at_the_end_effector(robot: Path) -> None:
    env = make(robot, randomization="strong")
    _, info = env.reset(seed=0)
    assert len(info["randomization"]["motor_strength"]) == 3
    payload = env.model.body("payload").id
    assert env.data.xpos[payload] == pytest.approx(env.data.site_xpos[env._site])


@pytest.mark.parametrize(
    ("key", "line", "says"),
    [
        ("name", 'name = "three"\ncolour = "red"', "unknown key colour"),
        ("home", "", "joints: found no home"),
        ("effort_limit", "effort_limit = [5.0, 6.0]", "joints.effort_limit: found 2 values, expected 3"),
        ("effort_limit", "effort_limit = [5.0, -6.0, 1.0]", "effort_limit: found -6.0"),
        ("effort_limit", "effort_limit = [nan, 6.0, 1.0]", "effort_limit[0]: found nan"),
        ("effort_limit", "effort_limit = ['5', 6.0, 1.0]", "effort_limit[0]: found str"),
        ("velocity_limit", "velocity_limit = [2.0, 1e9, 2.0]", "velocity_limit: found 1000000000.0"),
        ("position_lower", "position_lower = [3.0, -1.0, -1.0]", "joint"),
        ("kp", "kp = [1e9, 1.0, 1.0]", "control gain"),
        ("target_range", "target_range = [0.3, 0.3, 9.0]", "joints.target_range of 'elbow': found 9.0"),
        ("armature", "armature = [0.1, 0.1, -0.1]", "joints.armature of 'elbow': found -0.1"),
        ("effort_range", "effort_range = [0.3, 0.3, 1.5]", "expected more than 0, at most 1 of the effort limit"),
        ("mode", 'mode = "velocity"', "valid choices: effort, pd"),
        ("period", "period = 3600.0", "control period: found 3600.0"),
        ("ticks_per_action", "ticks_per_action = 0", "ticks_per_action: found 0"),
        ("seconds", "seconds = 1e6", "target.seconds: found 1000000.0"),
        ("lower", "lower = [2.0, 2.0, 2.0]", "command bounds"),
        ("end_effector", 'end_effector = "gripper"', "valid choices: body forearm"),
        ("model", 'model = "other.xml"', "nothing at"),
        ("contacts", 'contacts = "no"', "contacts: found str"),
        ("name", "name = ", "found "),
    ],
)
def test_a_file_that_cannot_be_is_refused_in_one_line(
    edited: Callable[[str, str], Path], key: str, line: str, says: str
) -> None:
    if key == "name":  # the robot's, not the joints'
        file = edited("model", 'model = "three.xml"')
        file.write_text(file.read_text().replace('name = "three"', line, 1))
    else:
        file = edited(key, line)
    with pytest.raises(ConfigError) as error:
        make(file)
    assert says in str(error.value)
    assert ", expected " in str(error.value)
    assert "\n" not in str(error.value)


def test_targets_out_of_reach_are_refused(robot: Path) -> None:
    content = read_robot_file(robot).content()
    content["target"] |= {"lower": [3.0, 3.0, 3.0], "upper": [4.0, 4.0, 4.0]}
    with pytest.raises(ConfigError, match="start poses: found 0 of 4000"):
        gymnasium.make(ddpg_robot_sim.ROBOT_REACH, robot=content)


def test_joints_in_another_order_than_the_models_are_refused(robot: Path) -> None:
    content = read_robot_file(robot).content()
    content["joints"]["name"] = ["waist", "elbow", "shoulder"]
    with pytest.raises(
        ConfigError, match=r"joints\.name: found waist, elbow, shoulder, expected waist, shoulder, elbow"
    ):
        gymnasium.make(ddpg_robot_sim.ROBOT_REACH, robot=content)


def test_a_heavy_arm_that_carries_itself_is_warned_of(tmp_path: Path) -> None:
    heavy = mjcf(forearm='<geom type="capsule" fromto="0 0 0 0 0 0.25" size="0.03" mass="30"/>')
    robot = new_robot(write(tmp_path, heavy), "tool", Given(gravity_compensated=False))
    assert any("gravity takes more" in note and "shoulder" in note for note in robot.notes)
