"""Complete checkpoints (safetensors and JSON, atomic) and reading a trained actor back."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import safetensors
import safetensors.numpy
import safetensors.torch
from torch import Tensor

from ddpg_robot.errors import CheckpointError, ConfigError, mismatch
from ddpg_robot.learn.agents import Agent, make_agent, settings_from_dict
from ddpg_robot.learn.evaluate import Act
from ddpg_robot.learn.networks import Actor, GreedyPolicy
from ddpg_robot.learn.normalizer import Normalizer
from ddpg_robot.learn.replay import Batch, Replay
from ddpg_robot.learn.rundir import RunDirectory, new_directory, read_json, sync_directory, write_file, writing

CHUNK_ROWS = 65_536


class CheckpointStore:
    """The checkpoints of one run; the newest one is complete at every moment, whatever is killed or full.

    checkpoint/step-N/ holds agent.safetensors and state.json and appears by one rename. The replay lies beside it in
    checkpoint/replay/ in files that are written once and never changed: each checkpoint adds the rows that are new
    since the one before, then the step directory that names them; only then are older ones deleted.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._replay_directory = directory / "replay"

    def latest(self) -> Path | None:
        """Directory of the newest checkpoint, or None."""
        found = sorted(self._directory.glob("step-*")) if self._directory.is_dir() else []
        return found[-1] if found else None

    def last_step(self) -> int:
        """Step of the newest checkpoint, 0 where there is none."""
        latest = self.latest()
        return 0 if latest is None else int(latest.name.removeprefix("step-"))

    def save(self, step: int, tensors: dict[str, Tensor], state: dict[str, Any], replay: Replay) -> None:
        """Writes a checkpoint. Raises CheckpointError on a full disk; the checkpoint before stays as it was."""
        target = self._directory / f"step-{step:012d}"
        if target.exists():
            return  # a resumed run that has not moved: its state at this step is the same
        with writing(self._directory):
            self._replay_directory.mkdir(parents=True, exist_ok=True)
            chunks = self._write_new_rows(replay)
            with new_directory(target) as temporary:
                write_file(temporary / "agent.safetensors", safetensors.torch.save(_contiguous(tensors)))
                record = {**state, "replay": {"total": replay.total, "chunks": [list(chunk) for chunk in chunks]}}
                write_file(temporary / "state.json", json.dumps(record).encode())
            self._delete_all_but(target, chunks)

    def load(self, replay: Replay) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The newest checkpoint's tensors and state; fills the replay. Raises CheckpointError where damaged."""
        latest = self.latest()
        if latest is None:
            raise CheckpointError(mismatch(f"checkpoints in '{self._directory}'", "none", "at least one"))
        state = read_json(latest / "state.json")
        tensors = read_tensors(latest / "agent.safetensors")
        for first, last in state["replay"]["chunks"]:
            rows = read_tensors(self._chunk_file(first, last))["rows"].numpy()
            if rows.shape != (last - first, replay.width):
                raise CheckpointError(
                    mismatch(f"replay rows {first} to {last}", rows.shape, (last - first, replay.width))
                )
            replay.restore(first, rows)
        if replay.total != state["replay"]["total"]:
            raise CheckpointError(mismatch("transitions in the checkpoint", replay.total, state["replay"]["total"]))
        return tensors, state

    def delete_replay(self) -> None:
        """Frees the space of the replay: a finished run needs its networks only."""
        shutil.rmtree(self._replay_directory, ignore_errors=True)

    def _write_new_rows(self, replay: Replay) -> list[tuple[int, int]]:
        """Writes the rows that the newest checkpoint lacks; returns all chunks that the next one needs."""
        oldest = replay.total - len(replay)
        latest = self.latest()
        saved = read_json(latest / "state.json")["replay"]["chunks"] if latest else []
        chunks = [(first, last) for first, last in saved if last > oldest]
        start = chunks[-1][1] if chunks else oldest
        for first in range(start, replay.total, CHUNK_ROWS):
            last = min(first + CHUNK_ROWS, replay.total)
            write_file(self._chunk_file(first, last), safetensors.numpy.save({"rows": replay.slice(first, last)}))
            chunks.append((first, last))
        return chunks

    def _delete_all_but(self, step: Path, chunks: list[tuple[int, int]]) -> None:
        for directory in self._directory.iterdir():  # older ones, and what a kill left half-written
            if directory not in (step, self._replay_directory):
                shutil.rmtree(directory)
        keep = {self._chunk_file(first, last) for first, last in chunks}
        for file in self._replay_directory.iterdir():
            if file not in keep:
                file.unlink()
        sync_directory(self._directory)

    def _chunk_file(self, first: int, last: int) -> Path:
        return self._replay_directory / f"rows-{first:012d}-{last:012d}.safetensors"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file. Raises CheckpointError where it is missing or damaged."""
    try:
        return safetensors.torch.load(path.read_bytes())
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(mismatch(f"file '{path}'", f"unreadable ({error})", "tensors of a checkpoint")) from error


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Writes a safetensors file, whole or not at all. Raises CheckpointError on a full disk."""
    with writing(path):
        write_file(path, safetensors.torch.save(_contiguous(tensors)))


