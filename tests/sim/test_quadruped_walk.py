from __future__ import annotations

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import ddpg_robot_sim
from ddpg_robot.errors import ConfigError
from ddpg_robot.state import RobotState

TASK = ddpg_robot_sim.TASKS["quadruped_walk"]
MODES = ("effort", "pd")
STAND = {"command": [0.0, 0.0, 0.0]}


def make(**kwargs):
    return gymnasium.make(TASK, **kwargs).unwrapped


def rotated(quaternion, vector):
    turned = np.zeros(3)
    mujoco.mju_rotVecQuat(turned, np.array(vector, float), np.array(quaternion, float))
    return turned


@pytest.mark.parametrize("mode", MODES)
def test_task_follows_the_gymnasium_interface(mode):
    check_env(make(control_mode=mode), skip_render_check=True)


@pytest.mark.parametrize(
    ("keyword", "text"), [("control_mode", "valid choices: effort, pd"), ("commands", "valid choices: forward, omni")]
)
def test_an_unknown_keyword_lists_the_valid_ones(keyword, text):
    with pytest.raises(ConfigError, match=text):
        make(**{keyword: "backflip"})


def test_limits_and_mass_are_the_published_ones_of_the_go2():
    env = make()
    robot = env.interface.robot
    assert [joint.effort_limit for joint in robot.joints] == [23.7, 23.7, 45.43] * 4
    assert [joint.velocity_limit for joint in robot.joints] == [30.1, 30.1, 15.7] * 4
    front, rear = (-1.5708, 3.4907), (-0.5236, 4.5379)
    ranges = [(joint.position_lower, joint.position_upper) for joint in robot.joints]
    assert ranges == [
        r for thigh in (front, front, rear, rear) for r in ((-1.0472, 1.0472), thigh, (-2.7227, -0.83776))
    ]
    assert robot.joint_names[:4] == ("FL_hip_joint", "FL_thigh_joint", "FL_calf_joint", "FR_hip_joint")
    assert robot.floating_base
    assert not robot.gravity_compensated
    assert env.model.body_mass.sum() == pytest.approx(15.0, abs=0.05)


@pytest.mark.parametrize(("mode", "memory"), [("effort", {"previous_effort"}), ("pd", set())])
def test_the_observation_holds_only_what_a_robot_measures(mode, memory):
    env = make(control_mode=mode)
    env.reset(seed=0)
    names = [term.name for term in env.interface.observation.terms]
    measured = {
        "joint_position",
        "joint_velocity",
        "last_effort",
        "projected_gravity",
        "base_angular_velocity",
        "command",
        "gait_clock",
    }
    assert set(names) == measured | memory
    seen = env.observe().tolist()
    env.data.qpos[:3] += 1.0  # where the base is, how fast it moves and which way it heads: no robot measures that
    env.data.qvel[:3] += 1.0
    half = np.pi / 6
    turned = np.zeros(4)
    mujoco.mju_mulQuat(turned, np.array([np.cos(half), 0.0, 0.0, np.sin(half)]), env.data.qpos[3:7])
    env.data.qpos[3:7] = turned
    mujoco.mj_forward(env.model, env.data)
    env.read_state()
    assert env.observe().tolist() == pytest.approx(seen, abs=1e-6)


def test_the_base_is_read_as_its_imu_would_tell_it():
    env = make()
    rng = np.random.default_rng(0)
    for seed in range(10):
        env.reset(seed=seed)
        quaternion = rng.standard_normal(4)
        env.data.qpos[3:7] = quaternion / np.linalg.norm(quaternion)
        env.data.qvel[3:6] = rng.standard_normal(3)
        mujoco.mj_forward(env.model, env.data)
        env.read_state()
        assert env.state.angular_velocity == pytest.approx(env.data.sensor("angular_velocity").data, abs=1e-12)
        measured = env.data.sensor("orientation").data
        assert abs(env.state.orientation_wxyz @ measured) == pytest.approx(1.0, abs=1e-12)


