"""What a robot did, as a recording or a bag tells it, checked before anything is fitted to it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ddpg_robot.bags import bag_files, read_bag
from ddpg_robot.errors import JointMappingError, RecordingError, mismatch
from ddpg_robot.recording import Recording, is_recording
from ddpg_robot.spec import RobotSpec
from ddpg_robot.state import Array

LONGEST_GAP_S = 0.05
"""Where states or efforts are missing for longer, nothing is fitted."""
OTHER_CLOCK_S = 1.0
"""States and efforts so far apart are stamped by different clocks."""
COLUMNS = ("stamp", "age", "time", "position", "velocity", "applied_effort")
SHORTEST_S = 8.0
"""Seconds of motion without which nothing is fitted."""
LEAST_SPAN_RAD, LEAST_SPEED = 0.1, 0.1
"""Each joint has to move so far, and (as a root mean square, rad/s) so fast."""
BEYOND_LIMIT = 1.2
"""A position so many times the widest limit of its joint is in another unit."""
SAME_UNIT = (0.7, 1.4)
"""Speed as measured, in parts of the speed at which positions change."""


@dataclass(frozen=True)
class Motion:
    """What a robot did; joints in the robot's order."""

    source: str
    joints: tuple[str, ...]
    time: Array
    """When each state was measured ``(m,)``, s, ascending."""
    position: Array
    """``(m, n)``, rad."""
    velocity: Array
    """``(m, n)``, rad/s."""
    effort_time: Array
    """When each command went out ``(k,)``, s, ascending, on the same clock."""
    effort: Array
    """``(k, n)``, N·m; stands until the next one."""

    def usable(self) -> list[tuple[int, int]]:
        """Stretches of states (first, last + 1) without a gap in states or efforts."""
        after = np.searchsorted(self.effort_time, self.time, side="right")
        times = np.concatenate([[-np.inf], self.effort_time, [np.inf]])
        holes = times[after + 1] - times[after] > LONGEST_GAP_S
        broken = (np.diff(self.time) > LONGEST_GAP_S) | holes[1:] | holes[:-1]
        edges = np.concatenate([[0], np.flatnonzero(broken) + 1, [len(self.time)]])
        return [(int(a), int(b)) for a, b in pairwise(edges) if b - a > 1]

    @property
    def usable_seconds(self) -> float:
        """How long all stretches without a gap are, s."""
        return float(sum(self.time[b - 1] - self.time[a] for a, b in self.usable()))


def read_motion(path: str | Path, robot: RobotSpec, namespace: str = "") -> Motion:
    """Reads a recording of `deploy --record`, or a plain bag with joint states and effort commands.

    Args:
        path: file, or directory of a bag.
        robot: whose joints are looked for.
        namespace: of the topics of a plain bag.

    Raises:
        RecordingError: no bag, damaged, or nothing that a robot could be identified from; says why.
        JointMappingError: it is of other joints.
    """
    recordings = [file for file in bag_files(path) if is_recording(file)]
    if len(recordings) > 1:
        names = (file.name for file in recordings)
        raise RecordingError(mismatch(str(path), f"{len(recordings)} recordings", "one", names))
    motion = _from_recording(recordings[0], robot) if recordings else _from_bag(path, robot, namespace)
    check(motion, robot)
    return motion


def _from_recording(path: Path, robot: RobotSpec) -> Motion:
    with Recording(path) as recording:
        session = recording.session
        if session.joints != robot.joint_names:
            found, expected = ", ".join(session.joints), ", ".join(robot.joint_names)
            raise JointMappingError(mismatch(f"joints of {path.name}", found, expected))
        if session.shadow:
            raise RecordingError(
                mismatch(str(path), "a shadow recording, whose efforts went to nobody", "a deployment")
            )
        parts = [tuple(rows[name].copy() for name in COLUMNS) for rows in recording.blocks()]  # a tick has much more
    if not parts:
        raise RecordingError(mismatch(str(path), "no ticks", f"at least {SHORTEST_S:g} s of them"))
    stamp, age, sent_ns, position, velocity, effort = (np.concatenate(column) for column in zip(*parts))
    begin = stamp[np.isfinite(stamp).argmax()]
    stamp, sent = stamp - begin, sent_ns * 1e-9 - begin
    if np.median(np.abs(sent - stamp)) > OTHER_CLOCK_S:  # a plant in lockstep: its time is not the processor's
        sent = stamp + age
    return _motion(path.name, robot, stamp, position, velocity, sent, effort)


