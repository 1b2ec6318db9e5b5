from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
from core.robots import two_joint_interface, two_joint_robot

from ddpg_robot.errors import SpecError
from ddpg_robot.spec import ControlSpec, JointSpec, PolicyInterface, RobotSpec, from_dict, to_dict


@pytest.mark.parametrize("mode", ["effort", "pd"])
def test_interface_survives_json_exactly(mode):
    interface = two_joint_interface(mode)
    assert from_dict(PolicyInterface, json.loads(json.dumps(to_dict(interface)))) == interface


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
