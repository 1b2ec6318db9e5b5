"""Forward kinematics of a serial chain, from the spec alone, fast enough for every control tick."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddpg_robot.spec import KinematicChain

Array = NDArray[np.float64]


class ChainKinematics:
    """Tip position and Jacobian of a `KinematicChain`.

    A joint's transform is ``A @ Rot(axis, q)``. By Rodrigues' formula ``Rot = (I + K^2) + sin(q) K - cos(q) K^2`` with
    ``K`` the cross-product matrix of the axis, so all joints' transforms come from three precomputed stacks at once.

    Attributes:
        tip: tip position in the base frame ``(3,)``, m.
        jacobian: of the tip position, ``(3, n)``, m/rad.
    """

    def __init__(self, chain: KinematicChain) -> None:
        n = len(chain.links)
        fixed = np.zeros((n, 4, 4))
        skew = np.zeros((n, 4, 4))
        for i, link in enumerate(chain.links):
            fixed[i, :3, :3] = rotation_matrix(link.quaternion_wxyz)
            fixed[i, :3, 3] = link.translation
            fixed[i, 3, 3] = 1.0
            x, y, z = link.axis
            skew[i, :3, :3] = [[0, -z, y], [z, 0, -x], [-y, x, 0]]
        skew_squared = skew @ skew
        self._constant = fixed @ (np.eye(4) + skew_squared)  # (n, 4, 4)
        self._sine = fixed @ skew
        self._cosine = fixed @ -skew_squared
        self._axis = np.array([link.axis for link in chain.links])[:, :, None]  # (n, 3, 1)
        self._tip_local = np.array([*chain.tip_translation, 1.0])
        self._frames = np.empty((n, 4, 4))  # joint frames in the base frame
        self.tip: Array = np.zeros(3)
        self.jacobian: Array = np.zeros((3, n))

    def update(self, position: Array) -> None:
        """Computes tip and Jacobian for joint positions ``(n,)`` in rad."""
        sine = np.sin(position)[:, None, None]
        cosine = np.cos(position)[:, None, None]
        local = self._constant + sine * self._sine + cosine * self._cosine  # (n, 4, 4)
        frames = self._frames
        frames[0] = local[0]
        for i in range(1, len(frames)):
            np.dot(frames[i - 1], local[i], out=frames[i])
        self.tip[:] = frames[-1, :3] @ self._tip_local
        a = np.matmul(frames[:, :3, :3], self._axis)[:, :, 0]  # joint axes in the base frame, (n, 3)
        r = self.tip - frames[:, :3, 3]  # from each joint to the tip, (n, 3)
        jacobian = self.jacobian  # column i = a_i x r_i
        jacobian[0] = a[:, 1] * r[:, 2] - a[:, 2] * r[:, 1]
        jacobian[1] = a[:, 2] * r[:, 0] - a[:, 0] * r[:, 2]
        jacobian[2] = a[:, 0] * r[:, 1] - a[:, 1] * r[:, 0]


def rotation_matrix(quaternion_wxyz: tuple[float, ...] | Array) -> Array:
    """Rotation matrix ``(3, 3)`` of a unit quaternion."""
    w, x, y, z = quaternion_wxyz
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
