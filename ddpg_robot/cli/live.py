"""Sub-commands that look at a running robot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

from ddpg_robot.cli.arguments import Flag, OutFile, PolicyName
from ddpg_robot.cli.sources import need, policy_path


@dataclass(frozen=True)
class Top:
    """Watch a robot in this terminal: joints and torques against their limits, rates, ages, verdicts. Ctrl-C ends."""

    file: PolicyName = "arm_reach"
    """Policy that drives it, a file or a shipped one (arm_reach): it names the joints and their limits."""
    namespace: str = ""
    """ROS namespace of the deployment."""
    once: Flag = False
    """Print one frame and end; the exit code is 1 when no joint states come."""

    def __call__(self) -> int:
        """Shows it; returns the exit code."""
        need("ros")
        from ddpg_robot_ros.top import run_top

        code: int = run_top(policy_path(self.file), self.namespace, self.once)
        return code


@dataclass(frozen=True)
class Doctor:
    """Check a live robot against a policy before torque is enabled. Exit code 1 when a check failed."""

    file: PolicyName
    """Policy file, or the name of a shipped policy."""
    seconds: Annotated[float, arg(metavar="S")] = 3.0
    """How long the robot is listened to, s."""
    namespace: str = ""
    """ROS namespace of the robot."""
    urdf: OutFile = None
    """Robot description to compare limits with. Default: the one on robot_description, where somebody publishes it."""
    json: Flag = False
    """Print JSON instead of lines."""
    excite: Flag = False
    """MOVES THE ROBOT: push every joint a little and see whether it is the one that moves."""
    effort_share: float = 0.02
    """`--excite`: effort of a push, as a fraction of the joint's limit; at most 0.1."""
    pulse: Annotated[float, arg(metavar="S")] = 0.15
    """`--excite`: longest push, s; at most 0.5."""

    def __call__(self) -> int:
        """Checks; returns the exit code."""
        need("ros")
        from ddpg_robot_ros.doctor.pulses import Excitation
        from ddpg_robot_ros.doctor.run import doctor

        excitation = Excitation(self.effort_share, self.pulse)  # also without --excite: bad settings are refused
        code: int = doctor(
            policy_path(self.file),
            self.seconds,
            self.namespace,
            self.urdf,
            excitation if self.excite else None,
            self.json,
        )
        return code
