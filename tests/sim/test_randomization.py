"""Domain randomisation: each field does in physics what it says, and nothing behind the RobotState."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest

import ddpg_robot_sim
from ddpg_robot.control import ControlLaw
from ddpg_robot.errors import ConfigError
from ddpg_robot.learn.tasks import open_task
from ddpg_robot.observation import ObservationBuilder
from ddpg_robot.safety import SafetyFilter, SafetyLimits, TripReason
from ddpg_robot.state import Command, RobotState
from ddpg_robot_sim.actuators import Motors
from ddpg_robot_sim.arm_reach import ArmReach
from ddpg_robot_sim.base import model_path
from ddpg_robot_sim.draw import Draw, draw, draw_from
from ddpg_robot_sim.hardware import CHANGED, PUSH_SECONDS, Hardware
from ddpg_robot_sim.randomization import PRESETS, Randomization, kinds, ranges_of
from ddpg_robot_sim.sensors import Sensors

MODES = ("effort", "pd")
PAGE = Path(__file__).parents[2] / "docs" / "randomization.md"
STEP = 0.002  # s, of the arm's physics
G = 9.81
# A crate that slides and a motor that does not matter.
CRATE = """<mujoco><option timestep="0.002"/><worldbody>
<geom type="plane" size="9 9 0.1" friction="0.4 0 0"/>
<body name="crate" pos="0 0 0.05"><freejoint/><geom type="box" size="0.1 0.1 0.05" mass="1" friction="0.4 0 0"/></body>
<body><joint name="j" axis="0 0 1"/><geom size="0.1" pos="0 0 3" mass="1"/><body name="payload"/></body>
</worldbody><actuator><motor joint="j" ctrlrange="-1 1"/></actuator></mujoco>"""


def make(setting="off", mode="effort", **options) -> ArmReach:
    return gymnasium.make(
        ddpg_robot_sim.TASKS["arm_reach"], control_mode=mode, randomization=setting, **options
    ).unwrapped


def fixed(mode="effort", **values) -> ArmReach:
    """An arm of which these fields are known and nothing else differs from the model; at rest at home."""
    env = make({name: [value, value] for name, value in values.items()}, mode)
    env.reset(seed=0, options={"joint_position": env.home})
    return env


def nominal(links=7, joints=7, **values) -> Draw:
    drawn = draw(Randomization(), np.random.default_rng(0), links, joints)
    return dataclasses.replace(drawn, **values)


def rollout(env, seed=3, actions=None, **options) -> list:
    observation, info = env.reset(seed=seed, options=options)
    rng = np.random.default_rng(1)
    steps = [observation.tolist(), info["target"]]
    for _ in range(25):
        observation, reward, terminated, _, _ = env.step(rng.uniform(-0.5, 0.5, 7))
        steps.append([observation.tolist(), reward, env.data.qpos.tolist()])
        if terminated:
            break
    return steps


def mass_matrix(env) -> np.ndarray:
    """Without the rotors ``(7, 7)``."""
    mujoco.mj_forward(env.model, env.data)
    columns = np.zeros((7, 7))
    for column, unit in zip(columns, np.eye(7)):
        mujoco.mj_mulM(env.model, env.data, column, unit)
    return columns - np.diag(env.model.dof_armature)


def sensors(floating=False, **values) -> tuple[Sensors, RobotState]:
    """Sensors of a robot of seven joints that stands still; and where they measure to."""
    made = Sensors(7, floating, STEP)
    truth = RobotState(7, floating)
    truth.motion[:] = np.linspace(-1, 1, 14).reshape(2, 7)
    made.start(nominal(**values), np.random.default_rng(5), truth)
    return made, RobotState(7, floating)


def measured(made: Sensors, state: RobotState, times: int, what="motion") -> np.ndarray:
    """So many measurements of a robot that stands still, one every two physics steps."""
    seen = []
    for _ in range(times):
        made.measure(state)
        seen.append(getattr(state, what).copy())
        for _ in range(2):
            before = made.newest
            now = made.next()
            for field in ("motion", "orientation_wxyz", "angular_velocity"):
                getattr(now, field)[:] = getattr(before, field)
    return np.array(seen)


# --- off, and the way back to it


@pytest.mark.parametrize("mode", MODES)
def test_off_is_the_plain_loop_bit_for_bit(mode):
    env = make(mode=mode)
    env.reset(seed=4)
    assert env.truth is env.state
    control, robot = env.interface.control, env.interface.robot
    model = mujoco.MjModel.from_xml_path(str(model_path("arm_reach")))
    data = mujoco.MjData(model)
    data.qpos[:] = env.data.qpos
    state, command = RobotState(7), Command(3)
    command.values[:] = env.command.values
    safety, law = SafetyFilter(robot, SafetyLimits(), control.loop_period), ControlLaw(control, 7)
    builder = ObservationBuilder(robot, env.interface.observation, env.interface.command)
    state.position[:] = data.qpos
    offset, scale = env.action_scaling
    rng = np.random.default_rng(2)
    for _ in range(40):
        action = rng.uniform(-0.4, 0.4, 7)
        output = offset + scale * action
        if mode == "pd":
            output += state.position
        for _ in range(control.ticks_per_action):
            safety.step(law.effort(output, state), state, 0.0)
            data.ctrl[:] = safety.effort
            mujoco.mj_step(model, data, 2)
            state.position[:], state.velocity[:] = data.qpos, data.qvel
        builder.build(state, command, safety.effort)
        assert env.step(action)[0].tobytes() == builder.flat().tobytes()
        assert env.data.qpos.tobytes() == data.qpos.tobytes()


@pytest.mark.parametrize("mode", MODES)
def test_a_curriculum_begins_at_the_model_itself(mode):
    env = make({"preset": "strong", "curriculum": 0.5}, mode)
    env.training_progress = 0.0
    assert rollout(env) == rollout(make(mode=mode))


def test_ranges_grow_with_the_training_and_are_full_at_the_end_of_the_curriculum():
    strong = dataclasses.replace(PRESETS["strong"], curriculum=0.5)
    assert strong.at(0.0).changes_nothing
    assert strong.at(0.25).link_mass == (pytest.approx(0.85), pytest.approx(1.15))
    assert strong.at(0.25).state_delay_ms == (0.0, 7.5)
    assert strong.at(0.5) is strong
    assert strong.at(1.0) is strong
    assert PRESETS["strong"].at(0.0) is PRESETS["strong"]


def test_whoever_trains_tells_the_task_how_far_it_is():
    with open_task(
        ddpg_robot_sim.TASKS["arm_reach"], {"randomization": {"preset": "strong", "curriculum": 1.0}}
    ) as task:
        task.set_progress(0.0)
        assert task.reset(1)[1]["randomization"]["payload"] == 0.0
        task.set_progress(1.0)
        assert task.reset(1)[1]["randomization"]["payload"] > 0.0
    with open_task("Pendulum-v1") as task:
        task.set_progress(0.5)  # does not ask


def test_a_run_records_the_ranges_and_not_only_their_name():
    with open_task(ddpg_robot_sim.TASKS["arm_reach"], {"randomization": "default"}) as task:
        described = json.loads(json.dumps(task.describe()))
    assert described["task_kwargs"] == {"randomization": "default"}
    assert ranges_of(described["randomization"], PRESETS) == PRESETS["default"]
    with open_task(ddpg_robot_sim.TASKS["arm_reach"]) as task:
        assert "randomization" not in task.describe()


# --- draws


@pytest.mark.parametrize("mode", MODES)
def test_a_draw_given_back_repeats_its_episode_exactly(mode):
    env = make("strong", mode)
    _, info = env.reset(seed=11)
    drawn = json.loads(json.dumps(info["randomization"]))
    first = rollout(env, draw=drawn)
    assert rollout(env) != first
    assert rollout(env, draw=drawn) == first
    assert rollout(make("default", mode), draw=drawn) == first


def test_same_seed_gives_the_same_robot_and_another_seed_another():
    env = make("default")
    first, same, other = (env.reset(seed=seed)[1]["randomization"] for seed in (5, 5, 6))
    assert first == same
    assert first != other


def test_targets_and_start_poses_do_not_depend_on_the_randomization():
    plain, other = (make(setting).reset(seed=9)[1]["target"] for setting in ("off", "strong"))
    assert plain == other


def test_every_number_of_a_draw_is_within_its_range():
    rng = np.random.default_rng(0)
    for _ in range(200):
        drawn = draw(PRESETS["strong"], rng, 7, 7)
        for name in kinds():
            lower, upper = getattr(PRESETS["strong"], name)
            assert (np.array(getattr(drawn, name)) >= lower).all()
            assert (np.array(getattr(drawn, name)) <= upper).all()


def test_numbers_are_drawn_evenly_over_their_range():
    rng = np.random.default_rng(0)
    masses = np.array([draw(Randomization(link_mass=(0.8, 1.6)), rng, 7, 7).link_mass for _ in range(500)])
    parts = np.histogram(masses, bins=4, range=(0.8, 1.6))[0] / masses.size
    assert parts == pytest.approx(np.full(4, 0.25), abs=0.03)
    assert abs(np.corrcoef(masses[:, 0], masses[:, 1])[0, 1]) < 0.2


def test_each_draw_starts_from_the_model_and_not_from_the_draw_before():
    env = make("strong")
    untouched = make().model
    for seed in range(20):
        env.reset(seed=seed)
    assert not np.array_equal(env.model.body_mass, untouched.body_mass)
    env.reset(options={"draw": dataclasses.asdict(nominal())})
    for name in (*CHANGED, "dof_M0", "body_invweight0", "dof_invweight0", "body_subtreemass"):
        assert np.array_equal(getattr(env.model, name), getattr(untouched, name)), name


# --- body


def test_heavier_links_are_harder_to_turn_and_weigh_more():
    plain, heavy = fixed(effort_delay_ms=2), fixed(link_mass=1.5)
    assert mass_matrix(heavy) == pytest.approx(1.5 * mass_matrix(plain), rel=1e-9, abs=1e-12)
    assert heavy.data.qfrc_bias == pytest.approx(1.5 * plain.data.qfrc_bias, rel=1e-9, abs=1e-12)
    # Constants that follow from the masses, which MuJoCo's solver and friction rely on.
    link = plain.model.body("link1").id
    assert heavy.model.body_subtreemass[link] == pytest.approx(1.5 * plain.model.body_subtreemass[link])
    assert (heavy.model.dof_invweight0 < plain.model.dof_invweight0).all()


def test_larger_inertia_leaves_the_weight_as_it_is():
    plain, slow = fixed(effort_delay_ms=2), fixed(link_inertia=2.0)
    grown = np.diag(mass_matrix(slow) - mass_matrix(plain))
    assert (grown > 0).all()
    assert slow.data.qfrc_bias == pytest.approx(plain.data.qfrc_bias, abs=1e-9)


def test_firmware_holds_the_links_it_knows_and_not_those_there_are():
    plain, heavy, weak = fixed(effort_delay_ms=2), fixed(link_mass=1.2), fixed(gravity_compensation=0.9)
    assert np.abs(plain.data.qfrc_gravcomp).max() > 10
    assert heavy.data.qfrc_gravcomp == pytest.approx(plain.data.qfrc_gravcomp, abs=1e-9)
    assert weak.data.qfrc_gravcomp == pytest.approx(0.9 * plain.data.qfrc_gravcomp, abs=1e-9)


def test_payload_pulls_at_the_hand_and_firmware_knows_nothing_of_it():
    plain, loaded = fixed(effort_delay_ms=2), fixed(payload=2.0)
    jacobian = np.zeros((3, 7))
    mujoco.mj_jacSite(plain.model, plain.data, jacobian, None, plain.model.site("hand").id)
    pull = loaded.data.qfrc_bias - plain.data.qfrc_bias
    assert np.abs(pull).max() > 5
    assert pull == pytest.approx(2.0 * G * jacobian[2], abs=1e-9)
    assert loaded.data.qfrc_gravcomp == pytest.approx(plain.data.qfrc_gravcomp, abs=1e-9)
    for _ in range(10):
        loaded.step(np.zeros(7))
    assert loaded.data.site_xpos[loaded._site][2] < plain.data.site_xpos[plain._site][2] - 1e-3


def test_rotor_inertia_damping_and_friction_are_those_of_the_joints():
    plain, other = fixed(effort_delay_ms=2), fixed(armature=2.0, joint_damping=3.0, joint_friction=4.0)
    assert other.model.dof_armature == pytest.approx(2 * plain.model.dof_armature)
    plain.data.qvel[:] = other.data.qvel[:] = 0.5
    mujoco.mj_forward(plain.model, plain.data)
    mujoco.mj_forward(other.model, other.data)
    assert other.data.qfrc_damper == pytest.approx(3 * plain.data.qfrc_damper)
    assert other.model.dof_frictionloss == pytest.approx(4 * plain.model.dof_frictionloss)


def test_a_torque_below_the_friction_moves_nothing():
    action = np.zeros(7)
    action[0] = 0.6 / (0.18 * 87)  # N·m, between the model's friction loss, 0.2, and four times that
    moved = []
    for friction in (1.0, 4.0):
        env = fixed(joint_friction=friction, payload=1e-9)
        for _ in range(20):
            env.step(action)
        moved.append(abs(env.truth.position[0] - env.home[0]))
    assert moved[1] < 0.1 * moved[0]  # MuJoCo's friction creeps a little


def test_a_crate_slides_twice_as_far_on_half_the_friction():
    model = mujoco.MjModel.from_xml_string(CRATE)
    data = mujoco.MjData(model)
    hardware = Hardware(model, data, np.ones(1), lambda state: None)
    slid = []
    for friction in (1.0, 0.5):
        hardware.fit(nominal(hardware.links, 1, contact_friction=friction))
        mujoco.mj_resetData(model, data)
        data.qvel[0] = 1.0
        hardware.start()
        hardware.advance(1000)
        slid.append(data.qpos[0])
    assert slid[1] == pytest.approx(2 * slid[0], rel=0.1)


# --- motors


def test_weak_motors_exert_less_than_they_are_asked_for():
    env = fixed(motor_strength=0.8)
    env.step(np.full(7, 0.5))
    assert np.abs(env.effort).min() > 0.5
    assert env.data.qfrc_actuator == pytest.approx(0.8 * env.effort)


def test_driving_torque_falls_beyond_the_corner_speed_and_braking_torque_does_not():
    ctrl = np.zeros(2)
    motors = Motors(np.array([10.0, 10.0]), np.array([2.0, 2.0]), STEP, ctrl)
    motors.start(nominal(corner_speed=0.5, torque_drop=0.4), np.random.default_rng(0))

    def exerted(asked, speed):
        motors.command(np.array([asked, -asked], float), 0)
        motors.exert(0, np.array([speed, -speed]))
        assert ctrl[1] == -ctrl[0]
        return ctrl[0]

    assert exerted(10, 0.9) == 10.0
    assert exerted(10, 1.5) == pytest.approx(8.0)
    assert exerted(10, 2.0) == pytest.approx(6.0)
    assert exerted(10, 9.0) == 0.0
    assert exerted(3, 2.0) == 3.0
    assert exerted(-10, 2.0) == -10.0
    motors.exert(1, np.array([0.1, 0.1]))
    assert ctrl[0] == -10.0  # what was asked for comes back once the motor is slow again


@pytest.mark.parametrize("steps", [0, 1, 3, 5])
def test_effort_arrives_exactly_so_many_physics_steps_late(steps):
    env = fixed(effort_delay_ms=steps * 1e3 * STEP, payload=1e-9)
    effort = np.full(7, 3.0)
    env._hardware.command(effort)
    seen = []
    for _ in range(8):
        env._hardware.advance(1)
        seen.append(env.data.qfrc_actuator[0])
    assert seen == [0.0] * steps + [3.0] * (8 - steps)


def test_the_state_in_which_a_command_will_act_is_foreseen_to_the_last_bit():
    env = fixed(effort_delay_ms=12.0)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(5):
        env.run_action(rng.uniform(-0.3, 0.3, 7))
    foreseen = env._hardware.foreseen()
    position, time = foreseen.qpos.copy(), foreseen.time
    env._hardware.advance(6)
    assert env.data.qpos.tobytes() == position.tobytes()
    assert env.data.time == time


def test_jitter_delays_each_command_anew_and_the_newest_that_has_arrived_counts():
    ctrl = np.zeros(1)
    motors = Motors(np.full(1, 1e6), np.ones(1), STEP, ctrl)
    motors.start(nominal(effort_delay_ms=4.0, effort_jitter_ms=8.0), np.random.default_rng(0))
    arrivals = np.arange(2000) + np.rint(2 + 4 * np.random.default_rng(0).random(2000))
    ages = []
    for step in range(2000):
        motors.command(np.array([float(step)]), step)
        motors.exert(step, np.zeros(1))
        assert ctrl[0] == max(np.flatnonzero(arrivals[: step + 1] <= step), default=0)
        ages.append(step - ctrl[0])
    assert set(ages[10:]) == {2.0, 3.0, 4.0, 5.0, 6.0}
    assert (np.diff(ages) <= 1).all()  # what is exerted never becomes older than by waiting


# --- sensors


@pytest.mark.parametrize("steps", [0, 1, 4, 7])
def test_the_state_is_exactly_so_many_physics_steps_old_and_says_so(steps):
    env = fixed(state_delay_ms=steps * 1e3 * STEP, payload=1e-9)
    truth = [env.data.qpos.copy()] * 50
    for tick in range(30):
        env._safety.effort[:] = 2.0 * np.sin(tick)
        env._hardware.command(env._safety.effort)
        for _ in range(2):
            env._hardware.advance(1)
            truth.append(env.data.qpos.copy())
        age = env._hardware.measure(env.state)
        assert env.state.position.tolist() == truth[-1 - steps].tolist()
        assert age == pytest.approx(steps * STEP)
        assert env.data.time - env.state.stamp == pytest.approx(min(age, env.data.time))


def test_a_measurement_that_another_has_overtaken_is_not_seen():
    made, state = sensors(state_delay_ms=2.0, state_jitter_ms=10.0)
    stamps, ages = [], []
    for step in range(1, 2000):
        made.next().stamp = step * STEP
        ages.append(round(made.measure(state) / STEP))
        stamps.append(state.stamp)
    assert (np.diff(stamps) >= 0).all()
    assert set(ages[10:]) <= {1, 2, 3, 4, 5, 6}
    assert len(set(ages[10:])) >= 3
    assert np.array(ages[10:]) * STEP == pytest.approx(STEP * np.arange(11, 2000) - stamps[10:])


def test_noise_and_bias_are_as_large_as_they_say():
    bias = tuple(np.linspace(-0.01, 0.01, 7))
    made, state = sensors(position_noise=0.003, velocity_noise=0.05, position_bias=bias)
    truth = made.newest.motion.copy()
    error = measured(made, state, 5000) - truth
    assert error[:, 0].mean(0) == pytest.approx(bias, abs=3e-4)
    assert error[:, 0].std(0) == pytest.approx(np.full(7, 0.003), rel=0.1)
    assert error[:, 1].mean(0) == pytest.approx(np.zeros(7), abs=5e-3)
    assert error[:, 1].std(0) == pytest.approx(np.full(7, 0.05), rel=0.1)
    assert abs(np.corrcoef(error[:-1, 0, 0], error[1:, 0, 0])[0, 1]) < 0.1


def test_positions_are_on_the_grid_of_the_encoders():
    made, state = sensors(position_resolution=0.01, position_noise=0.02)
    ticks = measured(made, state, 200, "position") / 0.01
    assert ticks == pytest.approx(np.rint(ticks), abs=1e-9)
    assert len(np.unique(np.rint(ticks[:, 0]))) > 3


def test_a_lost_measurement_leaves_the_one_before_and_its_age_grows():
    made, state = sensors(state_dropout=0.3, position_noise=0.01)
    before, ages, held = None, [], []
    for _ in range(3000):
        ages.append(made.measure(state))
        held.append(before is not None and np.array_equal(before, state.motion))
        assert held[-1] == (ages[-1] > 0)
        before = state.motion.copy()
        for _ in range(2):
            old = made.newest.motion.copy()
            made.next().motion[:] = old
    assert np.mean(held) == pytest.approx(0.3, abs=0.05)
    grown = np.array([b - a for a, b, lost in zip(ages, ages[1:], held[1:]) if lost])
    assert grown == pytest.approx(np.full(len(grown), 2 * STEP))


def test_an_imu_errs_about_its_own_axes_and_stays_a_rotation():
    bias, rate_bias = (0.02, -0.01, 0.03), (0.1, -0.2, 0.3)
    made, state = sensors(
        floating=True,
        orientation_noise=0.01,
        orientation_bias=bias,
        angular_velocity_noise=0.05,
        angular_velocity_bias=rate_bias,
    )
    truth = np.array([0.5, 0.5, -0.5, 0.5])
    for past in made._past:
        past.orientation_wxyz[:] = truth
    turns = []
    for seen in measured(made, state, 3000, "orientation_wxyz"):
        assert np.linalg.norm(seen) == pytest.approx(1.0)
        turn = np.zeros(3)
        mujoco.mju_subQuat(turn, seen, truth)
        turns.append(turn)
    assert np.mean(turns, axis=0) == pytest.approx(bias, abs=1e-3)
    assert np.std(turns, axis=0) == pytest.approx(np.full(3, 0.01), rel=0.1)
    rates = measured(made, state, 3000, "angular_velocity")
    assert rates.mean(0) == pytest.approx(rate_bias, abs=5e-3)
    assert rates.std(0) == pytest.approx(np.full(3, 0.05), rel=0.1)


def test_policy_sees_what_the_sensors_say_and_success_is_the_truth():
    env = fixed(position_bias=0.05)
    target = env.data.site_xpos[env._site].tolist()
    observation, info = env.reset(options={"joint_position": env.home, "target": target})
    assert info["distance"] == 0.0
    assert observation[:7] == pytest.approx(env.home + 0.05, abs=1e-6)
    assert np.linalg.norm(env._builder.terms["target_error"]) > 0.02
    assert [env.step(np.zeros(7))[4]["is_success"] for _ in range(30)] == [False] * 24 + [True] * 6


def test_rewards_are_of_the_true_state():
    """Torque does not depend on the sensors in mode effort, so the true arm moves as without noise."""
    noisy, plain = make({"position_noise": [0.01, 0.01], "velocity_noise": [0.05, 0.05]}), make()
    seen, true = noisy.reset(seed=2)[0], plain.reset(seed=2)[0]
    for _ in range(20):
        assert seen.tolist() != true.tolist()
        seen, reward, *_, info = noisy.step(np.full(7, 0.05))
        true, expected, *_, truth = plain.step(np.full(7, 0.05))
        assert (reward, info) == (expected, truth)
        assert np.array_equal(noisy.truth.motion, plain.state.motion)


def test_measurements_that_stay_away_trip_as_on_the_robot():
    env = make({"state_dropout": [0.9, 0.9]})
    env.reset(seed=0)
    for _ in range(200):
        _, _, terminated, _, _ = env.step(np.zeros(7))
        if terminated:
            break
    assert env._safety.reason is TripReason.STALE_STATE


# --- pushes


def test_pushes_come_at_their_interval_with_their_impulse():
    env = fixed(push_interval=0.5, push_impulse=1.5)
    hand = env.model.body("payload").id
    forces = []
    for _ in range(1000):
        env._hardware.advance(1)
        forces.append(env.data.xfrc_applied[hand, :3].copy())
    pushed = np.linalg.norm(forces, axis=1) > 0
    starts = np.flatnonzero(np.diff(pushed.astype(int)) == 1) + 1
    assert starts.tolist() == [250, 500, 750]
    length = round(PUSH_SECONDS / STEP)
    impulses = np.array([STEP * np.sum(forces[start : start + length], axis=0) for start in starts])
    assert np.linalg.norm(impulses, axis=1) == pytest.approx(np.full(3, 1.5))
    assert pushed.sum() == 3 * length
    assert np.linalg.norm(impulses[0] - impulses[1]) > 0.1
    assert np.abs(env.truth.position - env.data.qpos).max() > 1e-3


# --- settings


@pytest.mark.parametrize("name", [*PRESETS])
def test_presets_stay_below_the_state_timeout_of_the_robot(name):
    preset = PRESETS[name]
    assert preset.state_delay_ms[1] + preset.state_jitter_ms[1] < 1e3 * SafetyLimits().state_timeout / 2


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("mild", "found 'mild'.*valid choices: default, off, strong"),
        (None, "found None.*valid choices: default, off, strong"),
        ({"preset": "mild"}, "found 'mild'.*valid choices: default, off, strong"),
        ({"mass": [1, 1]}, "unknown key mass.*valid choices:.*link_mass"),
        ({"link_mass": [-1, 1]}, r"link_mass: found \(-1.0, 1.0\), expected .*0.1 <= lower"),
        ({"link_mass": [1.2, 0.8]}, r"link_mass: found \(1.2, 0.8\).*lower <= upper"),
        ({"payload": [0, float("nan")]}, "payload.*found nan"),
        ({"payload": [0, float("inf")]}, "payload.*found inf"),
        ({"payload": [1]}, r"payload: found \(1.0,\)"),
        ({"payload": 1}, "payload: found int, expected a list"),
        ({"payload": ["a", "b"]}, "payload.*found str 'a', expected float"),
        ({"effort_delay_ms": [0, 5000]}, "effort_delay_ms: .*upper <= 100"),
        ({"state_delay_ms": [0, 30], "state_jitter_ms": [0, 20]}, "found up to 50 ms, expected less than .* 40 ms"),
        ({"state_dropout": [0, 1]}, "state_dropout: .*upper <= 0.9"),
        ({"curriculum": 1.5}, "curriculum: found 1.5"),
        ({"each": {"payload": [[0, 1]]}}, "each: found 'payload', expected what links, joints or axes have"),
        ({"each": {"armature": [[1, 1]]}}, "each.armature: found 1 ranges, expected 7 for this robot"),
        ({"each": {"armature": [[1, -1]]}}, r"each.armature\[0\]: found \(1.0, -1.0\)"),
        ("nowhere.json", "randomization nowhere.json: found .*No such file.*expected a JSON file"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_in_one_line(setting, complaint):
    with pytest.raises(ConfigError, match=complaint) as caught:
        make(setting)
    assert "\n" not in str(caught.value)


def test_single_joints_have_ranges_of_their_own_that_grow_with_the_curriculum(tmp_path):
    each = {"motor_strength": [[0.5 + 0.1 * i, 0.55 + 0.1 * i] for i in range(7)]}
    (tmp_path / "fitted.json").write_text(json.dumps({"each": each, "curriculum": 0.5}))
    env = make(str(tmp_path / "fitted.json"))
    drawn = env.reset(seed=1)[1]["randomization"]["motor_strength"]
    assert all(low <= one <= high for one, (low, high) in zip(drawn, each["motor_strength"]))
    env.training_progress = 0.25
    half = env.reset(seed=1)[1]["randomization"]["motor_strength"]
    assert np.allclose(half, 1 + (np.array(drawn) - 1) / 2)
    assert not env.randomization.changes_nothing
    assert ranges_of(dataclasses.asdict(env.randomization), PRESETS) == env.randomization


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"seed": -1}, "draw seed: found -1"),
        ({"payload": -1.0}, "draw payload: found -1.0, expected 0 to 100"),
        ({"payload": float("nan")}, "payload: found nan"),
        ({"link_mass": [1.0] * 6}, "link_mass: found 6 numbers, expected 7, one per link of this robot"),
        ({"motor_strength": [1.0] * 8}, "motor_strength: found 8 numbers, expected 7, one per joint of this robot"),
        ({"orientation_bias": [0.0]}, "orientation_bias: found 1 numbers, expected 3"),
        ({"wind": 1.0}, "unknown key wind"),
    ],
)
def test_a_draw_of_another_robot_or_of_none_is_refused_in_one_line(change, complaint):
    given = {**dataclasses.asdict(nominal()), **change}
    with pytest.raises(ConfigError, match=complaint) as caught:
        make("default").reset(seed=0, options={"draw": given})
    assert "\n" not in str(caught.value)


def test_a_draw_needs_a_task_with_randomization():
    with pytest.raises(ConfigError, match="randomization=off"):
        make().reset(seed=0, options={"draw": dataclasses.asdict(nominal())})


def test_a_model_without_a_place_for_loads_is_told_how_to_get_one():
    model = mujoco.MjModel.from_xml_string(CRATE.replace('<body name="payload"/>', ""))
    with pytest.raises(ConfigError, match=r'expected a body "payload".*<body name="payload" pos='):
        Hardware(model, mujoco.MjData(model), np.ones(1), lambda state: None)


def test_a_draw_and_its_json_form_are_the_same():
    drawn = draw(PRESETS["strong"], np.random.default_rng(3), 7, 7)
    assert draw_from(json.loads(json.dumps(dataclasses.asdict(drawn)))) == drawn
    assert {field.name for field in dataclasses.fields(Draw)} == {"seed", *kinds()}


def test_the_page_tells_the_values_that_the_presets_have():
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", PAGE.read_text(), re.MULTILINE))
    assert set(rows) == set(kinds())
    for name, row in rows.items():
        told = [cell.strip() for cell in row.split("|")]
        for cell, preset in zip(told[1:3], ("default", "strong")):
            lower, upper = getattr(PRESETS[preset], name)
            assert cell == f"{lower:g} .. {upper:g}", (name, preset)
