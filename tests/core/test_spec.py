from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
from core.robots import TABLE, two_joint_interface, two_joint_robot

from ddpg_robot.errors import SpecError
from ddpg_robot.spec import (
    CommandSpec,
    ControlSpec,
    JointSpec,
    ObjectSpec,
    ObservationSpec,
    PolicyInterface,
    RobotSpec,
    TermSpec,
)
from ddpg_robot.spec_json import from_dict, to_dict


@pytest.mark.parametrize("mode", ["effort", "pd"])
def test_interface_survives_json_exactly(mode):
    interface = two_joint_interface(mode)
    assert from_dict(PolicyInterface, json.loads(json.dumps(to_dict(interface)))) == interface


def test_fields_that_came_later_are_left_out_where_they_hold_nothing_and_survive_where_they_do():
    interface = two_joint_interface()
    text = json.dumps(to_dict(interface))
    assert "passive_joints" not in text
    assert text.count('"joints"') == 1  # of the robot, none of a term
    robot = dataclasses.replace(interface.robot, passive_joints=("slide",))
    terms = ObservationSpec((TermSpec("joint_position", 1, "rad or m", ("slide",)),))
    nothing = CommandSpec("none", "", 0, "", (), ())
    other = PolicyInterface(robot, interface.control, terms, nothing)
    assert from_dict(PolicyInterface, json.loads(json.dumps(to_dict(other)))) == other


def test_a_passive_joint_needs_a_name_of_its_own():
    with pytest.raises(SpecError, match="unique names"):
        dataclasses.replace(two_joint_robot(), passive_joints=("elbow",))


def test_unknown_key_is_named_with_the_valid_ones():
    data = to_dict(two_joint_robot())
    data["colour"] = "red"
    with pytest.raises(SpecError, match=r"unknown key colour.*valid choices: chain, floating_base"):
        from_dict(RobotSpec, data)


def test_missing_key_is_named():
    data = to_dict(two_joint_robot())
    del data["joints"][1]["effort_limit"]
    with pytest.raises(SpecError, match=r"joints\[1\]: found no effort_limit"):
        from_dict(RobotSpec, data)


@pytest.mark.parametrize("value", ["ten", None, True, float("nan"), float("inf"), [1.0], {}])
def test_value_of_another_type_or_not_finite_is_refused_with_its_place(value):
    data = to_dict(two_joint_robot())
    data["joints"][0]["effort_limit"] = value
    with pytest.raises(SpecError, match=r"RobotSpec\.joints\[0\]\.effort_limit"):
        from_dict(RobotSpec, data)


@pytest.mark.parametrize("data", [None, [], "robot", 3])
def test_something_that_is_no_object_is_refused(data):
    with pytest.raises(SpecError, match="an object"):
        from_dict(RobotSpec, data)


def test_two_joints_of_one_name_are_refused():
    robot = two_joint_robot()
    with pytest.raises(SpecError, match="unique names"):
        RobotSpec("twins", (robot.joints[0], robot.joints[0]), True, False)


def test_chain_of_other_joints_is_refused():
    robot = two_joint_robot()
    with pytest.raises(SpecError, match="chain joints"):
        dataclasses.replace(robot, joints=robot.joints[::-1])


@pytest.mark.parametrize(
    "change", [{"effort_limit": 0.0}, {"velocity_limit": -1.0}, {"damping": 0.0}, {"position_lower": 9.0}]
)
def test_joint_limits_must_make_sense(change):
    with pytest.raises(SpecError, match="joint 'shoulder'"):
        dataclasses.replace(two_joint_robot().joints[0], **change)


@pytest.mark.parametrize("period, ticks", [(1e-300, 1), (1e300, 1), (0.0, 1), (0.02, 0), (0.02, 2**62), (0.001, 20)])
def test_a_period_from_which_no_timeout_can_be_made_is_refused(period, ticks):
    with pytest.raises(SpecError, match=r"control period|ticks_per_action"):
        ControlSpec(period, "effort", ticks)


