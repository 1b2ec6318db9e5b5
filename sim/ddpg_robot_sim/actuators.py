"""Motors as they are: a command takes its time to reach them, and torque fails at speed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from ddpg_robot.state import Array
from ddpg_robot_sim.draw import Draw

BLOCK = 256
"""Commands whose jitter is drawn at once."""


class Motors:
    """Delays commands and limits them by speed. Motor strength is in the model's actuator gains.

    A driving motor exerts at most ``limit * (1 - torque_drop * (|v| - corner) / (v_max - corner))`` beyond the corner
    speed; a braking one has its whole torque.

    Args:
        effort_limit: ``(n,)``, N·m; commands are within it.
        velocity_limit: ``(n,)``, rad/s.
        timestep: physics step, s.
        ctrl: where the torque goes that the motors are to exert ``(n,)``, N·m.
    """

    def __init__(self, effort_limit: Array, velocity_limit: Array, timestep: float, ctrl: Array) -> None:
        self._limit = effort_limit
        self._velocity_limit = velocity_limit
        self._timestep = timestep
        self._ctrl = ctrl
        self._none: Array = np.zeros(len(effort_limit))
        self._pending: deque[tuple[int, Array]] = deque()

    def start(self, draw: Draw, rng: np.random.Generator) -> None:
        """Becomes the motors of a draw; they go on with the torque that they exert."""
        self._rng = rng
        self._delay = draw.effort_delay_ms * 1e-3 / self._timestep  # physics steps
        self._jitter = draw.effort_jitter_ms * 1e-3 / self._timestep
        self._delays = [round(self._delay)]
        self._turn = 0
        self._pending.clear()
        slope = draw.torque_drop / (1 - draw.corner_speed)
        self._drops = slope > 0
        self._fall = slope * self._limit / self._velocity_limit  # N·m per rad/s
        self._at_rest = self._limit * (1 + slope * draw.corner_speed)  # where the falling lines would begin
        self._slow = (draw.corner_speed * self._velocity_limit.min()) ** 2
        self._ask(self._ctrl.copy())

    def command(self, effort: Array, step: int) -> None:
        """Sends a command ``(n,)``, N·m, at this physics step."""
        if self._jitter and self._turn % BLOCK == 0:
            self._delays = np.rint(self._delay + self._jitter * self._rng.random(BLOCK)).astype(int).tolist()
        arrival = step + self._delays[self._turn % len(self._delays)]
        self._turn += 1
        while self._pending and self._pending[-1][0] >= arrival:
            self._pending.pop()  # overtaken
        self._pending.append((arrival, effort.copy()))

    def exert(self, step: int, velocity: Array) -> None:
        """Sets the torque of this physics step from the commands that have arrived and the speed ``(n,)``, rad/s."""
        pending = self._pending
        while pending and pending[0][0] <= step:
            self._ask(pending.popleft()[1])
        if self._drops and velocity.dot(velocity) > self._slow:  # else no joint is beyond its corner speed
            self._ctrl[:] = self._available(velocity)
            self._stands = False
        elif not self._stands:
            self._ctrl[:] = self._asked
            self._stands = True

    def on_their_way(self, step: int) -> Iterator[Array]:
        """What they will be asked for ``(n,)``, N·m, at each physics step from this one until a command sent now arrives."""
        pending = [*self._pending]
        asked = self._asked
        for at in range(step, step + round(self._delay)):
            while pending and pending[0][0] <= at:
                asked = pending.pop(0)[1]
            yield asked

    def hold(self, effort: Array) -> None:
        """Sets the torque ``(n,)``, N·m, within the effort limits, without delay. Commands on their way are forgotten."""
        self._ctrl[:] = np.clip(effort, -self._limit, self._limit)
        self._pending.clear()
        self._ask(self._ctrl.copy())

    def _ask(self, effort: Array) -> None:
        self._asked = effort
        self._stands = False  # `ctrl` does not hold it yet

    def _available(self, velocity: Array) -> Array:
        """What the motors can exert of what they are asked for ``(n,)``."""
        left = np.sign(self._asked)
        left *= velocity  # speed in the direction of the torque; negative where the joint brakes, which costs nothing
        left *= self._fall
        np.subtract(self._at_rest, left, left)
        np.maximum(left, self._none, out=left)
        np.minimum(left, np.abs(self._asked), out=left)
        return np.copysign(left, self._asked, left)
