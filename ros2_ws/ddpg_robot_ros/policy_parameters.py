"""The parameters of the policy node; config/policy.yaml has them all at their defaults."""

from __future__ import annotations

from ddpg_robot_ros.online import ONLINE_PARAMETERS
from ddpg_robot_ros.parameters import Parameter
from ddpg_robot_ros.realtime import REALTIME_PARAMETERS

PARAMETERS = (
    Parameter("policy", "arm_reach", "Policy file (.onnx), or the name of a shipped policy. While active: a hot swap."),
    Parameter("rate", 0.0, "Ticks per second, a whole multiple of the policy's rate; 0 = as trained.", 0.0, 10_000.0),
    Parameter("autostart", False, "Configure and activate at start; a failure ends the process."),
    Parameter("state_wait", 10.0, "How long activation waits for the first usable state, s.", 0.0, 3600.0),
    Parameter("state_timeout_periods", 2.0, "Oldest usable state, in periods of the policy.", 0.5, 100.0),
    Parameter("stall_periods", 5.0, "Trip when a tick comes so many periods of the policy late.", 0.5, 1000.0),
    Parameter("guarded", False, "An effort_guard stands between this node and the controller."),
    Parameter("shadow", False, "Publish on ~/shadow_effort what would be commanded, and command nobody."),
    Parameter("guard_timeout_periods", 5.0, "Trip when the guard is silent for so many periods.", 0.5, 1000.0),
    Parameter("age_source", "stamp", "What a state's age is counted from.", choices=("stamp", "receipt")),
    Parameter("extra_joints", "refuse", "Joints that the policy does not know.", choices=("refuse", "ignore")),
    Parameter("stamped_twist", True, "cmd_vel is TwistStamped; false for Twist."),
    Parameter("shutdown_damping", 0.5, "How long a stop damps before it sends zero effort, s.", 0.0, 10.0),
    Parameter("timing_log", "", "File (.npz) for the timing of every tick, written when the loop stops."),
    *ONLINE_PARAMETERS,
    Parameter("lockstep", False, "Tick by /clock, whatever its speed: for a plant in lockstep, never for a robot."),
    Parameter("swap_speed", 0.05, "A hot swap waits until all joints are below this share of their limits.", 0.0, 1.0),
    Parameter("swap_probation", 30.0, "A trip so soon after a hot swap brings the former policy back, s.", 0.0, 3600.0),
    *REALTIME_PARAMETERS,
    Parameter("record", "", "Directory for recordings of every tick, one file (.mcap) per activation; empty for none."),
    Parameter("safety.position_tolerance", 0.01, "Trip this far beyond a position limit, rad.", 0.0, 0.2),
    Parameter("safety.velocity_tolerance", 0.05, "Trip at this fraction above the velocity limit.", 0.0, 0.5),
    Parameter("safety.position_margin", 0.15, "The barrier fades effort over this distance, rad.", 0.001, 3.0),
    Parameter("safety.velocity_ceiling", 0.7, "The barrier brakes beyond this share of the velocity limit.", 0.1, 1.0),
    Parameter("safety.velocity_margin", 0.7, "The barrier fades effort over this share of the limit.", 0.001, 1.0),
    Parameter("safety.lookahead", 0.1, "The barrier looks this far ahead, s.", 0.0, 1.0),
    Parameter("safety.tilt_limit", 0.8, "Largest tilt of a floating base, rad.", 0.0, 3.15),
    Parameter("safety.soft_start", 0.5, "Effort grows from zero over this time after a start or rearm, s.", 0.0, 10.0),
)