def test_more_joints_than_any_robot_has_are_refused_before_a_filter_is_made_for_them():
    joint = two_joint_robot().joints[0]
    joints = tuple(dataclasses.replace(joint, name=f"joint{i}") for i in range(257))
    with pytest.raises(SpecError, match="found 257, expected 1 to 256"):
        RobotSpec("centipede", joints, True, False)


def test_a_command_may_leave_an_axis_without_choice_but_not_all_of_them():
    command = two_joint_interface().command
    fixed = dataclasses.replace(command, lower=(0.0, 0.0, 0.0), upper=(1.0, 0.0, 0.0))
    assert fixed.upper == (1.0, 0.0, 0.0)
    with pytest.raises(SpecError, match="a choice somewhere"):
        dataclasses.replace(command, lower=(0.0, 0.0, 0.0), upper=(0.0, 0.0, 0.0))


@pytest.mark.parametrize("change", [{"kind": "pose"}, {"size": 2, "lower": (0.0, 0.0), "upper": (1.0, 1.0)}])
def test_a_command_that_no_node_reads_is_refused(change):
    with pytest.raises(SpecError, match="command"):
        dataclasses.replace(two_joint_interface().command, **change)


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "\ud800", "\u202eevil", "x" * 256])
def test_a_text_that_is_not_one_printable_line_is_refused(name):
    with pytest.raises(SpecError, match=r"RobotSpec\.name: .*one printable line"):
        from_dict(RobotSpec, {**to_dict(two_joint_robot()), "name": name})


def test_gains_belong_to_mode_pd_alone():
    with pytest.raises(SpecError, match="kp and kd"):
        ControlSpec(0.02, "effort", 1, kp=(1.0,), kd=(1.0,))
    with pytest.raises(SpecError, match="kp and kd"):
        ControlSpec(0.02, "pd", 1)


def test_one_gain_per_joint():
    interface = two_joint_interface()
    with pytest.raises(SpecError, match="one per joint"):
        dataclasses.replace(interface, control=ControlSpec(0.02, "pd", 1, kp=(1.0,), kd=(1.0,)))


def test_specs_are_frozen():
    joint: JointSpec = two_joint_robot().joints[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        joint.effort_limit = 100.0  # type: ignore[misc]


def test_importing_the_core_needs_numpy_only():
    modules = [
        "spec",
        "state",
        "observation",
        "kinematics",
        "control",
        "safety",
        "controller",
        "policy",
        "rate",
        "errors",
    ]
    code = "\n".join(f"import ddpg_robot.{name}" for name in modules) + (
        "\nimport sys\nheavy = {'onnxruntime', 'torch', 'mujoco', 'gymnasium', 'rclpy', 'onnx', 'tyro'} & set(sys.modules)"
        "\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_object_survives_json_and_a_robot_without_one_does_not_speak_of_it():
    plain = two_joint_robot()
    robot = dataclasses.replace(plain, object=TABLE)
    assert from_dict(RobotSpec, json.loads(json.dumps(to_dict(robot)))) == robot
    assert {"object", "odometry"}.isdisjoint(to_dict(plain))
    with pytest.raises(SpecError, match="object bounds"):
        ObjectSpec("base", (0.0, 0.0, 0.1), (0.0, 0.0, 0.0))


def test_a_fixed_command_is_one_point_and_given():
    goal = CommandSpec("fixed", "base", 3, "m", (0.4, 0.0, -0.3), (0.4, 0.0, -0.3))
    assert goal.is_given
    with pytest.raises(SpecError, match="one point"):
        dataclasses.replace(goal, upper=(0.5, 0.0, -0.3))


def test_odometry_is_of_a_floating_base_and_survives_json():
    robot = dataclasses.replace(two_joint_robot(floating_base=True), odometry=True)
    assert from_dict(RobotSpec, json.loads(json.dumps(to_dict(robot)))) == robot
    assert not robot.of_joints.more_state
    with pytest.raises(SpecError, match="floating base"):
        dataclasses.replace(robot, floating_base=False)
