"""`ddpg-robot replay` as a user calls it, on recordings and on bags as `ros2 bag record` writes them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mcap")

from bag_files import Message, effort, joint_state, mcap_bag, point, sqlite_bag
from recorded_session import HOME, record

from ddpg_robot.controller import PolicyController
from ddpg_robot.policy import OnnxPolicy, shipped_policy
from ddpg_robot.safety import SafetyLimits
from ddpg_robot.state import Command, RobotState

JOINTS = tuple(f"joint{i}" for i in range(1, 8))
STATE, POINT = "sensor_msgs/msg/JointState", "geometry_msgs/msg/PointStamped"
EFFORT = "std_msgs/msg/Float64MultiArray"
START_NS = 1_700_000_000_000_000_000


def messages(names=JOINTS, prefix: str = "", offset: float = 0.0) -> Iterator[Message]:
    """What `ros2 bag record` hears of 2 s: joint states in an order of their own, a target, the policy's efforts."""
    policy = OnnxPolicy.open(shipped_policy("arm_reach"))
    controller = PolicyController(policy, SafetyLimits(state_timeout=0.04))
    state, command = RobotState(7), Command(3)
    order = np.arange(7)[::-1]
    controller.rearm()
    period_ns = round(1e9 / controller.rate)
    for k in range(round(2 * controller.rate)):
        now = START_NS + k * period_ns
        state.position[:] = HOME + 0.1 * np.sin(k / 50 + np.arange(7))
        state.velocity[:] = 0.1 * np.cos(k / 50 + np.arange(7))
        yield f"{prefix}/joint_states", STATE, now, joint_state([names[i] for i in order], *state.motion[:, order])
        if k == 20:
            yield f"{prefix}/target", POINT, now, point(0.5, 0.1, 0.4)
            command.values[:] = (0.5, 0.1, 0.4)
            controller.rearm()
        controller.drive(state, command, 0.0, waiting=k < 20)
        yield f"{prefix}/effort_controller/commands", EFFORT, now + 300_000, effort(controller.effort + offset)


WRITERS = pytest.mark.parametrize("write", [mcap_bag, sqlite_bag])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("recordings"))


def test_a_recording_is_equal_bit_for_bit(call, recorded: Path) -> None:
    for source in (recorded, recorded.parent):
        done = call("replay", "arm_reach", source, "--tolerance", "0")
        assert done.returncode == 0, done
        assert done.stdout.endswith("equal, bit for bit\n")
        assert "observation_target_error" in done.stdout
        assert "verdicts of the safety filter that differ: 0 of 300" in done.stdout


def test_another_policy_is_not_equal_and_the_table_says_from_when_on(call, recorded: Path) -> None:
    done = call("replay", "arm_reach_pd", recorded, "--json")
    assert done.returncode == 1, done
    report = json.loads(done.stdout)
    assert report["equal"] is False
    assert "recorded with another policy, 'arm_reach'" in report["notes"]
    output = next(one for one in report["differences"] if one["name"] == "output")
    assert output["first_tick"] == 10
    assert output["max_abs"] > 0.1


@WRITERS
def test_a_plain_bag_is_compared_with_the_efforts_nearest_in_time(call, tmp_path: Path, write) -> None:
    bag = write(tmp_path / "bag", messages(prefix="/left"))
    done = call("replay", "arm_reach", bag, "--tolerance", "1e-9")
    assert done.returncode == 0, done
    assert "approximate" in done.stdout
    assert "effort of 'joint7'" in done.stdout
    other = write(tmp_path / "other", messages(offset=0.25))
    done = call("replay", "arm_reach", other, "--json")
    assert done.returncode == 1, done
    report = json.loads(done.stdout)
    assert report["approximate"] is True
    assert all(abs(one["max_abs"] - 0.25) < 1e-6 for one in report["differences"])
    assert {one["first_tick"] for one in report["differences"]} == {20}


