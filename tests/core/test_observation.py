from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from core.robots import POINT, TABLE, TERMS, two_joint_interface, two_joint_robot

from ddpg_robot.errors import ObservationError
from ddpg_robot.kinematics import ChainKinematics, in_heading_frame
from ddpg_robot.observation import ObservationBuilder, joint_term, observation_spec
from ddpg_robot.spec import ChainLink, KinematicChain, ObservationSpec, TermSpec
from ddpg_robot.state import Command, RobotState


def build(position, target=(0.0, 0.0, 0.0), velocity=(0.0, 0.0)):
    interface = two_joint_interface()
    builder = ObservationBuilder(interface.robot, interface.observation, interface.command)
    state, command = RobotState(2), Command(3)
    state.position[:], state.velocity[:], command.values[:] = position, velocity, target
    builder.build(state, command, np.array([1.0, 2.0]))
    return builder


def test_terms_of_a_bent_arm_match_geometry_by_hand():
    builder = build((math.pi / 2, -math.pi / 2), target=(0.3, 0.5, 0.1), velocity=(0.1, 0.2))
    assert builder.tip == pytest.approx([0.25, 0.5, 0.0])
    terms = {name: value[0] for name, value in builder.terms.items()}
    assert terms["target_error"] == pytest.approx([0.05, 0.0, 0.1], abs=1e-7)
    # Jacobian columns: shoulder z x (0.25, 0.5) = (-0.5, 0.25); elbow z x (0.25, 0) = (0, 0.25).
    levelled = math.hypot(0.05, 0.1) + 0.05
    assert terms["target_direction_joints"] == pytest.approx([-0.025 / levelled, 0.0], abs=1e-7)
    assert terms["last_effort"] == pytest.approx([1.0, 2.0])
    assert terms["joint_velocity"] == pytest.approx([0.1, 0.2])
    assert all(value.dtype == np.float32 for value in terms.values())


def test_flat_observation_is_the_terms_end_to_end_in_order():
    builder = build((0.3, 0.4))
    assert list(builder.terms) == list(TERMS)
    assert builder.flat().tolist() == np.concatenate([t[0] for t in builder.terms.values()]).tolist()


def test_buffers_stay_the_same_between_builds():
    builder = build((0.3, 0.4))
    address = builder.terms["command"].ctypes.data
    builder.build(RobotState(2), Command(3), np.zeros(2))
    assert builder.terms["command"].ctypes.data == address


def test_jacobian_is_the_derivative_of_the_tip_for_any_axes():
    rng = np.random.default_rng(1)
    links = []
    for i in range(5):
        quaternion, axis = rng.normal(size=4), rng.normal(size=3)
        quaternion, axis = quaternion / np.linalg.norm(quaternion), axis / np.linalg.norm(axis)
        links.append(ChainLink(f"j{i}", tuple(rng.normal(size=3)), tuple(quaternion), tuple(axis)))
    kinematics = ChainKinematics(KinematicChain(tuple(links), (0.1, 0.2, 0.3), "tip"))
    q = rng.normal(size=5)
    kinematics.update(q)
    jacobian, step = kinematics.jacobian.copy(), 1e-6
    for i in range(5):
        tips = []
        for sign in (1, -1):
            kinematics.update(q + sign * step * np.eye(5)[i])
            tips.append(kinematics.tip.copy())
        assert jacobian[i] == pytest.approx((tips[0] - tips[1]) / (2 * step), abs=1e-8)


def test_a_term_of_named_joints_is_theirs_in_that_order_passive_ones_among_them():
    robot = dataclasses.replace(two_joint_robot(), passive_joints=("slide",))
    terms = (
        joint_term("joint_position", ("slide", "elbow")),
        joint_term("joint_velocity_clipped", ("elbow", "slide", "shoulder")),
        joint_term("joint_cosine", ("shoulder",)),
        joint_term("joint_sine", ("shoulder",)),
    )
    builder = ObservationBuilder(robot, ObservationSpec(terms), POINT)
    state = RobotState.of(robot)
    state.position[:], state.velocity[:] = (0.5, -0.25), (1.0, -12.0)
    state.measured[:, 2] = 7.0, 11.0
    builder.build(state, Command(3), np.zeros(2))
    assert builder.flat() == pytest.approx([7.0, -0.25, -10.0, 10.0, 1.0, math.cos(0.5), math.sin(0.5)])


def test_a_term_of_joints_that_the_robot_does_not_have_or_that_is_not_of_joints_is_refused():
    robot = two_joint_robot()
    for term, complaint in (
        (joint_term("joint_position", ("elbow", "slide")), "found joints slide, expected the robot's joints"),
        (TermSpec("last_effort", 1, "N*m", ("elbow",)), "named joints: found 'last_effort'"),
        (TermSpec("joint_position", 2, "rad or m", ("elbow",)), "found 2 x rad or m, expected 1 x rad or m"),
    ):
        with pytest.raises(ObservationError, match=complaint):
            ObservationBuilder(robot, ObservationSpec((term,)), POINT)


