"""Tells a robot how fast to walk: ``python -m ddpg_robot_ros.send_velocity 0.5 0 0``, forward and left m/s, turning rad/s."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from geometry_msgs.msg import TwistStamped

from ddpg_robot_ros.send_target import send_numbers


def main(args: Sequence[str] | None = None) -> int:
    """Publishes the velocity given by three numbers on ``cmd_vel``; ROS arguments (namespace, remapping) pass through."""

    def fill(message: TwistStamped, numbers: Sequence[float]) -> None:
        message.twist.linear.x, message.twist.linear.y, message.twist.angular.z = numbers

    return send_numbers(args, "send_velocity FORWARD LEFT TURN", TwistStamped, "cmd_vel", fill)


if __name__ == "__main__":
    sys.exit(main())
