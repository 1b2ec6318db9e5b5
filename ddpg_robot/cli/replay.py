"""`ddpg-robot replay`: a recording, or a bag, against a policy."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from ddpg_robot.cli.arguments import Flag, PolicyName
from ddpg_robot.cli.sources import policy_path
from ddpg_robot.errors import ConfigError, mismatch

if TYPE_CHECKING:
    from ddpg_robot.replay import ReplayReport


@dataclass(frozen=True)
class Replay:
    """Run a recording of `deploy --record` through a policy once more and compare term by term; no ROS needed.

    A rosbag2 bag (mcap or sqlite3) with joint_states, target and effort_controller/commands will do, approximately. Exit
    code: 0 when equal within the tolerance, 1 when not.
    """

    file: PolicyName
    """Policy file, or the name of a shipped policy."""
    bag: Annotated[Positional[Path], arg(metavar="BAG")]
    """Recording (.mcap), or a rosbag2 bag: its directory, or one of its files."""
    tolerance: float = 1e-6
    """Largest difference that counts as equal, in each quantity's unit; on one and the same machine 0 will do."""
    rate: Annotated[float | None, arg(metavar="HZ")] = None
    """Plain bags: loop rate, Hz. Default: the rate of training. A recording knows its own."""
    namespace: str = ""
    """Plain bags: ROS namespace of the robot, when there are several."""
    json: Flag = False
    """Print JSON instead of a table."""

    def __call__(self) -> int:
        """Replays; returns the exit code."""
        if not self.tolerance >= 0:
            raise ConfigError(mismatch("--tolerance", self.tolerance, "a number >= 0"))
        report = self._report()
        print(as_json(report) if self.json else as_table(report))
        return 0 if report.equal else 1

    def _report(self) -> ReplayReport:
        from ddpg_robot.bags import bag_files
        from ddpg_robot.policy import OnnxPolicy
        from ddpg_robot.recording import Recording, is_recording
        from ddpg_robot.replay import replay
        from ddpg_robot.replay_bag import replay_bag

        policy = OnnxPolicy.open(policy_path(self.file))
        recordings = [file for file in bag_files(self.bag) if is_recording(file)]
        if len(recordings) > 1:
            names = (file.name for file in recordings)
            raise ConfigError(mismatch(str(self.bag), f"{len(recordings)} recordings", "one", names))
        if recordings:
            with Recording(recordings[0]) as recording:
                return replay(policy, recording, self.tolerance)
        return replay_bag(policy, self.bag, self.tolerance, self.rate, self.namespace)


def as_json(report: ReplayReport) -> str:
    """The report as JSON; an infinite difference is null."""
    found = {"equal": report.equal, **asdict(report)}
    for one in found["differences"]:
        one["max_abs"] = one["max_abs"] if math.isfinite(one["max_abs"]) else None
    return json.dumps(found, indent=2, allow_nan=False)


def as_table(report: ReplayReport) -> str:
    """The report as a table, with a sentence at its end."""
    width = max(len(one.name) for one in report.differences)
    lines = [f"{'':{width}}  {'unit':<8} {'ticks':>8} {'max |diff|':>12} {'differ':>8} {'first tick':>11}"]
    for one in report.differences:
        first = "-" if one.first_tick is None else str(one.first_tick)
        numbers = f"{one.ticks:>8} {one.max_abs:>12.3g} {one.beyond:>8} {first:>11}"
        lines.append(f"{one.name:<{width}}  {one.unit:<8} {numbers}")
    if not report.approximate:
        lines.append(f"verdicts of the safety filter that differ: {report.verdicts} of {report.ticks}")
        lines += [f"  {text}" for text in report.first_verdicts]
    lines += [f"note: {text}" for text in report.notes]
    if report.approximate:
        lines.append(
            "approximate: a plain bag does not say which state the node read when; nearest in time was compared"
        )
    exact = not report.approximate and report.equal and all(one.max_abs == 0 for one in report.differences)
    how = "bit for bit" if exact else f"within {report.tolerance:g}"
    says = f"equal, {how}" if report.equal else f"not equal within {report.tolerance:g}"
    lines.append(f"{report.ticks} ticks compared, policy in control in {report.in_control}: {says}")
    return "\n".join(lines)
