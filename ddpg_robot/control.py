"""The control law: the policy's output and the newest state -> proposed effort. The simulator uses the same function."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddpg_robot.spec import ControlSpec
from ddpg_robot.state import Array, RobotState


class ControlLaw:
    """Mode ``effort``: the output is the effort. Mode ``pd``: ``kp * (output - position) - kd * velocity``.

    Attributes:
        proposed: the last result of `effort`; the same buffer at every call.
    """

    def __init__(self, control: ControlSpec, n_joints: int) -> None:
        self._kp = None if control.kp is None else np.array(control.kp)
        self._kd = np.zeros(n_joints) if control.kd is None else np.array(control.kd)
        self.proposed: Array = np.zeros(n_joints)
        self._damping: Array = np.zeros(n_joints)

    def effort(self, output: NDArray[np.floating], state: RobotState) -> Array:
        """Proposed effort ``(n,)``, N·m; the same buffer at every call.

        Args:
            output: the policy's last output ``(n,)``, N·m or rad.
            state: the newest state.
        """
        effort = self.proposed
        if self._kp is None:
            effort[:] = output
            return effort
        np.subtract(output, state.position, out=effort)
        effort *= self._kp
        np.multiply(self._kd, state.velocity, out=self._damping)
        effort -= self._damping
        return effort
