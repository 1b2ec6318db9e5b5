"""A robot that was drawn at random is found again in its recording; what cannot be fitted is refused in one line."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("mcap")

from bag_files import Message, effort, joint_state, mcap_bag, sqlite_bag
from identification_trials import DRAWN, drawn_robot, record_draw, truth
from recorded_session import HOME, record

from ddpg_robot.errors import ConfigError, JointMappingError, RecordingError
from ddpg_robot_sim import TASKS
from ddpg_robot_sim.identification.fit import Fit
from ddpg_robot_sim.identification.identify import Identified, as_json, identify, open_robot, randomization_of
from ddpg_robot_sim.identification.motion import read_motion
from ddpg_robot_sim.identification.report import as_page, as_table

JOINTS = tuple(f"joint{i}" for i in range(1, 8))
STATE, EFFORT = "sensor_msgs/msg/JointState", "std_msgs/msg/Float64MultiArray"
START_NS = 1_700_000_000_000_000_000
RATE = 100
SEED = 207
SENSORS = {"position_noise": (2e-4, 2e-4), "velocity_noise": (0.01, 0.01)}


@pytest.fixture(scope="module")
def robot():
    return open_robot(TASKS["arm_reach"], {}).interface.robot


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Identified:
    path = tmp_path_factory.mktemp("recording") / "plant.mcap"
    record_draw(path, drawn_robot(SEED, **SENSORS), SEED, 15.0)
    return identify(path, TASKS["arm_reach"], prior=DRAWN)


def off(fit: Fit) -> dict[str, float]:
    """How far each fitted value is from the truth: a fraction, or ms."""
    robot = drawn_robot(SEED, **SENSORS)
    errors = {}
    for parameter, (value, _, _) in zip(fit.parameters, fit.intervals()):
        true = truth(robot, parameter.field, parameter.index)
        errors[f"{parameter.field} {parameter.name}"] = (value - true) / (true if parameter.is_factor else 1.0)
    return errors


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_value_that_the_motion_tells_is_found_and_the_rest_is_named(found: Identified) -> None:
    told = dict(zip(off(found.fit), found.fit.told()))
    assert [name for name, yes in told.items() if not yes] == ["link_mass link1"]  # turns about the vertical only
    errors = {name: error for name, error in off(found.fit).items() if told[name]}
    assert abs(errors.pop("effort_delay_ms effort delay")) < 1.0
    assert len(errors) == 34
    assert max(map(abs, errors.values())) < 0.1, errors


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_fitted_model_follows_motion_that_was_not_fitted(found: Identified) -> None:
    before, after = found.gap.overall("before"), found.gap.overall("after")
    assert after[0] < before[0] / 5
    assert after[1] < before[1] / 5
    assert after[1] < 0.05


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_intervals_hold_the_truth_and_are_wide_where_nothing_is_known(found: Identified) -> None:
    rows = as_json(found)["parameters"]
    assert rows[0]["of"] == "link1"
    low, high = rows[0]["interval95"]
    assert high / low > 1.4
    assert np.median([row["interval95"][1] - row["interval95"][0] for row in rows]) < 0.05
    json.dumps(as_json(found), allow_nan=False)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_setting_makes_robots_around_the_one_that_was_found(found: Identified, tmp_path: Path) -> None:
    file = tmp_path / "randomization.json"
    file.write_text(json.dumps(randomization_of(found.fit)))
    env = gymnasium.make(TASKS["arm_reach"], randomization=str(file))
    _, info = env.reset(seed=1)
    drawn, true = info["randomization"], drawn_robot(SEED, **SENSORS)
    for field in ("joint_friction", "joint_damping", "armature", "motor_strength"):
        assert np.allclose(drawn[field], true[field], rtol=0.1)
    assert drawn["position_noise"] > 0  # of the preset


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_report_shows_every_parameter_and_every_joint(found: Identified) -> None:
    page, table = as_page(found), as_table(found)
    assert page.count("<svg") == 7
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "This motion does not tell: link_mass link1" in table
    assert len([line for line in table.splitlines() if "joint7" in line]) == 4


def swing(
    seconds: float = 12.0,
    names: tuple[str, ...] = JOINTS,
    amplitude: float = 0.3,
    unit: float = 1.0,
    speed_unit: float = 1.0,
    torque: float = 5.0,
    silent: tuple[float, float] = (0.0, 0.0),
    efforts: bool = True,
) -> Iterator[Message]:
    """What a bag has of an arm that swings in all joints."""
    pace = 2.0 + 0.3 * np.arange(7)
    for k in range(round(seconds * RATE)):
        t, now = k / RATE, START_NS + k * 1_000_000_000 // RATE
        if silent[0] <= t < silent[1]:
            continue
        position = unit * (HOME + amplitude * np.sin(pace * t))
        velocity = unit * speed_unit * amplitude * pace * np.cos(pace * t)
        stamped = bytearray(joint_state(names, position, velocity))
        struct.pack_into("<iI", stamped, 4, *divmod(now, 1_000_000_000))
        yield "/joint_states", STATE, now, bytes(stamped)
        if efforts:
            yield "/effort_controller/commands", EFFORT, now + 1000, effort(torque * np.sin(3 * t + np.arange(7)))


@pytest.mark.parametrize("write", [mcap_bag, sqlite_bag])
def test_a_plain_bag_without_targets_is_read_by_its_stamps(write, robot, tmp_path: Path) -> None:
    motion = read_motion(write(tmp_path / "bag", swing()), robot)
    assert motion.usable_seconds == pytest.approx(12.0, abs=0.05)
    assert np.allclose(np.diff(motion.time), 1 / RATE)
    assert motion.effort.shape == motion.position.shape


def test_a_gap_is_left_out(robot, tmp_path: Path) -> None:
    motion = read_motion(mcap_bag(tmp_path / "bag", swing(14.0, silent=(5.0, 6.0))), robot)
    assert [round(float(motion.time[b - 1] - motion.time[a]), 1) for a, b in motion.usable()] == [5.0, 8.0]


@pytest.mark.parametrize(
    ("bag", "says"),
    [
        ({"seconds": 4.0}, "found 3.98 s that can be used, expected at least 8 s"),
        ({"silent": (3.0, 9.0)}, "1 gaps, the longest 6.01 s"),
        ({"amplitude": 0.01}, "motion of joint1: found 0.02 rad"),
        ({"unit": 57.3}, "expected -2.8973 to 2.8973 rad. Degrees?"),
        ({"speed_unit": 57.3}, "velocity of joint1: found 57"),
        ({"torque": 500.0}, "at most its limit, 87 N·m. Not N·m?"),
        ({"torque": 0.0}, "effort of joint1: found 0 throughout"),
        ({"efforts": False}, "found no effort_controller/commands"),
        ({"seconds": 0.0}, "found no joint_states, no effort_controller/commands"),
    ],
)
def test_a_bag_that_tells_too_little_is_refused(bag: dict, says: str, robot, tmp_path: Path) -> None:
    with pytest.raises(RecordingError) as refusal:
        read_motion(mcap_bag(tmp_path / "bag", swing(**bag)), robot)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_bag_of_other_joints_is_refused(robot, tmp_path: Path) -> None:
    with pytest.raises(JointMappingError, match="joint1"):
        read_motion(mcap_bag(tmp_path / "bag", swing(names=tuple("abcdefg"))), robot)


def test_a_recording_that_is_too_short_and_files_that_are_none_are_refused(robot, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="that can be used"):
        read_motion(record(tmp_path / "recordings"), robot)
    (tmp_path / "text.mcap").write_text("no bag")
    with pytest.raises(RecordingError, match="neither MCAP nor sqlite3"):
        read_motion(tmp_path / "text.mcap", robot)
    with pytest.raises(RecordingError, match="found nothing"):
        read_motion(tmp_path / "nowhere.mcap", robot)


def test_tasks_without_a_robot_that_stands_firmly_are_refused() -> None:
    with pytest.raises(ConfigError, match="floating base"):
        open_robot(TASKS["quadruped_walk"], {})
    with pytest.raises(ConfigError, match="no robot with torque motors"):
        open_robot("Pendulum-v1", {})
    with pytest.raises(ConfigError, match="gravity"):
        open_robot(TASKS["arm_reach"], {"gravity": False})
