"""A candidate in shadow: what it would have done in the robot's last ticks, through the robot's own controller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpg_robot.controller import PolicyController, ticks_per_action
from ddpg_robot.policy import OnnxPolicy
from ddpg_robot.recording import Mode
from ddpg_robot.safety import SafetyLimits
from ddpg_robot.state import Command, RobotState

FEWEST = 50
"""Ticks under which nothing is said."""
LIMITED_MORE = 0.05
"""A candidate may run into the filter in so many more ticks than the policy that drove, as a share."""


@dataclass(frozen=True)
class DryRun:
    """What a candidate did in shadow."""

    passed: bool
    reason: str
    """Why not; empty where it passed."""
    ticks: int
    limited: float
    """Share of the ticks in which the filter held it back by clamp or barrier."""
    step: float
    """Root mean square distance of its torque from what was asked for, in parts of the effort limits."""


def dry_run(policy: OnnxPolicy, rows: NDArray[Any], rate: float, largest_step: float) -> DryRun:
    """Runs a candidate on recorded ticks.

    Args:
        policy: the candidate.
        rows: ticks ``(k,)``, oldest first.
        rate: ticks per second.
        largest_step: largest `DryRun.step` that passes.
    """
    interface = policy.interface
    controller = PolicyController(policy, SafetyLimits(), rate)
    state, command = RobotState.of(interface.robot), Command(interface.command.size)
    limit = np.array([joint.effort_limit for joint in interface.robot.joints])
    square, ticks, limited, recorded = 0.0, 0, 0, 0
    before: Any = None
    for row in rows:
        in_control = not (row["tripped"] or row["waiting"]) and row["mode"] == Mode.POLICY
        follows = before is not None and int(row["tick"]) == int(before["tick"]) + 1
        before = row if in_control else None
        if not in_control:
            continue
        state.position[:], state.velocity[:], state.stamp = row["position"], row["velocity"], float(row["stamp"])
        if state.floating_base:
            state.orientation_wxyz[:], state.angular_velocity[:] = row["orientation_wxyz"], row["angular_velocity"]
        command.values[:] = row["command"]
        if not follows or controller.safety.tripped:
            controller.resume(0, row["output"], row["applied_effort"], 1.0)
        controller.phase = (int(row["phase"]) - 1) % ticks_per_action(rate, interface.control.period)
        verdict = controller.drive(state, command, 0.0, waiting=False)
        if verdict.tripped:
            return DryRun(False, f"tripped in shadow: {verdict.detail}", ticks, 0.0, float("nan"))
        ticks += 1
        limited += verdict.barrier or verdict.clamped
        recorded += bool(row["barrier"] or row["clamped"])
        square += float(np.square((controller.proposed - row["proposed_effort"]) / limit).mean())
    if ticks < FEWEST:
        return DryRun(False, f"only {ticks} ticks to run it on in shadow", ticks, 0.0, float("nan"))
    step, share = (square / ticks) ** 0.5, limited / ticks
    reason = ""
    if not step <= largest_step:
        reason = f"its torque in shadow is {step:.3f} of the limits away, at most {largest_step:g}"
    elif share > recorded / ticks + LIMITED_MORE:
        reason = f"the filter held it back in {share:.0%} of the ticks in shadow, the one that drove in {recorded / ticks:.0%}"
    return DryRun(not reason, reason, ticks, share, step)
