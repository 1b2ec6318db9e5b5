"""The policy node as rclpy tutorials write it: an rclpy timer and a subscription callback. For the benchmark alone.

It stands beside the project's own loop, with the same policy, filter and messages, to show what the difference costs.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.timer import Timer

from ddpg_robot_ros.control_loop import ControlLoop
from ddpg_robot_ros.policy_node import PolicyNode, run
from ddpg_robot_ros.transport import Newest


class CallbackSubscription(Newest):
    """A subscription whose callback keeps the newest message until it is taken."""

    def __init__(self, node: Node, message_type: type, topic: str, qos: QoSProfile, raw: bool = False) -> None:
        self._node = node
        self._message: Any | None = None
        self._subscription = node.create_subscription(message_type, topic, self._keep, qos)
        self.handle = self._subscription.handle
        self.info = {"source_timestamp": 0}

    def _keep(self, message: Any) -> None:
        self._message = message

    def take(self) -> Any | None:
        """The newest message that was not taken yet, or None."""
        message, self._message = self._message, None
        return message


class TimerLoop(ControlLoop):
    """A `ControlLoop` whose ticks come from an rclpy timer."""

    node: Node
    timer: Timer | None = None

    @property
    def running(self) -> bool:
        """True between `start` and `stop`."""
        return self.timer is not None

    def start(self) -> None:
        """Creates the timer."""
        self._controller.rearm()
        self._command.forget()
        self._tick_number = 0
        self._start_at = time.monotonic()
        self.timer = self.node.create_timer(self._period, self._on_timer)

    def stop(self) -> None:
        """Ends the timer; sends zero."""
        if self.timer is not None:
            self.node.destroy_timer(self.timer)
            self.timer = None
            self._publish(self._zero)

    def _on_timer(self) -> None:
        if self._state.age() == math.inf:  # the first callback has not come yet
            self._state.take()
            self._start_at = time.monotonic()
            return
        elapsed = time.monotonic() - self._start_at
        number = int(elapsed / self._period + 1e-6)
        missed = max(0, number - self._tick_number - 1)
        self._tick_number = number
        self.counts.lost += missed
        lateness = elapsed - (number - missed) * self._period
        self._look_for_stall(lateness)
        self._measured(lateness, self._tick)


class TimerNode(PolicyNode):
    """A `PolicyNode` that leaves time and messages to the executor."""

    loop_type = TimerLoop
    subscription_type = CallbackSubscription

    def _configure(self) -> None:
        TimerLoop.node = self
        super()._configure()

    def _await_state(self) -> None:
        """The executor is busy with this very transition: no callback can bring a state."""


def main(args: Sequence[str] | None = None) -> int:
    """Entry point of the process."""
    return run(TimerNode, args)


if __name__ == "__main__":
    sys.exit(main())