def test_turning_in_the_world_is_told_in_the_frame_of_the_base():
    env = make()
    env.reset(seed=0)
    env.data.qpos[3:7] = (np.cos(np.pi / 4), np.sin(np.pi / 4), 0.0, 0.0)  # rolled to its right by 90 degrees
    env.data.qvel[3:6] = (0.0, 1.0, 0.0)
    mujoco.mj_forward(env.model, env.data)
    env.read_state()
    assert rotated(env.state.orientation_wxyz, env.state.angular_velocity) == pytest.approx([0.0, 0.0, 1.0], abs=1e-12)
    terms = env.observe()
    start = sum(term.size for term in env.interface.observation.terms[:3])
    assert terms[start : start + 3] == pytest.approx([0.0, -1.0, 0.0], abs=1e-6)  # its right side is down


@pytest.mark.parametrize("soft_start", [False, True])
def test_it_stands_under_pd_without_the_policys_help(soft_start):
    env = make(control_mode="pd")
    env.reset(seed=1, options={**STAND, "soft_start": soft_start})
    for step in range(1000):
        _, _, terminated, truncated, info = env.step(np.zeros(12))
        assert not terminated
        assert truncated == (step == 999)
    assert info["is_success"]
    assert info["metrics"]["speed_error_m_s"] < 0.03
    assert env.data.qpos[2] > 0.25


def test_torque_alone_carries_the_robot_in_its_standing_pose():
    """Mode effort begins at the torque of standing: the base sinks by millimetres while the pose has not yet been left."""
    env = make(control_mode="effort")
    env.reset(seed=0)
    mujoco.mj_resetDataKeyframe(env.model, env.data, 0)
    env._safety.reset()
    env.read_state()
    for _ in range(15):
        env.step(np.zeros(12))
    assert np.abs(env.state.position - env.model.key("home").qpos[7:]).max() < 0.05
    assert np.abs(env.data.qpos[2] - env.model.key("home").qpos[2]) < 0.005


def test_without_torque_it_falls_and_the_episode_ends():
    env = make(control_mode="effort")
    env.reset(seed=0)
    offset, scale = env.action_scaling
    for _ in range(100):
        *_, terminated, _, info = env.step(-offset / scale)
        if terminated:
            break
    assert terminated
    assert not info["is_success"]


def test_a_tilted_base_trips_the_safety_filter_and_ends_the_episode():
    env = make(control_mode="pd")
    env.reset(seed=0)
    env.data.qpos[3:7] = (np.cos(0.45), np.sin(0.45), 0.0, 0.0)  # 0.9 rad
    env.data.qpos[2] = 1.0
    env.read_state()
    *_, terminated, _, info = env.step(np.zeros(12))
    assert terminated
    assert info["limit_hit"]


def test_a_trunk_that_touches_the_floor_has_fallen():
    env = make(control_mode="pd")
    env.reset(seed=0)
    env.data.qpos[2] = 0.05
    mujoco.mj_forward(env.model, env.data)
    assert env._judge.fallen


@pytest.mark.parametrize("commands", ["forward", "omni"])
def test_commands_stay_within_their_bounds_and_change_in_the_course_of_an_episode(commands):
    env = make(control_mode="pd", commands=commands)
    lower, upper = env.interface.command.lower, env.interface.command.upper
    seen = []
    for seed in range(5):
        env.reset(seed=seed)
        for _ in range(600):
            env.step(np.zeros(12))
            seen.append(env.command.values.copy())
    seen = np.array(seen)
    assert (seen >= lower).all()
    assert (seen <= upper).all()
    assert len(np.unique(seen, axis=0)) >= 10
    assert (seen[:, 1:].any()) == (commands == "omni")


