"""The policy node on a live robot: what it does with good states, bad states, silence, and an operator's buttons."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from ros.robot import PATIENT, WAIT_S, RobotDouble, started
from sensor_msgs.msg import JointState

from ddpg_robot.spec import PolicyManifest
from ddpg_robot_ros.processes import wait_until

TARGET = (0.5, 0.2, 0.4)


@pytest.fixture(scope="module")
def live(spring, manifest: PolicyManifest) -> Iterator[RobotDouble]:
    """One policy node for all tests of this module, on a robot whose messages each test may alter."""
    with RobotDouble(manifest.robot) as robot:
        # Busy test machines pause for tens of ms: 100 periods are 0.8 s here.
        node = started("policy_node", {"policy": str(spring), "autostart": True, **PATIENT})
        try:
            assert robot.hears_damping(), "the node does not come up"
            yield robot
        finally:
            node.end()


@pytest.fixture
def driven(live: RobotDouble) -> Iterator[RobotDouble]:
    """The robot with the policy in control; put back in order afterwards."""
    live.puts_in_control(TARGET)
    yield live
    live.alter = lambda message: message
    assert wait_until(lambda: live.trigger("policy_node/rearm").success, WAIT_S)


def nan_position(message: JointState) -> JointState:
    message.position[2] = float("nan")
    return message


def missing_joint(message: JointState) -> JointState:
    return JointState(
        header=message.header, name=message.name[:-1], position=message.position[:-1], velocity=message.velocity[:-1]
    )


def extra_joint(message: JointState) -> JointState:
    message.name.append("gripper")
    message.position.append(0.0)
    message.velocity.append(0.0)
    return message


def duplicate_joint(message: JointState) -> JointState:
    message.name[1] = message.name[0]
    return message


def no_velocity(message: JointState) -> JointState:
    message.velocity = []
    return message


def beyond_a_limit(message: JointState) -> JointState:
    message.position[3] = 0.5
    return message


def reordered(message: JointState) -> JointState:
    order = [3, 1, 6, 0, 2, 5, 4]
    for field in ("name", "position", "velocity"):
        values = getattr(message, field)
        setattr(message, field, [values[i] for i in order])
    return message


def test_the_robot_is_damped_until_a_target_comes(live: RobotDouble) -> None:
    assert live.reports("no command yet")
    assert all(live.is_damping(effort) for effort in live.efforts(0.1))


def test_joints_in_another_order_get_their_own_efforts(live: RobotDouble) -> None:
    live.alter = reordered
    live.efforts(0.2)
    assert all(live.is_damping(effort) for effort in live.efforts(0.2))
    live.alter = lambda message: message


def test_a_target_puts_the_policy_in_control(driven: RobotDouble) -> None:
    assert driven.reports("running")
    assert len(driven.efforts(0.5)) > 20


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (nan_position, "position of joint 'joint3' is nan"),
        (missing_joint, "no 'joint7' among"),
        (extra_joint, "unknown 'gripper'"),
        (duplicate_joint, "'joint1' twice"),
        (no_velocity, "velocity: found it empty"),
        (beyond_a_limit, "joint 'joint4' at 0.500 rad"),
        (lambda message: None, "stale state"),
    ],
    ids=["nan", "missing joint", "extra joint", "duplicate joint", "no velocity", "beyond a limit", "silence"],
)
def test_a_bad_state_trips_damps_and_stays_tripped_until_rearm(driven: RobotDouble, fault, says: str) -> None:
    driven.alter = fault
    assert driven.reports("tripped")
    assert driven.reports(says)
    driven.alter = lambda message: message
    assert driven.hears_damping()
    assert all(driven.is_damping(effort) for effort in driven.efforts(0.3))
    answer = driven.trigger("policy_node/rearm")
    assert answer.success, answer.message
    assert driven.hears(lambda effort: not driven.is_damping(effort))


def test_rearm_tells_when_the_cause_is_still_there(driven: RobotDouble) -> None:
    driven.alter = nan_position
    assert driven.reports("tripped")
    answer = driven.trigger("policy_node/rearm")
    assert not answer.success
    assert "position of joint 'joint3'" in answer.message


def test_without_velocity_the_damping_is_zero(driven: RobotDouble) -> None:
    driven.alter = lambda message: None
    assert driven.hears(lambda effort: not effort.any())


def test_estop_damps_until_rearm(driven: RobotDouble) -> None:
    assert driven.trigger("policy_node/estop").success
    assert driven.hears_damping()
    assert driven.reports("emergency stop")
    assert driven.trigger("policy_node/rearm").success
    assert driven.hears(lambda effort: not driven.is_damping(effort))


def test_effort_grows_softly_after_a_rearm(driven: RobotDouble) -> None:
    driven.trigger("policy_node/estop")
    assert driven.hears_damping()
    begin = len(driven.commands)
    driven.trigger("policy_node/rearm")
    driven.efforts(1.5)
    efforts = np.array([effort for _, effort in driven.commands[begin:]])
    efforts = efforts[[not driven.is_damping(effort) for effort in efforts]]
    assert np.abs(efforts[0]).max() < 0.2 * np.abs(efforts[-1]).max()


@pytest.mark.parametrize("target", [(2.0, 0.0, 0.4), (float("nan"), 0.0, 0.4)])
def test_a_refused_target_changes_nothing_and_is_counted(driven: RobotDouble, target) -> None:
    def refused() -> int:
        status = driven.status("control loop")
        return int(next(pair.value for pair in status.values if pair.key == "refused commands"))

    before = refused()
    driven.send_target(target)
    assert wait_until(lambda: refused() == before + 1, WAIT_S)
    assert driven.reports("running")
