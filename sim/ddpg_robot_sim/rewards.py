"""Rewards as pure functions of what a real robot measures, so that simulation and robot can share them."""

from __future__ import annotations

import numpy as np


def reach_reward(
    distance: float,
    joint_speed: np.ndarray,
    effort: np.ndarray,
    posture: np.ndarray,
) -> float:
    """Reward of reaching, per control period.

    ``-d + 0.5 exp(-(d / 5 cm)^2) + 0.5 exp(-(d / 1 cm)^2)`` draws the hand in from afar and then to the millimetre;
    small terms keep the arm slow, the torque low and the elbow near home.

    Args:
        distance: hand to target, m.
        joint_speed: joint velocity over its limit ``(n,)``.
        effort: applied effort over its limit ``(n,)``.
        posture: distance from the home pose over half the joint range ``(n,)``.
    """
    near = 0.5 * np.exp(-((distance / 0.05) ** 2)) + 0.5 * np.exp(-((distance / 0.01) ** 2))
    cost = 0.1 * joint_speed @ joint_speed + 0.05 * effort @ effort + 0.05 * posture @ posture
    return float(0.5 + near - distance - cost)
