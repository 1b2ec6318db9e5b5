"""Forward kinematics of a serial chain, from the spec alone, fast enough for every control tick."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ddpg_robot.spec import KinematicChain, Vector

Array = NDArray[np.float64]

_CROSS: Array = np.cross(np.eye(3)[:, None], np.eye(3)[None]).reshape(9, 3)
"""A cross product as a product with the outer one: ``a x b = outer(a, b).ravel() @ _CROSS``."""


class ChainKinematics:
    """Tip position and Jacobian of a `KinematicChain`.

    A joint's transform is ``A @ Rot(axis, q)``. Each frame is first turned so that its joint's axis is its z axis; then
    ``Rot(z, q) = (I - D) + cos(q) D + sin(q) E`` is linear in cos(q) and sin(q), and one precomputed matrix gives the
    transforms of all joints.

    Attributes:
        tip: tip position in the base frame ``(3,)``, m.
        jacobian: of the tip position, transposed: ``(n, 3)``, m/rad. Row i is ``axis_i x (tip - origin_i)``.
    """

    def __init__(self, chain: KinematicChain) -> None:
        n = len(chain.links)
        fixed = np.zeros((n, 4, 4))
        turn = np.eye(4)  # from the previous joint's own frame to its turned one
        for i, link in enumerate(chain.links):
            fixed[i] = np.eye(4)
            fixed[i, :3, :3] = rotation_matrix(link.quaternion_wxyz)
            fixed[i, :3, 3] = link.translation
            fixed[i] = turn.T @ fixed[i]
            turn = np.eye(4)
            turn[:3, :3] = _turn_z_to(link.axis)
            fixed[i] = fixed[i] @ turn
        plane = np.diag([1.0, 1.0, 0.0, 0.0])  # D
        quarter = np.zeros((4, 4))  # E
        quarter[1, 0], quarter[0, 1] = 1.0, -1.0
        transforms = np.zeros((n, 16, 2 * n + 1))  # of (cos(q), sin(q), 1)
        for i in range(n):
            transforms[i, :, i] = (fixed[i] @ plane).ravel()
            transforms[i, :, n + i] = (fixed[i] @ quarter).ravel()
            transforms[i, :, 2 * n] = (fixed[i] @ (np.eye(4) - plane)).ravel()
        self._transforms = transforms.reshape(16 * n, 2 * n + 1)
        self._tip_local = turn.T @ np.array([*chain.tip_translation, 1.0])
        # Views and buffers are made once: a call makes no Python objects but a few scalars.
        self._waves = np.ones(2 * n + 1)
        self._cosine, self._sine = self._waves[:n], self._waves[n : 2 * n]
        self._local = np.zeros(16 * n)
        local, frames = self._local.reshape(n, 4, 4), np.zeros((n, 4, 4))
        self._first = (frames[0], local[0])
        self._products = [(frames[i - 1], local[i], frames[i]) for i in range(1, n)]
        self._last = frames[-1]
        self._axes, self._origins = frames[:, :3, 2, None], frames[:, :3, 3]  # (n, 3, 1), (n, 3)
        self._tip = np.zeros(4)
        self._reach, self._outer = np.zeros((n, 1, 3)), np.zeros((n, 3, 3))
        self._reach_rows, self._outer_rows = self._reach[:, 0], self._outer.reshape(n, 9)
        self.tip: Array = self._tip[:3]
        self.jacobian: Array = np.zeros((n, 3))

    def update(self, position: Array) -> None:
        """Computes tip and Jacobian for joint positions ``(n,)`` in rad."""
        np.cos(position, out=self._cosine)
        np.sin(position, out=self._sine)
        np.dot(self._transforms, self._waves, out=self._local)
        frame, local = self._first
        frame[:] = local
        for previous, local, frame in self._products:
            np.dot(previous, local, out=frame)
        np.dot(self._last, self._tip_local, out=self._tip)
        np.subtract(self.tip, self._origins, out=self._reach_rows)
        np.multiply(self._axes, self._reach, out=self._outer)
        np.dot(self._outer_rows, _CROSS, out=self.jacobian)


def rotation_matrix(quaternion_wxyz: Vector | Array) -> Array:
    """Rotation matrix ``(3, 3)`` of a unit quaternion."""
    w, x, y, z = quaternion_wxyz
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _turn_z_to(axis: Vector) -> Array:
    """A rotation ``(3, 3)`` whose third column is the unit vector `axis`."""
    z = np.array(axis)
    helper = np.eye(3)[np.argmin(np.abs(z))]
    x = np.cross(helper, z)
    x /= np.linalg.norm(x)
    if z[2] == 1.0:
        return np.eye(3)  # most models: keep the numbers exact
    return np.column_stack([x, np.cross(z, x), z])


def in_heading_frame(vector: Array, quaternion_wxyz: Array) -> Array:
    """A vector of the world ``(3,)`` in a frame that turns with a floating base's heading alone: forward, left, up."""
    w, x, y, z = quaternion_wxyz
    heading = math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    cos, sin = math.cos(heading), math.sin(heading)
    return np.array([cos * vector[0] + sin * vector[1], cos * vector[1] - sin * vector[0], vector[2]])
