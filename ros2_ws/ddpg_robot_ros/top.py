"""A robot at a glance, in a terminal: joints and torques against their limits, rates, ages, and who says what."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from std_msgs.msg import Float64MultiArray

from ddpg_robot.policy import read_manifest
from ddpg_robot.spec import PolicyManifest
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.processes import wait_until
from ddpg_robot_ros.transport import EFFORT_READER_QOS, EFFORT_TOPIC, StopSignal

FRAMES_PER_S = 10.0
WIDEST, NARROWEST = 21, 9  # bars, characters; the middle one is zero
VALUE = 8  # characters of a number
WATCHED = ("control loop", "guard")
COLOURS = {DiagnosticStatus.OK: "green", DiagnosticStatus.WARN: "yellow", DiagnosticStatus.ERROR: "bold red"}
NEAR, AT = 0.7, 0.95
"""Shares of a limit from which on a figure is yellow, or red."""


class Rate:
    """How often something has come during the last second."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=5000)

    def saw(self) -> None:
        """One has just come."""
        self._times.append(time.monotonic())

    def now(self) -> int:
        """Times per second."""
        since = time.monotonic() - 1.0
        return sum(when >= since for when in self._times)


class Watcher(Operator):
    """Reads the robot's states and what it is told.

    Args:
        manifest: of the policy that drives it.
        namespace: ROS namespace of the deployment.
    """

    def __init__(self, manifest: PolicyManifest, namespace: str = "") -> None:
        super().__init__(manifest.robot, namespace)
        self._robot = manifest.robot
        self._effort = np.full(manifest.robot.n_joints, np.nan)
        self._states, self._commands = Rate(), Rate()
        self.node.create_subscription(Float64MultiArray, EFFORT_TOPIC, self._on_effort, EFFORT_READER_QOS)

    def look(self, seconds: float) -> None:
        """Reads what comes during so many seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.watch():
                self._states.saw()
            else:
                time.sleep(0.001)

    def frame(self, width: int) -> Group:
        """Everything as text, in so many columns."""
        seen = self.state.stamp > 0
        age = f"{(time.time() - self.state.stamp) * 1e3:.0f} ms old" if seen else "none seen"
        head = Text(f"{self._robot.name}   joint_states {self._states.now()} Hz, newest {age}   ")
        head.append(f"effort commands {self._commands.now()} Hz\n")
        for suffix in WATCHED:
            status = self.status(suffix)
            if status is None:
                head.append(f"{suffix}: not heard of\n", "dim")
            else:
                head.append(f"{status.name}: {status.message}\n", COLOURS.get(status.level, "bold red"))
        return Group(head, self._table(seen, width))

    def _table(self, seen: bool, width: int) -> Table:
        table = Table("joint", box=None, padding=(0, 1))
        for unit, name in (("rad", "position"), ("rad/s", "velocity"), ("N·m", "effort")):
            table.add_column(unit, justify="right")
            table.add_column(name, justify="center")
        names = max(len(joint.name) for joint in self._robot.joints)
        left = (width - names - 2) // 3 - VALUE - 4  # two characters of padding to each column
        size = min(max((left - 1) // 2 * 2 + 1, NARROWEST), WIDEST)  # an odd number
        for i, joint in enumerate(self._robot.joints):
            middle = (joint.position_upper + joint.position_lower) / 2
            half = (joint.position_upper - joint.position_lower) / 2
            position, velocity = (self.state.position[i], self.state.velocity[i]) if seen else (np.nan, np.nan)
            cells: list[str | Text] = [joint.name]
            for value, share in (
                (position, (position - middle) / half),
                (velocity, velocity / joint.velocity_limit),
                (self._effort[i], self._effort[i] / joint.effort_limit),
            ):
                cells += [f"{value:{VALUE}.3f}", bar(share, size)]
            table.add_row(*cells)
        return table

    def _on_effort(self, message: Float64MultiArray) -> None:
        self._commands.saw()
        if len(message.data) == len(self._effort):
            self._effort[:] = message.data


def bar(share: float, size: int = WIDEST) -> Text:
    """A bar of so many characters, an odd number, from the middle (0) to one of its ends (-1 and 1: the limits)."""
    if not np.isfinite(share):
        return Text("?".center(size), "bold red")
    half = size // 2
    filled = min(half, round(abs(share) * half))
    side = "█" * filled + " " * (half - filled)
    text = " " * half + "│" + side if share >= 0 else side[::-1] + "│" + " " * half
    return Text(text, "red" if abs(share) >= AT else "yellow" if abs(share) >= NEAR else "green")


def run_top(policy: str | Path, namespace: str = "", once: bool = False) -> int:
    """Shows a robot until Ctrl-C.

    Args:
        policy: file of the policy that drives it; its manifest says which joints, and their limits.
        namespace: ROS namespace of the deployment.
        once: show one frame, when states have been seen for 3 s (7 s where no policy node was heard), and end.

    Returns:
        Exit status: 0, or 1 where `once` saw no joint states within 5 s.

    Raises:
        PolicyFileError: not a policy.
    """
    manifest, console, stop = read_manifest(policy), Console(), StopSignal()
    with Watcher(manifest, namespace) as watcher:
        if once:
            seen = wait_until(watcher.watch, 5.0)
            watcher.look(3.0)  # others are discovered one after the other, diagnostics come once a second
            if seen and watcher.status(WATCHED[0]) is None:
                watcher.look(4.0)  # on a busy machine an announcement is lost, and comes again after 3 s
            console.print(watcher.frame(console.width))
            return 0 if seen else 1
        with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while not stop.is_set():
                watcher.look(1 / FRAMES_PER_S)
                live.update(watcher.frame(console.width), refresh=True)
    return 0
