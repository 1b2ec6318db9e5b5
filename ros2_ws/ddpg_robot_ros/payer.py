"""Pays a policy for how a plant's robot walks, on the topic ``reward``: a stand-in for whoever watches a robot from outside."""

from __future__ import annotations

import math
from collections import deque
from contextlib import suppress

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Float64

from ddpg_robot.controller import ticks_per_action
from ddpg_robot.errors import CommandError
from ddpg_robot.safety import SafetyFilter, SafetyLimits
from ddpg_robot.spec import PolicyManifest
from ddpg_robot_ros.inputs import CommandInput
from ddpg_robot_ros.plant import Plant
from ddpg_robot_ros.transport import STATE_QOS


class Payer:
    """At every state, the task's own reward of the control period that ends with it.

    Nobody outside the policy node knows at which ticks the policy runs; so there is a reward at every one, and whenever the
    policy runs it has that of its last period: in lockstep to the tick, in real time within one or two. It is NaN, which is none,
    where the period has no meaning: the robot was put elsewhere in it, nobody commanded it, or the command has changed. After a
    new one it stays so for two periods, for the node may have heard of it a little sooner or later.

    Args:
        node: owner of the topics; it hears ``cmd_vel`` too.
        plant: of a quadruped.
        manifest: of the policy.
        rate: states per second.

    Raises:
        ConfigError: the robot is no quadruped. RateError: the rate is not a whole multiple of the policy's.
        MissingExtraError: no ddpg_robot_sim.
    """

    def __init__(self, node: Node, plant: Plant, manifest: PolicyManifest, rate: float) -> None:
        self._plant, self._judge = plant, plant.walk_judge(manifest.interface)
        self._ticks = ticks_per_action(rate, manifest.control.period)
        self._command = CommandInput(node, manifest.command, stamped_twist=True)
        self._rewards = node.create_publisher(Float64, "reward", STATE_QOS)
        self._filter = SafetyFilter(manifest.robot, SafetyLimits(), 1 / rate)
        self._zero = np.zeros(manifest.robot.n_joints)
        self._past: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=self._ticks)
        """Feet and command at each of the last states."""
        self._steady = 0
        """States since the command changed."""

    def forget(self) -> None:
        """The robot was put elsewhere."""
        self._past.clear()

    def pay(self) -> None:
        """Once per state, when it was measured; publishes a reward."""
        self._rewards.publish(Float64(data=self.reward()))

    def reward(self) -> float:
        """Once per state: of the period that ends with it; NaN for none."""
        self._hear()
        effort = self._plant.commanded
        if effort is None:
            self._past.clear()
            return math.nan
        feet, reward = self._judge.feet, math.nan
        if len(self._past) == self._ticks and self._steady > 2 * self._ticks:
            last_feet, last_effort = self._past[0]
            fallen = self._stopped() or self._judge.fallen
            reward = self._judge.reward(self._command.command.values, effort, last_effort, last_feet, fallen)
        self._past.append((feet, effort.copy()))
        return reward

    def _hear(self) -> None:
        before = self._command.command.values.copy()
        with suppress(CommandError):  # the policy node refuses it too, and says so
            self._command.take()
        same = np.array_equal(before, self._command.command.values)
        self._steady = self._steady + 1 if same else 0

    def _stopped(self) -> bool:
        """Whether the policy's safety filter stops the robot at this state: that counts as a fall, as in training."""
        stopped = self._filter.step(self._zero, self._plant.measured, 0.0).tripped
        self._filter.reset()
        return stopped
