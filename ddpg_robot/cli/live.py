"""Sub-commands that look at a running robot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg

from ddpg_robot.cli.sources import need, policy_path


@dataclass(frozen=True)
class Top:
    """Watch a robot in this terminal: joints and torques against their limits, rates, ages, verdicts. Ctrl-C ends."""

    file: Annotated[Positional[str], arg(metavar="POLICY")] = "arm_reach"
    """Policy that drives it, a file or a shipped one (arm_reach): it names the joints and their limits."""
    namespace: str = ""
    """ROS namespace of the deployment."""
    once: Annotated[bool, FlagCreatePairsOff] = False
    """Print one frame and end; the exit code is 1 when no joint states come."""

    def __call__(self) -> int:
        """Shows it; returns the exit code."""
        need("ros")
        from ddpg_robot_ros.top import run_top

        code: int = run_top(policy_path(self.file), self.namespace, self.once)
        return code
