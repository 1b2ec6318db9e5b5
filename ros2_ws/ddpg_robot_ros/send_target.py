"""Sends one target to a running arm: ``python -m ddpg_robot_ros.send_target 0.5 0.2 0.4``, where there is no `ros2 topic pub`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from geometry_msgs.msg import PointStamped
from rclpy.node import Node
from rclpy.utilities import remove_ros_args

from ddpg_robot_ros.processes import wait_until
from ddpg_robot_ros.transport import COMMAND_QOS, start_ros

DISCOVERY_WAIT_S = 10.0
REPEATS, REPEAT_PERIOD_S = 5, 0.1


def main(args: Sequence[str] | None = None) -> int:
    """Publishes the point given by three numbers (m) on ``target``; ROS arguments (namespace, remapping) pass through."""

    def fill(message: PointStamped, numbers: Sequence[float]) -> None:
        message.point.x, message.point.y, message.point.z = numbers

    return send_numbers(args, "send_target X Y Z", PointStamped, "target", fill)


def send_numbers(
    args: Sequence[str] | None, usage: str, kind: type, topic: str, fill: Callable[[Any, Sequence[float]], None]
) -> int:
    """Publishes one message made from three numbers of the command line, a few times; returns the exit status."""
    args = list(sys.argv if args is None else args)
    try:
        x, y, z = (float(text) for text in remove_ros_args(args)[1:])
    except ValueError:
        print(f"usage: python -m ddpg_robot_ros.{usage} [--ros-args -r __ns:=/NAMESPACE]", file=sys.stderr)
        return 2
    stop = start_ros(args)
    node = Node(usage.split()[0])
    publisher = node.create_publisher(kind, topic, COMMAND_QOS)
    message = kind()
    fill(message, (x, y, z))
    heard = wait_until(lambda: stop.is_set() or publisher.get_subscription_count() > 0, DISCOVERY_WAIT_S)
    for _ in range(REPEATS):  # the first may come before the reader knows the writer
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)
        time.sleep(REPEAT_PERIOD_S)
    if not heard:
        print(f"error: nobody listens on {publisher.topic_name}", file=sys.stderr)
    node.destroy_node()
    rclpy.try_shutdown()
    return 0 if heard else 1


if __name__ == "__main__":
    sys.exit(main())