def _from_bag(path: str | Path, robot: RobotSpec, namespace: str) -> Motion:
    bag = read_bag(path, robot, None, namespace)
    times, states = bag.states.arrays()
    sent, efforts = bag.efforts.arrays()
    order = np.argsort(np.array(bag.states.times), kind="stable")
    stamps = np.array(bag.stamps)[order]
    begin = int(times[0])
    measured, heard = stamps - begin * 1e-9, (times - begin) * 1e-9
    # A driver that stamps on the bag's own clock says better than the recorder when it measured.
    trusted = np.median(np.abs(measured - heard)) < LONGEST_GAP_S
    name = Path(path).name
    return _motion(
        name, robot, measured if trusted else heard, states[:, 0], states[:, 1], (sent - begin) * 1e-9, efforts
    )


def _motion(
    source: str, robot: RobotSpec, time: Array, position: Array, velocity: Array, sent: Array, effort: Array
) -> Motion:
    """In the order of time, each state once, nothing that is not finite."""
    good = np.isfinite(time) & np.isfinite(position).all(axis=1) & np.isfinite(velocity).all(axis=1)
    time, position, velocity = time[good], position[good], velocity[good]
    good = np.isfinite(sent) & np.isfinite(effort).all(axis=1)
    sent, effort = sent[good], effort[good]
    time, states = np.unique(time, return_index=True)
    sent, efforts = np.unique(sent, return_index=True)
    return Motion(source, robot.joint_names, time, position[states], velocity[states], sent, effort[efforts])


def check(motion: Motion, robot: RobotSpec) -> None:
    """Raises RecordingError where nothing should be fitted to a motion: too short, still, or in other units."""
    where = motion.source
    seconds = motion.usable_seconds
    if seconds < SHORTEST_S:
        gaps = np.diff(motion.time)
        count = int((gaps > LONGEST_GAP_S).sum())
        hint = f"{count} gaps, the longest {gaps.max():.3g} s" if count else None
        expected = f"at least {SHORTEST_S:g} s of states and efforts, none missing for {LONGEST_GAP_S:g} s"
        raise RecordingError(mismatch(where, f"{seconds:.3g} s that can be used", expected, hint=hint))
    for j, joint in enumerate(robot.joints):
        position, velocity = motion.position[:, j], motion.velocity[:, j]
        far = float(position[np.abs(position).argmax()])
        if abs(far) > BEYOND_LIMIT * max(abs(joint.position_lower), abs(joint.position_upper)):
            expected = f"{joint.position_lower:g} to {joint.position_upper:g} rad"
            raise RecordingError(
                mismatch(f"{where}: position of {joint.name}", f"{far:.4g}", expected, hint="Degrees?")
            )
        strong = float(np.abs(motion.effort[:, j]).max())
        if strong > BEYOND_LIMIT * joint.effort_limit:
            expected = f"at most its limit, {joint.effort_limit:g} N·m"
            raise RecordingError(
                mismatch(f"{where}: effort of {joint.name}", f"{strong:.4g}", expected, hint="Not N·m?")
            )
        span, speed = float(np.ptp(position)), float(np.sqrt(np.mean(velocity**2)))
        if not strong > 0:
            raise RecordingError(mismatch(f"{where}: effort of {joint.name}", "0 throughout", "commands that move it"))
        if span < LEAST_SPAN_RAD or speed < LEAST_SPEED:
            expected = f"at least {LEAST_SPAN_RAD:g} rad and {LEAST_SPEED:g} rad/s"
            found = f"{span:.2g} rad at {speed:.2g} rad/s (rms)"
            raise RecordingError(mismatch(f"{where}: motion of {joint.name}", found, expected, hint="Move it more"))
        ratio = _speed_ratio(motion, j)
        if not SAME_UNIT[0] <= ratio <= SAME_UNIT[1]:
            found = f"{ratio:.3g} times the speed of its position"
            raise RecordingError(mismatch(f"{where}: velocity of {joint.name}", found, "1 time: rad and rad/s"))


def _speed_ratio(motion: Motion, joint: int) -> float:
    """Measured speed by the speed at which the position changes, in between its states."""
    over = 5  # states; a difference of neighbours is noise of the encoder
    step = motion.time[over:] - motion.time[:-over]
    moved = motion.position[over:, joint] - motion.position[:-over, joint]
    total = np.concatenate([[0.0], np.cumsum(motion.velocity[:, joint])])
    mean = (total[over + 1 :] - total[: -over - 1]) / (over + 1)
    near = step < over * LONGEST_GAP_S
    speed = moved[near] / step[near]
    return float(speed @ mean[near] / (speed @ speed))