def test_walking_in_the_commanded_direction_pays_more_than_walking_against_it():
    def reward(speed):
        env = make(control_mode="pd")
        env.reset(seed=0, options={"command": [0.5, 0.0, 0.0], "soft_start": False})
        for _ in range(20):
            env.step(np.zeros(12))
        heading = env.data.qpos[3:7].copy()
        env.data.qvel[:3] = rotated(heading, [speed, 0.0, 0.0])
        return env.step(np.zeros(12))[1]

    assert reward(0.8) > reward(0.0) > reward(-0.8) > 0


def test_same_seed_gives_the_same_episode_and_another_seed_another():
    def run(seed):
        env = make()
        first, _ = env.reset(seed=seed)
        return [first.tolist()] + [env.step(np.full(12, 0.1))[0].tolist() for _ in range(5)]

    assert run(3) == run(3)
    assert run(3)[0] != run(4)[0]


def test_the_keywords_of_an_interface_make_the_task_again():
    for keywords in (
        {"control_mode": "pd", "commands": "omni"},
        {"control_mode": "effort", "commands": "forward"},
    ):
        env = make(**keywords)
        assert type(env).keywords_of(env.interface) == keywords


def test_mode_effort_observes_the_effort_before_the_last_one_within_an_episode():
    env = make(control_mode="effort")
    rng = np.random.default_rng(0)
    for episode in range(2):
        observation, _ = env.reset(seed=episode)
        for _ in range(4):
            before = observation
            observation, *_ = env.step(rng.uniform(-0.1, 0.1, 12))
            assert observation[-12:].tolist() == before[24:36].tolist()
            assert observation[24:36].any()
        assert env.reset(seed=episode)[0][-12:].tolist() == [0.0] * 12


def test_a_fixed_base_keeps_an_upright_state():
    arm = gymnasium.make(ddpg_robot_sim.TASKS["arm_reach"]).unwrapped
    arm.reset(seed=0)
    assert arm.state.orientation_wxyz.tolist() == RobotState(7).orientation_wxyz.tolist()


def test_a_soft_start_begins_at_rest_and_nothing_is_asked_until_torque_is_whole():
    env = make(control_mode="pd")
    _, info = env.reset(seed=1, options={"command": [0.5, 0.0, 0.0], "soft_start": True})
    assert info["target"] == [0.5, 0.0, 0.0]
    assert not env.data.qvel.any()
    asked = []
    for _ in range(60):
        asked.append((env._safety.gain, float(env.command.values[0])))
        env.step(np.zeros(12))
    assert {speed for gain, speed in asked if gain < 1} == {0.0}
    assert asked[-1] == (1.0, 0.5)


def test_a_randomised_quadruped_carries_more_and_is_pushed_harder_than_an_arm():
    arm = gymnasium.make(ddpg_robot_sim.TASKS["arm_reach"], randomization="strong").unwrapped.randomization
    legs = make(randomization="strong").randomization
    assert legs.payload == (0.0, 3.0)
    assert legs.push_impulse == (0.0, 15.0)
    assert legs.link_mass == arm.link_mass


def test_the_policy_is_told_what_sensors_say_and_judged_by_what_is():
    env = make(control_mode="pd", randomization={"angular_velocity_bias": [1.0, 1.0]})
    env.reset(seed=0, options={**STAND, "soft_start": False})
    for _ in range(100):
        *_, info = env.step(np.zeros(12))
    start = sum(term.size for term in env.interface.observation.terms[:4])
    assert env.observe()[start : start + 3] == pytest.approx([1.0, 1.0, 1.0], abs=0.1)
    assert info["metrics"]["turn_error_rad_s"] < 0.1


def test_a_draw_given_back_makes_the_same_quadruped_again():
    def run(options):
        env = make(control_mode="pd", randomization="default")
        _, info = env.reset(seed=4, options=options)
        return info["randomization"], [env.step(np.full(12, 0.1))[0].tolist() for _ in range(20)]

    drawn, first = run({})
    assert run({"draw": drawn}) == (drawn, first)
