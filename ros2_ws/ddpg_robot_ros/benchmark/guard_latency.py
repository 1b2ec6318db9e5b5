"""What the effort guard adds: from the policy's command to the guard's, by the times at which both were published."""

from __future__ import annotations

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Float64MultiArray

from ddpg_robot_ros.transport import EFFORT_TOPIC, GUARDED_TOPIC, Newest

DEEP_QOS = QoSProfile(depth=5000, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Keeps all commands from one reading to the next, seconds later."""


class GuardLatency:
    """Listens to the commands before and behind the guard; a context manager.

    Nothing wakes it: the messages lie in the queue of their subscription until `read`. A listener that woke at each of
    them would take a good share of the processor whose loop is measured.

    Args:
        node: owner of the two subscriptions.
    """

    def __init__(self, node: Node) -> None:
        self._topics = [
            Newest(node, Float64MultiArray, topic, DEEP_QOS, raw=True) for topic in (GUARDED_TOPIC, EFFORT_TOPIC)
        ]
        self._times: list[list[int]] = [[], []]

    def __enter__(self) -> GuardLatency:
        return self

    def __exit__(self, *exception: object) -> None:
        for topic in self._topics:
            topic.destroy()

    @property
    def matched(self) -> bool:
        """True once both publishers are found."""
        return all(topic.publishers for topic in self._topics)

    def read(self) -> None:
        """Takes what has come."""
        for topic, times in zip(self._topics, self._times):
            while topic.take() is not None:
                times.append(topic.info["source_timestamp"])

    def samples(self) -> np.ndarray:
        """One per guarded command: the time since the newest policy command before it ``(m,)``, s."""
        return added(*(np.array(times, dtype=np.int64) for times in self._times))


def added(commanded: np.ndarray, passed: np.ndarray) -> np.ndarray:
    """Times since the newest command.

    Args:
        commanded: when the policy published ``(k,)``, ns, ascending.
        passed: when the guard did ``(m,)``, ns.

    Returns:
        One per element of `passed` that has a command before it, s.
    """
    newest = np.searchsorted(commanded, passed, side="right") - 1
    known = newest >= 0
    return (passed[known] - commanded[newest[known]]) * 1e-9
