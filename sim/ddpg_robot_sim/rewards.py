"""Rewards as pure functions. That of reaching needs only what a real arm measures; that of walking needs a simulator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ddpg_robot.kinematics import ChainKinematics
from ddpg_robot.spec import RobotSpec

SPEED_COMFORT = 0.55
"""Share of the velocity limit above which speed costs extra."""

SWING_HEIGHT = 0.05
"""Height over the floor at which a moving foot costs nothing, m."""


def reach_reward(
    distance: float,
    velocity: np.ndarray,
    effort: np.ndarray,
    effort_change: np.ndarray,
    posture: np.ndarray,
) -> float:
    """Reward of reaching, per control period.

    ``0.5 - d + 0.5 exp(-(d / 5 cm)^2) + 0.5 exp(-(d / 1 cm)^2)`` draws the hand in from afar, and then to the millimetre.
    The costs keep the arm well below its velocity limits and its elbow near home (the redundant joint must not wander off
    from target to target). Near the target, changes of torque cost most: a policy that shakes in simulation shakes the robot.

    Args:
        distance: hand to target, m.
        velocity: joint velocity over its limit ``(n,)``.
        effort: applied effort over its limit ``(n,)``.
        effort_change: its change since the last control period, over the limit ``(n,)``.
        posture: distance from the home pose over half the joint range ``(n,)``.
    """
    close = math.exp(-((distance / 0.05) ** 2))
    reward = 0.5 - distance + 0.5 * close + 0.5 * math.exp(-((distance / 0.01) ** 2))
    haste = np.maximum(np.abs(velocity) - SPEED_COMFORT, 0.0)
    cost = 0.1 * velocity.dot(velocity) + 3.0 * haste.dot(haste) + 0.1 * effort.dot(effort)
    cost += 0.5 * posture.dot(posture) + (0.2 + 1.0 * close) * effort_change.dot(effort_change)
    return float(reward - cost)


class ReachReward:
    """`reach_reward` of one arm, from physical quantities: the simulated task asks it at every step, a learner of transitions.

    Args:
        robot: with a chain.
        home: joint positions that the posture's cost is about ``(n,)``, rad.
        trip_penalty: what a trip costs.
    """

    def __init__(self, robot: RobotSpec, home: np.ndarray, trip_penalty: float) -> None:
        self._effort_limit, self._velocity_limit, lower, upper = (
            np.array([getattr(joint, name) for joint in robot.joints])
            for name in ("effort_limit", "velocity_limit", "position_lower", "position_upper")
        )
        self._home, self._half_range = home, (upper - lower) / 2
        self._trip_penalty = trip_penalty
        self._kinematics = None if robot.chain is None else ChainKinematics(robot.chain)

    def step(
        self,
        distance: float,
        position: np.ndarray,
        velocity: np.ndarray,
        effort: np.ndarray,
        last_effort: np.ndarray,
        tripped: bool,
    ) -> float:
        """Reward of one control period.

        Args:
            distance: hand to target, m.
            position: joint positions at its end ``(n,)``, rad.
            velocity: rad/s.
            effort: applied last ``(n,)``, N·m.
            last_effort: applied last before the period.
            tripped: the period ended in a trip.
        """
        now, before = effort / self._effort_limit, last_effort / self._effort_limit
        posture = (position - self._home) / self._half_range
        reward = reach_reward(distance, velocity / self._velocity_limit, now, now - before, posture)
        return reward - self._trip_penalty if tripped else reward

    def of_transitions(self, transitions: Any) -> np.ndarray:
        """Rewards ``(k,)`` of transitions ``(k,)`` as `ddpg_robot.transition` makes them; the hand is where the joints say."""
        assert self._kinematics is not None
        rewards = np.zeros(len(transitions))
        for i, one in enumerate(transitions):
            before, after = one["before"], one["after"]
            self._kinematics.update(after["position"])
            distance = float(np.linalg.norm(one["command"] - self._kinematics.tip))
            motion = after["position"], after["velocity"], after["effort"]
            rewards[i] = self.step(distance, *motion, before["effort"], bool(one["terminated"]))
        return rewards


def walk_reward(
    velocity_error: np.ndarray,
    turn_error: float,
    bounce: float,
    sway: np.ndarray,
    lean: np.ndarray,
    height_error: float,
    effort: np.ndarray,
    effort_change: np.ndarray,
    sprawl: np.ndarray,
    foot_height: np.ndarray,
    foot_speed: np.ndarray,
) -> float:
    """Reward of walking as told, per control period.

    ``tracking * exp(-cost)``: never negative, so that no fall is worth its while. Tracking pays up to 2: a straight line draws
    from standing to walking however far the speed is that was asked for, a narrow kernel draws to that very speed, and a third
    part is for turning. A foot on the move costs by the square of what it lacks to `SWING_HEIGHT`: feet step instead of
    sliding.

    Args:
        velocity_error: asked minus measured velocity, forward and left, in the heading's frame ``(2,)``, m/s.
        turn_error: asked minus measured yaw rate, rad/s.
        bounce: vertical velocity of the base, m/s.
        sway: roll and pitch rate ``(2,)``, rad/s.
        lean: horizontal part of the direction of gravity in the base's frame ``(2,)``.
        height_error: of the base, m.
        effort: applied effort over its limit ``(n,)``.
        effort_change: its change since the last control period, over the limit ``(n,)``.
        sprawl: distance of the hip joints from standing ``(legs,)``, rad.
        foot_height: lowest point of each foot over the floor ``(legs,)``, m.
        foot_speed: horizontal speed of each foot ``(legs,)``, m/s.
    """
    miss = float(velocity_error @ velocity_error)
    tracking = max(1.0 - math.sqrt(miss), 0.0) + 0.5 * math.exp(-miss / 0.04) + 0.5 * math.exp(-(turn_error**2) / 0.25)
    lack = np.maximum(SWING_HEIGHT - foot_height, 0.0)
    cost = 0.5 * bounce**2 + 0.02 * sway @ sway + 1.0 * lean @ lean + 10.0 * height_error**2
    cost += 0.1 * effort @ effort + 0.1 * effort_change @ effort_change + 0.2 * sprawl @ sprawl
    cost += 20.0 * (lack * lack) @ foot_speed
    return tracking * math.exp(-cost)
