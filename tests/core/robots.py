"""Small real specs for the tests of the core: two joints in a plane, one torque each."""

from __future__ import annotations

from ddpg_robot.observation import observation_spec
from ddpg_robot.spec import (
    ChainLink,
    CommandSpec,
    ControlSpec,
    JointSpec,
    KinematicChain,
    ObjectSpec,
    PolicyInterface,
    RobotSpec,
)

POINT = CommandSpec("point", "base", 3, "m", lower=(-1.0, -1.0, -1.0), upper=(1.0, 1.0, 1.0))
TABLE = ObjectSpec("base", (-1.0, -1.0, -0.25), (1.0, 1.0, -0.25))
TERMS = ("joint_position", "joint_velocity", "last_effort", "command", "target_error", "target_direction_joints")


def two_joint_robot(floating_base: bool = False) -> RobotSpec:
    """Links of 0.5 m and 0.25 m in the x-y plane."""
    joints = (
        JointSpec("shoulder", 10.0, 2.0, -1.5, 1.5, damping=2.0, effort_rate_limit=1000.0),
        JointSpec("elbow", 5.0, 3.0, -2.0, 2.0, damping=1.0, effort_rate_limit=1000.0),
    )
    identity = (1.0, 0.0, 0.0, 0.0)
    chain = KinematicChain(
        (
            ChainLink("shoulder", (0.0, 0.0, 0.0), identity, (0.0, 0.0, 1.0)),
            ChainLink("elbow", (0.5, 0.0, 0.0), identity, (0.0, 0.0, 1.0)),
        ),
        (0.25, 0.0, 0.0),
        "hand",
    )
    return RobotSpec("two", joints, gravity_compensated=True, floating_base=floating_base, chain=chain)


def two_joint_interface(mode: str = "effort", ticks: int = 5) -> PolicyInterface:
    robot = two_joint_robot()
    gains = {"kp": (20.0, 10.0), "kd": (2.0, 1.0)} if mode == "pd" else {}
    control = ControlSpec(0.02, mode, ticks, **gains)
    return PolicyInterface(robot, control, observation_spec(TERMS, robot, POINT), POINT)
