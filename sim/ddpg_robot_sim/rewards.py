"""Rewards as pure functions of what a real robot measures, so that simulation and robot can share them."""

from __future__ import annotations

import math

import numpy as np

SPEED_COMFORT = 0.55
"""Share of the velocity limit above which speed costs extra."""


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
