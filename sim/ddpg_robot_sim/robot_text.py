"""A task file as text: TOML with a comment at every key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ddpg_robot_sim.robot_file import RobotFile

COMMENTS = {
    "effort_limit": "N·m, largest torque; from the model",
    "velocity_limit": "rad/s, largest speed",
    "position_lower": "rad, end stop; from the model",
    "position_upper": "rad",
    "effort_rate_limit": "N·m/s, largest change of torque; the safety filter's",
    "trip_damping": "N·m·s/rad, stops the joint after a trip",
    "armature": "kg·m², inertia of the rotor behind the gear",
    "home": "rad, pose that episodes begin around",
    "kp": "N·m/rad, mode pd: torque = kp * (target - position) - kd * velocity",
    "kd": "N·m·s/rad",
    "target_range": "rad, mode pd: farthest joint target, from the measured position",
    "effort_range": "mode effort: what the policy may ask for, a share of effort_limit",
}


def robot_text(file: RobotFile, notes: tuple[str, ...], beside: Path) -> str:
    """The task file's text.

    Args:
        file: what it says.
        notes: what a person should look at; as comments.
        beside: the task file; the model's path becomes relative to it where it is in or below its folder.
    """
    model, folder = Path(file.model).resolve(), beside.parent.resolve()
    place = str(model.relative_to(folder)) if model.is_relative_to(folder) else str(model)
    name = beside.name
    lines = [
        f"# The robot '{one_line(file.name)}', and its task: bring the end effector to a point and hold it there.",
        f"#   ddpg-robot train {name}, evaluate RUN, export RUN --out POLICY, deploy POLICY --robot {name}",
        "# Units: rad, N·m, m, s. Look at every line before a policy drives a real robot: its limits are the ones below.",
        *(f"# NOTE: {one_line(note)}" for note in notes),
        "",
        entry("name", file.name, ""),
        entry("model", place, "MJCF or URDF; relative to this file"),
        entry("end_effector", file.end_effector, "site or body of the model"),
        entry("gravity_compensated", file.gravity_compensated, "true: the robot's firmware holds its weight"),
        entry("contacts", file.contacts, "true: links collide, and no episode begins with links in contact"),
        "",
        "[joints] # from the base to the end effector, a value for each",
        *(entry(key, value, COMMENTS.get(key, "")) for key, value in vars(file.joints).items()),
        "",
        "[control]",
        entry("mode", file.control.mode, "pd: joint targets, learnt fast; effort: torques. Or: train --control-mode"),
        entry("period", file.control.period, "s, between two runs of the policy"),
        entry("ticks_per_action", file.control.ticks_per_action, "ticks of control law and safety filter in a period"),
        "",
        "[target] # a box in the model's world frame; new-robot chose one that the arm can reach",
        entry("lower", file.target.lower, "m"),
        entry("upper", file.target.upper, "m"),
        entry("start_spread", file.target.start_spread, "rad, around home, where episodes begin"),
        entry("seconds", file.target.seconds, "s, length of an episode"),
    ]
    return "\n".join(lines) + "\n"


def entry(key: str, value: Any, comment: str) -> str:
    """One line of TOML; strings, numbers, flags and lists of them are written as in JSON."""
    text = json.dumps(value, ensure_ascii=False)
    return f"{key} = {text}" + (f"  # {comment}" if comment else "")


def one_line(text: str) -> str:
    """Printable characters alone: nothing ends a comment but the line that it is in."""
    return "".join(c if c.isprintable() else "?" for c in text)
