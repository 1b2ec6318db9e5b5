"""All that online learning adds to a policy node: exploration, ticks for a learner, episodes, and policies that come back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node

from ddpg_robot.errors import ConfigError, DdpgRobotError, mismatch
from ddpg_robot.exploration import ExplorationSettings, Explorer
from ddpg_robot.files import write_whole
from ddpg_robot.safety import SafetyLimits
from ddpg_robot.spec import PolicyManifest
from ddpg_robot.transition import check_learnable
from ddpg_robot.versions import VersionId, VersionStore
from ddpg_robot_ros.diagnostics import status
from ddpg_robot_ros.episodes import Episodes
from ddpg_robot_ros.hot_swap import News
from ddpg_robot_ros.inputs import CommandInput
from ddpg_robot_ros.parameters import Parameter, value
from ddpg_robot_ros.policy_feed import PolicyReceiver
from ddpg_robot_ros.tick_stream import TickStream

VERSIONS = "versions"
"""Directory of the versions, in that of the recordings."""
FINAL = ("rejected", "back")
"""What a version does not come back from."""
BASE = "base"
"""File in the directory of the versions: hash of the policy that they began with."""

ONLINE_PARAMETERS = (
    Parameter("online", False, "Explore, publish every tick on ~/ticks, take a learner's policies; needs `record`."),
    Parameter("exploration.share", 0.05, "Largest noise of a joint, as a share of its effort limit.", 0.001, 0.5),
    Parameter("exploration.correlation_time", 0.15, "How long the noise remembers itself, s.", 0.01, 10.0),
    Parameter("verdict_timeout", 120.0, "A learner's policy that nobody has judged by then goes back, s.", 1.0, 3600.0),
    Parameter("takeover_timeout", 0.1, "A takeover ends when its messages stop for so long, s.", 0.01, 5.0),
    Parameter(
        "reset.home", "", "Joint positions of ~/reset, rad, as in 0,-0.8,0; empty = where the robot stood at the start."
    ),
    Parameter("reset.speed", 0.2, "Largest speed of ~/reset, as a share of each velocity limit.", 0.01, 0.5),
)


class Online:
    """What a node that learns has beside its loop.

    Args:
        node: its parameters are `ONLINE_PARAMETERS`, and `record`.
        manifest: of the first policy.
        limits: settings of the safety filter.

    Attributes:
        explorer: adds noise to what policies say.
        ticks: publishes what is on disk.

    Raises:
        ConfigError: parameters that contradict each other, or more exploration than the policy file allows.
    """

    def __init__(self, node: Node, manifest: PolicyManifest, limits: SafetyLimits) -> None:
        self._node, self._robot = node, manifest.robot
        check_learnable(manifest.robot)
        directory = value(node, "record")
        if value(node, "shadow") or not directory:
            expected = "a directory in `record`, and no shadow: what is learnt from was done, and is on disk"
            found = f"record '{directory}', shadow {value(node, 'shadow')}"
            raise ConfigError(mismatch("parameters of online learning", found, expected))
        wanted = (value(node, f"exploration.{name}") for name in ("share", "correlation_time"))
        settings, rng = ExplorationSettings(*wanted), np.random.default_rng()
        cap = manifest.exploration_limit
        self.explorer = Explorer(manifest.robot, manifest.control, limits, settings, cap, rng)
        try:
            self._store = VersionStore((Path(directory).expanduser() / VERSIONS).resolve())
            self._goes_on = self._same_base(manifest.weights_sha256)
        except OSError as error:
            raise ConfigError(mismatch(f"record '{directory}'", error.strerror, "a directory to write in")) from None
        self._waiting: tuple[VersionId, bytes] | None = None
        self._complaint = ""
        self._driving = ""
        self.ticks = TickStream(node)
        self._receiver: PolicyReceiver | None = None

    def connect(
        self,
        command: CommandInput,
        now: Callable[[], float],
        swap_to: Callable[[Path, bool], bool],
        judge: Callable[[str, bool, str], None],
    ) -> Episodes:
        """Begins to listen.

        Args:
            command: of the node.
            now: the loop's time, s.
            swap_to: lets a file wait for its turn, as a candidate or as one that was kept before; False where the loop does not
                run. Raises DdpgRobotError.
            judge: takes source, whether to keep it, and why.
        """
        node = self._node
        home, speed, timeout = (value(node, name) for name in ("reset.home", "reset.speed", "takeover_timeout"))
        self.episodes = Episodes(node, self._robot, command, _positions(home), speed, timeout, now)
        self._swap_to, self._judge = swap_to, judge
        self._receiver = PolicyReceiver(node, self._on_policy, self._on_verdict, self.complain)
        return self.episodes

    def prepare(self) -> None:
        """The loop is about to start: there may be exploration again."""
        self.explorer.active = True

    def begin(self) -> None:
        """The loop has started: the version that was kept last may have its turn."""
        kept, waiting = self._last_kept(), self._waiting
        self._waiting = None
        try:
            if kept and self._goes_on and not self._driving:
                self._swap_to(self._store.directory / f"{kept}.onnx", False)
        except DdpgRobotError as error:
            self.complain(str(error))
        if waiting is not None:
            self._on_policy(*waiting)

    def destroy(self) -> None:
        """Ends what it publishes and hears."""
        self.ticks.destroy()
        if self._receiver is not None:
            self._receiver.destroy()
            self.episodes.destroy()

    def stop_exploring(self, why: str) -> None:
        """Ends exploration, until the loop starts again (any thread)."""
        if self.explorer.active:
            self.explorer.active = False
            self._node.get_logger().error(f"exploration ends: {why}")

    def complain(self, text: str) -> None:
        """Says in one line, once, that something was refused; the robot goes on with what it has."""
        if text != self._complaint:
            self._complaint = text
            self._node.get_logger().warning(f"refused: {text}")

    def note(self, news: News) -> None:
        """Keeps what happened to a version."""
        source = Path(news.driver.source)
        if source.parent != self._store.directory:
            return
        try:
            version = VersionId.parse(source.stem)
        except ConfigError:  # somebody's own file
            return
        if news.event in ("drives", "kept"):
            self._driving = str(version)
        elif news.event == "back":
            self._driving = ""
        self._add(version, news.event, news.text)

    def status(self) -> DiagnosticStatus:
        """For diagnostics."""
        episodes = self.episodes
        values = {
            "exploring": self.explorer.active,
            "driver": episodes.marks.mode.name.lower(),
            "version": self._driving or "the policy that the node began with",
            **episodes.counts,
            "last refusal": episodes.complaint or self._complaint,
        }
        level, message = DiagnosticStatus.OK, "exploring"
        if not self.explorer.active:
            level, message = DiagnosticStatus.WARN, "not exploring: what cannot be recorded cannot be learnt from"
        elif self._complaint:
            level, message = DiagnosticStatus.WARN, self._complaint
        name = self._node.get_fully_qualified_name()
        return status(f"{name}: online learning", level, message, values, self._robot.name)

    # The executor's thread

    def _on_policy(self, version: VersionId, data: bytes) -> None:
        """A policy file has arrived whole."""
        known = [row.event for row in self._store.events() if row.version == str(version)]
        if any(event in FINAL for event in known):
            return
        try:
            path = self._store.keep(version, data)
            if not self._swap_to(path, "kept" not in known):
                self._waiting = version, data
                return
        except (DdpgRobotError, OSError) as error:
            self.complain(str(error))
            self._add(version, "rejected", str(error))
            return
        self._add(version, "arrived")

    def _on_verdict(self, version: VersionId, keep: bool, why: str) -> None:
        self._judge(str(self._store.directory / f"{version}.onnx"), keep, why)

    def _last_kept(self) -> str:
        """The version that was kept last and has not gone back since; empty for none."""
        events = self._store.events()
        last = {row.version: row.event for row in events}
        kept = [row.version for row in events if row.event == "kept" and last[row.version] not in FINAL]
        return kept[-1] if kept else ""

    def _same_base(self, weights: str) -> bool:
        """Whether the versions in the store began with this policy; from now on, they do."""
        file = self._store.directory / BASE
        same = file.is_file() and file.read_text().strip() == weights
        if not same:
            write_whole(file, weights + "\n")
        return same

    def _add(self, version: VersionId, event: str, detail: str = "") -> None:
        try:
            self._store.add(version, event, detail)
        except OSError as error:
            self._node.get_logger().error(f"cannot note that version {version} {event}: {error.strerror}")


def _positions(text: str) -> list[float] | None:
    """Numbers with commas between them; None for none. Raises ConfigError."""
    try:
        return [float(one) for one in text.split(",")] if text.strip() else None
    except ValueError:
        raise ConfigError(mismatch("parameter 'reset.home'", repr(text), "numbers with commas between them")) from None
