"""What a robot that learns beside its work is asked for, and what became of it: an arm reaches, a quadruped walks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped

from ddpg_robot.kinematics import ChainKinematics
from ddpg_robot.spec import PolicyManifest
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.convert import stamp_seconds
from ddpg_robot_ros.transport import STATE_QOS, Newest
from ddpg_robot_ros.walk_trial import LOWEST_M, STAND_S

HOLD_S = {"point": 4.0, "velocity": 5.0}
"""Robot time of a command, by its kind; as in training."""
WITHIN = {"point": 0.02, "velocity": 0.15}
"""Largest error of a success: distance from a point, m; mean distance from the velocity asked for, m/s."""
SUCCESS_S = 0.5
"""So long an arm has to be at its point."""
ASK_AGAIN_S = 0.5
EPISODE_S = 20.0
"""After so long a walking robot is put back to where it stood first, as in training; a candidate may only begin at rest."""
STAND_PROBABILITY = 0.1
"""Of a velocity of zero, as in training."""
SETTLE_S = 0.2
"""Robot time until what is heard of a robot that was stood up is of the time after it."""
TRUTH = "truth.npz"
"""File beside the recordings, with what no robot knows of itself."""

Judge = Callable[[np.ndarray], dict[str, Any]]
"""Ticks of one command -> ``success``, ``tripped`` (or fallen), and how far the robot was from what it was asked for."""


class Work(Protocol):
    """Who asks a robot for something, again and again."""

    rearms: int
    """How often the robot had to be rearmed."""

    def step(self, now: float) -> bool:
        """Asks for what is due at this time of the plant, s; True where it is something new."""
        ...

    def save(self, record: Path) -> None:
        """Keeps beside the recordings what they do not have."""
        ...


def work_of(operator: Operator, manifest: PolicyManifest, seed: int, learns: bool) -> Work:
    """The work of a policy's robot.

    Args:
        operator: who asks.
        manifest: of the policy.
        seed: of what is asked for.
        learns: the policy node learns, and is told how episodes end.
    """
    kind = Reaching if manifest.command.kind == "point" else Walking
    return kind(operator, manifest, np.random.default_rng(seed), learns)


class Reaching:
    """One target after the other; the arm goes on from where it is."""

    def __init__(self, operator: Operator, manifest: PolicyManifest, rng: np.random.Generator, learns: bool) -> None:
        self.rearms = 0
        self._operator, self._command, self._rng = operator, manifest.command, rng
        self._until, self._asked_at = -1.0, 0.0
        self._target = np.zeros(3)

    def step(self, now: float) -> bool:
        new = now >= self._until
        if new:
            if self._operator.trip():
                self._operator.trigger("policy_node/rearm")
                self.rearms += 1
            self._target = self._rng.uniform(self._command.lower, self._command.upper)
            self._until, self._asked_at = now + HOLD_S["point"], -1.0
        if time.monotonic() > self._asked_at + ASK_AGAIN_S:  # again: a trip may have been rearmed, a first message lost
            self._operator.send_target(self._target, self._command.frame)
            self._asked_at = time.monotonic()
        return new

    def save(self, record: Path) -> None:
        pass  # joint states say where the hand is


class Walking:
    """One velocity after the other, in episodes; a robot that has fallen or tripped is stood up at once, and the next one begins.

    What it did is what the plant says of its base: nobody on the robot knows.
    """

    def __init__(self, operator: Operator, manifest: PolicyManifest, rng: np.random.Generator, learns: bool) -> None:
        self.rearms = 0
        self._operator, self._command, self._rng, self._learns = operator, manifest.command, rng, learns
        self._velocity, self._asked_at = np.zeros(3), 0.0
        self._settled = self._until = -1.0
        self._over = math.nan  # end of the episode; there is none yet
        self._poses = Newest(operator.node, PoseStamped, "plant_node/base_pose", STATE_QOS)
        self._velocities = Newest(operator.node, TwistStamped, "plant_node/base_velocity", STATE_QOS)
        self._heights: list[tuple[float, float]] = [(0.0, math.inf)]
        self._walked: list[tuple[float, float, float, float]] = []

    def step(self, now: float) -> bool:
        self._look()
        new = False
        if now >= self._settled:
            fallen, tripped = self._heights[-1][1] < LOWEST_M, bool(self._operator.trip())
            if fallen or tripped or not now < self._over:
                self._begin(now, fallen, tripped)
            elif now >= self._until:
                self._ask_for(self._next())
                self._until, new = now + HOLD_S["velocity"], True
        if time.monotonic() > self._asked_at + ASK_AGAIN_S:
            self._ask_for(self._velocity)
        return new

    def save(self, record: Path) -> None:
        np.savez(
            record / TRUTH,
            height=np.array(self._heights[1:]).reshape(-1, 2),
            velocity=np.array(self._walked).reshape(-1, 4),
        )

    def _look(self) -> None:
        pose, velocity = self._poses.take(), self._velocities.take()
        if pose is not None:
            self._heights.append((stamp_seconds(pose.header.stamp), pose.pose.position.z))
        if velocity is not None:
            going, stamp = velocity.twist.linear, stamp_seconds(velocity.header.stamp)
            self._walked.append((stamp, going.x, going.y, velocity.twist.angular.z))

    def _begin(self, now: float, fallen: bool, tripped: bool) -> None:
        """Ends an episode, where there was one, and begins the next: at rest on its feet."""
        if self._learns and not tripped and not math.isnan(self._over):  # a trip says so itself
            self._operator.trigger(f"policy_node/{'failure' if fallen else 'success'}")
        self._ask_for(np.zeros(3))
        self._operator.place([], [])
        self._operator.trigger("policy_node/rearm")
        self.rearms += fallen or tripped
        self._settled, self._until, self._over = now + SETTLE_S, now + STAND_S, now + EPISODE_S

    def _ask_for(self, velocity: np.ndarray) -> None:
        self._operator.send_velocity(velocity, self._command.frame)
        self._velocity, self._asked_at = velocity, time.monotonic()

    def _next(self) -> np.ndarray:
        velocity = self._rng.uniform(self._command.lower, self._command.upper)
        return np.zeros(3) if self._rng.random() < STAND_PROBABILITY else velocity


def judge_of(record: Path, manifest: PolicyManifest) -> Judge:
    """Who judges what was recorded of a policy's robot."""
    if manifest.command.kind == "point":
        assert manifest.robot.chain is not None
        kinematics = ChainKinematics(manifest.robot.chain)
        return lambda rows: _reached(rows, kinematics)
    with np.load(record / TRUTH) as truth:
        height, velocity = truth["height"], truth["velocity"]
    return lambda rows: _walked(rows, height, velocity)


