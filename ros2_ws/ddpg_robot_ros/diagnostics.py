"""What goes to ``/diagnostics``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

if TYPE_CHECKING:  # the guard uses `status` and must not load a policy's code
    from ddpg_robot_ros.control_loop import ControlLoop

RECENT_ROWS = 500


def status(name: str, level: bytes, message: str, values: Mapping[str, object], hardware: str = "") -> DiagnosticStatus:
    """One diagnostic status; the leading slash of a node name is not part of a status name."""
    pairs = [KeyValue(key=key, value=str(one)) for key, one in values.items()]
    return DiagnosticStatus(name=name.lstrip("/"), level=level, message=message, hardware_id=hardware, values=pairs)


def loop_status(name: str, loop: ControlLoop | None) -> DiagnosticStatus:
    """State of a policy node: what it does, why it tripped, how well it keeps time."""
    if loop is None:
        return status(f"{name}: control loop", DiagnosticStatus.OK, "unconfigured", {})
    swap, verdict, counts = loop.swap, loop.verdict, loop.counts
    manifest = swap.driver.policy.manifest
    level, message = DiagnosticStatus.OK, "running"
    if loop.tripped:
        reason = "not running" if verdict.reason is None else f"{verdict.reason.value}: {verdict.detail}"
        level, message = DiagnosticStatus.ERROR, f"tripped, {reason}"
    elif not loop.running:
        message = "inactive"
    elif loop.waiting:
        level, message = DiagnosticStatus.WARN, "damping, no command yet"
    values: dict[str, object] = {
        "policy": manifest.name,
        "next policy": swap.waiting,
        "probation left (s)": math.ceil(swap.probation_left),
        "mode": manifest.control.mode,
        "ticks": counts.ticks,
        "lost ticks": counts.lost,
        "clamped ticks": counts.clamped,
        "slewed ticks": counts.slewed,
        "barrier ticks": counts.barrier,
        "refused commands": counts.refused_commands,
    }
    for column, figures in loop.timing.summary(RECENT_ROWS).items():
        for key in ("p50", "max"):
            values[f"{column} {key} (ms)"] = f"{figures[key] * 1e3:.3f}"
    return status(f"{name}: control loop", level, message, values, manifest.robot.name)