def save_best(run: RunDirectory, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
    """Replaces best/actor.safetensors: an agent's `policy_state`, and (in its header) the step and the evaluation."""
    with writing(run.best_file):
        run.best_file.parent.mkdir(parents=True, exist_ok=True)
        write_file(run.best_file, safetensors.torch.save(_contiguous(tensors), metadata={"record": json.dumps(record)}))


def save_batch(path: Path, batch: Batch) -> None:
    """Writes a batch that broke an update, for a look at it."""
    with writing(path):
        parts = {name: part for name, part in batch._asdict().items() if part is not None}
        write_file(path, safetensors.torch.save(_contiguous(parts)))


@dataclass(frozen=True)
class LoadedActor:
    """A trained actor, ready to act or to be exported. Modules are in evaluation mode."""

    actor: Actor
    """Normalised observation (batch, observations) -> action (batch, actions) in [-1, 1]."""
    normalizer: Normalizer
    """Raw observation -> normalised observation."""
    config: Any
    """Settings of its agent."""
    task: dict[str, Any]
    """Content of task.json."""
    settings: dict[str, Any]
    """Content of settings.json: `settings`, `config_hash`, `versions`."""
    steps: int
    """Environment steps after which this actor was saved."""
    seed: int

    @cached_property
    def act(self) -> GreedyPolicy:
        """Function of a raw observation, shape (observations,), to an action in [-1, 1], shape (actions,)."""
        return GreedyPolicy(self.actor, self.normalizer)


class LoadedPolicy(NamedTuple):
    """What acts in a run, of any algorithm."""

    act: Act
    """Function of a raw observation, shape (observations,), to an action in [-1, 1], shape (actions,)."""
    task: dict[str, Any]
    """Content of task.json."""
    steps: int
    """Environment steps after which it was saved."""


def load_policy(run_dir: Path, which: Literal["best", "last"] = "best") -> LoadedPolicy:
    """Reads what acts in a run: its actor, or the whole agent where that has none. Raises as `load_actor` does."""
    run = RunDirectory(run_dir)
    tensors, steps = _read(run, which)
    if _has_actor(tensors):
        return LoadedPolicy(load_actor(run_dir, which).act, run.task(), steps)
    return LoadedPolicy(_agent(run, tensors).act, run.task(), steps)


def load_actor(run_dir: Path, which: Literal["best", "last"] = "best") -> LoadedActor:
    """Reads the actor of a run: that of the best evaluation, or that of the last checkpoint.

    Raises:
        RunDirectoryError: not a run directory.
        CheckpointError: nothing saved yet, or damaged.
        ConfigError: `which` is neither, or the run's algorithm has no actor.
    """
    run = RunDirectory(run_dir)
    tensors, steps = _read(run, which)
    settings, task = run.settings(), run.task()
    algorithm = settings["settings"]["algorithm"]
    if not _has_actor(tensors):
        found = f"none: {algorithm} searches its actions"
        raise ConfigError(mismatch(f"actor of run '{run.path}'", found, "an actor network, as of ddpg"))
    config = settings_from_dict(algorithm, settings["settings"]["agent"])
    actor = Actor(task["observation_size"], task["action_size"], config)
    normalizer = Normalizer(task["observation_size"], config.normalize_observations)
    _load(actor, normalizer, tensors, run.path)
    seed = settings["settings"]["seed"]
    return LoadedActor(actor.eval(), normalizer.eval(), config, task, settings, steps, seed)


def _read(run: RunDirectory, which: str) -> tuple[dict[str, Tensor], int]:
    """What acting needs, as the agent's `policy_state` gave it, and the environment steps after which it was saved."""
    run.settings()
    if which == "best":
        tensors = read_tensors(run.best_file)
        with safetensors.safe_open(run.best_file, "numpy") as file:
            return tensors, json.loads(file.metadata()["record"])["step"]
    if which == "last":
        latest = CheckpointStore(run.checkpoints).latest()
        if latest is None:
            raise CheckpointError(mismatch(f"checkpoints in '{run.path}'", "none", "at least one"))
        agent = _agent(run, read_tensors(latest / "agent.safetensors"))
        return agent.policy_state(), read_json(latest / "state.json")["step"]
    raise ConfigError(mismatch("which actor", repr(which), "one of the saved ones", ("best", "last")))


def _agent(run: RunDirectory, tensors: dict[str, Tensor]) -> Agent:
    """The agent of a run with this state."""
    settings, task = run.settings()["settings"], run.task()
    config = settings_from_dict(settings["algorithm"], settings["agent"])
    agent = make_agent(settings["algorithm"], task["observation_size"], task["action_size"], config, settings["seed"])
    try:
        agent.load_state(tensors)
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(
            mismatch(f"agent in '{run.path}'", f"other tensors ({error})", "those of its settings")
        ) from error
    return agent


def _has_actor(tensors: dict[str, Tensor]) -> bool:
    return any(name.startswith("actor.") for name in tensors)


def _load(actor: Actor, normalizer: Normalizer, tensors: dict[str, Tensor], where: Path) -> None:
    def part(name: str) -> dict[str, Tensor]:
        return {key[len(name) :]: value for key, value in tensors.items() if key.startswith(name)}

    try:
        actor.load_state_dict(part("actor."))
        normalizer.load_statistics(part("normalizer_statistics."))
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(
            mismatch(f"actor in '{where}'", f"other tensors ({error})", "those of its settings")
        ) from error
    actor.requires_grad_(False)


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies that own their memory: parameters are views on flat buffers, which safetensors refuses."""
    return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
