from __future__ import annotations

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import ddpg_robot_sim
from ddpg_robot.errors import ConfigError
from ddpg_robot_sim.base import model_path, robot_from_model

TASK = ddpg_robot_sim.TASKS["arm_reach"]
MODES = ("effort", "pd")


def make(**kwargs):
    return gymnasium.make(TASK, **kwargs).unwrapped


@pytest.mark.parametrize("mode", MODES)
def test_task_follows_the_gymnasium_interface(mode):
    check_env(make(control_mode=mode), skip_render_check=True)


def test_unknown_control_mode_lists_the_valid_ones():
    with pytest.raises(ConfigError, match="valid choices: effort, pd"):
        make(control_mode="position")


def test_limits_are_the_published_ones_of_the_franka_robot():
    robot = make().interface.robot
    assert [joint.effort_limit for joint in robot.joints] == [87, 87, 87, 87, 12, 12, 12]
    assert [joint.velocity_limit for joint in robot.joints] == [2.175] * 4 + [2.61] * 3
    assert [joint.position_lower for joint in robot.joints] == [
        -2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973,
    ]  # fmt: skip
    assert robot.gravity_compensated


def test_kinematics_from_the_spec_agree_with_mujoco():
    env = make()
    env.reset(seed=1)
    jacobian = np.zeros((3, 7))
    site = env.model.site("hand").id
    rng = np.random.default_rng(0)
    for _ in range(50):
        env.data.qpos[:] = rng.uniform(-2, 2, 7)
        mujoco.mj_forward(env.model, env.data)
        mujoco.mj_jacSite(env.model, env.data, jacobian, None, site)
        env.read_state()
        env.observe()
        kinematics = env._builder._inputs.chain
        assert kinematics.tip == pytest.approx(env.data.site_xpos[site], abs=1e-12)
        assert kinematics.jacobian.T == pytest.approx(jacobian, abs=1e-12)


def test_every_target_of_the_box_is_at_least_40_cm_wide_and_can_be_reached():
    """Damped least squares from home finds a pose within the joint limits for corners and random points."""
    env = make()
    env.reset(seed=0)
    low, high = np.array(env.interface.command.lower), np.array(env.interface.command.upper)
    assert (high - low >= 0.4 - 1e-9).all()
    corners = [np.where([i & 1, i & 2, i & 4], high, low) for i in range(8)]
    for target in [*corners, *np.random.default_rng(0).uniform(low, high, (20, 3))]:
        q = env.home.copy()
        for _ in range(400):
            env.state.position[:] = q
            env.observe()
            kinematics = env._builder._inputs.chain
            error, jacobian = target - kinematics.tip, kinematics.jacobian.T
            q += 0.3 * jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-3 * np.eye(3), error)
            q = np.clip(q, env._lower + 0.1, env._upper - 0.1)
        assert np.linalg.norm(error) < 0.01, target


def test_same_seed_gives_the_same_episode_and_another_seed_another():
    def run(seed):
        env = make()
        first, _ = env.reset(seed=seed)
        return [first.tolist()] + [env.step(np.full(7, 0.1))[0].tolist() for _ in range(5)]

    assert run(3) == run(3)
    assert run(3)[0] != run(4)[0]


def test_arm_without_commands_stays_where_it_is_because_gravity_is_compensated():
    env = make()
    env.reset(seed=0)
    start = env.state.position.copy()
    for _ in range(50):
        env.step(np.zeros(7))
    assert np.abs(env.state.position - start).max() < 1e-3


def test_without_gravity_compensation_the_arm_sinks():
    env = make(gravity_compensated=False)
    assert not env.interface.robot.gravity_compensated
    env.reset(seed=0)
    start = env.state.position.copy()
    for _ in range(20):
        env.step(np.zeros(7))
    assert np.abs(env.state.position - start).max() > 0.05


def test_success_needs_the_whole_last_half_second():
    env = make()
    env.reset(seed=0)
    env.reset(seed=0, options={"joint_position": env.home, "target": env.data.site_xpos[env._site] * 0 + 0.4})
    env.data.qpos[:] = env.home
    mujoco.mj_forward(env.model, env.data)
    env.command.values[:] = env.data.site_xpos[env._site]
    outcomes = [env.step(np.zeros(7))[4]["is_success"] for _ in range(30)]
    assert outcomes == [False] * 24 + [True] * 6


def test_leaving_the_limits_trips_ends_the_episode_and_costs():
    env = make()
    env.reset(seed=0)
    env.data.qvel[:] = 3.0
    env.read_state()
    _, reward, terminated, _, info = env.step(np.zeros(7))
    assert terminated
    assert reward < -5
    assert info["limit_hit"]


def test_pose_can_be_kept_from_one_target_to_the_next():
    env = make()
    env.reset(seed=0)
    for _ in range(10):
        env.step(np.full(7, 0.2))
    before = env.state.position.copy()
    env.reset(seed=1, options={"keep_pose": True, "target": [0.5, 0.0, 0.4]})
    assert env.state.position.tolist() == before.tolist()
    assert env.command.values.tolist() == [0.5, 0.0, 0.4]


def test_effort_command_moves_the_joint_it_names_and_in_its_direction():
    for joint in range(7):
        env = make()
        env.reset(seed=0, options={"joint_position": env.home})
        action = np.zeros(7)
        action[joint] = 0.3
        for _ in range(5):
            env.step(action)
        assert env.state.velocity[joint] > 0


def test_model_without_the_custom_limits_is_refused_by_name():
    text = model_path("arm_reach").read_text().replace('name="velocity_limit"', 'name="speed"')
    with pytest.raises(Exception, match=r"velocity_limit.*speed"):
        robot_from_model(mujoco.MjModel.from_xml_string(text), "arm", "hand", True)
