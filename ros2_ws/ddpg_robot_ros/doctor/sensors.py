"""Judgement of what tells of a robot's state beside joints and IMU: can the policy node use it, and does it come in time?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ddpg_robot.errors import DdpgRobotError
from ddpg_robot.spec import ControlSpec, RobotSpec
from ddpg_robot.state import RobotState
from ddpg_robot_ros.convert import read_message
from ddpg_robot_ros.doctor.findings import Finding, fail, ok
from ddpg_robot_ros.doctor.timing import rate_finding, stamp_finding
from ddpg_robot_ros.inputs import Reader


def sensor_findings(
    topic: str,
    kind: type,
    reader: Reader,
    messages: Sequence[tuple[bytes, float]],
    robot: RobotSpec,
    control: ControlSpec,
) -> list[Finding]:
    """Judges what was heard on a topic of `sensors_of`; something was.

    Args:
        topic: its name.
        kind: type of its messages.
        reader: the policy node's own.
        messages: serialized, with the time at which each arrived, s.
        robot: the policy's.
        control: the policy's rate.
    """
    state, stamps = RobotState.of(robot), []
    for raw, _ in messages:
        try:
            stamps.append(reader.fill(read_message(raw, kind, topic), state))
        except DdpgRobotError as error:
            return [fail(f"{topic} values", str(error), "what the policy node takes")]
        bad = [name for name, values in state.more if not np.isfinite(values).all()]
        if bad:
            return [fail(f"{topic} values", f"{', '.join(bad)} not finite", "finite numbers")]
    received, stamp = np.array([when for _, when in messages]), np.array(stamps)
    found = ", ".join(f"{name} {np.round(values, 3).tolist()}" for name, values in state.more)
    return [
        ok(f"{topic} values", f"the newest: {found}"),
        rate_finding(f"{topic} rate", received, stamp, control),
        stamp_finding(f"{topic} stamps", received, stamp, control),
    ]
