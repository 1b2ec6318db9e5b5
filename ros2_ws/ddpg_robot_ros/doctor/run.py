"""The doctor: looks at a live robot before torque is enabled, and says what is wrong."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.policy import read_manifest
from ddpg_robot.spec import PolicyManifest
from ddpg_robot.urdf import UrdfJoint, parse_urdf, read_urdf
from ddpg_robot_ros.doctor import topics
from ddpg_robot_ros.doctor.excite import Exciter
from ddpg_robot_ros.doctor.findings import Finding, Level, fail, overall, skipped, summary
from ddpg_robot_ros.doctor.imu import imu_findings
from ddpg_robot_ros.doctor.joints import joint_findings
from ddpg_robot_ros.doctor.listen import Interrupted, Listener
from ddpg_robot_ros.doctor.machine import machine_findings
from ddpg_robot_ros.doctor.motion import velocity_finding
from ddpg_robot_ros.doctor.pulses import CHECK, Excitation
from ddpg_robot_ros.doctor.sensors import sensor_findings
from ddpg_robot_ros.doctor.urdf import urdf_finding
from ddpg_robot_ros.inputs import sensors_of
from ddpg_robot_ros.transport import EFFORT_TOPIC, StopSignal

LONGEST_S = 600.0
COUNTDOWN_S = 3
INTERRUPTED = 128 + signal.SIGINT
Say = Callable[[str], None]
Stop = StopSignal | threading.Event


def doctor(
    policy: str | Path,
    seconds: float = 3.0,
    namespace: str = "",
    urdf: Path | None = None,
    excitation: Excitation | None = None,
    as_json: bool = False,
) -> int:
    """Checks a robot against a policy, and prints one line per check.

    Args:
        policy: policy file.
        seconds: how long the robot is listened to, s.
        namespace: ROS namespace of the robot.
        urdf: robot description; None takes the one on ``robot_description``, where somebody publishes it.
        excitation: push every joint; None only listens.
        as_json: print one JSON object instead.

    Returns:
        Exit status: 0, or 1 when a check failed; 130 after Ctrl-C.

    Raises:
        PolicyFileError: not a policy. ConfigError: `seconds` is out of range, or `urdf` is no URDF.
    """
    if not 0 < seconds <= LONGEST_S:
        raise ConfigError(mismatch("seconds", f"{seconds:g}", f"more than 0, at most {LONGEST_S:g}"))
    manifest = read_manifest(policy)
    described = None if urdf is None else (read_urdf(urdf), str(urdf))
    stop = StopSignal()
    signal.signal(signal.SIGHUP, lambda *_: stop.set())  # a lost terminal must not leave a torque behind
    findings: list[Finding] = []

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    tell(f"Listening for {seconds:g} s to robot '{manifest.robot.name}', policy '{manifest.name}'...")
    try:
        for finding in examine(manifest, seconds, namespace, described, excitation, stop, tell):
            findings.append(finding)
            if not as_json:
                print(finding.line(), flush=True)
    except Interrupted:
        tell("Interrupted.")
        return INTERRUPTED
    if as_json:
        verdict = {"policy": manifest.name, "robot": manifest.robot.name, "verdict": overall(findings).value}
        print(json.dumps({**verdict, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        print(f"\n{summary(findings)}")
    return 1 if overall(findings) is Level.FAIL else 0


def examine(
    manifest: PolicyManifest,
    seconds: float,
    namespace: str,
    urdf: tuple[dict[str, UrdfJoint], str] | None,
    excitation: Excitation | None,
    stop: Stop,
    tell: Say,
) -> Iterator[Finding]:
    """Yields finding after finding; arguments as for `doctor`.

    Raises:
        Interrupted: `stop` is set; effort that was commanded has ended in damping, then zero.
    """
    with Listener(manifest.robot, namespace, stop.is_set) as robot:
        robot.listen(seconds)
        findings = [*_states(robot, manifest), _description(robot, manifest, urdf), *_effort(robot, manifest)]
        findings += machine_findings(1 / manifest.control.loop_period)
        yield from findings
        if excitation is not None:
            yield from _excite(robot, manifest, excitation, findings, stop, tell)


def _states(robot: Listener, manifest: PolicyManifest) -> Iterator[Finding]:
    publishers = robot.publishers("joint_states")
    topic, heard = robot.resolve("joint_states"), len(robot.joints)
    elsewhere = [] if publishers else robot.state_topics()
    yield topics.state_finding("joint_states", topic, topics.STATE_TYPE, publishers, heard, elsewhere)
    if robot.oversized:
        yield fail("message size", f"{robot.oversized} messages of more than 64 KiB", "less; the nodes refuse them")
    if robot.joints:
        yield from joint_findings(robot.joints, len(publishers), manifest)
    if manifest.robot.floating_base:
        yield from imu_findings(robot.imu, manifest.control)
    for name, kind, reader in sensors_of(manifest.robot):
        if name in robot.others:
            heard, publishers = robot.others[name], robot.publishers(name)
            type_name = "/msg/".join((kind.__module__.partition(".")[0], kind.__name__))
            yield topics.state_finding(name, robot.resolve(name), type_name, publishers, len(heard), [])
            yield from sensor_findings(name, kind, reader, heard, manifest.robot, manifest.control) if heard else ()


def _description(robot: Listener, manifest: PolicyManifest, urdf: tuple[dict[str, UrdfJoint], str] | None) -> Finding:
    if urdf is None:
        topic, raw = robot.resolve("robot_description"), robot.description()
        if raw is None:
            return skipped("URDF limits", f"nothing on {topic}", "Name the file: --urdf robot.urdf")
        try:
            urdf = parse_urdf(raw), topic
        except ConfigError as error:
            return fail("URDF limits", str(error), f"a robot description on {topic}")
    return urdf_finding(urdf[0], manifest.robot, urdf[1])


def _effort(robot: Listener, manifest: PolicyManifest) -> Iterator[Finding]:
    topic = robot.resolve(EFFORT_TOPIC)
    subscribers, publishers = robot.subscribers(EFFORT_TOPIC), robot.publishers(EFFORT_TOPIC)
    found = topics.takers(subscribers, publishers)
    elsewhere = [] if found else robot.effort_topics()
    yield topics.effort_finding(topic, subscribers, publishers, elsewhere)
    yield topics.commander_finding(topic, publishers, robot.commands)
    taker = found[0] if len(found) == 1 else None
    yield topics.order_finding(None if taker is None else robot.controller(taker.node), manifest.robot)
    controllers, reason = robot.controllers()
    yield topics.manager_finding(controllers, taker, reason)


def _excite(
    robot: Listener,
    manifest: PolicyManifest,
    excitation: Excitation,
    findings: list[Finding],
    stop: Stop,
    tell: Say,
) -> Iterator[Finding]:
    refusal = why_not(manifest, findings, [one.node for one in robot.publishers(EFFORT_TOPIC)])
    if refusal:
        yield skipped(CHECK, refusal)
        return
    warn(manifest, excitation, tell)
    for left in range(COUNTDOWN_S, 0, -1):
        tell(f"{left}...")
        if stop.wait(1.0):
            raise Interrupted
    # Other devices on joint_states were warned of; the check is of the joints that are there.
    exciter = Exciter(robot.node, manifest, excitation, "ignore", stop.is_set)
    yield from exciter.run()
    seen = exciter.recording()
    if len(seen.stamp) > 2:
        yield velocity_finding(seen.stamp, seen.position, seen.velocity, manifest.robot.joint_names, "units in motion")


def why_not(manifest: PolicyManifest, findings: list[Finding], publishers: list[str]) -> str:
    """Why the robot must not be excited; empty when it may be."""
    failed = [finding.check for finding in findings if finding.level is Level.FAIL]
    if failed:
        return f"refused, because of {', '.join(failed)}"
    if publishers:
        return f"refused, because {', '.join(repr(name[:40]) for name in publishers)} can command the robot too"
    if not manifest.robot.floating_base and not manifest.robot.gravity_compensated:
        return "refused: nothing holds this robot against gravity while its joints are pushed one by one"
    return ""


def warn(manifest: PolicyManifest, excitation: Excitation, tell: Say) -> None:
    """Says what is about to happen."""
    hanging = " HANG IT UP: its legs must not touch the ground." if manifest.robot.floating_base else ""
    tell(
        f"\nThe robot will MOVE.{hanging} Each of its {manifest.robot.n_joints} joints is pushed with "
        f"{excitation.share:.1%} of its effort limit, at most {excitation.pulse:g} s.\n"
        "Keep the emergency stop in your hand and everybody out of reach. Ctrl-C ends in damping, then zero effort."
    )
