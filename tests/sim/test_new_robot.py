"""A task file from a model: what it takes over, what it chooses, and what it refuses, in one line each."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest
from own_robots import MOTORS, SERVOS, mjcf, urdf, write

import ddpg_robot_sim
from ddpg_robot.errors import ConfigError
from ddpg_robot_sim.new_robot import Given, NewRobot, new_robot
from ddpg_robot_sim.robot_file import read_robot_file, robot_of
from ddpg_robot_sim.robot_model import TIP, compile_robot, robot_spec
from ddpg_robot_sim.robot_text import robot_text

SIX = Path(__file__).parents[2] / "examples" / "my_arm" / "my_arm.xml"


def made(folder: Path, text: str, tip: str = "tool", name: str = "three.xml", **given: object) -> NewRobot:
    return new_robot(write(folder, text, name), tip, Given(**given))


def refusal(folder: Path, text: str, tip: str = "tool", name: str = "three.xml", **given: object) -> str:
    with pytest.raises(ConfigError) as error:
        made(folder, text, tip, name, **given)
    assert "\n" not in str(error.value)
    assert ": found " in str(error.value)
    assert ", expected " in str(error.value)
    return str(error.value)


def test_limits_of_an_mjcf_model_are_taken_over_and_what_it_cannot_say_is_noted(tmp_path: Path) -> None:
    robot = made(tmp_path, mjcf())
    assert robot.file.joints.name == ("waist", "shoulder", "elbow")
    assert robot.file.joints.effort_limit == (20.0, 20.0, 20.0)
    assert robot.file.joints.position_upper == (2.5, 1.6, 2.2)
    assert robot.file.joints.velocity_limit == (2.0, 2.0, 2.0)
    assert robot.notes == ("no velocity limit for waist, shoulder, elbow: 2 rad/s assumed",)


def test_limits_of_a_urdf_are_taken_over_and_a_fixed_link_can_be_the_end_effector(tmp_path: Path) -> None:
    robot = made(tmp_path, urdf(), "tool0", "three.urdf")
    assert robot.file.joints.effort_limit == (20.0, 20.0, 15.0)
    assert robot.file.joints.velocity_limit == (2.0, 2.0, 2.5)
    assert robot.file.joints.position_lower == (-2.0, -2.0, -2.0)
    assert compile_robot(robot.file).nu == 3


def test_no_limit_is_rounded_to_one_that_the_model_does_not_have(tmp_path: Path) -> None:
    exact = mjcf(elbow='<joint name="elbow" range="-2.19996 2.19996"/>')
    assert made(tmp_path, exact).file.joints.position_upper[2] == 2.19996


def test_gear_and_force_ranges_bound_the_effort(tmp_path: Path) -> None:
    geared = MOTORS.replace('joint="elbow" ctrlrange="-20 20"', 'joint="elbow" ctrlrange="-1 1" gear="30"')
    assert made(tmp_path, mjcf(geared)).file.joints.effort_limit[2] == 30.0
    forced = geared.replace('gear="30"', 'gear="30" forcerange="-0.5 0.4"')
    assert made(tmp_path, mjcf(forced)).file.joints.effort_limit[2] == pytest.approx(12.0)


@pytest.mark.parametrize("compensated", [True, False])
def test_the_written_file_reads_back_as_the_same_robot(tmp_path: Path, compensated: bool) -> None:
    robot = made(tmp_path, mjcf(), gravity_compensated=compensated)
    out = tmp_path / "three.toml"
    out.write_text(robot_text(robot.file, robot.notes, out))
    assert read_robot_file(out) == robot.file
    assert robot_of(robot.file.content()) == robot.file
    assert 'model = "three.xml"' in out.read_text()
    assert "# NOTE: no velocity limit" in out.read_text()


@pytest.mark.parametrize(("text", "tip", "name"), [(mjcf(), "tool", "a.xml"), (urdf(), "tool0", "a.urdf")])
def test_the_chain_of_the_spec_moves_as_mujoco_does(tmp_path: Path, text: str, tip: str, name: str) -> None:
    file = made(tmp_path, text, tip, name).file
    env = gymnasium.make(ddpg_robot_sim.ROBOT_REACH, robot=file.content()).unwrapped
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    jacobian = np.zeros((3, env.model.nv))
    site = env.model.site(TIP).id
    for _ in range(20):
        env.data.qpos[:] = rng.uniform(-1.5, 1.5, 3)
        mujoco.mj_forward(env.model, env.data)
        mujoco.mj_jacSite(env.model, env.data, jacobian, None, site)
        env.read_state()
        env.observe()
        kinematics = env._builder._inputs.chain
        assert kinematics.tip == pytest.approx(env.data.site_xpos[site], abs=1e-12)
        assert kinematics.jacobian.T == pytest.approx(jacobian, abs=1e-12)


def test_a_keyframe_is_home_and_without_one_the_arm_is_bent(tmp_path: Path) -> None:
    keyed = mjcf().replace("</mujoco>", '<keyframe><key name="ready" qpos="0.1 0.5 1.2"/></keyframe></mujoco>')
    assert made(tmp_path, keyed).file.joints.home == (0.1, 0.5, 1.2)
    assert made(tmp_path, keyed, home=(0.2, 0.4, 1.0)).file.joints.home == (0.2, 0.4, 1.0)
    home = made(tmp_path, mjcf()).file.joints.home
    assert home[0] == 0.0
    assert abs(home[2]) > 0.4


def test_every_corner_of_the_box_of_targets_can_be_reached() -> None:
    file = new_robot(SIX, "tool").file
    robot = robot_spec(file, compile_robot(file))
    from ddpg_robot.kinematics import ChainKinematics

    kinematics = ChainKinematics(robot.chain)
    for k in range(8):
        target = np.where([k & 1, k & 2, k & 4], file.target.upper, file.target.lower)
        pose = np.array(file.joints.home)
        for _ in range(500):
            kinematics.update(pose)
            error, jacobian = target - kinematics.tip, kinematics.jacobian
            pose += 0.3 * jacobian @ np.linalg.solve(jacobian.T @ jacobian + 1e-3 * np.eye(3), error)
            pose = np.clip(pose, file.joints.position_lower, file.joints.position_upper)
        assert np.linalg.norm(error) < 0.01, target
    assert (np.array(file.target.upper) - file.target.lower > 0.1).all()


def test_gains_bring_a_joint_to_its_target_without_passing_its_velocity_limit(tmp_path: Path) -> None:
    file = made(tmp_path, mjcf()).file
    env = gymnasium.make(ddpg_robot_sim.ROBOT_REACH, robot=file.content(), control_mode="pd").unwrapped
    for joint in range(3):
        env.reset(seed=joint, options={"joint_position": np.array(file.joints.home)})
        fastest = 0.0
        action = np.zeros(3)
        action[joint] = -np.sign(file.joints.home[joint] or 1.0)
        for _ in range(25):
            _, _, terminated, _, _ = env.step(action)
            fastest = max(fastest, float(np.abs(env.state.velocity).max()))
            assert not terminated
        assert 0.3 < fastest < 2.0


def test_servos_are_refused_and_motors_can_take_their_place_with_the_servos_limits(tmp_path: Path) -> None:
    line = refusal(tmp_path, mjcf(SERVOS))
    assert "no torque motor" in line
    assert "waist, shoulder, elbow" in line
    assert "--actuators motor" in line
    file = made(tmp_path, mjcf(SERVOS), replace_actuators=True).file
    assert file.joints.effort_limit == (15.0, 15.0, 15.0)
    assert (compile_robot(file).actuator_biastype == mujoco.mjtBias.mjBIAS_NONE).all()


def test_a_model_without_actuators_is_refused_with_the_joints_that_need_them(tmp_path: Path) -> None:
    line = refusal(tmp_path, mjcf(actuators=""))
    assert "found none, expected a torque motor on each of waist, shoulder, elbow" in line
    line = refusal(tmp_path, mjcf(actuators=""), replace_actuators=True)
    assert "no effort limit (--effort-limit N·m) for waist, shoulder, elbow" in line
    robot = made(tmp_path, mjcf(actuators=""), replace_actuators=True, effort_limit=12.0)
    assert robot.file.joints.effort_limit == (12.0, 12.0, 12.0)


def test_one_joint_without_motor_two_motors_and_a_foreign_motor_are_named(tmp_path: Path) -> None:
    assert "none on elbow" in refusal(tmp_path, mjcf(MOTORS.replace('<motor joint="elbow" ctrlrange="-20 20"/>', "")))
    assert "more than one on elbow" in refusal(tmp_path, mjcf(MOTORS + '<motor joint="elbow" ctrlrange="-1 1"/>'))
    assert "also pull" in refusal(tmp_path, mjcf(MOTORS + '<motor name="pull" site="tool"/>'))


def test_missing_limits_are_listed_with_the_option_that_gives_them(tmp_path: Path) -> None:
    unlimited = MOTORS.replace('joint="elbow" ctrlrange="-20 20"', 'joint="elbow"')
    line = refusal(tmp_path, mjcf(unlimited, elbow='<joint name="elbow"/>'))
    assert "no effort limit (--effort-limit N·m) for elbow" in line
    assert "no position limits (--position-limit RAD) for elbow" in line
    file = made(tmp_path, mjcf(unlimited, '<joint name="elbow"/>'), effort_limit=5.0, position_limit=2.0).file
    assert file.joints.effort_limit == (20.0, 20.0, 5.0)
    assert file.joints.position_lower == (-2.5, -1.6, -2.0)


def test_a_urdf_without_efforts_or_with_an_endless_joint_is_refused(tmp_path: Path) -> None:
    line = refusal(tmp_path, urdf('velocity="2"'), "tool0", "three.urdf")
    assert "no effort limit (--effort-limit N·m) for elbow" in line
    line = refusal(tmp_path, urdf(kind="continuous"), "tool0", "three.urdf")
    assert "no position limits (--position-limit RAD) for elbow" in line
    assert (
        made(tmp_path, urdf(kind="continuous"), "tool0", "a.urdf", position_limit=3.0).file.joints.position_upper[2]
        == 3
    )


def test_links_without_inertia_are_refused(tmp_path: Path) -> None:
    line = refusal(tmp_path, mjcf(forearm=""))
    assert "forearm" in line
    assert "needs an inertia" in line
    line = refusal(tmp_path, urdf(inertial=""), "tool0", "three.urdf")
    assert "forearm" in line
    assert "<inertial>" in line
    grams = '<inertial pos="0 0 0.1" mass="1e-7" diaginertia="1e-11 1e-11 1e-11"/>'
    elbow = '<joint name="elbow" range="-2.2 2.2" armature="0"/>'
    assert "inertia about joints" in refusal(tmp_path, mjcf(elbow=elbow, forearm=grams))


def test_an_armature_that_is_missing_is_assumed_and_said(tmp_path: Path) -> None:
    robot = made(tmp_path, urdf(), "tool0", "three.urdf")
    assert min(robot.file.joints.armature) >= 0.01
    assert any("no armature: assumed" in note and "elbow" in note for note in robot.notes)
    assert compile_robot(robot.file).dof_armature.tolist() == list(robot.file.joints.armature)
    assert made(tmp_path, mjcf()).file.joints.armature == (0.02, 0.02, 0.02)


@pytest.mark.parametrize(("text", "tip", "name"), [(mjcf(), "tool", "a.xml"), (urdf(), "tool0", "a.urdf")])
@pytest.mark.parametrize("mode", ["effort", "pd"])
def test_an_untrained_policys_wildest_actions_do_not_trip_the_filter(
    tmp_path: Path, text: str, tip: str, name: str, mode: str
) -> None:
    file = made(tmp_path, text, tip, name).file
    env = gymnasium.make(ddpg_robot_sim.ROBOT_REACH, robot=file.content(), control_mode=mode).unwrapped
    rng = np.random.default_rng(0)
    for seed in range(5):
        env.reset(seed=seed)
        for step in range(40):
            if step % 10 == 0:
                action = np.sign(rng.standard_normal(3))
            assert not env.step(action)[2]


def test_absurd_limits_are_refused_with_their_units(tmp_path: Path) -> None:
    assert "effort 1e+06 N·m" in refusal(tmp_path, urdf('effort="1e6" velocity="2"'), "tool0", "three.urdf")
    assert "velocity 500 rad/s" in refusal(tmp_path, mjcf(), velocity_limit=500.0)


def test_an_unknown_end_effector_lists_sites_and_bodies(tmp_path: Path) -> None:
    choices = refusal(tmp_path, mjcf(), "gripper").partition("valid choices: ")[2]
    assert "site tool" in choices
    assert "body forearm" in choices


def test_what_does_not_move_the_end_effector_is_refused(tmp_path: Path) -> None:
    assert "none between the base and 'pedestal'" in refusal(tmp_path, mjcf(), "pedestal")
    finger = '<body name="finger"><joint name="finger_joint" type="slide"/><geom size="0.01" mass="0.1"/></body>'
    assert "also 'finger_joint' (slide)" in refusal(tmp_path, mjcf(extra=finger))
    assert "'elbow' (slide)" in refusal(tmp_path, mjcf(elbow='<joint name="elbow" type="slide" range="0 1"/>'))
    assert "expected a fixed base" in refusal(tmp_path, mjcf(base='<freejoint name="root"/>'))


def test_coupled_joints_are_refused(tmp_path: Path) -> None:
    coupled = '<equality><joint joint1="elbow" joint2="shoulder"/></equality></mujoco>'
    assert "each joint moves by itself" in refusal(tmp_path, mjcf().replace("</mujoco>", coupled))


def test_an_end_effector_on_a_body_without_a_name_is_found(tmp_path: Path) -> None:
    file = made(tmp_path, mjcf().replace('<body name="hand"', "<body")).file
    assert compile_robot(file).site(TIP).bodyid[0] == 5


def test_duplicate_names_and_missing_meshes_are_said_in_one_line(tmp_path: Path) -> None:
    line = refusal(tmp_path, mjcf(elbow='<joint name="shoulder" range="-1 1"/>'))
    assert "repeated name 'shoulder'" in line
    assert "rename" in line
    meshed = mjcf(forearm='<geom type="mesh" mesh="arm"/>').replace(
        "<worldbody>", '<asset><mesh name="arm" file="arm.stl"/></asset><worldbody>', 1
    )
    line = refusal(tmp_path, meshed)
    assert "arm.stl" in line
    assert "mesh is missing" in line


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("solid cube\nfacet", "no XML"),
        ("", "no XML"),
        ("<sdf/>", "valid choices: mujoco, robot"),
        ("<!DOCTYPE robot []><robot/>", "document type"),
        ('<robot xmlns:xacro="x"><xacro:macro/></robot>', "Expand it first"),
        ("<mujoco><bodies/></mujoco>", "unrecognized element"),
        ("<mujoco/>", "found 'tool', expected a site or body"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, text: str, says: str) -> None:
    assert says in refusal(tmp_path, text)


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing at .*none\.xml"):
        new_robot(tmp_path / "none.xml", "tool")


def test_a_home_of_another_size_or_beyond_the_limits_is_refused(tmp_path: Path) -> None:
    assert "2 numbers" in refusal(tmp_path, mjcf(), home=(0.0, 0.1))
    assert "joints.home of 'shoulder'" in refusal(tmp_path, mjcf(), home=(0.0, 2.0, 0.1))
