"""Gymnasium's robots: the terms are the task's own observation, efforts come from the gears, and what no robot has is refused."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from ddpg_robot.errors import ConfigError
from ddpg_robot.observation import ObservationBuilder
from ddpg_robot.spec import UNBOUNDED, PolicyInterface
from ddpg_robot.spec_json import from_dict, to_dict
from ddpg_robot.state import Command, RobotState
from ddpg_robot_sim.gymnasium_judge import GymnasiumJudge
from ddpg_robot_sim.gymnasium_robot import command_of, difference, read_state, robot_of

pytestmark = pytest.mark.filterwarnings("ignore")  # Gymnasium's about its own models

HUMAN = [40, 40, 40, 40, 40, 120, 80, 40, 40, 120, 80, 10, 10, 10, 10, 10, 10]
WITHOUT = {f"include_{part}_in_observation": False for part in ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")}
ROBOTS = {
    "HalfCheetah-v5": (0.05, [120, 90, 60, 120, 60, 30]),
    "Hopper-v5": (0.008, [200, 200, 200]),
    "Walker2d-v5": (0.008, [100] * 6),
    "Swimmer-v5": (0.04, [150, 150]),
    "Reacher-v5": (0.02, [200, 200]),
    "Pusher-v5": (0.05, [2] * 7),
    "Ant-v5": (0.05, [150] * 8),
    "Humanoid-v5": (0.015, HUMAN),
    "HumanoidStandup-v5": (0.015, HUMAN),
}
"""Id -> control period, s, and effort limits, N·m: gear times ctrlrange, as its model says."""
OPTIONS = {
    "Ant-v5": {"include_cfrc_ext_in_observation": False},
    "Humanoid-v5": WITHOUT,
    "HumanoidStandup-v5": WITHOUT,
}
LATE = {"Reacher-v5": 5e-3, "Pusher-v5": 2e-2}
"""Task -> how far its tip moves in a physics step, m, at most: Gymnasium's is a step late."""
REFUSED = {
    "Ant-v5": "found contact forces, which no robot measures, expected positions and velocities of hinges and slides, "
    "of a free base, or of an arm and its target or object. Train with --task-option include_cfrc_ext_in_observation=false",
    "HumanoidStandup-v5": "inertias, velocities of every body, torques of the motors, contact forces, which no robot measures",
    "Reacher-v4": "11 numbers of another kind",
    "InvertedPendulum-v5": "another at 'slider', expected torque motors on hinges",
    "Pendulum-v1": "no MuJoCo model",
    "CartPole-v1": "no MuJoCo model",
}


@pytest.mark.parametrize("task", ROBOTS)
def test_on_random_states_the_terms_are_the_observation_bit_for_bit(task):
    env = gymnasium.make(task, **OPTIONS.get(task, {}))
    robot = robot_of(env)
    assert difference(env.unwrapped, robot, samples=300) == 0.0
    assert robot.interface.observation.size == env.observation_space.shape[0]


@pytest.mark.parametrize("task", ROBOTS)
def test_in_an_episode_the_terms_are_the_observation(task):
    env = gymnasium.make(task, **OPTIONS.get(task, {}))
    robot = robot_of(env)
    interface, model, data = robot.interface, env.unwrapped.model, env.unwrapped.data
    builder = ObservationBuilder(interface.robot, interface.observation, interface.command)
    state, command, moved = RobotState.of(interface.robot), Command(interface.command.size), 0.0
    env.reset(seed=4)
    env.action_space.seed(4)
    command_of(model, data, robot.layout, command)
    for _ in range(100):
        observation, _, terminated, _, _ = env.step(env.action_space.sample())
        read_state(model, data, interface.robot, state)
        builder.build(state, command, np.zeros(interface.robot.n_joints))
        # Gymnasium's arms take tip and object from the last stage of the integrator, not from where the joints are now.
        assert builder.flat() == pytest.approx(observation.astype(np.float32), abs=LATE.get(task, 0.0))
        moved = max(moved, np.abs(state.velocity).max())
        if terminated:
            env.reset()
    assert moved > 0.1


@pytest.mark.parametrize("task", ROBOTS)
def test_torque_is_gear_times_ctrl_and_nothing_else_is_bounded(task):
    period, limits = ROBOTS[task]
    env = gymnasium.make(task, **OPTIONS.get(task, {}))
    robot = robot_of(env)
    offset, scale = robot.action_scaling
    joints = robot.interface.robot.joints
    assert robot.interface.control.period == pytest.approx(period)
    assert [joint.effort_limit for joint in joints] == pytest.approx(limits)
    assert not offset.any()
    assert (scale * env.action_space.high).tolist() == pytest.approx(limits)
    assert all(joint.velocity_limit == joint.position_upper == -joint.position_lower == UNBOUNDED for joint in joints)
    assert from_dict(PolicyInterface, to_dict(robot.interface)) == robot.interface


@pytest.mark.parametrize("task", REFUSED)
def test_what_no_robot_has_is_refused_in_one_line(task):
    with pytest.raises(ConfigError) as refusal:
        robot_of(gymnasium.make(task))
    assert REFUSED[task] in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_another_observation_of_the_same_robot_is_found_too():
    env = gymnasium.make("HalfCheetah-v5", exclude_current_positions_from_observation=False, frame_skip=2)
    interface = robot_of(env).interface
    assert interface.observation.terms[0].joints[:3] == interface.robot.passive_joints == ("rootx", "rootz", "rooty")
    assert interface.control.period == pytest.approx(0.02)


@pytest.mark.parametrize("task", ["HalfCheetah-v5", "Hopper-v5", "Reacher-v5", "Pusher-v5", "Ant-v5"])
def test_the_judge_gives_the_task_s_own_rewards_and_ends(task):
    env, again = (gymnasium.make(task, **OPTIONS.get(task, {})) for _ in range(2))
    judge = GymnasiumJudge(again)
    robot = robot_of(env)
    interface, model, data = robot.interface, env.unwrapped.model, env.unwrapped.data
    state = RobotState.of(interface.robot)
    env.reset(seed=9)
    env.action_space.seed(9)
    start = judge.start(9)
    read_state(model, data, interface.robot, state)
    assert (
        start.state.measured.tolist() == start.motion[:, : state.measured.shape[1]].tolist() == state.measured.tolist()
    )
    for _ in range(40):
        action = env.action_space.sample()
        _, reward, terminated, truncated, _ = env.step(action)
        read_state(model, data, interface.robot, state)
        judged, over = judge.step(state, robot.action_scaling[1] * action)
        # Ant's speed is taken from its body, which is late too.
        assert judged == pytest.approx(reward, abs={**LATE, "Ant-v5": 5e-2}.get(task, 1e-6))
        assert over == (terminated or truncated)
        if over:
            break
