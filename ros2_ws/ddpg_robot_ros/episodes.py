"""What a robot that learns is told beside its command: a takeover, how an episode ended, a reward, to go home."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Float64, Float64MultiArray
from std_srvs.srv import Trigger

from ddpg_robot.errors import ConfigError, DdpgRobotError, mismatch
from ddpg_robot.homing import Homing
from ddpg_robot.recording import Mark, Marks, Mode
from ddpg_robot.spec import RobotSpec
from ddpg_robot.state import Array, RobotState
from ddpg_robot_ros.effort_command import effort_values
from ddpg_robot_ros.inputs import CommandInput
from ddpg_robot_ros.transport import EFFORT_READER_QOS, Newest

Clock = Callable[[], float]
Answer = Trigger.Response
RESET_LIMIT_S = 20.0
"""A reset that takes longer has ended: something is in the way, or a load keeps the arm from home."""


class Episodes:
    """Decides, tick by tick, whether the policy drives, a person over ``takeover``, or the reset procedure.

    Services only leave notes; `look`, in the loop's thread, acts on them.

    Args:
        node: owner of topics and services.
        robot: what is driven.
        command: forgotten when the robot is home: who starts again must be asked again.
        home: joint positions of the reset procedure, rad; None: where the robot stood when the loop began.
        speed: largest speed on the way home, a share of each velocity limit.
        takeover_timeout: a takeover ends when its messages stop for so long, s.
        now: the loop's time, s.

    Attributes:
        marks: what is recorded of the tick.
        counts: successes, failures, resets, takeovers, refused takeover messages.
        complaint: why a takeover message was refused last.
    """

    def __init__(
        self,
        node: Node,
        robot: RobotSpec,
        command: CommandInput,
        home: Sequence[float] | None,
        speed: float,
        takeover_timeout: float,
        now: Clock,
    ) -> None:
        self.marks = Marks()
        self.counts = dict.fromkeys(("successes", "failures", "resets", "takeovers", "refused"), 0)
        self.complaint = ""
        self._node, self._robot, self._command, self._now = node, robot, command, now
        self._speed, self._timeout = speed, takeover_timeout
        self._homing = None if home is None else Homing(robot, home, speed)
        self._said: deque[Mark] = deque()
        self._home_asked = False
        self._home_until = math.inf
        self._taken: Array | None = None
        self._taken_at = -math.inf
        self._reward = math.nan
        self._ran = False
        self._takeovers = Newest(node, Float64MultiArray, "takeover", EFFORT_READER_QOS, raw=True)
        self._rewards = Newest(node, Float64, "reward", EFFORT_READER_QOS)
        self._services = [
            node.create_service(Trigger, f"~/{name}", answer)
            for name, answer in (("success", self._succeed), ("failure", self._fail), ("reset", self._reset))
        ]

    def begin(self, state: RobotState) -> None:
        """The loop starts."""
        self._said.clear()
        self._home_asked, self._taken_at = False, -math.inf
        self.marks.mode = Mode.POLICY
        if self._homing is None and not self._robot.floating_base:
            lower, upper = (
                np.array([getattr(joint, f"position_{side}") for joint in self._robot.joints])
                for side in ("lower", "upper")
            )
            self._homing = Homing(self._robot, state.position.clip(lower, upper).tolist(), self._speed)

    def look(self, state: RobotState, policy_runs: bool, tripped: bool) -> Array | None:
        """Once per tick, before it: the effort ``(n,)``, N·m, that is asked for in the policy's place; None where it drives.

        Args:
            state: newest state.
            policy_runs: this is a tick in which the policy runs, or would.
            tripped: nobody drives.
        """
        self._note(policy_runs)
        taken = self._takeover()
        if tripped or taken is not None:
            self._home_asked = False
        before = self.marks.mode
        if tripped:
            self.marks.mode, taken = Mode.POLICY, None
        elif taken is not None:
            self.marks.mode = Mode.TAKEOVER
            self.counts["takeovers"] += before != Mode.TAKEOVER
        elif self._home_asked and self._homing is not None:
            taken = self._go_home(state, before)
        else:
            self.marks.mode = Mode.POLICY
        return taken

    def destroy(self) -> None:
        """Ends topics and services."""
        self._takeovers.destroy()
        self._rewards.destroy()
        for service in self._services:
            self._node.destroy_service(service)

    # The loop's thread

    def _note(self, policy_runs: bool) -> None:
        self.marks.mark = self._said.popleft() if self._said else Mark.NONE
        if self._ran:
            self._reward = math.nan
        message = self._rewards.take()
        if message is not None:
            self._reward = message.data
        self.marks.reward, self._ran = self._reward, policy_runs

    def _takeover(self) -> Array | None:
        raw = self._takeovers.take()
        if raw is not None:
            try:
                self._taken, self._taken_at = effort_values(raw, self._robot.n_joints), self._now()
            except DdpgRobotError as error:
                self.counts["refused"] += 1
                self.complaint = str(error)
        return self._taken if self._now() - self._taken_at <= self._timeout else None

    def _go_home(self, state: RobotState, before: Mode) -> Array | None:
        assert self._homing is not None
        if before != Mode.RESET:
            self._home_until = self._now() + RESET_LIMIT_S
        self.marks.mode = Mode.RESET
        if not self._homing.is_home(state) and self._now() < self._home_until:
            return self._homing.effort(state)
        self.marks.mode, self._home_asked = Mode.POLICY, False
        self.counts["resets"] += 1
        self._command.forget()
        return None

    # The executor's thread

    def _succeed(self, request: Trigger.Request, response: Answer) -> Answer:
        return self._say(Mark.SUCCESS, "successes", response)

    def _fail(self, request: Trigger.Request, response: Answer) -> Answer:
        return self._say(Mark.FAILURE, "failures", response)

    def _say(self, mark: Mark, count: str, response: Answer) -> Answer:
        self._said.append(mark)
        self.counts[count] += 1
        response.success, response.message = True, f"the episode ended in {mark.name.lower()}"
        return response

    def _reset(self, request: Trigger.Request, response: Answer) -> Answer:
        try:
            if self._homing is None:
                hint = "Call it when the loop runs; a robot with a floating base has no way home of its own"
                raise ConfigError(mismatch("reset", "no home", "a home", hint=hint))
        except ConfigError as error:
            response.success, response.message = False, str(error)
            return response
        self._home_asked = True
        response.success, response.message = True, "going home; the command is forgotten there"
        return response
