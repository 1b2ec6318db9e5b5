"""The scripted trot that teaches the quadruped."""

from __future__ import annotations

import gymnasium
import mujoco
import numpy as np
import pytest

import ddpg_robot_sim
from ddpg_robot_sim.changes import as_option, stressed

TASK = ddpg_robot_sim.TASKS["quadruped_walk"]


def make(mode: str):
    return gymnasium.make(TASK, control_mode=mode, commands="omni").unwrapped


def walked(env, command, seconds=4.0, noise=0.0):
    """Mean velocity (forward, left, turning) in the second half; None after a fall."""
    rng = np.random.default_rng(0)
    env.reset(seed=2, options={"command": command, "soft_start": False})
    steps = round(seconds / env.interface.control.period)
    for step in range(steps):
        if step == steps // 2:
            start, since = env.data.qpos[:2].copy(), env.data.time
            yaw = heading(env)
        *_, terminated, _, _ = env.step(env.teacher_action() + noise * rng.standard_normal(12))
        if terminated:
            return None
    turned = (heading(env) - yaw + np.pi) % (2 * np.pi) - np.pi
    return np.append(np.linalg.norm(env.data.qpos[:2] - start), turned) / (env.data.time - since)


def heading(env):
    w, x, y, z = env.data.qpos[3:7]
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


@pytest.mark.parametrize("mode", ["pd", "effort"])
@pytest.mark.parametrize("command", [[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [1.0, 0.0, 0.0]])
def test_the_teacher_walks_straight_at_the_speed_it_is_told(mode, command):
    speed, turning = walked(make(mode), command)
    assert speed == pytest.approx(command[0], abs=0.12)
    assert turning == pytest.approx(0.0, abs=0.15)


def test_the_teacher_walks_sideways_and_turns():
    speed, turning = walked(make("pd"), [0.0, 0.3, 0.0])
    assert speed == pytest.approx(0.3, abs=0.1)
    assert abs(turning) < 0.15
    assert walked(make("pd"), [0.3, 0.0, 0.6])[1] == pytest.approx(0.6, abs=0.15)


def test_the_teacher_stays_on_its_feet_while_an_agent_explores():
    assert walked(make("pd"), [0.5, 0.0, 0.0], noise=0.15) is not None


def test_the_teacher_of_torque_walks_a_robot_under_the_whole_stress_whose_commands_act_late():
    env = gymnasium.make(TASK, control_mode="effort", commands="omni", randomization=as_option(stressed())).unwrapped
    speed, _ = walked(env, [0.5, 0.0, 0.0])
    assert speed == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize("mode", ["pd", "effort"])
def test_the_teacher_keeps_a_heavy_robot_with_weak_motors_up_during_a_soft_start(mode):
    heavy = {"payload": [2.0, 2.0], "motor_strength": [0.85, 0.85]}
    env = gymnasium.make(TASK, control_mode=mode, commands="omni", randomization=heavy).unwrapped
    env.reset(seed=0, options={"soft_start": True})
    lowest = 1.0
    for _ in range(round(1.0 / env.interface.control.period)):
        *_, terminated, _, _ = env.step(env.teacher_action())
        assert not terminated
        lowest = min(lowest, env.data.qpos[2])
    assert lowest > 0.17


def test_joint_targets_bring_the_feet_where_they_shall_be():
    env = make("pd")
    trot = env._teacher
    data = mujoco.MjData(env.model)
    feet = np.array([[0.05, 0.0, 0.0], [-0.1, 0.02, 0.03], [0.0, -0.03, 0.05], [0.12, 0.0, 0.0]])
    feet += np.stack([np.zeros(4), trot._offset, np.full(4, -0.25)], 1)
    data.qpos[:] = env.model.key("home").qpos
    data.qpos[7:] = trot._inverse(feet).reshape(-1)
    mujoco.mj_kinematics(env.model, data)
    hips = data.xpos[[env.model.body(f"{leg}_hip").id for leg in ("FL", "FR", "RL", "RR")]]
    assert data.geom_xpos[env._judge._feet] - hips == pytest.approx(feet, abs=1e-9)
