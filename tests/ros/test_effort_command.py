"""Effort commands as bytes are the messages that rclpy would make of them, and are read as rclpy would."""

from __future__ import annotations

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Float64MultiArray, MultiArrayDimension, MultiArrayLayout

from ddpg_robot.errors import CommandError, MessageError
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.effort_command import EffortPublisher, effort_values
from ddpg_robot_ros.processes import wait_until

EFFORT = np.array([1.5, -2.25, 1e-300, -0.0, 7.0])


def message(values: list[float], *labels: str) -> bytes:
    layout = MultiArrayLayout(dim=[MultiArrayDimension(label=one) for one in labels])
    return bytes(serialize_message(Float64MultiArray(data=values, layout=layout)))


@pytest.mark.parametrize("labels", [(), ("joints",), ("a", "bcd")])
def test_efforts_are_read_from_messages_with_and_without_a_layout(labels: tuple[str, ...]) -> None:
    assert effort_values(message(EFFORT.tolist(), *labels), 5).tobytes() == EFFORT.tobytes()


def test_what_is_published_is_the_message_that_rclpy_would_publish(manifest) -> None:
    raw: list[bytes] = []
    with Operator(manifest.robot) as operator:
        publisher = EffortPublisher(operator.node, "efforts", 5)
        operator.node.create_subscription(Float64MultiArray, "efforts", raw.append, 10, raw=True)

        def heard() -> bool:
            publisher.publish(EFFORT)
            return bool(raw)

        assert wait_until(heard, 30.0)
    expected = message(EFFORT.tolist())
    assert len(raw[0]) == len(expected)
    # Between 16 and 20: padding, where rclpy leaves anything.
    assert raw[0][:16] + raw[0][20:] == expected[:16] + expected[20:]
    assert list(deserialize_message(raw[0], Float64MultiArray).data) == EFFORT.tolist()


@pytest.mark.parametrize("values", [[], [1.0] * 4, [1.0] * 6, [1.0, 2.0, np.nan, 4.0, 5.0], [np.inf] * 5])
def test_wrong_sizes_and_numbers_that_are_not_finite_are_refused(values: list[float]) -> None:
    with pytest.raises(CommandError, match="expected 5 finite values"):
        effort_values(message(values), 5)


def test_bytes_that_are_no_message_are_refused() -> None:
    raw = message(EFFORT.tolist())
    for broken in (b"", raw[:-1], b"\x00\x07" + raw[2:]):
        with pytest.raises((MessageError, CommandError)):
            effort_values(broken, 5)
