"""Recorded state -> terms pairs that the simulator's path and the robot's path must both reproduce bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import ddpg_robot_sim
from ddpg_robot.observation import ObservationBuilder
from ddpg_robot.state import Command, RobotState

PAIRS = [
    pytest.param(task, pair, id=f"{task}-{number}")
    for task in ddpg_robot_sim.TASKS
    for number, pair in enumerate(json.loads((Path(__file__).parent / f"{task}.json").read_text()))
]


@pytest.fixture(scope="module")
def envs():
    return {task: gymnasium.make(name).unwrapped for task, name in ddpg_robot_sim.TASKS.items()}


@pytest.mark.parametrize(("task", "pair"), PAIRS)
def test_simulator_reproduces_the_recorded_terms(envs, task, pair):
    env = envs[task]
    env.reset(seed=0)
    env.data.qpos[-env.model.nu :], env.data.qvel[-env.model.nu :] = pair["position"], pair["velocity"]
    if env.state.floating_base:
        env.data.qpos[3:7], env.data.qvel[3:6] = pair["orientation_wxyz"], pair["angular_velocity"]
    env.data.time = pair.get("stamp", 0.0)
    env.command.values[:] = pair["command"]
    env.read_state()
    env.effort[:] = pair.get("previous_effort", pair["last_effort"])
    env.observe()
    env.effort[:] = pair["last_effort"]
    assert env.observe().tolist() == pair["terms"]


@pytest.mark.parametrize(("task", "pair"), PAIRS)
def test_robot_reproduces_the_recorded_terms_whatever_the_joint_order(envs, task, pair):
    pytest.importorskip("sensor_msgs.msg")
    interface = envs[task].interface
    state = RobotState(interface.robot.n_joints, interface.robot.floating_base)
    command = Command(interface.command.size)
    read_joint_state(pair, interface, state)
    read_command(pair, interface, command)
    if interface.robot.floating_base:
        read_imu(pair, state)
    builder = ObservationBuilder(interface.robot, interface.observation, interface.command)
    builder.build(state, command, np.array(pair.get("previous_effort", pair["last_effort"])))
    builder.build(state, command, np.array(pair["last_effort"]))
    assert builder.flat().tolist() == pair["terms"]


def read_joint_state(pair, interface, state):
    from sensor_msgs.msg import JointState

    from ddpg_robot_ros.convert import JointStateReader

    order = np.random.default_rng(len(PAIRS)).permutation(interface.robot.n_joints)
    message = JointState(
        name=[interface.robot.joint_names[i] for i in order],
        position=[pair["position"][i] for i in order],
        velocity=[pair["velocity"][i] for i in order],
    )
    seconds, nanoseconds = divmod(round(pair.get("stamp", 0.0) * 1e9), 1_000_000_000)
    message.header.stamp.sec, message.header.stamp.nanosec = seconds, nanoseconds
    JointStateReader(interface.robot.joint_names).fill(message, state)


def read_command(pair, interface, command):
    from geometry_msgs.msg import PointStamped, TwistStamped

    from ddpg_robot_ros.convert import PointReader, TwistReader

    if interface.command.kind == "point":
        point = PointStamped()
        point.point.x, point.point.y, point.point.z = pair["command"]
        PointReader(interface.command).fill(point, command)
    else:
        velocity = TwistStamped()
        velocity.twist.linear.x, velocity.twist.linear.y, velocity.twist.angular.z = pair["command"]
        TwistReader(interface.command).fill(velocity, command)


def read_imu(pair, state):
    from sensor_msgs.msg import Imu

    from ddpg_robot_ros.convert import ImuReader

    imu = Imu()
    imu.orientation.w, imu.orientation.x, imu.orientation.y, imu.orientation.z = pair["orientation_wxyz"]
    imu.angular_velocity.x, imu.angular_velocity.y, imu.angular_velocity.z = pair["angular_velocity"]
    ImuReader().fill(imu, state)
