"""A scripted trot: the teacher from whom a walking policy takes its first steps. It knows what no robot is told: its velocity."""

from __future__ import annotations

import math

import numpy as np

from ddpg_robot.state import Array

DUTY = 0.5
"""Part of a cycle that a foot is on the floor: of each diagonal pair one at a time."""
HEIGHT = 0.24
"""Of the hips over the floor, m."""
LIFT = 0.05
"""Largest height of a swinging foot, m."""
FULL_STEPS = 0.15
"""Asked speed from which feet are lifted all the way, m/s; at rest they stay on the floor."""
CORRECTION = 2.5
"""Change of a step's speed per error of the robot's."""
LARGEST_ERROR = 0.3
"""Of the velocity that a step corrects, m/s and rad/s."""
RIGHTING = 1.0
"""By which part of the height that its hip is too high a leg is shortened."""
FORESIGHT = 0.1
"""Time ahead that the lean is judged at, s."""
PAIRS = np.array([0.0, 0.5, 0.5, 0.0])
"""Phase of front left, front right, rear left and rear right leg, in cycles."""


class Trot:
    """Joint targets of a trot at the commanded velocity, for legs of hip, thigh and calf joint in this order.

    Feet go back under the hips at the asked speed, and forward on a half-wave of height `LIFT`; two-link inverse kinematics
    gives the joints. Joint targets lead by what the PD law's damping holds back, and by the torque that carries the robot.

    Args:
        hips: thigh joints of front left, front right, rear left, rear right, forward and left of the base ``(4, 2)``, m.
        offset: from the hip's axis to the leg's plane, left ``(4,)``, m.
        link: length of thigh and of calf to the middle of the foot, m.
        weight: of the robot, N.
        kp: N·m/rad.
        kd: N·m·s/rad.
        frequency: steps of each leg per second, Hz.
    """

    def __init__(
        self, hips: Array, offset: Array, link: float, weight: float, kp: float, kd: float, frequency: float
    ) -> None:
        self._hips, self._offset, self._link = hips, offset, link
        self._weight, self._kp, self._lag, self._frequency = weight, kp, kd / kp, frequency

    def targets(self, time: float, command: Array, velocity: Array, lean: Array, turning: Array) -> Array:
        """Joint targets ``(12,)``, rad.

        Args:
            time: of the gait's clock, s.
            command: asked velocity forward, left and turning ``(3,)``, m/s and rad/s.
            velocity: what it is ``(3,)``.
            lean: how much the base's forward and left axes point up ``(2,)``.
            turning: angular velocity of the base in its own frame ``(3,)``, rad/s.
        """
        lean = lean + FORESIGHT * np.array([-turning[1], turning[0]])
        size = math.hypot(*command[:2].tolist()) + 0.2 * abs(float(command[2]))
        stride = min(size / FULL_STEPS, 1.0)
        speed = velocity + CORRECTION * np.clip(command - velocity, -LARGEST_ERROR, LARGEST_ERROR)
        before, feet, after = (self._feet(time + dt, speed, stride, lean) for dt in (-0.005, 0.0, 0.005))
        joints = self._inverse(feet)
        rate = (self._inverse(after) - self._inverse(before)) / 0.01
        swings = (self._frequency * time + PAIRS) % 1.0 > DUTY
        share = np.where(swings, 0.25 * (1.0 - stride), 0.25 * (1.0 + stride))
        lead = np.clip(self._lag * rate, -0.4, 0.4) + self._carrying(joints, feet, share * self._weight) / self._kp
        return (joints + lead).reshape(-1)

    def _feet(self, time: float, speed: Array, stride: float, lean: Array) -> Array:
        """Feet from their hips, forward, left and up ``(4, 3)``, m."""
        phase = (self._frequency * time + PAIRS) % 1.0
        way = DUTY / self._frequency * (speed[:2] + speed[2] * np.stack([-self._hips[:, 1], self._hips[:, 0]], 1))
        swing = (phase - DUTY) / (1.0 - DUTY)  # 0 to 1 in the air
        along = np.where(swing < 0.0, 0.5 - phase / DUTY, -0.5 * np.cos(np.pi * swing))
        feet = np.empty((4, 3))
        feet[:, :2] = np.clip(stride * along[:, None] * way, -0.16, 0.16)
        feet[:, 1] += self._offset
        feet[:, 2] = stride * LIFT * np.sin(np.pi * np.maximum(swing, 0.0)) - HEIGHT
        feet[:, 2] += RIGHTING * np.clip(self._hips @ lean, -0.05, 0.05)
        return feet

    def _inverse(self, feet: Array) -> Array:
        """Joint angles ``(4, 3)``, rad, that bring the feet there."""
        x, y, z = feet.T
        reach = np.hypot(y, z)
        hip = np.arctan2(z, y) + np.arccos(np.clip(self._offset / reach, -1.0, 1.0))
        down = np.sqrt(np.maximum(reach**2 - self._offset**2, 1e-6))
        half = np.minimum(np.hypot(x, down) / (2.0 * self._link), 0.985)
        bend = np.arccos(half)
        return np.stack([hip, bend - np.arctan2(x, down), -2.0 * bend], 1)

    def _carrying(self, joints: Array, feet: Array, force: Array) -> Array:
        """Joint torques ``(4, 3)``, N·m, by which the feet push down with this force ``(4,)``, N."""
        thigh, calf = joints[:, 1], joints[:, 1] + joints[:, 2]
        knee = self._link * np.sin(calf)
        return -force[:, None] * np.stack([feet[:, 1], self._link * np.sin(thigh) + knee, knee], 1)
