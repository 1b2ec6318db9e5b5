"""Messages that ROS itself serializes are read from bags without ROS, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mcap")

from bag_files import mcap_bag
from geometry_msgs.msg import PointStamped
from rclpy.serialization import serialize_message
from ros.robot import HOME, VELOCITY
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, MultiArrayDimension, MultiArrayLayout

from ddpg_robot.bags import TOPICS, Bag, read_bag
from ddpg_robot.errors import JointMappingError, RecordingError
from ddpg_robot.spec import PolicyManifest

NAMES = ["gripper", *(f"joint{i}" for i in range(7, 0, -1))]


def state(names=NAMES, frame: str = "", effort: int = 0) -> JointState:
    message = JointState(name=list(names), effort=[0.5] * effort)
    message.header.frame_id = frame
    message.position = [0.04, *HOME[::-1]]
    message.velocity = [0.0, *VELOCITY[::-1]]
    return message


def target(frame: str = "base") -> PointStamped:
    message = PointStamped()
    message.header.frame_id = frame
    message.point.x, message.point.y, message.point.z = 0.5, 0.1, 0.4
    return message


def effort(*dimensions: str) -> Float64MultiArray:
    layout = MultiArrayLayout(dim=[MultiArrayDimension(label=one, size=7, stride=7) for one in dimensions])
    return Float64MultiArray(layout=layout, data=np.arange(7) / 3)


@pytest.fixture
def read(manifest: PolicyManifest, tmp_path: Path) -> Callable[..., Bag]:
    """Reads these messages from a bag that holds them."""
    topics = {JointState: "joint_states", PointStamped: "target", Float64MultiArray: "effort_controller/commands"}

    def read_these(*found: object) -> Bag:
        names = [topics[type(message)] for message in found]
        messages = [
            (f"/{name}", TOPICS[name], 1000 + k, serialize_message(message))
            for k, (name, message) in enumerate(zip(names, found))
        ]
        bag = mcap_bag(tmp_path / f"bag{len(list(tmp_path.iterdir()))}", messages)
        return read_bag(bag, manifest.robot, manifest.command)

    return read_these


@pytest.mark.parametrize("frame", ["", "b", "base", "base_link"])
@pytest.mark.parametrize("efforts", [0, 8])
@pytest.mark.parametrize("dimensions", [(), ("joint",), ("a", "bcd")])
def test_numbers_come_out_as_they_went_in(read, frame: str, efforts: int, dimensions: tuple[str, ...]) -> None:
    bag = read(state(frame=frame, effort=efforts), target(), effort(*dimensions))
    (times, states), (_, targets), (_, efforts_read) = bag.states.arrays(), bag.targets.arrays(), bag.efforts.arrays()
    assert times.tolist() == [1000]
    assert states.tolist() == [[list(HOME), list(VELOCITY)]]
    assert targets.tolist() == [[0.5, 0.1, 0.4]]
    assert (efforts_read == [np.arange(7) / 3]).all()


def test_a_target_in_another_frame_is_counted_not_used(read) -> None:
    bag = read(state(), target("camera"), effort())
    assert bag.refused == 1
    assert bag.targets.times == []


def test_bad_messages_are_named(read) -> None:
    with pytest.raises(JointMappingError, match="no 'joint1'"):
        read(state(NAMES[:-1]), target(), effort())
    message = state()
    message.velocity = []
    with pytest.raises(JointMappingError, match="velocity: found it empty"):
        read(message, target(), effort())
    with pytest.raises(RecordingError, match="3 efforts for 7 joints"):
        read(state(), target(), Float64MultiArray(data=[1.0, 2.0, 3.0]))