@WRITERS
def test_of_two_robots_in_a_bag_one_is_chosen(call, refused, tmp_path: Path, write) -> None:
    bag = write(tmp_path / "bag", iter([*messages(prefix="/left"), *messages(prefix="/right", offset=1.0)]))
    assert "Choose a robot with --namespace" in refused("replay", "arm_reach", bag)
    assert call("replay", "arm_reach", bag, "--namespace", "left").returncode == 0
    assert call("replay", "arm_reach", bag, "--namespace", "right").returncode == 1


@WRITERS
def test_a_bag_of_other_joints_is_refused(refused, tmp_path: Path, write) -> None:
    names = [f"panda_{name}" for name in JOINTS]
    assert "no 'joint1', 'joint2'" in refused("replay", "arm_reach", write(tmp_path / "bag", messages(names)))


@WRITERS
def test_a_bag_without_a_topic_names_what_is_there(refused, tmp_path: Path, write) -> None:
    found = (message for message in messages() if message[0] != "/target")
    line = refused("replay", "arm_reach", write(tmp_path / "bag", found))
    assert "no target among /effort_controller/commands, /joint_states" in line


@WRITERS
def test_a_target_that_the_policy_refuses_is_left_out(refused, tmp_path: Path, write) -> None:
    found = [message for message in messages() if message[0] != "/target"]
    found.append(("/target", POINT, START_NS, point(9.0, 0.0, 0.0)))
    assert "0 usable targets" in refused("replay", "arm_reach", write(tmp_path / "bag", iter(found)))


def test_a_bag_that_was_cut_off_is_compared_as_far_as_it_goes(call, refused, tmp_path: Path) -> None:
    bag = mcap_bag(tmp_path / "bag", messages())
    file = bag / "bag_0.mcap"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * 4 // 5])
    done = call("replay", "arm_reach", bag)
    assert done.returncode == 0, done
    assert "the bag has no end" in done.stdout
    file.write_bytes(whole[:100])
    refused("replay", "arm_reach", bag)
    database = sqlite_bag(tmp_path / "sqlite", messages()) / "bag_0.db3"
    database.write_bytes(database.read_bytes()[:20_000])
    assert "bag_0.db3" in refused("replay", "arm_reach", database)


def test_a_recording_of_other_joints_is_refused(refused, recorded: Path, policy_file: Path) -> None:
    line = refused("replay", policy_file, recorded)
    assert "joints of the recording: found joint1, joint2" in line
    assert "expected shoulder, elbow" in line


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x89MCAP0\r\n", b"\x89MCAP0\r\n" + bytes(500), b"SQLite format 3\x00" * 9]
)
def test_foreign_files_are_refused_in_one_line(refused, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.mcap"
    path.write_bytes(content)
    assert "some.mcap" in refused("replay", "arm_reach", path)


def test_missing_empty_and_ambiguous_sources_are_refused(refused, recorded: Path, tmp_path: Path) -> None:
    assert "found nothing" in refused("replay", "arm_reach", tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "no .mcap and no .db3 file" in refused("replay", "arm_reach", tmp_path / "empty")
    (tmp_path / "empty" / "bag_0.mcap.zstd").touch()
    assert "zstd -d" in refused("replay", "arm_reach", tmp_path / "empty")
    (tmp_path / "two").mkdir()
    for name in ("a.mcap", "b.mcap"):
        (tmp_path / "two" / name).write_bytes(recorded.read_bytes())
    assert "found 2 recordings, expected one (valid choices: a.mcap, b.mcap)" in refused(
        "replay", "arm_reach", tmp_path / "two"
    )
    assert "--tolerance" in refused("replay", "arm_reach", recorded, "--tolerance", "-1")


def test_replay_needs_no_ros(recorded: Path, tmp_path: Path) -> None:
    program = (
        "import sys\nfor name in ('rclpy', 'mujoco', 'gymnasium'): sys.modules[name] = None\n"
        "from ddpg_robot.cli import main\n"
        f"main(['replay', 'arm_reach', {str(recorded)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
