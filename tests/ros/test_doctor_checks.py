"""The doctor's judgement, without middleware: what was collected goes in, a finding comes out."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ddpg_robot.errors import ConfigError
from ddpg_robot.policy import read_manifest, shipped_policy
from ddpg_robot.spec import PolicyManifest
from ddpg_robot.urdf import LARGEST_URDF, parse_urdf, read_urdf
from ddpg_robot_ros.doctor import machine
from ddpg_robot_ros.doctor.findings import Finding, Level, fail, ok, overall, quoted, summary, warning
from ddpg_robot_ros.doctor.imu import ImuMessage, gravity_finding, imu_findings, rotate
from ddpg_robot_ros.doctor.joints import JointMessage, joint_findings, positions_finding, speeds_finding
from ddpg_robot_ros.doctor.motion import velocity_finding
from ddpg_robot_ros.doctor.pulses import Excitation, Pulse, leader, pulse_finding, wrong
from ddpg_robot_ros.doctor.timing import rate_finding, stamp_finding
from ddpg_robot_ros.doctor.topics import (
    EFFORT_TYPE,
    STATE_TYPE,
    Controller,
    Endpoint,
    commander_finding,
    effort_finding,
    manager_finding,
    order_finding,
    state_finding,
)
from ddpg_robot_ros.doctor.urdf import urdf_finding

HOME = np.array([0.0, -0.785398, 0.0, -2.356194, 0.0, 1.570796, 0.785398])
NOW = 1.7e9
PLANT = Endpoint("/plant_node", EFFORT_TYPE)
EFFORT = "/effort_controller/commands"
Change = Callable[[JointMessage, int], JointMessage]


@pytest.fixture(scope="module")
def arm() -> PolicyManifest:
    return read_manifest(shipped_policy("arm_reach"))


def judged(manifest: PolicyManifest, change: Change, publishers: int = 1) -> dict[str, Finding]:
    """A second of good joint states at 500 Hz, each changed by `change`, judged."""
    names = manifest.robot.joint_names
    messages = [
        change(JointMessage(NOW + k * 0.002 + 3e-4, NOW + k * 0.002, k, names, HOME.copy(), np.zeros(7)), k)
        for k in range(500)
    ]
    return {finding.check: finding for finding in joint_findings(messages, publishers, manifest)}


def levels(findings: dict[str, Finding]) -> dict[str, Level]:
    """Those that are not ok; the robot stands still, so its units cannot be compared."""
    return {name: one.level for name, one in findings.items() if one.level is not Level.OK and name != "units"}


def test_good_states_are_good(arm: PolicyManifest) -> None:
    findings = judged(arm, lambda message, k: message)
    assert levels(findings) == {}
    assert findings["units"].level is Level.SKIPPED
    assert "500.0 Hz" in findings["state rate"].found


def test_missing_doubled_and_unknown_joints_are_named(arm: PolicyManifest) -> None:
    def named(*names: str) -> Finding:
        size = len(names)
        findings = judged(arm, lambda m, k: replace(m, names=names, position=np.zeros(size), velocity=np.zeros(size)))
        return findings["joint names"]

    ours = arm.robot.joint_names
    assert "no 'joint7'" in named(*ours[:-1]).found
    assert "'joint1' more than once" in named(*ours, "joint1").found
    assert named(*ours, "gripper").level is Level.WARNING
    assert "extra_joints" in named(*ours, "gripper").hint
    assert "\x1b" not in named("\x1b[2J").found


def test_states_of_another_device_on_the_topic_are_no_failure(arm: PolicyManifest) -> None:
    def gripper(message: JointMessage, k: int) -> JointMessage:
        return message if k % 2 else replace(message, names=("finger",), position=np.zeros(1), velocity=np.zeros(1))

    assert levels(judged(arm, gripper, publishers=2)) == {"joint names": Level.WARNING}


def test_publishers_that_take_turns_are_found_by_their_counts(arm: PolicyManifest) -> None:
    findings = judged(arm, lambda message, k: replace(message, sequence=k if k % 2 else 10_000 + k), publishers=2)
    assert findings["joint_states twice"].level is Level.FAIL


def test_empty_and_short_fields_are_told_apart(arm: PolicyManifest) -> None:
    findings = judged(arm, lambda message, k: replace(message, velocity=np.zeros(0)))
    assert "velocity empty in 500 of 500 messages" in findings["joint fields"].found
    assert findings["positions"].level is Level.SKIPPED
    findings = judged(arm, lambda message, k: replace(message, position=np.zeros(3)) if k == 5 else message)
    assert "position of 3 values in 1 of 500 messages" in findings["joint fields"].found


def test_a_value_that_is_not_finite_is_named_and_the_rest_still_judged(arm: PolicyManifest) -> None:
    def broken(message: JointMessage, k: int) -> JointMessage:
        return replace(message, velocity=np.where(np.arange(7) == 3, np.inf, 0.0)) if k == 7 else message

    findings = judged(arm, broken)
    assert "velocity of 'joint4' not finite in 1 of 500" in findings["joint values"].found
    assert findings["velocities"].level is Level.OK


def rate(manifest: PolicyManifest, times: np.ndarray) -> Finding:
    return rate_finding("rate", times, times - 1e-3, manifest.control)


def test_rates_below_the_policy_fail_and_below_the_loop_warn(arm: PolicyManifest) -> None:
    assert rate(arm, NOW + np.arange(0, 3, 1 / 40)).level is Level.FAIL
    assert rate(arm, NOW + np.arange(0, 3, 1 / 100)).level is Level.WARNING
    assert rate(arm, NOW + np.arange(0, 3, 1 / 1000)).level is Level.OK


def test_one_gap_warns_and_many_fail(arm: PolicyManifest) -> None:
    times = NOW + np.arange(0, 3, 0.002)
    assert rate(arm, times + 0.05 * (times > NOW + 1)).level is Level.WARNING
    assert rate(arm, times + 0.05 * np.floor((times - NOW) / 0.1)).level is Level.FAIL


def test_a_driver_that_repeats_itself_has_the_rate_of_its_news(arm: PolicyManifest) -> None:
    times = NOW + np.arange(0, 3, 0.002)
    repeated = rate_finding("rate", times, np.floor(times * 25) / 25, arm.control)
    assert repeated.level is Level.FAIL
    assert repeated.found.startswith("25.0 Hz")


@pytest.mark.parametrize(
    ("age", "level", "words"),
    [
        (3e-4, Level.OK, "0.30 ms"),
        (0.03, Level.WARNING, "30.00 ms"),
        (0.5, Level.FAIL, "old"),
        (-0.005, Level.WARNING, "-5.00 ms"),
        (-0.5, Level.FAIL, "future"),
        (1.6e9, Level.FAIL, "1600000000 s"),
    ],
)
def test_clocks_that_differ_are_judged_by_how_much(arm: PolicyManifest, age: float, level: Level, words: str) -> None:
    received = NOW + np.arange(0, 1, 0.002)
    finding = stamp_finding("stamps", received, received - age, arm.control)
    assert finding.level is level
    assert words in finding.found


def test_zero_frozen_and_backward_stamps_are_told_apart(arm: PolicyManifest) -> None:
    received = NOW + np.arange(0, 1, 0.002)

    def stamps(values: np.ndarray) -> Finding:
        return stamp_finding("stamps", received, values, arm.control)

    assert stamps(np.zeros(500)).level is Level.WARNING
    assert "frozen" in stamps(np.full(500, NOW)).found
    assert "250 of 500 are zero" in stamps(np.where(np.arange(500) % 2, received, 0.0)).found
    assert "go backwards" in stamps(received[::-1]).found


def test_positions_beyond_a_limit_are_named_with_it_and_degrees_are_recognised(arm: PolicyManifest) -> None:
    robot = arm.robot
    beyond = HOME.copy()
    beyond[3] = -0.02
    finding = positions_finding(beyond[None], robot)
    assert "'joint4' at -0.020" in finding.found
    assert "'joint4' -3.0718 .. -0.0698" in finding.expected
    assert "degrees" in positions_finding(np.rad2deg(HOME)[None], robot).found
    beyond[3] = 30.0  # as degrees, outside too
    assert "degrees" not in positions_finding(beyond[None], robot).found
    near = HOME.copy()
    near[0] = 2.88
    assert positions_finding(near[None], robot).level is Level.WARNING


def test_speeds_beyond_a_limit_fail_and_a_moving_robot_warns(arm: PolicyManifest) -> None:
    assert "0.044 rad/s" in speeds_finding(np.full((3, 7), 2.5), arm.robot).hint
    assert speeds_finding(np.full((3, 7), 0.5), arm.robot).level is Level.WARNING
    assert speeds_finding(np.full((3, 7), 0.01), arm.robot).level is Level.OK


TIME = np.arange(0, 3, 0.002)
SWING = 0.2 * np.sin(2 * TIME)
SPEED = 0.4 * np.cos(2 * TIME)
OTHER_SPEED = 0.3 * np.cos(5 * TIME + 1)
OTHER_SWING = 0.06 * np.sin(5 * TIME + 1)


def compared(position: list[np.ndarray], velocity: list[np.ndarray]) -> Finding:
    rng = np.random.default_rng(0)
    noise = 1e-3 * rng.standard_normal((2, len(TIME), 2))
    return velocity_finding(TIME, np.stack(position, 1) + noise[0], np.stack(velocity, 1) + noise[1], ("a", "b"))


def test_velocities_that_are_the_slope_of_the_positions_are_good() -> None:
    assert compared([SWING, OTHER_SWING], [SPEED, OTHER_SPEED]).level is Level.OK
    assert compared([0 * SWING, 0 * SWING], [0 * SPEED, 0 * SPEED]).level is Level.SKIPPED


@pytest.mark.parametrize(
    ("position", "velocity", "words"),
    [
        ([SWING, OTHER_SWING], [-SPEED, OTHER_SPEED], "'a': velocity has the wrong sign"),
        ([SWING, OTHER_SWING], [np.rad2deg(SPEED), OTHER_SPEED], "velocity in degrees per second?"),
        ([np.rad2deg(SWING), OTHER_SWING], [SPEED, OTHER_SPEED], "position in degrees?"),
        ([SWING, OTHER_SWING], [OTHER_SPEED, SPEED], "follows the position of 'b'"),
        ([SWING, OTHER_SWING], [3 * SPEED, OTHER_SPEED], "gear ratio"),
        ([SWING, 0 * SWING], [0 * SPEED, 0 * SPEED], "velocity stayed 0"),
        ([0 * SWING, 0 * SWING], [SPEED, 0 * SPEED], "velocity adds up"),
    ],
)
def test_velocities_that_are_not_are_described(position: list, velocity: list, words: str) -> None:
    finding = compared(position, velocity)
    assert finding.level is Level.FAIL
    assert words in finding.found


def imu(**changes: object) -> list[ImuMessage]:
    """A second of a good IMU at 200 Hz, upright, at rest."""
    good = ImuMessage(0.0, 0.0, (1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 9.81), True, True, "imu_link")
    times = NOW + np.arange(0, 1, 0.002)
    return [replace(good, received=time + 1e-3, stamp=time, **changes) for time in times]


def test_an_upright_imu_is_good_and_a_tilted_one_too_when_its_force_tilts_along(arm: PolicyManifest) -> None:
    assert overall(imu_findings(imu(), arm.control)) is Level.OK
    tilted = (np.cos(0.15), np.sin(0.15), 0.0, 0.0)  # 0.3 rad about x
    force = (0.0, 9.81 * np.sin(0.3), 9.81 * np.cos(0.3))
    assert overall(imu_findings(imu(orientation_wxyz=tilted, acceleration=force), arm.control)) is Level.OK
    assert rotate(np.array([tilted]), np.array([force]))[0] == pytest.approx([0.0, 0.0, 9.81])


@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        ({"acceleration": (0.0, 0.0, -9.81)}, "imu gravity", "Upside down"),
        ({"acceleration": (0.0, 0.0, 1.0)}, "imu gravity", "units of g"),
        ({"acceleration": (9.81, 0.0, 0.0)}, "imu gravity", "different frames"),
        ({"acceleration": (0.0, 0.0, 15.0)}, "imu gravity", "at rest"),
        ({"acceleration": (0.0, 0.0, float("nan"))}, "imu gravity", "not finite"),
        ({"orientation_wxyz": (0.0, 0.0, 0.0, 0.0)}, "imu orientation", "norm 0.000"),
        ({"orientation_wxyz": (float("nan"), 0.0, 0.0, 0.0)}, "imu orientation", "norm nan"),
        ({"has_orientation": False}, "imu orientation", "covariance -1"),
        ({"orientation_wxyz": (0.0, 1.0, 0.0, 0.0), "acceleration": (0.0, 0.0, -9.81)}, "imu orientation", "3.14 rad"),
        ({"angular_velocity": (float("inf"), 0.0, 0.0)}, "imu turning", "not finite"),
    ],
)
def test_an_imu_that_cannot_be_used_fails(arm: PolicyManifest, changes: dict, check: str, words: str) -> None:
    failed = {one.check: one for one in imu_findings(imu(**changes), arm.control) if one.level is Level.FAIL}
    assert words in failed[check].line()


def test_an_imu_without_acceleration_or_with_degrees_per_second_is_warned_of(arm: PolicyManifest) -> None:
    assert gravity_finding(imu(has_acceleration=False)).level is Level.WARNING
    findings = imu_findings(imu(angular_velocity=(3.0, 0.0, 0.0)), arm.control)
    assert overall(findings) is Level.WARNING


def test_one_controller_is_right_and_watching_nodes_do_not_count() -> None:
    policy, echo = Endpoint("/policy_node", EFFORT_TYPE), Endpoint("/_ros2cli_17", EFFORT_TYPE)
    guard = Endpoint("/effort_guard", EFFORT_TYPE)
    assert effort_finding(EFFORT, [PLANT, policy, echo], [policy, guard], []).level is Level.OK
    assert effort_finding(EFFORT, [PLANT, policy], [], []).level is Level.FAIL
    assert "'/left/c'" in effort_finding(EFFORT, [policy], [policy], ["/left/c"]).hint
    assert effort_finding(EFFORT, [Endpoint("/c", "std_msgs/msg/Float32")], [], []).level is Level.FAIL
    assert "reliab" in effort_finding(EFFORT, [Endpoint("/c", EFFORT_TYPE, "reliability")], [], []).found


def test_publishers_that_cannot_be_heard_say_why() -> None:
    def states(*publishers: Endpoint, messages: int = 0) -> Finding:
        return state_finding("joint_states", "/joint_states", STATE_TYPE, publishers, messages, [])

    assert "nobody" in states().found
    assert "std_msgs/msg/String" in states(Endpoint("/a", "std_msgs/msg/String")).found
    assert "nothing arrives" in states(Endpoint("/a", STATE_TYPE)).found
    assert states(Endpoint("/a", STATE_TYPE), messages=9).level is Level.OK


def test_other_commanders_are_warned_of_whether_they_speak_or_not() -> None:
    assert commander_finding(EFFORT, [], 0).level is Level.OK
    assert "silent" in commander_finding(EFFORT, [PLANT], 0).found
    assert "12 commands" in commander_finding(EFFORT, [PLANT], 12).found


def test_the_controllers_own_joints_and_interface_are_compared(arm: PolicyManifest) -> None:
    ours = arm.robot.joint_names
    assert order_finding(Controller("/c", joints=ours, interface="effort"), arm.robot).level is Level.OK
    assert "the policy's order" in order_finding(Controller("/c", joints=ours[::-1]), arm.robot).expected
    assert "the policy's joints" in order_finding(Controller("/c", joints=ours[1:]), arm.robot).expected
    assert "'velocity'" in order_finding(Controller("/c", joints=ours, interface="velocity"), arm.robot).found
    assert order_finding(Controller("/c"), arm.robot).level is Level.SKIPPED


def test_a_controller_that_forwards_no_effort_is_warned_of() -> None:
    forward, trajectory = "forward_command_controller/ForwardCommandController", "joint_trajectory_controller/X"
    taker = Endpoint("/effort_controller", EFFORT_TYPE)

    def managed(kind: str, interface: str) -> Level:
        return manager_finding([Controller("effort_controller", kind, interface=interface)], taker, "").level

    assert managed(forward, "effort") is Level.OK
    assert managed(forward, "position") is Level.WARNING
    assert managed(trajectory, "effort") is Level.WARNING
    assert manager_finding([], taker, "").level is Level.WARNING
    assert manager_finding(None, taker, "no controller manager").level is Level.SKIPPED


def urdf(manifest: PolicyManifest, kind: str = "revolute", **limits: object) -> bytes:
    joints = [
        f'<joint name="{joint.name}" type="{kind}"><limit '
        + " ".join(
            f'{name}="{value}"'
            for name, value in {
                "lower": joint.position_lower,
                "upper": joint.position_upper,
                "effort": joint.effort_limit,
                "velocity": joint.velocity_limit,
                **limits,
            }.items()
        )
        + "/></joint>"
        for joint in manifest.robot.joints
    ]
    return f'<?xml version="1.0"?><robot name="arm">{"".join(joints)}</robot>'.encode()


def compare(manifest: PolicyManifest, data: bytes) -> Finding:
    return urdf_finding(parse_urdf(data), manifest.robot, "robot.urdf")


def test_limits_equal_to_the_urdfs_are_good_and_wider_ones_fail(arm: PolicyManifest) -> None:
    assert compare(arm, urdf(arm)).level is Level.OK
    assert "'joint1' effort 87, URDF 80" in compare(arm, urdf(arm, effort=80)).found
    assert "'joint5' velocity 2.61, URDF 2.5" in compare(arm, urdf(arm, velocity=2.5)).found
    assert "'joint1' lower -2.8973, URDF -2" in compare(arm, urdf(arm, lower=-2)).found
    assert "'joint1' upper 2.8973, URDF 2" in compare(arm, urdf(arm, upper=2)).found


def test_limits_that_the_urdf_does_not_say_are_warned_of(arm: PolicyManifest) -> None:
    for effort in ("0", "nan", "inf", "much", "1" * 100):
        finding = compare(arm, urdf(arm, effort=effort))
        assert finding.level is Level.WARNING
        assert "'joint1' effort" in finding.found
    assert compare(arm, urdf(arm, kind="continuous")).level is Level.OK


def test_another_robots_urdf_fails(arm: PolicyManifest) -> None:
    assert "no 'joint1'" in compare(arm, b"<robot name='a'><joint name='hip' type='revolute'/></robot>").found
    assert "'prismatic'" in compare(arm, urdf(arm, kind="prismatic")).found


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><robot name="&b;"/>', "entities"),
        ('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE r []><robot/>'.encode("utf-16"), "UTF-8"),
        (b"<robot" + b" " * LARGEST_URDF + b"/>", "at most"),
        (b"solid mesh", "no XML"),
        (b"", "no XML"),
        (b"<robot>\x00</robot>", "no XML"),
        (b"<sdf/>", "'robot'"),
        (b"<a>" * 300_000, "no XML"),
    ],
)
def test_a_description_that_cannot_be_trusted_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_urdf(data)


def test_a_description_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a file"):
        read_urdf(tmp_path / "none.urdf")


def pulse(joint: int, effort: float, **moved: float) -> Pulse:
    motion = np.zeros(7)
    for name, value in moved.items():
        motion[int(name.removeprefix("joint")) - 1] = value
    return Pulse(joint, effort, motion)


def test_a_push_that_moves_its_joint_along_is_right(arm: PolicyManifest) -> None:
    pulses = [pulse(i, 1.0, **{f"joint{i + 1}": 0.01}) for i in range(7)]
    assert pulse_finding(pulses, arm.robot).level is Level.OK
    assert pulse_finding(pulses[:-1], arm.robot).level is Level.WARNING


def test_a_push_that_moves_another_joint_or_the_other_way_is_wrong(arm: PolicyManifest) -> None:
    other, back = pulse(0, 1.0, joint2=0.01, joint1=0.002), pulse(0, -1.0, joint1=0.01)
    assert wrong(other, arm.robot)
    assert wrong(back, arm.robot)
    assert "moved 'joint2' by +0.0100" in pulse_finding([other], arm.robot).found
    assert "sign" in pulse_finding([back], arm.robot).hint


def test_a_light_joint_that_is_dragged_along_does_not_hide_the_heavy_one(arm: PolicyManifest) -> None:
    dragged = pulse(3, 1.0, joint4=0.01, joint6=-0.012)  # damping 20 and 4
    assert leader(dragged, arm.robot)[0] == 3
    assert not wrong(dragged, arm.robot)


def test_joints_that_do_not_move_are_warned_of_and_a_robot_that_does_not_fails(arm: PolicyManifest) -> None:
    still = [pulse(i, 1.0) for i in range(7)]
    assert "brakes" in pulse_finding(still, arm.robot).hint
    finding = pulse_finding([pulse(6, 1.0, joint7=0.01), *still[:6]], arm.robot)
    assert finding.level is Level.WARNING
    assert "'joint1'" in finding.found
    assert pulse_finding([], arm.robot).level is Level.SKIPPED


@pytest.mark.parametrize("settings", [(0.2, 0.1), (0.0, 0.1), (0.02, 2.0), (float("nan"), 0.1)])
def test_pushes_beyond_the_cap_are_refused(settings: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="expected more than 0"):
        Excitation(*settings)


def test_the_machine_is_described(tmp_path: Path) -> None:
    assert machine.governor_finding(tmp_path).level is Level.SKIPPED
    for number, governor in enumerate(("performance", "powersave")):
        folder = tmp_path / f"cpu{number}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(governor + "\n")
    assert "performance, powersave" in machine.governor_finding(tmp_path).found
    (tmp_path / "realtime").write_text("1\n")
    assert machine.kernel_finding(tmp_path / "realtime").found.endswith(", PREEMPT_RT")
    assert machine.priority_finding(0, 500.0, root=False).level is Level.WARNING
    assert machine.priority_finding(0, 50.0, root=False).level is Level.OK
    assert machine.priority_finding(99, 500.0, root=False).found == "up to 99"
    assert machine.memory_finding(65_536, 500.0, root=False).level is Level.WARNING
    assert machine.memory_finding(resource.RLIM_INFINITY, 500.0, root=False).level is Level.OK
    assert machine.cores_finding(1, 0.1).level is Level.WARNING
    assert machine.cores_finding(4, 0.1).level is Level.OK


def test_the_summary_counts_and_says_whether_to_go_on() -> None:
    good, doubtful, bad = ok("a", "x"), warning("b", "x"), fail("c", "x", "y", "Do z")
    assert summary([good]) == "Ready: 1 ok, 0 warnings, 0 skipped."
    assert summary([good, doubtful]).startswith("Ready, with warnings")
    assert summary([good, doubtful, bad]).startswith("NOT READY: 1 check failed")
    assert bad.line() == "FAIL     c                   x, expected y. Do z"
    assert quoted([f"joint{i}" for i in range(12)]).endswith("and 4 more")
