"""Runs a policy on the states of a plain rosbag2 bag, at its own period, and compares efforts with those nearest in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpg_robot.bags import Bag, Times, nearest, read_bag
from ddpg_robot.controller import PolicyController
from ddpg_robot.errors import RecordingError, mismatch
from ddpg_robot.policy import OnnxPolicy
from ddpg_robot.replay import Difference, ReplayReport
from ddpg_robot.safety import SafetyLimits
from ddpg_robot.state import Array, Command, RobotState

TIMEOUT_PERIODS = 2.0
"""Oldest usable state in periods of the policy, as the node's default."""
MAX_TICKS = 2**26


def replay_bag(
    policy: OnnxPolicy, path: str | Path, tolerance: float, rate: float | None = None, namespace: str = ""
) -> ReplayReport:
    """Runs a policy on a bag.

    Args:
        policy: an opened policy.
        path: the bag.
        tolerance: largest difference of effort that counts as equal, N·m.
        rate: ticks per second; None as trained.
        namespace: ROS namespace of the topics.

    Raises:
        RecordingError: the bag cannot be read or compared. JointMappingError: it is of other joints. RateError: see
            `PolicyController`.
    """
    interface = policy.interface
    limits = SafetyLimits(state_timeout=TIMEOUT_PERIODS * interface.control.period)
    controller = PolicyController(policy, limits, rate)
    bag = read_bag(path, interface.robot, interface.command, namespace)
    report = ReplayReport(tolerance, approximate=True)
    if not bag.states.times or not bag.targets.times:
        found = f"{len(bag.states.times)} usable states, {len(bag.targets.times)} usable targets"
        raise RecordingError(mismatch(str(path), found, "at least one of each"))
    times, efforts, in_control = _run(controller, bag, report)
    asked, recorded = bag.efforts.arrays()
    ticks = nearest(times, asked)
    near = (np.abs(times[ticks] - asked) <= 0.5e9 / controller.rate) & in_control[ticks]
    if not near.any():
        raise RecordingError(mismatch(str(path), "no effort while a target was set", "commands of the time of control"))
    report.ticks, report.in_control = int(near.sum()), int(in_control.sum())
    for i, joint in enumerate(interface.robot.joint_names):
        one = Difference(f"effort of '{joint}'", "N*m")
        one.add(ticks[near], recorded[near, i], efforts[ticks[near], i], tolerance)
        report.differences.append(one)
    if bag.refused:
        report.notes.append(f"{bag.refused} targets are in another frame or out of the policy's bounds")
    if bag.truncated:
        report.notes.append("the bag has no end: its recorder was killed, or the disk was full")
    return report


def _run(controller: PolicyController, bag: Bag, report: ReplayReport) -> tuple[Times, Array, NDArray[np.bool_]]:
    """Ticks from the first state to the last: their times ``(m,)``, efforts ``(m, n)``, and where the policy had control."""
    state_times, states = bag.states.arrays()
    target_times, targets = bag.targets.arrays()
    period = round(1e9 / controller.rate)
    seconds = float(state_times[-1] - state_times[0]) * 1e-9
    if seconds * controller.rate > MAX_TICKS:
        raise RecordingError(
            mismatch("length of the bag", f"{seconds:.0f} s", f"at most {MAX_TICKS / controller.rate:.0f} s")
        )
    times = np.arange(state_times[0], state_times[-1] + 1, period)
    newest_state = np.searchsorted(state_times, times, side="right") - 1
    newest_target = np.searchsorted(target_times, times, side="right") - 1
    state, command = RobotState(states.shape[2]), Command(targets.shape[1])
    efforts, in_control = np.zeros((len(times), states.shape[2])), np.zeros(len(times), bool)
    controller.rearm()
    waiting = True
    with np.errstate(invalid="ignore", over="ignore"):
        for k, (s, t) in enumerate(zip(newest_state, newest_target)):
            if waiting and t >= 0:
                waiting = False
                controller.rearm()
            state.motion[:] = states[s]
            if t >= 0:
                command.values[:] = targets[t]
            verdict = controller.drive(state, command, float(times[k] - state_times[s]) * 1e-9, waiting)
            efforts[k], in_control[k] = controller.effort, not (waiting or verdict.tripped)
            if verdict.tripped:
                reason = verdict.reason.value if verdict.reason is not None else "unknown"
                report.notes.append(f"tick {k}: the replay tripped ({reason}: {verdict.detail}) and ends there")
                break
    return times, efforts, in_control
