"""The learner's side of the topics, in a process of its own, on this machine or another: ticks in, policies and verdicts out.

What learns is handed in, for this room imports no torch. Ticks wait in a queue while it works; nothing here holds up a robot.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from std_msgs.msg import UInt8MultiArray

from ddpg_robot.errors import DdpgRobotError, MessageError
from ddpg_robot.spec import PolicyManifest
from ddpg_robot.versions import VersionId
from ddpg_robot_ros.diagnostics import status
from ddpg_robot_ros.policy_feed import PolicySender
from ddpg_robot_ros.tick_stream import TICKS_QOS, TickReader
from ddpg_robot_ros.transport import StopSignal, run_node

TICKS = "policy_node/ticks"
WORK_S = 0.2
"""Updates between two looks at the queue."""
IDLE_S = 0.02
DIAGNOSTICS_PERIOD_S = 1.0
REWARD_PATIENCE = 250
"""Transitions without a reward after which a reward topic counts as silent."""


class Sent(Protocol):
    """A policy file for the robot."""

    version: VersionId
    data: bytes


class Verdict(Protocol):
    """What is said of one that is on probation."""

    version: VersionId
    keep: bool
    why: str


class Learner(Protocol):
    """What learns."""

    manifest: PolicyManifest
    unrewarded: int
    """Transitions since a reward came over the topic, where it should."""

    def add(self, session: str, weights: str, rows: Any) -> None:
        """Takes ticks."""
        ...

    def recover(self, directory: Path) -> int:
        """Takes what was recorded while it was away; the number of ticks."""
        ...

    def work(self, seconds: float) -> bool:
        """Learns for so long; False where there is nothing to learn from."""
        ...

    def candidate(self) -> Sent | None:
        """A policy for the robot, when there is one."""
        ...

    def verdict(self) -> Verdict | None:
        """What to say of the last one."""
        ...

    def save(self) -> None:
        """Keeps what was learnt."""
        ...

    def status(self) -> Mapping[str, object]:
        """For diagnostics."""
        ...


class LearnerNode(Node):
    """A `Learner` behind ROS topics.

    Args:
        learner: what learns.
        save_every: time between checkpoints, s.
        recordings: where a robot on this machine records; None where it does so elsewhere.
    """

    def __init__(self, learner: Learner, save_every: float, recordings: Path | None) -> None:
        super().__init__("learner_node")
        self._learner, self._save_every, self._recordings = learner, save_every, recordings
        self._reader = TickReader(learner.manifest.interface)
        self._queue: deque[UInt8MultiArray] = deque(maxlen=10_000)
        self._complaint, self._paused = "", False
        self._sender = PolicySender(self)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._state: Mapping[str, object] = learner.status()
        self.create_subscription(UInt8MultiArray, TICKS, self._on_ticks, TICKS_QOS)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics)

    def run(self, stop: StopSignal) -> None:
        """Learns until told to stop; then keeps what was learnt."""
        if self._recordings is not None:
            ticks = self._learner.recover(self._recordings)
            self.get_logger().info(f"{ticks} ticks learnt from recordings that nobody had listened to")
        self.get_logger().info(f"learning from {self.resolve_topic_name(TICKS)}")
        saved_at = time.monotonic()
        while not stop.is_set():
            busy = self._take()
            try:
                busy |= self._learner.work(WORK_S)
                self._speak()
                if time.monotonic() - saved_at > self._save_every:
                    self._learner.save()
                    saved_at = time.monotonic()
            except DdpgRobotError as error:
                self._complain(str(error))
            self._state = self._learner.status()
            if not busy:
                stop.wait(IDLE_S)
        self._learner.save()

    def _on_ticks(self, message: UInt8MultiArray) -> None:
        self._queue.append(message)

    def _take(self) -> bool:
        """Ticks that came; True where there were any."""
        taken = bool(self._queue)
        while self._queue:
            try:
                block = self._reader.read(self._queue.popleft())
                self._learner.add(block.session, block.weights, block.rows)
            except DdpgRobotError as error:
                self._complain(str(error) if isinstance(error, MessageError) else f"ticks left out: {error}")
        return taken

    def _speak(self) -> None:
        verdict = self._learner.verdict()
        if verdict is not None:
            self._sender.judge(verdict.version, verdict.keep, verdict.why)
            self.get_logger().info(f"{verdict.version}: {'keep' if verdict.keep else 'back'}, {verdict.why}")
        sent = self._learner.candidate()
        if sent is not None:
            self._sender.send(sent.version, sent.data)
            self.get_logger().info(f"{sent.version} sent, {len(sent.data)} bytes")

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            self.get_logger().warning(text)

    def _publish_diagnostics(self) -> None:
        level, message = DiagnosticStatus.OK, "learning"
        paused, self._paused = self._paused, self._learner.unrewarded > REWARD_PATIENCE
        if self._paused:
            level, message = DiagnosticStatus.WARN, "paused: no reward comes over the topic"
            if not paused:
                self.get_logger().warning(message)
        elif self._complaint:
            level, message = DiagnosticStatus.WARN, self._complaint
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        name = f"{self.get_fully_qualified_name()}: learner"
        array.status.append(status(name, level, message, self._state, self._learner.manifest.robot.name))
        self._diagnostics.publish(array)


def run_learner(
    learner: Learner, save_every: float = 30.0, recordings: Path | None = None, args: Sequence[str] | None = None
) -> int:
    """Runs the node until SIGINT or SIGTERM. Returns the exit status."""
    return run_node(lambda: LearnerNode(learner, save_every, recordings), args)
