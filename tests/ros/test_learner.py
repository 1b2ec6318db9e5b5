"""A real learner beside a real loop: policies come back, and whoever dies, nothing that was acknowledged is lost."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ros.robot import PATIENT, WAIT_S
from std_msgs.msg import Float64, UInt8MultiArray

from ddpg_robot.policy import OnnxPolicy
from ddpg_robot.recording import Recording
from ddpg_robot.versions import read_events
from ddpg_robot_ros.benchmark.conditions import measure_conditions
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.processes import NodeProcess, wait_until
from ddpg_robot_ros.tick_stream import TICKS_QOS, TickReader

pytest.importorskip("torch")
pytest.importorskip("mcap")
pytestmark = pytest.mark.slow

SMALL = {"actor_hidden": [16], "critic_hidden": [16], "warmup_steps": 100, "batch_size": 32}
TARGET_EVERY_S = 1.0
KILLS = int(os.environ.get("DDPG_ROBOT_KILLS", "6"))
"""How many processes the test below kills; 100 take most of an hour."""
LONGEST_S = 3.0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import ddpg_robot_sim  # noqa: F401 - registers the task
    from ddpg_robot.learn.config import TrainConfig
    from ddpg_robot.learn.trainer import train
    from ddpg_robot_export.exporter import export_run

    out = tmp_path_factory.mktemp("run") / "arm"
    few = {"eval_episodes": 1, "final_eval_episodes": 1}
    train(TrainConfig("ddpg_robot/ArmReach-v0", {"control_mode": "pd"}, steps=400, out=out, overrides=SMALL, **few))
    export_run(out, out / "arm.onnx", samples=200)
    return out


class Cell(Operator):
    """An operator who asks for one target after the other, and hears the ticks too."""

    def __init__(self, policy: Path) -> None:
        opened = OnnxPolicy.open(policy)
        super().__init__(opened.manifest.robot)
        self.manifest, self.reader = opened.manifest, TickReader(opened.interface)
        self.blocks: list[tuple[str, np.ndarray]] = []
        self.asked_at = 0.0
        self.rng = np.random.default_rng(0)
        self.node.create_subscription(UInt8MultiArray, "policy_node/ticks", self._on_ticks, TICKS_QOS)

    def _on_ticks(self, message: UInt8MultiArray) -> None:
        block = self.reader.read(message)
        self.blocks.append((block.session, block.rows))

    def works_until(self, condition, timeout: float = 3 * WAIT_S) -> bool:
        """Goes on asking until something is so."""

        def so() -> bool:
            if time.monotonic() > self.asked_at + TARGET_EVERY_S:
                self.asked_at = time.monotonic()
                self.send_target(self.rng.uniform((0.4, -0.2, 0.3), (0.6, 0.2, 0.5)))
                status = self.status("control loop")
                if status is not None and status.message.startswith("tripped"):
                    self.trigger("policy_node/rearm")
            return condition()

        return wait_until(so, timeout, 0.05)

    def hears_ticks(self, count: int) -> bool:
        begin = len(self.blocks)
        return self.works_until(lambda: sum(len(rows) for _, rows in self.blocks[begin:]) >= count)

    def learnt(self) -> int:
        status = self.status("learner")
        pairs = {} if status is None else {pair.key: pair.value for pair in status.values}
        return int(pairs.get("transitions learnt from", 0))


@pytest.fixture
def cell(run: Path) -> Iterator[Cell]:
    with Cell(run / "arm.onnx") as one:
        yield one


@pytest.fixture
def start_all(start, run: Path, tmp_path: Path):
    """Plant, policy node and learner; `again` starts one of them once more."""
    running: list[NodeProcess] = []

    def again(name: str, *more: str) -> NodeProcess:
        policy, record = str(run / "arm.onnx"), str(tmp_path / "record")
        if name == "plant":
            return start("plant_node")
        if name == "policy":
            return start("policy_node", policy=policy, autostart=True, online=True, record=record, **PATIENT)
        parts = ["learner", str(run), policy, "--out", str(tmp_path / "learner"), "--recordings", record]
        parts += ["--every", "100", "--ratio", "0.2", "--return-margin", "1e6", "--save-every", "2"]
        running.append(NodeProcess("learner", ["-m", "ddpg_robot.cli", *parts, *more]))
        return running[-1]

    yield again
    for process in running:
        process.end(WAIT_S)


def kill(process: NodeProcess) -> None:
    os.kill(process.pid, signal.SIGKILL)
    assert wait_until(lambda: process.exit_status is not None, WAIT_S)


def test_what_is_learnt_comes_back_drives_and_is_judged_and_a_learner_that_hangs_or_dies_holds_up_nobody(
    start_all, cell: Cell, tmp_path: Path
) -> None:
    start_all("plant")
    policy, learner = start_all("policy"), start_all("learner")
    robot, desk = tmp_path / "record" / "versions", tmp_path / "learner" / "versions"

    def kept() -> bool:
        if not (robot.is_dir() and desk.is_dir()):
            return False
        events = read_events([robot, desk])
        return any(sum(one.event == "kept" for one in events if one.version == name.version) == 2 for name in events)

    assert cell.works_until(kept), read_events([desk])
    loaded = {
        name: Path(f"/proc/{one.pid}/maps").read_text() for name, one in (("policy", policy), ("learner", learner))
    }
    assert {name: "libtorch" in maps for name, maps in loaded.items()} == {"policy": False, "learner": True}
    learner.send(signal.SIGSTOP)
    assert cell.hears_ticks(500)
    learner.send(signal.SIGCONT)
    before = cell.learnt()
    kill(learner)
    assert cell.hears_ticks(500)
    identity = json.loads((tmp_path / "learner" / "learner.json").read_text())["learner"]
    start_all("learner")
    assert cell.works_until(lambda: cell.learnt() > before)
    assert json.loads((tmp_path / "learner" / "learner.json").read_text())["learner"] == identity
    assert not any("tripped" in one.message for one in cell.diagnostics.values())


def test_a_reward_topic_that_is_silent_pauses_learning_in_one_line_until_it_speaks_and_the_robot_goes_on(
    start_all, cell: Cell
) -> None:
    start_all("plant")
    start_all("policy")
    start_all("learner", "--reward", "topic")

    def paused() -> bool:
        status = cell.status("learner")
        return status is not None and status.message == "paused: no reward comes over the topic"

    assert cell.works_until(paused)
    assert cell.learnt() == 0
    assert cell.hears_ticks(100)
    rewards = cell.node.create_publisher(Float64, "reward", 10)

    def learns() -> bool:
        rewards.publish(Float64(data=1.0))
        return cell.learnt() > 0 and not paused()

    assert cell.works_until(learns)


def test_the_loop_is_measured_beside_a_learner_at_work_and_without_it(run: Path) -> None:
    policy = str(run / "arm.onnx")
    parts = ("-m", "ddpg_robot.cli", "learner", str(run), policy, "--every", "100", "--ratio", "0.2")
    result = measure_conditions(policy, 250.0, 4.0, ["learner"], parts)["learner"]
    assert result["learner"]["updates"] > 0
    assert result["learner"]["cpu_percent"] > 0
    for loop in (result["loop"], result["offline"]):
        assert loop["ticks"] > 100
        assert 0 <= loop["late_percent"] <= 100
    assert sum("offline" in target for target in result["targets"]) == 2


@pytest.mark.timeout(300 + 60 * KILLS)
def test_whoever_is_killed_at_whatever_moment_the_log_opens_and_holds_all_that_was_heard_and_the_learner_has_it_once(
    start_all, cell: Cell, tmp_path: Path
) -> None:
    rng = np.random.default_rng()
    start_all("plant")
    processes = {name: start_all(name) for name in ("policy", "learner")}
    killed = dict.fromkeys(processes, 0)
    for i in range(KILLS):
        if i % 2 == 0:  # in the middle of its work; otherwise also while it starts
            assert cell.hears_ticks(100)
        if i % 4 == 0:
            assert cell.works_until(lambda: cell.learnt() > 0)
        cell.works_until(lambda: False, timeout=rng.uniform(0, LONGEST_S))
        name = ("policy", "learner")[int(rng.integers(2))]
        kill(processes[name])
        killed[name] += 1
        cell.diagnostics.clear()
        processes[name] = start_all(name)
    assert cell.hears_ticks(100)
    for name in ("policy", "learner"):
        assert cell.works_until(lambda: cell.status("learner") is not None)
        assert processes[name].end(WAIT_S) == 0
    cell.diagnostics.clear()
    last = start_all("learner")  # the policy node's last half second may have come when nobody listened any more
    assert cell.works_until(lambda: cell.status("learner") is not None)
    assert last.end(WAIT_S) == 0
    recorded = {}
    for path in (tmp_path / "record").glob("*.mcap"):
        with Recording(path) as recording:  # each of them opens
            blocks = list(recording.blocks())
        recorded[path.stem] = np.concatenate(blocks) if blocks else np.zeros(0, cell.reader.layout.dtype)
    heard = sum(len(rows) for _, rows in cell.blocks)
    ticks = sum(len(rows) for rows in recorded.values())
    print(f"killed {killed}: {ticks} ticks in {len(recorded)} recordings, {heard} of them heard")
    for session, rows in cell.blocks:
        known = recorded[session]
        assert known[np.isin(known["tick"], rows["tick"])].tobytes() == rows.tobytes()
    (checkpoint,) = (tmp_path / "learner" / "checkpoint").glob("step-*")
    state = json.loads((checkpoint / "state.json").read_text())
    # It has learnt up to the end of every session, from the log where it had not listened.
    missed = {name: int(rows["tick"].max(initial=0)) - state["seen"].get(name, 0) for name, rows in recorded.items()}
    assert all(ticks <= 0 for ticks in missed.values()), missed
    read_events([tmp_path / "record" / "versions", tmp_path / "learner" / "versions"])  # and so do the verdicts
