"""The doctor looks at real nodes over real DDS: it finds what is wrong, and finds nothing where nothing is."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from geometry_msgs.msg import PointStamped
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros.robot import WAIT_S, RobotDouble
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64MultiArray, String

from ddpg_robot.policy import read_manifest, shipped_policy
from ddpg_robot.spec import ObjectSpec, PolicyManifest
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.doctor.findings import Finding, Level, overall
from ddpg_robot_ros.doctor.pulses import Excitation
from ddpg_robot_ros.doctor.run import examine
from ddpg_robot_ros.processes import NodeProcess, wait_until
from ddpg_robot_ros.transport import COMMAND_QOS, EFFORT_READER_QOS

LISTEN_S = 1.5
TRIES = 4
SHUFFLED = ["joint4", "joint2", "joint7", "joint1", "joint3", "joint6", "joint5"]
TWO_SWAPPED = ["joint1", "joint2", "joint3", "joint4", "joint5", "joint7", "joint6"]
PROGRAM = [sys.executable, "-m", "ddpg_robot.cli", "doctor"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def arm() -> PolicyManifest:
    return read_manifest(shipped_policy("arm_reach"))


@pytest.fixture
def watcher(arm: PolicyManifest) -> Iterator[Operator]:
    with Operator(arm.robot) as operator:
        yield operator


@pytest.fixture
def plant(start, watcher: Operator) -> Callable[..., NodeProcess]:
    """Starts a plant and waits until it is there."""

    def start_one(
        topic: str = "joint_states", remaps: dict[str, str] | None = None, **parameters: object
    ) -> NodeProcess:
        process = start("plant_node", remaps, **parameters)

        def there() -> bool:
            return any(one.node_name == "plant_node" for one in watcher.node.get_publishers_info_by_topic(topic))

        assert wait_until(there, WAIT_S)
        return process

    return start_one


@pytest.fixture
def double(arm: PolicyManifest) -> Iterator[RobotDouble]:
    with RobotDouble(arm.robot) as robot:
        robot.alter = at_rest
        yield robot


def at_rest(message: JointState) -> JointState:
    message.velocity = [0.0] * len(message.name)
    return message


def diagnosis(manifest: PolicyManifest, excite: bool = False, namespace: str = "") -> dict[str, Finding]:
    """What the doctor finds, by check; asked again where this machine stood still, which the doctor rightly complains of."""
    excitation = Excitation() if excite else None
    for _ in range(TRIES):
        found = examine(manifest, LISTEN_S, namespace, None, excitation, threading.Event(), lambda text: None)
        findings = {finding.check: finding for finding in found}
        if "state rate" not in failures(findings):
            break
    return findings


def failures(findings: dict[str, Finding]) -> list[str]:
    return [check for check, finding in findings.items() if finding.level is Level.FAIL]


def command(*words: object) -> subprocess.CompletedProcess[str]:
    """Runs `ddpg-robot doctor`; again where this machine stood still."""
    for _ in range(TRIES):
        done = subprocess.run([*PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=WAIT_S, check=False)
        if not re.search(r'FAIL +state rate|"state rate",\s+"level": "FAIL"', done.stdout):
            break
    return done


class Wire:
    """An effort controller between the doctor and a plant: keeps what it hears, passes it on times a sign, plus a push."""

    def __init__(self, operator: Operator, sign: float = 1.0, push: float = 0.0) -> None:
        self.efforts: list[np.ndarray] = []
        self._sign, self._push = sign, push
        self._publisher = operator.node.create_publisher(Float64MultiArray, "plant/commands", COMMAND_QOS)
        operator.node.create_subscription(
            Float64MultiArray, "effort_controller/commands", self._pass_on, EFFORT_READER_QOS
        )

    def _pass_on(self, message: Float64MultiArray) -> None:
        self.efforts.append(np.array(message.data))
        self._publisher.publish(Float64MultiArray(data=list(self._sign * self.efforts[-1] + self._push)))


BEHIND_A_WIRE = {"effort_controller/commands": "plant/commands"}


def test_a_good_plant_has_no_failure_and_the_command_says_so(plant) -> None:
    plant()
    done = command("arm_reach", "--seconds", LISTEN_S)
    assert done.returncode == 0, done.stdout
    assert "Ready" in done.stdout.splitlines()[-1]
    assert "FAIL" not in done.stdout
    assert "ok       joint names         all 7, in the policy's order" in done.stdout
    assert "skipped  controller type     no controller manager" in done.stdout


def test_json_says_the_same(plant) -> None:
    plant()
    done = command("arm_reach", "--seconds", LISTEN_S, "--json")
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout)
    assert found["verdict"] in ("ok", "warning")
    assert {"check": "joint fields", "level": "ok", "found": "position and velocity", "expected": "", "hint": ""} in (
        found["findings"]
    )


def test_another_order_of_joint_states_is_fine(plant, arm: PolicyManifest) -> None:
    plant(joint_order=SHUFFLED)
    findings = diagnosis(arm)
    assert failures(findings) == []
    assert "another order (mapped by name)" in findings["joint names"].found


def test_a_policy_for_another_robot_fails(plant, arm: PolicyManifest) -> None:
    plant()
    joints = tuple(replace(joint, name=f"left_{joint.name}") for joint in arm.robot.joints)
    other = replace(arm, robot=replace(arm.robot, joints=joints, chain=None))
    findings = diagnosis(other)
    assert failures(findings) == ["joint names"]
    assert "'joint1'" in findings["joint names"].found
    assert "'left_joint1'" in findings["joint names"].expected


def test_a_robot_in_another_namespace_is_pointed_at(plant, arm: PolicyManifest) -> None:
    plant("/left/joint_states", remaps={"__ns": "/left"})
    findings = diagnosis(arm)
    assert failures(findings) == ["joint_states", "effort topic"]
    assert "'/left/joint_states'" in findings["joint_states"].hint
    assert "'/left/effort_controller/commands'" in findings["effort topic"].hint
    assert failures(diagnosis(arm, namespace="left")) == []


def test_nobody_there_fails_with_exit_code_1() -> None:
    done = command("arm_reach", "--seconds", "0.1")
    assert done.returncode == 1, done
    assert "nobody publishes on /joint_states" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("NOT READY: 2 checks failed")


def test_degrees_are_told_from_radians(double: RobotDouble, arm: PolicyManifest) -> None:
    def in_degrees(message: JointState) -> JointState:
        message.position = np.rad2deg(message.position).tolist()
        return at_rest(message)

    double.alter = in_degrees
    findings = diagnosis(arm)
    assert failures(findings) == ["positions"]
    assert "these look like degrees" in findings["positions"].found


def test_a_missing_field_a_nan_and_a_frozen_stamp_are_found(double: RobotDouble, arm: PolicyManifest) -> None:
    def without_velocity(message: JointState) -> JointState:
        message.velocity = []
        return message

    def with_nan(message: JointState) -> JointState:
        message.position[2] = float("nan")
        return at_rest(message)

    stamp = double.healthy().header.stamp

    def frozen(message: JointState) -> JointState:
        message.header.stamp = stamp
        return at_rest(message)

    double.alter = without_velocity
    assert "velocity empty" in diagnosis(arm)["joint fields"].found
    double.alter = with_nan
    assert "'joint3'" in diagnosis(arm)["joint values"].found
    double.alter = frozen
    assert "frozen" in diagnosis(arm)["state stamps"].found


def test_velocities_of_a_robot_that_stands_are_found(double: RobotDouble, arm: PolicyManifest) -> None:
    double.alter = lambda message: message  # moves by its velocities, not by its positions
    assert "while the position stood" in diagnosis(arm)["units"].found


def test_two_publishers_of_the_same_joints_are_found(plant, double: RobotDouble, arm: PolicyManifest) -> None:
    plant(remaps={"effort_controller/commands": "elsewhere"})
    findings = diagnosis(arm)
    assert "joint_states twice" in failures(findings)


def test_two_subscribers_of_effort_are_one_too_many(plant, double: RobotDouble, arm: PolicyManifest) -> None:
    plant("elsewhere", remaps={"joint_states": "elsewhere"})
    findings = diagnosis(arm)
    assert failures(findings) == ["effort topic"]
    assert "'/operator'" in findings["effort topic"].found
    assert "'/plant_node'" in findings["effort topic"].found


def test_a_subscriber_that_cannot_be_connected_is_found(watcher: Operator, arm: PolicyManifest) -> None:
    qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    watcher.node.create_subscription(Float64MultiArray, "effort_controller/commands", lambda message: None, qos)
    finding = diagnosis(arm)["effort topic"]
    assert finding.level is Level.FAIL
    assert "'/operator': Volatile publisher and transient local subscription" in finding.found


def test_a_policy_that_runs_is_warned_of_and_its_watching_node_is_no_second_controller(
    start, plant, spring: Path, arm: PolicyManifest
) -> None:
    plant()
    start("effort_guard", policy=str(spring))
    start("policy_node", remaps={}, policy=str(spring), guarded=True, autostart=True)
    with Operator(arm.robot) as operator:
        assert wait_until(operator.active, WAIT_S)
    findings = diagnosis(arm, excite=True)
    assert findings["effort topic"].level is Level.OK, findings["effort topic"]
    assert findings["other commanders"].level is Level.WARNING
    assert "'/effort_guard'" in findings["other commanders"].found
    assert findings["excitation"].level is Level.SKIPPED


def test_a_latched_description_with_lower_limits_fails(plant, watcher: Operator, arm: PolicyManifest) -> None:
    plant()
    qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    description = watcher.node.create_publisher(String, "robot_description", qos)
    description.publish(String(data=urdf(arm)))
    assert diagnosis(arm)["URDF limits"].level is Level.OK
    description.publish(String(data=urdf(arm, effort=50.0)))
    findings = diagnosis(arm)
    assert failures(findings) == ["URDF limits"]
    assert "'joint1' effort 87, URDF 50" in findings["URDF limits"].found
    description.publish(String(data="<!DOCTYPE robot []><robot/>"))
    assert "document type" in diagnosis(arm)["URDF limits"].found


def test_a_description_from_a_file_is_compared(plant, arm: PolicyManifest, tmp_path: Path) -> None:
    file = tmp_path / "robot.urdf"
    file.write_text(urdf(arm, velocity=1.0))
    plant()
    done = command("arm_reach", "--seconds", LISTEN_S, "--urdf", file)
    assert done.returncode == 1, done
    assert "'joint1' velocity 2.175, URDF 1" in done.stdout


def test_a_controller_that_names_the_joints_in_another_order_fails(
    plant, watcher: Operator, arm: PolicyManifest
) -> None:
    watcher.node.declare_parameter("joints", SHUFFLED)
    watcher.node.declare_parameter("interface_name", "effort")
    Wire(watcher)
    plant(remaps=BEHIND_A_WIRE)
    findings = diagnosis(arm)
    assert failures(findings) == ["command order"]
    assert "'joint4', 'joint2'" in findings["command order"].found


def test_a_floating_base_is_asked_for_its_imu(double: RobotDouble, arm: PolicyManifest) -> None:
    floating = replace(arm, robot=replace(arm.robot, floating_base=True))
    assert "imu" in failures(diagnosis(floating))
    imu = double.node.create_publisher(Imu, "imu", COMMAND_QOS)
    force = 9.81

    def publish() -> None:
        message = Imu()
        message.header.stamp = double.node.get_clock().now().to_msg()
        message.header.frame_id = "imu_link"
        message.linear_acceleration.z = force
        imu.publish(message)

    double.node.create_timer(0.01, publish)
    findings = diagnosis(floating)
    # How often the double's timer comes to its turn is not the question here.
    assert {"imu", "imu gravity"}.isdisjoint(failures(findings))
    assert "'imu_link'" in findings["imu"].found
    force = -9.81
    findings = diagnosis(floating)
    assert "imu gravity" in failures(findings)
    assert "Upside down" in findings["imu gravity"].hint


def test_excitation_finds_every_joint_in_its_place(plant, arm: PolicyManifest) -> None:
    plant(joint_order=SHUFFLED)
    findings = diagnosis(arm, excite=True)
    assert overall(list(findings.values())) is not Level.FAIL
    assert findings["excitation"].level is Level.OK, findings["excitation"]
    assert findings["units in motion"].level is Level.OK, findings["units in motion"]


def test_excitation_finds_commands_in_another_order(plant, arm: PolicyManifest) -> None:
    plant(command_order=TWO_SWAPPED)
    finding = diagnosis(arm, excite=True)["excitation"]
    assert finding.level is Level.FAIL
    assert "on 'joint6' moved 'joint7'" in finding.found


def test_excitation_finds_a_wrong_sign_and_ends_in_zero_effort(plant, watcher: Operator, arm: PolicyManifest) -> None:
    wire = Wire(watcher, sign=-1.0)
    plant(remaps=BEHIND_A_WIRE)
    findings = diagnosis(arm, excite=True)
    assert failures(findings) == ["excitation"], findings
    assert "sign" in findings["excitation"].hint
    assert not wire.efforts[-1].any()
    largest = np.abs(wire.efforts).max(axis=0) / [joint.effort_limit for joint in arm.robot.joints]
    assert largest.max() <= 0.02 + 1e-9


def test_a_robot_that_moves_by_itself_ends_the_excitation(plant, watcher: Operator, arm: PolicyManifest) -> None:
    wire = Wire(watcher, push=4.0)
    plant(remaps=BEHIND_A_WIRE)
    finding = diagnosis(arm, excite=True)["excitation"]
    assert finding.level is Level.FAIL
    assert "ran away" in finding.found
    assert not wire.efforts[-1].any()


def test_excitation_is_refused_when_a_check_failed_or_gravity_would_pull(
    plant, watcher: Operator, arm: PolicyManifest
) -> None:
    wire = Wire(watcher)
    plant(remaps=BEHIND_A_WIRE)
    heavy = replace(arm, robot=replace(arm.robot, gravity_compensated=False))
    assert "gravity" in diagnosis(heavy, excite=True)["excitation"].found
    narrow = tuple(replace(joint, position_lower=-0.01, position_upper=0.01) for joint in arm.robot.joints)
    finding = diagnosis(replace(arm, robot=replace(arm.robot, joints=narrow)), excite=True)["excitation"]
    assert finding.level is Level.SKIPPED
    assert "refused, because of positions" in finding.found
    assert wire.efforts == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_excitation_ends_in_damping_then_zero(
    plant, watcher: Operator, arm: PolicyManifest, number: int
) -> None:
    wire = Wire(watcher)
    plant(remaps=BEHIND_A_WIRE)

    def pushed() -> bool:
        return any(np.abs(effort).max() > 0.2 for effort in wire.efforts)

    for _ in range(TRIES):  # refused where this machine stood still
        process = subprocess.Popen(
            [*PROGRAM, "arm_reach", "--seconds", str(LISTEN_S), "--excite"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert wait_until(lambda process=process: pushed() or process.poll() is not None, WAIT_S, 0.002)
            process.send_signal(number)
            said = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
        if pushed():
            break
    assert process.returncode == 130, said
    assert "The robot will MOVE" in said[1]
    farewell = np.array(wire.efforts[-5:])
    assert not farewell.any()
    assert len(wire.efforts) > 50  # half a second of damping


def urdf(manifest: PolicyManifest, effort: float = 1000.0, velocity: float = 100.0) -> str:
    """A description of the policy's robot with its own position limits, and these."""
    joints = [
        f'<joint name="{joint.name}" type="revolute"><limit lower="{joint.position_lower}" '
        f'upper="{joint.position_upper}" effort="{effort}" velocity="{velocity}"/></joint>'
        for joint in manifest.robot.joints
    ]
    return f'<robot name="arm">{"".join(joints)}</robot>'


def test_a_policy_that_sees_an_object_is_asked_for_it(double: RobotDouble, arm: PolicyManifest) -> None:
    table = ObjectSpec("base", (-1.0, -1.0, -0.25), (1.0, 1.0, -0.25))
    seeing = replace(arm, robot=replace(arm.robot, object=table))
    assert "nobody publishes on /object" in diagnosis(seeing)["object"].found
    objects = double.node.create_publisher(PointStamped, "object", COMMAND_QOS)
    frame = "base"

    def look() -> None:
        message = PointStamped()
        message.header.frame_id, message.header.stamp = frame, double.node.get_clock().now().to_msg()
        message.point.z = -0.25
        objects.publish(message)

    double.node.create_timer(0.01, look)
    findings = diagnosis(seeing)
    # How often the double's timer comes to its turn is not the question here.
    assert {"object", "object values"}.isdisjoint(failures(findings))
    assert "object_position [0.0, 0.0, -0.25]" in findings["object values"].found
    frame = "camera"
    assert "found 'camera', expected 'base'" in diagnosis(seeing)["object values"].found
