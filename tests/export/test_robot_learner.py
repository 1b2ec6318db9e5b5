"""The learner beside a robot, without ROS: real ticks in, real policy files and verdicts out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

from ddpg_robot.controller import PolicyController
from ddpg_robot.dry_run import dry_run
from ddpg_robot.errors import CheckpointError, ConfigError, TrainingError
from ddpg_robot.learn.config import TrainConfig
from ddpg_robot.learn.online import OnlineSettings
from ddpg_robot.learn.trainer import train
from ddpg_robot.policy import OnnxPolicy, shipped_policy
from ddpg_robot.recorder import Recorder, Ring
from ddpg_robot.recording import Marks, TickLayout
from ddpg_robot.recording_file import FRAME
from ddpg_robot.safety import SafetyLimits
from ddpg_robot_export.candidates import GateSettings
from ddpg_robot_export.exporter import export_run
from ddpg_robot_export.robot_learner import RobotLearner
from ddpg_robot_export.trial_returns import TrialReturns
from ddpg_robot_sim.arm_reach import ArmReach

SMALL = {"actor_hidden": [16], "critic_hidden": [16], "warmup_steps": 100, "batch_size": 32}
ONLINE = {"held_out": 5, "updates_per_transition": 0.2}
GATE = {"every": 100, "episodes": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "arm"
    few = {"eval_episodes": 1, "final_eval_episodes": 1}
    train(TrainConfig("ddpg_robot/ArmReach-v0", {"control_mode": "pd"}, steps=400, out=out, overrides=SMALL, **few))
    return out


@pytest.fixture(scope="module")
def policy(run: Path) -> Path:
    path = run / "arm.onnx"
    export_run(run, path, samples=200)
    return path


class Robot:
    """An arm in MuJoCo, driven as a policy node drives it: its ticks come in blocks, as the recorder has them."""

    def __init__(self, policy: Path, record: Path | None = None) -> None:
        self.task = ArmReach("pd")
        self.tick = 0
        self.rng = np.random.default_rng(0)
        self.task.reset(seed=0)
        self.record = record
        self.drive(policy)

    def drive(self, policy: Path) -> None:
        opened = OnnxPolicy.open(policy)
        self.weights = opened.manifest.weights_sha256
        self.controller = PolicyController(opened, SafetyLimits(soft_start=0.0))
        self.session = f"{self.tick:09d}"
        layout = TickLayout.of(opened.interface)
        self.ring = Ring(self.controller, self.task.state, self.task.command, Marks(), layout, 100_000)
        self.dtype = layout.dtype
        self.recorder = None
        if self.record is not None:
            self.recorder = Recorder(
                self.record, opened.manifest, self.controller, SafetyLimits(), self.task.state, self.task.command, print
            )
            self.recorder.start()

    def episodes(self, count: int, seconds: float = 1.0) -> np.ndarray:
        """Drives to so many targets; the ticks."""
        task = self.task
        for _ in range(count):
            task.command.values[:] = self.rng.uniform((0.4, -0.2, 0.3), (0.6, 0.2, 0.5))
            for _ in range(round(seconds * 250)):
                self.tick += 1
                verdict = self.controller.drive(task.state, task.command, 0.0, False)
                row = (1e9 + self.tick * 0.004, (0.0, 0.0, 0.0, 0.0), self.tick, 0, False, verdict)
                task.data.ctrl[:] = self.controller.effort
                self.ring.add(*row)
                if self.recorder is not None:
                    self.recorder.add(*row)
                mujoco.mj_step(task.model, task.data, 2)
                task._read(task.state)
        blocks = []
        while (taken := self.ring.take()) is not None:
            blocks.append(taken[0])
        size = FRAME.size + self.dtype.itemsize
        block = b"".join(blocks)
        bodies = [block[i + FRAME.size : i + size] for i in range(0, len(block), size)]
        return np.frombuffer(b"".join(bodies), self.dtype)


def make(run: Path, policy: Path, out: Path, reward="task", **gate: object) -> RobotLearner:
    task = ArmReach("pd")
    online = OnlineSettings(**ONLINE)
    of = task.reward_of if reward == "task" else None
    return RobotLearner(run, OnnxPolicy.open(policy), out, of, online, GateSettings(**{**GATE, **gate}))


def feed(learner: RobotLearner, robot: Robot, count: int) -> None:
    learner.add(robot.session, robot.weights, robot.episodes(count))


def sent_candidate(learner: RobotLearner, robot: Robot):
    """Drives until a candidate leaves the gate."""
    for _ in range(10):
        feed(learner, robot, 2)
        learner.work(0.5)
        sent = learner.candidate()
        if sent is not None:
            return sent
    raise AssertionError(learner.notes)


def test_a_candidate_is_a_policy_file_near_the_one_that_drives_and_stays_where_it_earns_as_much(
    run: Path, policy: Path, tmp_path: Path
) -> None:
    learner, robot = make(run, policy, tmp_path / "out", return_margin=1e6), Robot(policy)
    sent = sent_candidate(learner, robot)
    path = tmp_path / "sent.onnx"
    path.write_bytes(sent.data)
    opened = OnnxPolicy.open(path)
    assert opened.manifest.name == str(sent.version)
    assert opened.manifest.robot == learner.manifest.robot
    assert opened.manifest.exploration_limit == learner.manifest.exploration_limit
    (event,) = [row for row in learner.store.events() if row.event == "sent"]
    assert 0 < event.figures["step"] <= OnlineSettings().largest_step
    assert learner.candidate() is None
    robot.drive(path)
    feed(learner, robot, 1)
    assert learner.verdict() is None
    feed(learner, robot, 3)
    verdict = learner.verdict()
    assert (verdict.version, verdict.keep) == (sent.version, True)
    assert [row.event for row in learner.store.events() if row.version == str(sent.version)] == ["sent", "kept"]
    assert sent_candidate(learner, robot).version.number > sent.version.number


def test_a_candidate_that_earns_less_or_that_the_robot_sent_back_is_not_kept(
    run: Path, policy: Path, tmp_path: Path
) -> None:
    learner, robot = make(run, policy, tmp_path / "out", return_margin=-1e6), Robot(policy)
    sent = sent_candidate(learner, robot)
    path = tmp_path / "sent.onnx"
    path.write_bytes(sent.data)
    robot.drive(path)
    feed(learner, robot, 4)
    assert not learner.verdict().keep
    robot.drive(policy)
    again = sent_candidate(learner, robot)
    path.write_bytes(again.data)
    robot.drive(path)
    feed(learner, robot, 1)
    robot.drive(policy)  # it tripped
    feed(learner, robot, 1)
    assert learner.verdict() is None
    events = {row.version: row.event for row in learner.store.events()}
    assert (events[str(sent.version)], events[str(again.version)]) == ("back", "back")


def test_under_a_policy_that_is_none_of_its_own_nothing_leaves_the_learner(
    run: Path, policy: Path, tmp_path: Path
) -> None:
    learner, robot = make(run, policy, tmp_path / "out"), Robot(policy)
    rows = robot.episodes(10)
    learner.add(robot.session, "f" * 64, rows)
    learner.work(0.5)
    assert learner.candidate() is None
    assert "none of mine" in learner.status()["last"]


def test_a_learner_goes_on_from_its_checkpoint_and_from_recordings_that_it_missed(
    run: Path, policy: Path, tmp_path: Path
) -> None:
    pytest.importorskip("mcap")
    learner, robot = make(run, policy, tmp_path / "out"), Robot(policy, tmp_path / "record")
    robot.session = robot.recorder.path.stem
    feed(learner, robot, 3)
    learner.work(0.5)
    learner.save()
    saved = learner.learner.received
    missed = robot.episodes(3)
    robot.recorder.close()
    again = make(run, policy, tmp_path / "out")
    assert (again.id, again.learner.received) == (learner.id, saved)
    assert again.learner.agent.updates == learner.learner.agent.updates
    assert again.recover(tmp_path / "record") == len(missed)
    assert again.learner.received > saved + 100
    assert again.recover(tmp_path / "record") == 0
    with pytest.raises(CheckpointError, match="learner in"):
        make(shutil.copytree(run, tmp_path / "other"), policy, tmp_path / "out")


def test_a_learner_that_died_before_its_first_checkpoint_learns_from_all_that_was_recorded_since_it_began(
    run: Path, policy: Path, tmp_path: Path
) -> None:
    pytest.importorskip("mcap")
    former = Robot(policy, tmp_path / "record")
    former.episodes(1)
    former.recorder.close()
    os.utime(former.recorder.path, (1e9, 1e9))  # long before there was a learner
    learner, robot = make(run, policy, tmp_path / "out"), Robot(policy, tmp_path / "record")
    rows = robot.episodes(3)
    learner.add(robot.recorder.path.stem, robot.weights, rows)
    robot.recorder.close()
    again = make(run, policy, tmp_path / "out")
    assert (again.id, again.learner.received) == (learner.id, 0)
    assert again.recover(tmp_path / "record") == len(rows)
    assert again.learner.received == learner.learner.received > 100


def test_a_learner_that_is_started_again_knows_what_it_sent_and_what_was_kept_since_its_last_checkpoint(
    run: Path, policy: Path, tmp_path: Path
) -> None:
    out, path = tmp_path / "out", tmp_path / "sent.onnx"
    learner, robot = make(run, policy, out, return_margin=1e6), Robot(policy)
    learner.save()
    sent = sent_candidate(learner, robot)
    path.write_bytes(sent.data)
    learner = make(run, policy, out, return_margin=1e6)  # it died when that was on its way
    assert learner.status()["candidate"] == str(sent.version)
    robot.drive(path)
    feed(learner, robot, 1)
    robot.drive(policy)
    feed(learner, robot, 1)
    assert [row.event for row in learner.store.events() if row.version == str(sent.version)] == ["sent", "back"]

    path.write_bytes(sent_candidate(learner, robot).data)
    robot.drive(path)
    feed(learner, robot, 4)
    assert learner.verdict().keep
    learner = make(run, policy, out, return_margin=1e6)  # it died when that was kept, and no checkpoint says so
    made = learner.store.last(learner.id)
    feed(learner, robot, 10)
    learner.work(0.5)
    learner.candidate()
    assert learner.store.last(learner.id) == made + 1  # whether it passed the gate or not


def test_ticks_that_another_recording_has_are_not_lost(run: Path, policy: Path, tmp_path: Path) -> None:
    learner, robot = make(run, policy, tmp_path / "out"), Robot(policy)
    blocks = [robot.episodes(1) for _ in range(5)]
    for name, rows in (("first", blocks[0]), ("second", blocks[1]), ("first", blocks[2][3:]), ("first", blocks[4])):
        learner.add(name, robot.weights, rows)
    assert learner.status()["ticks: lost"] == 3 + len(blocks[3])


def test_a_recording_that_goes_on_after_a_thousand_others_is_learnt_from_where_it_was_left(
    run: Path, policy: Path, tmp_path: Path
) -> None:
    learner, robot = make(run, policy, tmp_path / "out"), Robot(policy, tmp_path / "record")
    rows = robot.episodes(1)
    learner.add(robot.recorder.path.stem, robot.weights, rows)
    for number in range(1000):
        learner.add(f"3000-{number:04}", robot.weights, rows[:1])
    learner.save()
    missed = robot.episodes(1)
    robot.recorder.close()
    assert make(run, policy, tmp_path / "out").recover(tmp_path / "record") == len(missed)


def test_updates_and_ticks_are_kept_though_no_transition_is_new(run: Path, policy: Path, tmp_path: Path) -> None:
    learner, robot = make(run, policy, tmp_path / "out"), Robot(policy, tmp_path / "record")
    name = robot.recorder.path.stem
    learner.add(name, robot.weights, robot.episodes(5))
    learner.save()
    received, updates = learner.learner.received, learner.learner.agent.updates
    assert learner.work(0.5)
    stopping = robot.episodes(1).copy()
    stopping["waiting"] = True  # the damping at the end of a session is learnt from by nobody, but it is known
    learner.add(name, robot.weights, stopping)
    learner.save()
    robot.recorder.close()
    again = make(run, policy, tmp_path / "out")
    assert again.learner.received == received
    assert again.learner.agent.updates == learner.learner.agent.updates > updates
    assert again.recover(tmp_path / "record") == 0


def test_a_policy_that_is_not_the_runs_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another actor"):
        make(run, shipped_policy("arm_reach_pd"), tmp_path / "out")


def test_a_learner_that_broke_says_so_keeps_nothing_and_sends_nothing(run: Path, policy: Path, tmp_path: Path) -> None:
    learner, robot = make(run, policy, tmp_path / "out"), Robot(policy)
    feed(learner, robot, 10)
    with torch.no_grad():
        for weight in learner.learner.agent.critics.parameters():
            weight.fill_(torch.nan)
    with pytest.raises(TrainingError, match="losses beside the robot"):
        learner.work(5.0)
    assert not learner.work(0.1)
    learner.save()
    assert not list((tmp_path / "out" / "checkpoint").glob("step-*"))
    assert learner.candidate() is None
    assert learner.store.events()[-1].event == "refused"


def test_a_reward_topic_that_is_silent_pauses_learning(run: Path, policy: Path, tmp_path: Path) -> None:
    learner, robot = make(run, policy, tmp_path / "out", reward="topic"), Robot(policy)
    feed(learner, robot, 2)
    assert learner.unrewarded > 50
    assert (learner.learner.received, learner.work(0.1)) == (0, False)
    rows = robot.episodes(1).copy()
    rows["reward"] = 1.0
    learner.add(robot.session, robot.weights, rows)
    assert learner.unrewarded == 0
    assert learner.learner.received > 40


def test_a_learner_that_is_told_another_rate_than_the_loops_says_so(run: Path, policy: Path, tmp_path: Path) -> None:
    settings = OnlineSettings(**ONLINE), GateSettings(**GATE)
    learner = RobotLearner(
        run, OnnxPolicy.open(policy), tmp_path / "out", ArmReach("pd").reward_of, *settings, rate=500.0
    )
    robot = Robot(policy)
    feed(learner, robot, 10)
    assert learner.learner.received == 0
    assert "is the rate of the loop 500 Hz?" in learner.status()["last"]


def test_a_candidate_that_leaps_in_shadow_is_refused(policy: Path) -> None:
    rows = Robot(policy).episodes(1)
    opened = OnnxPolicy.open(policy)
    same = dry_run(opened, rows, 250.0, 0.01)
    assert same.passed
    assert same.step < 1e-3
    leap = dry_run(OnnxPolicy.open(shipped_policy("arm_reach_pd")), rows, 250.0, 0.01)
    assert "in shadow" in leap.reason
    assert not dry_run(opened, rows[:10], 250.0, 0.01).passed


def test_episodes_are_compared_by_their_mean_reward() -> None:
    returns = TrialReturns(episodes=3, margin=1.0, first="old")
    made = np.zeros(40, [("taken_over", "?"), ("tick", "<u4"), ("command", "<f8", 3), ("ended", "?")])

    def episode(weights: str, reward: float, at: int) -> None:
        made["tick"] = at + 5 * np.arange(40)
        made["ended"][-1] = True
        returns.add(weights, "s", made, np.full(40, reward), 5)

    for i, reward in enumerate((1.0, 1.2, 0.8, 1.0)):
        episode("old", reward, 1000 * i)
    assert returns.ready("old")
    for i in range(3):
        assert returns.compare("new", "old") is None
        episode("new", 0.9, 10_000 + 1000 * i)
    assert returns.compare("new", "old")[0]
    for i in range(3):
        episode("worse", 0.7, 20_000 + 1000 * i)
    assert not returns.compare("worse", "old")[0]
    assert not returns.ready("none")
    for i in range(4):
        episode("low", 0.75, 30_000 + 1000 * i)
    for i in range(3):
        episode("lower", 0.7 + 0.1 * i, 40_000 + 1000 * i)
    assert returns.compare("lower", "low")[0] is False  # small losses do not add up
