"""Velocities sent to a deployed policy as real messages, and how the simulated robot walked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.deploy import use_own_domain
from ddpg_robot_ros.processes import Deployment, ProcessFailedError, wait_until
from ddpg_robot_ros.transport import STATE_QOS, Newest
from ddpg_robot_ros.trial import ASK_PERIOD_S, SAMPLE_PERIOD_S, START_WAIT_S, await_start

STAND_S = 1.0
"""Before the first command, and after a fall: torque grows over half of it."""
LOWEST_M = 0.15
"""A base below has fallen."""


def run_walk(
    policy: str | Path,
    commands: np.ndarray,
    hold_s: float = 5.0,
    progress: Callable[[int, int], None] | None = None,
    guard: bool = True,
    rate: float | None = None,
    policy_parameters: Mapping[str, Any] | None = None,
    plant_parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Deploys plant, guard and policy in a ROS domain of their own and asks for one velocity after the other.

    The robot walks on from one command to the next; one that has fallen or tripped is stood up and rearmed.

    Args:
        policy: policy file of a robot that is commanded a velocity.
        commands: ``(m, 3)``: forward and left, m/s, turning, rad/s.
        hold_s: time for each command, s.
        progress: called with (finished commands, all commands).
        guard: with the effort guard between policy and plant.
        rate: ticks per second; None as trained.
        policy_parameters: further ROS parameters of the policy node.
        plant_parameters: of the plant: a draw, for one.

    Returns:
        success_rate (no fall, no trip), speed_error_m_s and turn_error_rad_s (means over all commands, the change from
        one to the next included), return_mean and return_std (None: there is no reward here), episodes, seed (None),
        per_episode (command, success, speed_error_m_s, turn_error_rad_s, velocity: samples forward, left, up, turning).

    Raises:
        ConfigError: the commands are not ``(m, 3)``. ProcessFailedError: a node ended by itself or did not start.
    """
    commands = np.asarray(commands, dtype=float)
    if commands.ndim != 2 or commands.shape[1] != 3 or not len(commands):
        raise ConfigError(mismatch("commands", f"an array {commands.shape}", "an array (m, 3)"))
    use_own_domain()
    own = {"policy_parameters": policy_parameters, "plant_parameters": plant_parameters}
    deployment = Deployment(policy, guard=guard, rate=rate, **own)
    rows = []
    with deployment, Operator(deployment.manifest.robot) as operator:
        walker = Walker(operator)
        await_start(deployment, operator)
        walker.walk(np.zeros(3), STAND_S)
        for index, command in enumerate(commands):
            rows.append(walker.walk(command, hold_s))
            deployment.check()
            if progress is not None:
                progress(index + 1, len(commands))
    means = {name: float(np.mean([row[name] for row in rows])) for name in ("speed_error_m_s", "turn_error_rad_s")}
    success = float(np.mean([row["success"] for row in rows]))
    nothing = {"return_mean": None, "return_std": None, "seed": None}
    return {"success_rate": success, **means, **nothing, "episodes": len(rows), "per_episode": rows}


class Walker:
    """Sends velocities and measures, from what the plant says of its base, how they are followed."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._poses = Newest(operator.node, PoseStamped, "plant_node/base_pose", STATE_QOS)
        self._velocities = Newest(operator.node, TwistStamped, "plant_node/base_velocity", STATE_QOS)

    def walk(self, command: np.ndarray, seconds: float) -> dict[str, Any]:
        """Asks for one velocity, again and again; a row of `run_walk`'s per_episode."""
        velocities, lowest = [], np.inf
        began = asked = time.monotonic()
        self._operator.send_velocity(command)
        while (now := time.monotonic()) < began + seconds or not velocities:
            if now > began + seconds + START_WAIT_S:
                raise ProcessFailedError(mismatch("plant_node/base_velocity", "silence", "messages"))
            pose, velocity = self._poses.take(), self._velocities.take()
            if pose is not None:
                lowest = min(lowest, pose.pose.position.z)
            if velocity is not None:
                going = velocity.twist.linear
                velocities.append([going.x, going.y, going.z, velocity.twist.angular.z])
            if now > asked + ASK_PERIOD_S:  # the first message may come before the reader knows the writer
                self._operator.send_velocity(command)
                asked = now
            time.sleep(SAMPLE_PERIOD_S)
        walked = np.array(velocities)
        upright = lowest >= LOWEST_M and not self._operator.trip()
        if not upright:
            self.stand_up()
        return {
            "command": command.tolist(),
            "success": bool(upright),
            "speed_error_m_s": float(np.linalg.norm(command[:2] - walked[:, :2], axis=1).mean()),
            "turn_error_rad_s": float(np.abs(command[2] - walked[:, 3]).mean()),
            "velocity": walked.round(4).tolist(),
        }

    def stand_up(self) -> None:
        """Puts the robot back on its feet and rearms the policy, which stands until the next command."""
        self._operator.send_velocity(np.zeros(3))

        def up() -> bool:
            self._operator.place([], [])
            self._operator.trigger("policy_node/rearm")
            time.sleep(0.5)
            pose = self._poses.take()
            return pose is not None and pose.pose.position.z > LOWEST_M and not self._operator.trip()

        if not wait_until(up, START_WAIT_S):
            raise ProcessFailedError(mismatch("robot after a fall", "not on its feet", "standing"))
        time.sleep(STAND_S)
