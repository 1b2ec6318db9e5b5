"""Forward kinematics of a serial chain, from the spec alone, fast enough for every control tick."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddpg_robot.spec import KinematicChain, Vector

Array = NDArray[np.float64]


class ChainKinematics:
    """Tip position and Jacobian of a `KinematicChain`.

    A joint's transform is ``A @ Rot(axis, q)``. Each frame is first turned so that its joint's axis is its z axis; then
    ``Rot(z, q) = (I - D) + cos(q) D + sin(q) E`` and the transforms of all joints come from three precomputed stacks.

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
        self._constant = fixed @ (np.eye(4) - plane)  # (n, 4, 4)
        self._cosine = fixed @ plane
        self._sine = fixed @ quarter
        self._tip_local = turn.T @ np.array([*chain.tip_translation, 1.0])
        # Views and buffers are made once: a call makes no Python objects but a few scalars.
        self._angles = np.zeros((n, 1, 1))
        self._sin, self._cos = np.zeros((n, 1, 1)), np.zeros((n, 1, 1))
        local, frames = np.zeros((n, 4, 4)), np.zeros((n, 4, 4))
        self._local, self._part, self._frames = local, np.zeros((n, 4, 4)), frames
        self._products = [(frames[i - 1], local[i], frames[i]) for i in range(1, n)]
        self._last = frames[-1]
        self._axes, self._origins = frames[:, :3, 2], frames[:, :3, 3]  # (n, 3)
        self._tip = np.zeros(4)
        self._axis_cycled, self._reach_cycled = np.zeros((n, 5)), np.zeros((n, 5))
        self._cross = np.zeros((n, 3))
        self.tip: Array = self._tip[:3]
        self.jacobian: Array = np.zeros((n, 3))

    def update(self, position: Array) -> None:
        """Computes tip and Jacobian for joint positions ``(n,)`` in rad."""
        local, part = self._local, self._part
        self._angles[:, 0, 0] = position
        np.multiply(self._sine, np.sin(self._angles, out=self._sin), out=local)
        np.multiply(self._cosine, np.cos(self._angles, out=self._cos), out=part)
        local += part
        local += self._constant
        self._frames[0] = local[0]
        for previous, step, frame in self._products:
            np.dot(previous, step, out=frame)
        np.dot(self._last, self._tip_local, out=self._tip)
        # Cross products row by row: with (x, y, z, x, y), slices 1:4 and 2:5 are (y, z, x) and (z, x, y).
        axis, reach = self._axis_cycled, self._reach_cycled
        axis[:, :3] = self._axes
        axis[:, 3:] = axis[:, :2]
        np.subtract(self.tip, self._origins, out=reach[:, :3])
        reach[:, 3:] = reach[:, :2]
        np.multiply(axis[:, 1:4], reach[:, 2:], out=self.jacobian)
        np.multiply(axis[:, 2:], reach[:, 1:4], out=self._cross)
        self.jacobian -= self._cross


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
