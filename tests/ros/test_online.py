"""A node that explores: its noise stays in its budget, its ticks reach a learner, and what cannot be recorded ends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ros.robot import PATIENT, WAIT_S, RobotDouble
from ros.spring_policy import write_spring_policy
from sensor_msgs.msg import JointState
from std_msgs.msg import UInt8MultiArray

from ddpg_robot.controller import PolicyController
from ddpg_robot.errors import MessageError
from ddpg_robot.policy import OnnxPolicy
from ddpg_robot.recording import Mode, Recording
from ddpg_robot.safety import SafetyLimits
from ddpg_robot.spec import PolicyManifest
from ddpg_robot.state import Command, RobotState
from ddpg_robot.transition import TransitionMaker
from ddpg_robot_ros.processes import wait_until
from ddpg_robot_ros.tick_stream import TICKS_QOS, TickReader

pytest.importorskip("mcap")

TARGET = (0.5, 0.2, 0.4)
SHARE = 0.04


class Learner(RobotDouble):
    """A robot that stands still, and who listens to its ticks."""

    def __init__(self, manifest: PolicyManifest) -> None:
        super().__init__(manifest.robot)
        self.alter = self.stand_still
        self.messages: list[UInt8MultiArray] = []
        self.node.create_subscription(UInt8MultiArray, "policy_node/ticks", self.messages.append, TICKS_QOS)

    def stand_still(self, message: JointState) -> JointState:
        message.velocity = [0.0] * len(message.name)
        return message


@pytest.fixture(scope="module")
def curious(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy") / "curious.onnx"
    write_spring_policy(path, "curious", exploration_limit=0.1)
    return path


@pytest.fixture
def learner(curious: Path) -> Iterator[Learner]:
    with Learner(OnnxPolicy.open(curious).manifest) as one:
        yield one


def quiet_effort(policy: Path, learner: Learner) -> np.ndarray:
    """What the policy proposes without noise where that robot stands."""
    opened = OnnxPolicy.open(policy)
    controller = PolicyController(opened, SafetyLimits(soft_start=0.0))
    state, command = RobotState(7), Command(3)
    state.position[:], command.values[:] = learner.healthy().position, TARGET
    controller.step(state, command, 0.0)
    return controller.proposed.copy()


def safe(effort: np.ndarray, learner: Learner) -> np.ndarray:
    """What the safety filter lets through, once it is not a matter of time."""
    limits = np.array([joint.effort_limit for joint in learner.robot.joints])
    return effort.clip(-limits, limits)


def test_noise_stays_in_its_budget_and_the_ticks_become_transitions_as_recorded(
    start, learner: Learner, curious: Path, tmp_path: Path
) -> None:
    node = start(
        "policy_node",
        **{"policy": str(curious), "autostart": True, "online": True, "record": str(tmp_path), **PATIENT},
        **{"exploration.share": SHARE, "exploration.correlation_time": 0.05},
    )
    learner.puts_in_control(TARGET)
    opened = OnnxPolicy.open(curious)
    reader = TickReader(opened.interface)
    maker = TransitionMaker(opened.interface, reader.layout, opened.interface.control.ticks_per_action)
    taken = 0

    def transitions() -> int:
        nonlocal taken
        new = learner.messages[taken:]
        taken += len(new)
        for message in new:
            maker.add(reader.read(message).rows)
        return maker.counts.transitions

    # A busy machine loses deadlines, and with each the transition in which it lies.
    assert wait_until(lambda: transitions() > 100, 2 * WAIT_S, 0.2)
    assert node.end() == 0
    blocks = [reader.read(message) for message in learner.messages]
    rows = np.concatenate([block.rows for block in blocks])
    (path,) = tmp_path.glob("*.mcap")
    assert {block.session for block in blocks} == {path.stem}
    assert {block.weights for block in blocks} == {opened.manifest.weights_sha256}
    with Recording(path) as recording:
        recorded = np.concatenate(list(recording.blocks()))
    heard = recorded[np.isin(recorded["tick"], rows["tick"])]
    assert heard.tobytes() == rows.tobytes()
    driven = rows[(rows["gain"] == 1) & ~rows["waiting"] & (rows["mode"] == Mode.POLICY)]
    noise = (driven["proposed_effort"] - quiet_effort(curious, learner)) / [
        j.effort_limit for j in learner.robot.joints
    ]
    assert 0.2 * SHARE < np.abs(noise).max() <= SHARE + 1e-6
    assert noise.std(0).min() > 0.1 * SHARE  # every joint


def test_without_online_nothing_is_explored_and_nobody_publishes_ticks(start, learner: Learner, curious: Path) -> None:
    start("policy_node", policy=str(curious), autostart=True, **PATIENT)
    learner.puts_in_control(TARGET)
    quiet = safe(quiet_effort(curious, learner), learner)
    assert learner.hears(lambda effort: np.allclose(effort, quiet, atol=1e-6))
    assert all(np.allclose(effort, quiet, atol=1e-6) for effort in learner.efforts(0.5))
    assert learner.node.count_publishers("policy_node/ticks") == 0


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"online": True}, "a directory in `record`"),
        ({"online": True, "record": "bags", "shadow": True}, "no shadow"),
        ({"online": True, "record": "bags", "exploration.share": 0.2}, "at most 0.1, what the policy file allows"),
    ],
)
def test_what_may_not_explore_does_not_start(start, curious: Path, tmp_path: Path, capfd, parameters, says) -> None:
    if "record" in parameters:
        parameters = {**parameters, "record": str(tmp_path)}
    node = start("policy_node", policy=str(curious), autostart=True, **parameters)
    assert wait_until(lambda: node.exit_status is not None, WAIT_S)
    assert node.exit_status == 2
    assert says in capfd.readouterr().err


def test_a_full_disk_ends_exploration_and_not_control(start, learner: Learner, curious: Path, small_disk: Path) -> None:
    with (small_disk / "ballast").open("wb") as ballast:
        ballast.write(bytes(200_000))
    start("policy_node", policy=str(curious), autostart=True, online=True, record=str(small_disk), **PATIENT)
    learner.puts_in_control(TARGET)
    quiet = safe(quiet_effort(curious, learner), learner)
    assert wait_until(lambda: all(np.allclose(one, quiet, atol=1e-6) for one in learner.efforts(0.5)), WAIT_S)
    assert len(learner.efforts(0.5)) > 10


@pytest.mark.parametrize("damage", ["schema", "stride", "size", "dimensions", "data"])
def test_ticks_that_make_no_sense_are_refused(curious: Path, damage: str) -> None:
    reader = TickReader(OnnxPolicy.open(curious).interface)
    message = UInt8MultiArray()
    from std_msgs.msg import MultiArrayDimension

    from ddpg_robot.recording import SCHEMA

    size = reader.layout.dtype.itemsize
    message.layout.dim.append(MultiArrayDimension(label=f"{SCHEMA} {64 * '0'} now", size=2, stride=size))
    message.data.frombytes(bytes(2 * size))
    assert len(reader.read(message).rows) == 2
    if damage == "schema":
        message.layout.dim[0].label = "ddpg_robot.recording/9 0 now"
    elif damage == "stride":
        message.layout.dim[0].stride = size + 1
    elif damage == "size":
        message.layout.dim[0].size = 2**32 - 1
    elif damage == "dimensions":
        message.layout.dim.clear()
    else:
        del message.data[-1]
    with pytest.raises(MessageError, match="found"):
        reader.read(message)
