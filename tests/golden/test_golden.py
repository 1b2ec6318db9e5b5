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

PAIRS = json.loads((Path(__file__).parent / "arm_reach.json").read_text())


@pytest.fixture(scope="module")
def env():
    return gymnasium.make(ddpg_robot_sim.TASKS["arm_reach"]).unwrapped


@pytest.mark.parametrize("pair", PAIRS)
def test_simulator_reproduces_the_recorded_terms(env, pair):
    env.reset(seed=0)
    env.data.qpos[:], env.data.qvel[:] = pair["position"], pair["velocity"]
    env.command.values[:] = pair["command"]
    env.effort[:] = pair["last_effort"]
    env.read_state()
    assert env.observe().tolist() == pair["terms"]


@pytest.mark.parametrize("pair", PAIRS)
def test_robot_reproduces_the_recorded_terms_whatever_the_joint_order(env, pair):
    messages = pytest.importorskip("sensor_msgs.msg")
    points = pytest.importorskip("geometry_msgs.msg")
    from ddpg_robot_ros.convert import JointStateReader, PointReader

    interface = env.interface
    order = np.random.default_rng(len(PAIRS)).permutation(interface.robot.n_joints)
    joint_state = messages.JointState(
        name=[interface.robot.joint_names[i] for i in order],
        position=[pair["position"][i] for i in order],
        velocity=[pair["velocity"][i] for i in order],
    )
    target = points.PointStamped()
    target.point.x, target.point.y, target.point.z = pair["command"]
    state, command = RobotState(interface.robot.n_joints), Command(interface.command.size)
    JointStateReader(interface.robot.joint_names).fill(joint_state, state)
    PointReader(interface.command).fill(target, command)
    builder = ObservationBuilder(interface.robot, interface.observation, interface.command)
    builder.build(state, command, np.array(pair["last_effort"]))
    assert builder.flat().tolist() == pair["terms"]
