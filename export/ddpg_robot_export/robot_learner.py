"""The learner beside a robot: ticks become transitions, transitions updates, updates candidates, and candidates are judged."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import math
import secrets
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ddpg_robot import __version__
from ddpg_robot.errors import CheckpointError, DdpgRobotError, RecordingError, TrainingError, mismatch
from ddpg_robot.files import write_json
from ddpg_robot.learn.checkpoint import CheckpointStore, load_actor, read_tensors, save_tensors
from ddpg_robot.learn.networks import Actor
from ddpg_robot.learn.online import OnlineLearner, OnlineSettings, Reward
from ddpg_robot.policy import OnnxPolicy, read_manifest
from ddpg_robot.recording import Recording, TickLayout
from ddpg_robot.spec import Scalar
from ddpg_robot.transition import Counts, TransitionMaker, check_learnable
from ddpg_robot.versions import VersionId, VersionStore
from ddpg_robot_export.candidates import CandidateMaker, GateSettings, RefusedError
from ddpg_robot_export.trial_returns import TrialReturns

SHADOW_TICKS = 2500
SEEN = 10_000
"""Recordings of which it is known how far they were learnt from."""
SESSIONS = 4
"""Recordings whose ticks may still come in turns: those of a policy that has just left, and of the one that follows."""
ACTORS = 8
"""Versions in memory; all others are read from their files."""
BARREN_TICKS = 2000
"""Ticks under control that become no transition mean something."""
DRIVING = "driving."
ACTOR = ".safetensors"
"""Beside the policy files: the actors that they were made of, by the hash of their weights."""
RECORD = "learner.json"


@dataclass(frozen=True)
class Sent:
    """A policy on its way to the robot."""

    version: VersionId
    data: bytes


@dataclass(frozen=True)
class Verdict:
    """What the learner says of a policy on probation."""

    version: VersionId
    keep: bool
    why: str


@dataclass
class _Trial:
    """A version that was sent, until it is known what became of it."""

    version: VersionId
    weights: str
    sent_at: int
    drove: bool = False


class RobotLearner:
    """Learns on from a training run by what a robot does.

    Args:
        run_dir: the run.
        policy: file that the robot began with: what ``ddpg-robot export`` makes of the run.
        out: directory of checkpoints and versions; a learner that is there already goes on.
        reward: computes rewards of transitions; None: they come over a topic, within the ticks.
        online: see there.
        gate: see there.
        rate: ticks per second of the robot's loop; None as trained.

    Raises:
        ConfigError: the policy is not the run's. CheckpointError: a damaged checkpoint, or another run's.
    """

    def __init__(
        self,
        run_dir: Path,
        policy: OnnxPolicy,
        out: Path,
        reward: Reward | None,
        online: OnlineSettings,
        gate: GateSettings,
        rate: float | None = None,
    ) -> None:
        self.manifest, self.out, self.gate = policy.manifest, Path(out), gate
        control = self.manifest.control
        self._rate = rate or 1 / control.loop_period
        self._ticks = round(self._rate * control.period)
        check_learnable(self.manifest.robot)
        self.layout = TickLayout.of(policy.interface)
        self.learner = OnlineLearner(run_dir, self._rewards, self._ticks, online)
        self._topic_reward = reward is None
        self._reward = reward or (lambda made: made["reward"])
        loaded = load_actor(run_dir)
        self._maker = CandidateMaker(self.learner, loaded, policy, gate, self._rate)
        self._first = self.manifest.weights_sha256
        self._actors = {self.manifest.weights_sha256: loaded.actor}
        self._turn_to(self.manifest.weights_sha256)
        self._heard, self._heard_at = self._driving_weights, 0
        self._makers: dict[str, TransitionMaker] = {}
        self._session, self._newest_tick = "", 0
        self._seen: dict[str, int] = {}  # the newest tick of each recording; what grew last stands last
        self._forgotten = ""  # the newest recording that is in it no more
        self._recent: deque[NDArray[Any]] = deque()
        self._trial: _Trial | None = None
        self.returns = TrialReturns(gate.episodes, gate.return_margin, self._first)
        self._last_candidate = 0
        self.notes = ""
        self.unrewarded = 0
        self._barren = 0
        self._broken = False
        self.out.mkdir(parents=True, exist_ok=True)
        self.store = VersionStore(self.out / "versions")
        self._checkpoints = CheckpointStore(self.out / "checkpoint")
        self._begin(Path(run_dir))

    # What the robot did

    def add(self, session: str, weights: str, rows: NDArray[Any], recorded: bool = False) -> None:
        """Takes ticks.

        Args:
            session: recording that they are of.
            weights: hash of the policy that drove.
            rows: ticks ``(k,)``, in the order in which they came.
            recorded: they are read from a file, where ticks of other policies lie in between.
        """
        maker = self._makers.get(session)
        if maker is None:
            maker = self._makers[session] = TransitionMaker(self.manifest.interface, self.layout, self._ticks)
            while len(self._makers) > SESSIONS:
                self._makers.pop(next(iter(self._makers)))
        if recorded:
            maker.resume(int(rows["tick"][0]) - 1)  # what was dropped there, the recorder has counted
        elif session != self._session:  # a policy that comes back goes on with the recording that it had
            maker.resume(self._newest_tick)
        newest = int(rows["tick"].max(initial=0))
        self._session, self._newest_tick = session, newest
        self._seen[session] = max(self._seen.pop(session, 0), newest)
        while len(self._seen) > SEEN:
            self._forgotten = max(self._forgotten, next(iter(self._seen)))
            self._seen.pop(next(iter(self._seen)))
        self._note_driver(weights, rows)
        self._remember(rows)
        made = maker.add(rows)
        driven = int((~(rows["waiting"] | rows["tripped"])).sum())
        self._barren = 0 if len(made) else self._barren + driven
        if self._barren > BARREN_TICKS:
            self.notes = f"{self._barren} ticks and no transition: is the rate of the loop {self._rate:g} Hz?"
        if self._topic_reward:
            rewarded = np.isfinite(made["reward"])
            self.unrewarded = 0 if rewarded.any() else self.unrewarded + len(made)
            made = made[rewarded]
        if len(made):
            self.learner.add(made)
            self.returns.add(weights, session, made, self._rewards(made), self._ticks)

    def recover(self, directory: Path) -> int:
        """Learns from what was recorded while nobody listened; returns the number of ticks."""
        count = 0
        for path in sorted(Path(directory).glob("*.mcap")):
            forgotten = path.stem <= self._forgotten and path.stem not in self._seen
            if forgotten or path.stat().st_mtime < self._since:
                continue
            try:
                with Recording(path) as recording:
                    for rows in recording.blocks():
                        if rows.dtype != self.layout.dtype:
                            break
                        new = rows[rows["tick"] > self._seen.get(path.stem, 0)]
                        if len(new):
                            self.add(path.stem, recording.session.weights_sha256, new, recorded=True)
                            count += len(new)
            except RecordingError as error:
                self.notes = str(error)
        return count

    def work(self, seconds: float) -> bool:
        """Makes updates that are owed, for so long; False where there are none."""
        end, any_made = time.monotonic() + seconds, False
        while time.monotonic() < end and not self._broken:
            losses = self.learner.learn(20)
            if losses is None:
                break
            any_made = True
            if not math.isfinite(losses.critic):
                self._broken = True
                hint = "No policy leaves any more; start the learner again, it goes on from its last checkpoint"
                raise TrainingError(mismatch("losses beside the robot", losses, "finite numbers", hint=hint))
        return any_made

    # What goes to the robot

    def candidate(self) -> Sent | None:
        """The next candidate, where it is time for one and it passes the gate."""
        received = self.learner.received
        if received - self._last_candidate < self.gate.every or self._trial is not None:
            return None
        if self._heard != self._driving_weights:
            self.notes = f"the robot drives a policy that is none of mine, weights {self._heard[:8]}: it gets no other"
            return None
        if not self.returns.ready(self._driving_weights):
            return None
        self._last_candidate = received
        version = VersionId(self.id, self.store.last(self.id) + 1)
        figures: dict[str, Scalar] = {}
        try:
            made = self._maker.propose(self._driving)
            figures = made.figures
            self._maker.finish(made, version, self.store.directory, np.concatenate(list(self._recent)))
            save_tensors(self.store.directory / f"{made.weights}{ACTOR}", made.actor.state_dict())
        except DdpgRobotError as error:
            figures = error.candidate.figures if isinstance(error, RefusedError) else figures
            self.store.add(version, "refused", str(error), **figures, transitions=received)
            self.notes = f"{version} refused: {error}"
            return None
        self.store.add(version, "sent", "", **figures, transitions=received)
        self._trial = _Trial(version, made.weights, received)
        self._remember_actor(made.weights, made.actor)
        self.notes = f"{version} sent"
        return Sent(version, made.data)

    def verdict(self) -> Verdict | None:
        """What is to be said of the candidate on probation, once there is something to say."""
        trial = self._trial
        if trial is None:
            return None
        if not trial.drove and self.learner.received - trial.sent_at > self.gate.patience:
            self._end_trial("withdrawn", "it never drove")
            return None
        found = self.returns.compare(trial.weights, self._driving_weights) if trial.drove else None
        if found is None:
            return None
        keep, why = found if self.gate.gated else (True, "not gated")
        if keep and self._knows(trial.weights):
            self._turn_to(trial.weights)
        self._end_trial("kept" if keep else "back", why)
        return Verdict(trial.version, keep, why)

    def status(self) -> dict[str, Any]:
        """For diagnostics."""
        counts = Counts()
        for maker in self._makers.values():
            for field in dataclasses.fields(Counts):
                setattr(counts, field.name, getattr(counts, field.name) + getattr(maker.counts, field.name))
        return {
            "transitions learnt from": self.learner.received,
            "updates": self.learner.agent.updates,
            "updates owed": int(self.learner.owed),
            **{f"ticks: {name}": value for name, value in vars(counts).items()},
            "candidate": "none" if self._trial is None else str(self._trial.version),
            "last": self.notes,
        }

    # Keeping

    def save(self) -> None:
        """Writes a checkpoint; what came before it is not lost when the process dies. What is broken is not kept."""
        if self._broken:
            return
        tensors, state = self.learner.state()
        tensors |= {DRIVING + name: tensor for name, tensor in self._driving.state_dict().items()}
        state |= {
            "seen": self._seen,
            "forgotten": self._forgotten,
            "driving": self._driving_weights,
            "last_candidate": self._last_candidate,
        }
        # Numbered, for between two of them there may be updates and ticks, and not one new transition.
        self._checkpoints.save(self._checkpoints.last_step() + 1, tensors, state, self.learner.robot)

    def _begin(self, run_dir: Path) -> None:
        record = self.out / RECORD
        if not record.is_file():
            self.id, self._since = secrets.token_hex(4), time.time()
            own = {"learner": self.id, "run": str(run_dir.resolve()), "version": __version__, "since": self._since}
            write_json(record, own)
            return
        known = json.loads(record.read_text())
        if known["run"] != str(run_dir.resolve()):
            raise CheckpointError(mismatch(f"learner in '{self.out}'", f"of run {known['run']}", f"of {run_dir}"))
        self.id, self._since = known["learner"], known.get("since", math.inf)
        if self._checkpoints.latest() is not None:
            self._go_on()
        self._trial = self._sent()

    def _go_on(self) -> None:
        """Reads the newest checkpoint."""
        tensors, state = self._checkpoints.load(self.learner.robot)
        driving = {name[len(DRIVING) :]: tensor for name, tensor in tensors.items() if name.startswith(DRIVING)}
        self._actors[state["driving"]] = self._actor_with(driving)
        self._turn_to(state["driving"])
        own = {name: tensor for name, tensor in tensors.items() if not name.startswith(DRIVING)}
        self.learner.load_state(own, state)
        self._seen, self._last_candidate = state["seen"], state["last_candidate"]
        self._forgotten = state.get("forgotten", "")

    def _sent(self) -> _Trial | None:
        """The version that is on its way to the robot, or drives there on probation, since before this process began."""
        last = {row.version: row.event for row in self.store.events() if row.version.startswith(self.id)}
        sent = [version for version, event in last.items() if event == "sent"]
        for version in sent[-1:]:
            with contextlib.suppress(DdpgRobotError):  # its file is lost
                weights = read_manifest(self.store.directory / f"{version}.onnx").weights_sha256
                return _Trial(VersionId.parse(version), weights, self.learner.received)
        return None

    def _knows(self, weights: str) -> bool:
        """Whether a policy is its own; one that is not in memory is looked for among the files."""
        if weights not in self._actors:
            file = {path.stem: path for path in self.store.directory.glob(f"*{ACTOR}")}.get(weights)
            if file is None:
                return False
            try:
                self._remember_actor(weights, self._actor_with(read_tensors(file)))
            except DdpgRobotError as error:
                self.notes = str(error)
                return False
        return True

    def _actor_with(self, tensors: dict[str, Tensor]) -> Actor:
        actor = copy.deepcopy(self._driving)
        actor.load_state_dict(tensors)
        return actor

    def _remember_actor(self, weights: str, actor: Actor) -> None:
        self._actors[weights] = actor
        while len(self._actors) > ACTORS:
            kept = (weights, self._driving_weights, self._first)
            self._actors.pop(next(name for name in self._actors if name not in kept))

    def _end_trial(self, event: str, why: str) -> None:
        assert self._trial is not None
        self.store.add(self._trial.version, event, why)
        self.notes = f"{self._trial.version} {event}: {why}"
        self._trial = None

    def _note_driver(self, weights: str, rows: NDArray[Any]) -> None:
        """Who drives now; ticks that come late say nothing of it."""
        at, trial = int(rows["time"].max(initial=0)), self._trial
        if at <= self._heard_at:
            return
        self._heard, self._heard_at = weights, at
        if trial is not None and weights == trial.weights:
            trial.drove = True
        elif trial is not None and trial.drove:
            self._end_trial("back", "the robot sent it back itself: a trip, or nobody judged it in time")
        if self._trial is None and weights != self._driving_weights and self._knows(weights):
            self._turn_to(weights)  # the robot began anew, or with a version that was judged too late

    def _turn_to(self, weights: str) -> None:
        self._driving, self._driving_weights = self._actors[weights], weights

    def _remember(self, rows: NDArray[Any]) -> None:
        self._recent.append(rows)
        while sum(map(len, self._recent)) - len(self._recent[0]) >= SHADOW_TICKS:
            self._recent.popleft()

    def _rewards(self, made: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(self._reward(made), np.float64)