def test_how_far_a_planar_tip_is_beyond_its_target():
    robot = two_joint_robot()
    builder = ObservationBuilder(robot, observation_spec(("command_xy", "overshoot_xy"), robot, POINT), POINT)
    command = Command(3)
    command.values[:] = 0.5, 0.1, 0.9
    builder.build(RobotState(2), command, np.zeros(2))  # stretched along x: the tip is at 0.75 m
    assert builder.flat() == pytest.approx([0.5, 0.1, 0.25, -0.1])


def test_unknown_term_lists_the_known_ones():
    with pytest.raises(ObservationError, match=r"'joint_postion'.*joint_position"):
        observation_spec(("joint_postion",), two_joint_robot(), POINT)


def test_term_of_another_size_or_unit_is_refused():
    robot = two_joint_robot()
    for term in (TermSpec("joint_position", 3, "rad"), TermSpec("joint_position", 2, "deg")):
        with pytest.raises(ObservationError, match="term 'joint_position': found"):
            ObservationBuilder(robot, ObservationSpec((term,)), POINT)


def test_term_that_needs_a_chain_or_an_imu_is_refused_without():
    robot = dataclasses.replace(two_joint_robot(), chain=None)
    with pytest.raises(ObservationError, match="kinematic chain"):
        ObservationBuilder(robot, observation_spec(("hand_position",), robot, POINT), POINT)
    with pytest.raises(ObservationError, match="fixed base"):
        ObservationBuilder(robot, observation_spec(("projected_gravity",), robot, POINT), POINT)


def test_a_velocity_of_the_world_is_told_ahead_left_and_up_of_where_a_base_heads():
    half = math.pi / 4
    heading_left = np.array([math.cos(half), 0.0, 0.0, math.sin(half)])  # turned by 90 degrees about the vertical
    assert in_heading_frame(np.array([1.0, 2.0, 3.0]), heading_left) == pytest.approx([2.0, -1.0, 3.0])
    pitched = np.array([math.cos(0.2), 0.0, math.sin(0.2), 0.0])
    assert in_heading_frame(np.array([1.0, 2.0, 3.0]), pitched) == pytest.approx([1.0, 2.0, 3.0])


def test_projected_gravity_points_down_in_the_base_frame():
    robot = two_joint_robot(floating_base=True)
    builder = ObservationBuilder(robot, observation_spec(("projected_gravity",), robot, POINT), POINT)
    state = RobotState(2, floating_base=True)
    assert builder.build(state, Command(3), np.zeros(2))["projected_gravity"][0].tolist() == [0, 0, -1]
    half = math.pi / 4  # rolled by 90 degrees about x: down is the base's own -y axis
    state.orientation_wxyz[:] = [math.cos(half), math.sin(half), 0, 0]
    gravity = builder.build(state, Command(3), np.zeros(2))["projected_gravity"][0]
    assert gravity == pytest.approx([0, -1, 0], abs=1e-7)


def test_an_object_is_seen_where_it_can_be_at_the_height_of_its_table():
    robot = dataclasses.replace(two_joint_robot(), object=TABLE)
    builder = ObservationBuilder(robot, observation_spec(("object_position",), robot, POINT), POINT)
    state = RobotState.of(robot)
    state.object_position[:] = [0.5, 1.02, -0.24]
    assert builder.build(state, Command(3), np.zeros(2))["object_position"][0].tolist() == [0.5, 1.0, -0.25]


def test_an_object_is_refused_for_a_robot_that_is_told_of_none():
    robot = two_joint_robot()
    with pytest.raises(ObservationError, match="object_position"):
        ObservationBuilder(robot, observation_spec(("object_position",), robot, POINT), POINT)


def test_the_odometry_s_terms_are_those_of_its_own_frame():
    robot = dataclasses.replace(two_joint_robot(floating_base=True), odometry=True)
    names = ("base_height", "base_position", "base_orientation", "base_velocity")
    builder = ObservationBuilder(robot, observation_spec(names, robot, POINT), POINT)
    state = RobotState.of(robot)
    state.base_position[:], state.base_velocity[:] = [1.0, 2.0, 0.5], [0.25, 0.0, -1.0]
    state.base_orientation_wxyz[:] = [0.0, 0.0, 0.0, 1.0]
    builder.build(state, Command(3), np.zeros(2))
    assert builder.flat().tolist() == [0.5, 1.0, 2.0, 0.5, 0.0, 0.0, 0.0, 1.0, 0.25, 0.0, -1.0]


def test_the_effort_before_the_last_one_is_remembered_until_an_episode_begins():
    robot = two_joint_robot()
    for names in (("last_effort", "previous_effort"), ("previous_effort", "last_effort")):
        builder = ObservationBuilder(robot, observation_spec(names, robot, POINT), POINT)
        seen = []
        for effort in (1.0, 2.0, 3.0):
            builder.build(RobotState(2), Command(3), np.full(2, effort))
            seen.append([builder.terms[name][0, 0] for name in ("last_effort", "previous_effort")])
        assert seen == [[1.0, 0.0], [2.0, 1.0], [3.0, 2.0]]
        builder.forget()
        assert builder.build(RobotState(2), Command(3), np.full(2, 4.0))["previous_effort"].tolist() == [[0.0, 0.0]]
    with pytest.raises(ObservationError, match="'last_effort' beside it"):
        ObservationBuilder(robot, observation_spec(("previous_effort",), robot, POINT), POINT)
