"""Policies on their way from a learner to a robot: whole or not at all, judged or sent back, and every verdict is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from ros.robot import PATIENT, WAIT_S
from ros.spring_policy import write_spring_policy
from ros.test_hot_swap import NEW_MARK, OLD_MARK, TARGET, Swapped
from ros.test_lifecycle import change
from std_msgs.msg import String

from ddpg_robot.errors import MessageError
from ddpg_robot.versions import VersionId, read_events
from ddpg_robot_ros.policy_feed import CHUNK, VERDICT_QOS, VERDICTS_TOPIC, Assembler, PolicySender, chunks
from ddpg_robot_ros.processes import wait_until

pytest.importorskip("mcap")

LEARNER = "0123abcd"
DATA = np.random.default_rng(0).bytes(3 * CHUNK + 17)


def version(number: int) -> VersionId:
    return VersionId(LEARNER, number)


def test_chunks_become_the_file_in_any_order_and_however_often_they_come() -> None:
    assembler, messages = Assembler(), chunks(version(1), DATA)
    assert len(messages) == 4
    for message in (messages[2], messages[0], messages[2], messages[3], messages[0]):
        assert assembler.add(message) is None
    assert assembler.add(messages[1]) == (version(1), DATA)
    assert assembler.add(messages[1]) is None


def test_a_newer_version_takes_the_place_of_half_an_older_one_which_never_comes_back() -> None:
    assembler, old, new = Assembler(), chunks(version(1), DATA), chunks(version(2), DATA[::-1])
    for message in old[:3]:
        assembler.add(message)
    for message in new[:3]:
        assembler.add(message)
    assert assembler.add(old[3]) is None
    assert assembler.add(new[3]) == (version(2), DATA[::-1])


@pytest.mark.parametrize(
    "damage", ["bit", "schema", "version", "offset", "size", "huge", "short", "dimensions", "hash"]
)
def test_chunks_that_were_tampered_with_never_become_a_policy(damage: str) -> None:
    assembler, messages = Assembler(), chunks(version(1), DATA)
    last = messages[-1]
    label = last.layout.dim[0].label
    if damage == "bit":
        last.data[3] ^= 1
    elif damage == "schema":
        last.layout.dim[0].label = label.replace("/1", "/2")
    elif damage == "version":
        last.layout.dim[0].label = label.replace(LEARNER, "../../etc")
    elif damage == "offset":
        last.layout.data_offset += 1
    elif damage == "size":
        last.layout.dim[0].size += CHUNK
    elif damage == "huge":
        last.layout.dim[0].size = 2**32 - 1
    elif damage == "short":
        del last.data[-1]
    elif damage == "dimensions":
        last.layout.dim.clear()
    else:
        for message in messages:
            message.layout.dim[0].label = label[:-1] + ("0" if label[-1] != "0" else "1")
    with pytest.raises(MessageError, match="found"):
        for message in messages:
            assert assembler.add(message) is None
    assert [one for message in chunks(version(2), DATA) if (one := assembler.add(message))] == [(version(2), DATA)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("policies")
    write_spring_policy(folder / "old.onnx", "old", OLD_MARK, exploration_limit=0.1)
    write_spring_policy(folder / "new.onnx", "new", NEW_MARK, exploration_limit=0.1)
    return folder / "old.onnx", folder / "new.onnx"


class Pupil(Swapped):
    """A robot at rest, its node's store of versions, and a learner's voice."""

    def __init__(self, manifest, record: Path) -> None:
        super().__init__(manifest.robot)
        self.alter = self.stand_still
        self.sender = PolicySender(self.node)
        self.verdicts = self.node.create_publisher(String, VERDICTS_TOPIC, VERDICT_QOS)
        self.versions = record / "versions"

    def events(self, number: int) -> list[str]:
        return [one.event for one in read_events([self.versions]) if one.version == str(version(number))]

    def has(self, number: int, *events: str) -> bool:
        return wait_until(lambda: self.events(number) == list(events), WAIT_S, 0.05)

    def driven_by(self, mark: float) -> bool:  # its mark, with a little noise
        return self.hears(lambda effort: abs(abs(effort[-1]) - mark) < 0.1)

    def online_status(self, text: str) -> bool:
        return self.reports(text, "online learning")


@pytest.fixture
def pupil(start, manifest, files: tuple[Path, Path], tmp_path: Path) -> Iterator[Pupil]:
    with Pupil(manifest, tmp_path) as one:
        parameters = {"policy": str(files[0]), "autostart": True, "online": True, "record": str(tmp_path), **PATIENT}
        one.parameters = {**parameters, "exploration.share": 0.001, "verdict_timeout": 8.0}
        one.node_process = start("policy_node", **one.parameters)
        one.puts_in_control(TARGET)
        assert one.driven_by(OLD_MARK)
        yield one


def test_a_candidate_that_is_judged_worth_it_stays(pupil: Pupil, files: tuple[Path, Path]) -> None:
    pupil.sender.send(version(1), files[1].read_bytes())
    assert pupil.driven_by(NEW_MARK)
    pupil.sender.judge(version(1), True, "it earns more")
    assert pupil.has(1, "arrived", "drives", "kept")
    assert (pupil.versions / f"{version(1)}.onnx").read_bytes() == files[1].read_bytes()
    assert pupil.trigger("policy_node/estop").success
    assert pupil.reports("tripped")
    assert pupil.trigger("policy_node/rearm").success
    assert pupil.driven_by(NEW_MARK)


def test_a_candidate_goes_back_when_it_is_judged_so_when_nobody_judges_it_and_when_it_trips(
    pupil: Pupil, files: tuple[Path, Path]
) -> None:
    data = files[1].read_bytes()
    pupil.sender.send(version(1), data)
    assert pupil.driven_by(NEW_MARK)
    pupil.sender.judge(version(1), False, "it earns less")
    assert pupil.has(1, "arrived", "drives", "back")
    assert pupil.driven_by(OLD_MARK)
    pupil.sender.send(version(2), data)
    assert pupil.driven_by(NEW_MARK)
    assert pupil.has(2, "arrived", "drives", "back")  # its probation ends, and there is no verdict
    assert pupil.driven_by(OLD_MARK)
    pupil.sender.send(version(3), data)
    assert pupil.driven_by(NEW_MARK)
    assert pupil.trigger("policy_node/estop").success
    assert pupil.has(3, "arrived", "drives", "back")
    assert pupil.trigger("policy_node/rearm").success
    assert pupil.driven_by(OLD_MARK)
    pupil.sender.send(version(3), data)  # once sent back, always
    pupil.sender.send(version(4), data)
    assert pupil.driven_by(NEW_MARK)
    assert pupil.events(3) == ["arrived", "drives", "back"]


def test_a_node_that_starts_again_goes_on_with_what_was_kept_and_takes_what_came_before_it_was_active(
    start, pupil: Pupil, files: tuple[Path, Path], tmp_path: Path
) -> None:
    pupil.sender.send(version(1), files[1].read_bytes())
    assert pupil.driven_by(NEW_MARK)
    pupil.sender.judge(version(1), True, "it earns more")
    assert pupil.has(1, "arrived", "drives", "kept")
    assert pupil.node_process.end() == 0
    pupil.commands.clear()
    start("policy_node", **pupil.parameters)
    pupil.puts_in_control(TARGET)
    assert pupil.driven_by(NEW_MARK)
    assert pupil.events(1)[:3] == ["arrived", "drives", "kept"]


def test_a_candidate_that_nobody_has_judged_does_not_outlive_the_loop(pupil: Pupil, files: tuple[Path, Path]) -> None:
    pupil.sender.send(version(1), files[1].read_bytes())
    assert pupil.driven_by(NEW_MARK)
    assert change(pupil, Transition.TRANSITION_DEACTIVATE)
    assert pupil.has(1, "arrived", "drives", "withdrawn")
    assert change(pupil, Transition.TRANSITION_ACTIVATE)
    pupil.puts_in_control(TARGET)
    assert pupil.driven_by(OLD_MARK)  # the soft start is over
    assert all(abs(abs(effort[-1]) - OLD_MARK) < 0.1 for effort in pupil.efforts(0.3))


def test_what_is_no_policy_for_this_robot_is_refused_in_one_line_and_the_robot_goes_on(
    pupil: Pupil, files: tuple[Path, Path], spring: Path, tmp_path: Path
) -> None:
    data = files[1].read_bytes()
    pupil.sender.send(version(1), data[:-100])  # truncated, with a hash of its own
    assert pupil.has(1, "rejected")
    pupil.sender.send(version(2), spring.read_bytes())  # another period
    assert pupil.has(2, "rejected")
    assert pupil.online_status("found 0.008 s, expected 0.02 s")
    write_spring_policy(tmp_path / "shy.onnx", "shy", NEW_MARK)
    pupil.sender.send(version(3), (tmp_path / "shy.onnx").read_bytes())  # it may not explore
    assert pupil.has(3, "rejected")
    pupil.verdicts.publish(String(data="ddpg_robot.verdict/9 0123abcd-v000001 keep it"))
    assert pupil.online_status("ddpg_robot.verdict/9")
    assert pupil.driven_by(OLD_MARK)
