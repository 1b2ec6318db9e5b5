"""What the sensors and the operator say: stamped, SI units, joints in the policy's order, buffers reused every tick."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ddpg_robot.spec import RobotSpec

Array = NDArray[np.float64]


class RobotState:
    """The newest measured state of a robot.

    Attributes:
        measured: positions and velocities of all joints ``(2, n + m)``: n with a motor, rad and rad/s, then m passive ones,
            rad and rad/s of hinges, m and m/s of slides.
        motion: those of the joints with a motor ``(2, n)``.
        passive: those of the passive ones ``(2, m)``.
        position: its first row ``(n,)``, rad.
        velocity: its second row ``(n,)``, rad/s.
        orientation_wxyz: base orientation ``(4,)``, unit quaternion, base frame to world (floating base only).
        angular_velocity: angular velocity of the base in its own frame ``(3,)``, rad/s (floating base only).
        base_position: where the base is in the frame of the odometry ``(3,)``, m (this and the next two: with odometry only).
        base_orientation_wxyz: unit quaternion ``(4,)``, base frame to that of the odometry. `orientation_wxyz` is the IMU's,
            which may have another heading.
        base_velocity: velocity of the base in the frame of the odometry ``(3,)``, m/s.
        object_position: where the object is ``(3,)``, m, in the frame of its `ObjectSpec` (robots with one only).
        more: name and buffer of those of `RobotSpec.more_state`.
        motion_age: age of positions and velocities ``(1,)``, s, where `more` of the state may be older (those robots only).
        stamp: time of measurement, s.
    """

    __slots__ = (
        "angular_velocity",
        "base_orientation_wxyz",
        "base_position",
        "base_velocity",
        "floating_base",
        "measured",
        "more",
        "motion",
        "motion_age",
        "object_position",
        "orientation_wxyz",
        "passive",
        "position",
        "stamp",
        "velocity",
    )

    def __init__(
        self, n_joints: int, floating_base: bool = False, n_passive: int = 0, more: Iterable[str] = ()
    ) -> None:
        self.measured: Array = np.zeros((2, n_joints + n_passive))
        self.motion: Array = self.measured[:, :n_joints]
        self.passive: Array = self.measured[:, n_joints:]
        self.position: Array = self.motion[0]
        self.velocity: Array = self.motion[1]
        self.floating_base = floating_base
        self.orientation_wxyz: Array = np.array([1.0, 0.0, 0.0, 0.0])
        self.angular_velocity: Array = np.zeros(3)
        self.base_position: Array = np.zeros(3)
        self.base_orientation_wxyz: Array = np.array([1.0, 0.0, 0.0, 0.0])
        self.base_velocity: Array = np.zeros(3)
        self.object_position: Array = np.zeros(3)
        self.motion_age: Array = np.zeros(1)
        self.more: tuple[tuple[str, Array], ...] = tuple((name, getattr(self, name)) for name in more)
        self.stamp = 0.0

    @classmethod
    def of(cls, robot: RobotSpec) -> RobotState:
        """The state of a robot."""
        return cls(robot.n_joints, robot.floating_base, len(robot.passive_joints), robot.more_state)


class Command:
    """What the operator asks for.

    Attributes:
        values: ``(size,)`` in the unit and frame of the policy's `CommandSpec`.
        stamp: time at which it was given, s.
    """

    __slots__ = ("stamp", "values")

    def __init__(self, size: int) -> None:
        self.values: Array = np.zeros(size)
        self.stamp = 0.0