def _reached(rows: np.ndarray, kinematics: ChainKinematics) -> dict[str, Any]:
    distances = []
    for row in rows[rows["stamp"] >= rows["stamp"][-1] - SUCCESS_S]:
        kinematics.update(row["position"])
        distances.append(float(np.linalg.norm(kinematics.tip - row["command"])))
    tripped = bool(rows["tripped"].any())
    return {
        "success": max(distances) <= WITHIN["point"] and not tripped,
        "tripped": tripped,
        "final_error": distances[-1],
    }


def _walked(rows: np.ndarray, height: np.ndarray, velocity: np.ndarray) -> dict[str, Any]:
    begin, end, asked = rows["stamp"][0], rows["stamp"][-1], rows["command"][0]

    def within(samples: np.ndarray) -> np.ndarray:
        return samples[(samples[:, 0] > begin) & (samples[:, 0] <= end), 1:]

    tripped = bool(rows["tripped"].any() or (within(height) < LOWEST_M).any())
    row: dict[str, Any] = {"success": False, "tripped": tripped}
    walked = within(velocity)
    if len(walked):
        row["speed_error"] = float(np.linalg.norm(asked[:2] - walked[:, :2], axis=1).mean())
        row["turn_error"] = float(np.abs(asked[2] - walked[:, 2]).mean())
        row["success"] = not tripped and row["speed_error"] <= WITHIN["velocity"]
    return row
