"""Judgement of the ROS graph: who publishes joint states, who takes effort, and whether they mean the same joints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ddpg_robot.spec import RobotSpec
from ddpg_robot_ros.doctor.findings import Finding, fail, ok, quoted, skipped, warning

EFFORT_TYPE = "std_msgs/msg/Float64MultiArray"
STATE_TYPE = "sensor_msgs/msg/JointState"
FORWARDERS = ("forward_command_controller/", "effort_controllers/")
"""Controllers of ros2_controllers that pass an array of efforts on."""


@dataclass(frozen=True)
class Endpoint:
    """A publisher or a subscriber of a topic."""

    node: str
    """Fully qualified name."""
    type: str
    """Message type, as ``std_msgs/msg/String``."""
    complaint: str = ""
    """Why the middleware will not connect it with us; empty when it will."""


@dataclass(frozen=True)
class Controller:
    """A controller as its manager, or its own parameters, describe it; None and empty where nothing was said."""

    node: str
    type: str = ""
    joints: tuple[str, ...] | None = None
    interface: str | None = None


def state_finding(
    check: str, topic: str, kind: str, publishers: Sequence[Endpoint], messages: int, elsewhere: Sequence[str]
) -> Finding:
    """Whether somebody publishes a state.

    Args:
        check: name of the check.
        topic: its resolved name.
        kind: message type that is needed.
        publishers: who publishes on it.
        messages: how many arrived.
        elsewhere: topics of this type that somebody publishes on.
    """
    names = quoted([one.node for one in publishers])
    if not publishers:
        hint = f"Published elsewhere: {quoted(elsewhere)}. Use --namespace, or remap" if elsewhere else ""
        hint = hint or "Start the robot's driver; ROS_DOMAIN_ID and discovery range must agree on both sides"
        return fail(check, f"nobody publishes on {topic}", "the robot's driver", hint)
    wrong = [one for one in publishers if one.type != kind]
    if wrong:
        return fail(check, f"{quoted([wrong[0].node])} publishes {wrong[0].type} on {topic}", kind)
    refused = [one for one in publishers if one.complaint]
    if refused:
        return fail(check, f"{quoted([refused[0].node])}: {refused[0].complaint}", "a compatible quality of service")
    if not messages:
        return fail(
            check, f"{names} publishes on {topic}, but nothing arrives", "messages", "Firewall, or a driver at rest?"
        )
    return ok(check, f"{messages} messages on {topic} from {names}")


def takers(subscribers: Sequence[Endpoint], publishers: Sequence[Endpoint]) -> list[Endpoint]:
    """Subscribers that are not watching only.

    Who also publishes on the effort topic watches it: the policy node, to take a dead guard's place. Nodes whose name
    begins with an underscore are tools by ROS convention (`ros2 topic echo`).
    """
    watching = Counter(one.node for one in publishers)
    found = []
    for one in subscribers:
        if watching[one.node]:
            watching[one.node] -= 1
        elif not one.node.rpartition("/")[2].startswith("_"):
            found.append(one)
    return found


def effort_finding(
    topic: str, subscribers: Sequence[Endpoint], publishers: Sequence[Endpoint], elsewhere: Sequence[str]
) -> Finding:
    """Whether exactly one controller takes effort. Arguments as for `state_finding`, without the doctor's own."""
    check, found = "effort topic", takers(subscribers, publishers)
    names = quoted([one.node for one in found])
    if not found:
        hint = f"Somebody takes {EFFORT_TYPE} on {quoted(elsewhere)}. Use --namespace, or remap" if elsewhere else ""
        hint = hint or "Start the effort controller (a forward_command_controller on effort interfaces) and activate it"
        return fail(check, f"nobody takes {topic}", "one controller", hint)
    wrong = [one for one in found if one.type != EFFORT_TYPE]
    if wrong:
        return fail(check, f"{quoted([wrong[0].node])} wants {wrong[0].type} on {topic}", EFFORT_TYPE)
    refused = [one for one in found if one.complaint]
    if refused:
        expected = "one that takes a reliable, volatile publisher of depth 1"
        return fail(check, f"{quoted([refused[0].node])}: {refused[0].complaint}", expected)
    if len(found) > 1:
        return fail(check, f"{len(found)} subscribers on {topic}: {names}", "one controller", "Stop the others")
    return ok(check, f"{names} takes {topic}")


def commander_finding(topic: str, publishers: Sequence[Endpoint], commands: int) -> Finding:
    """Whether somebody commands the robot already."""
    check = "other commanders"
    names = quoted([one.node for one in publishers])
    if commands:
        hint = "A policy runs already? End it before another one starts"
        return warning(check, f"{names} published {commands} commands on {topic}", "silence", hint)
    if publishers:
        return warning(check, f"{names} could publish on {topic}, and is silent", "nobody", "End it before you go on")
    return ok(check, f"nobody else publishes on {topic}")


def order_finding(controller: Controller | None, robot: RobotSpec) -> Finding:
    """Whether the controller's own parameters name the policy's joints in the policy's order, and effort."""
    check = "command order"
    if controller is None:
        return skipped(check, "no single effort controller")
    where = quoted([controller.node])
    if controller.interface not in (None, "", "effort"):
        return fail(check, f"{where} commands the interface {controller.interface[:40]!r}", "'effort'")
    if not controller.joints:
        return skipped(check, f"{where} has no parameter 'joints'", "--excite finds out")
    if controller.joints != robot.joint_names:
        known = set(controller.joints) == set(robot.joint_names)
        what = "the policy's order" if known else "the policy's joints"
        expected = f"{what}: {quoted(robot.joint_names)}"
        hint = "Change the controller's parameter 'joints'; efforts carry no names"
        return fail(check, f"{where} takes {quoted(controller.joints)}", expected, hint)
    return ok(check, f"{where} takes effort in the policy's order")


def manager_finding(controllers: Sequence[Controller] | None, taker: Endpoint | None, reason: str) -> Finding:
    """Whether the controller manager runs an effort forward controller.

    Args:
        controllers: active ones; None when they are not known.
        taker: who takes effort; None where there is not exactly one.
        reason: why they are not known.
    """
    check = "controller type"
    if controllers is None:
        return skipped(check, reason)
    name = "" if taker is None else taker.node.rpartition("/")[2]
    mine = [one for one in controllers if one.node == name]
    expected = "a forward controller on effort interfaces"
    if not mine:
        return warning(check, f"active: {quoted([one.node for one in controllers])}", f"{expected}, active")
    if not mine[0].type.startswith(FORWARDERS) or mine[0].interface not in (None, "", "effort"):
        return warning(check, f"{quoted([name])} is a {mine[0].type} on {mine[0].interface or 'unknown'}", expected)
    return ok(check, f"{quoted([name])} is a {mine[0].type}")
