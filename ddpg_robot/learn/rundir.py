"""A run's directory: which files it holds, how they are written, and whether it may be used."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ddpg_robot import __version__
from ddpg_robot.errors import CheckpointError, RunDirectoryError, mismatch
from ddpg_robot.learn.agents import settings_from_dict
from ddpg_robot.learn.config import TrainConfig, digest


class RunDirectory:
    """Paths and small files of one run.

    settings.json: resolved settings and versions. task.json: the task, and for robots the policy's interface.
    metrics.jsonl: one row per evaluation and per `log_every` steps. checkpoint/: complete state. best/: actor and
    normaliser of the best evaluation. evaluation.json: the last evaluation. tensorboard/: event files.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.settings_file = self.path / "settings.json"
        self.task_file = self.path / "task.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.evaluation_file = self.path / "evaluation.json"
        self.checkpoints = self.path / "checkpoint"
        self.best_file = self.path / "best" / "actor.safetensors"
        self.bad_batch_file = self.path / "nonfinite_batch.safetensors"
        self.tensorboard = self.path / "tensorboard"

    @staticmethod
    def prepare(config: TrainConfig, task: dict[str, Any]) -> RunDirectory:
        """Makes the directory of a new run, or checks that the one to resume has the same settings.

        Raises:
            RunDirectoryError: the directory exists and `resume` is off, or it is no run directory.
            CheckpointError: the run to resume has other settings, or the disk is full.
        """
        run = RunDirectory(config.out)
        settings = config.settings(task["agent_settings"])
        if not run.is_unused():
            if not config.resume:
                hint = "Choose another one, or resume it"
                raise RunDirectoryError(mismatch("run directory", f"'{run.path}' exists", "a new path", hint=hint))
            _require_same(run.settings()["settings"], settings)
            return run
        with writing(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
            write_json(run.task_file, {**task, "task_hash": digest(task)})
            versions = {"ddpg_robot": __version__, "python": platform.python_version(), **_library_versions()}
            record = {"settings": settings, "config_hash": digest(settings["agent"]), "versions": versions}
            write_json(run.settings_file, record)  # last: a directory without it holds nothing yet
        return run

    def is_unused(self) -> bool:
        """Nothing is at the path, or only what a run leaves that was killed before it began."""
        if not self.path.is_dir():
            return not self.path.exists()
        return all(item == self.task_file or item.name.startswith(".") for item in self.path.iterdir())

    def settings(self) -> dict[str, Any]:
        """Content of settings.json. Raises RunDirectoryError where there is none."""
        if not self.settings_file.is_file():
            raise RunDirectoryError(mismatch("run directory", f"'{self.path}' without settings.json", "a training run"))
        record = read_json(self.settings_file)
        algorithm = record["settings"].setdefault("algorithm", "ddpg")  # the only one there was, in older runs
        settings_from_dict(algorithm, record["settings"]["agent"])
        return record

    def task(self) -> dict[str, Any]:
        """Content of task.json."""
        self.settings()
        return read_json(self.task_file)


def _require_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raises CheckpointError that names each setting in which a run to resume differs."""
    found, expected = _flat(found), _flat(expected)
    differing = sorted(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k))
    if differing:
        details = "; ".join(f"{k}: found {found.get(k)!r}, expected {expected.get(k)!r}" for k in differing)
        raise CheckpointError(f"the run to resume has other settings: {details}. Resume with the run's own settings")


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _library_versions() -> dict[str, str]:
    import gymnasium
    import numpy
    import torch

    return {"torch": torch.__version__, "numpy": numpy.__version__, "gymnasium": gymnasium.__version__}


@contextlib.contextmanager
def writing(what: Path) -> Iterator[None]:
    """Turns a failure to write (a full disk, a directory that may not be written) into one clear line."""
    try:
        yield
    except OSError as error:
        hint = "What was complete before is intact; free the cause and resume the run"
        reason = error.strerror or str(error)
        raise CheckpointError(
            mismatch(f"cannot write '{what}'", reason, "a writable disk with space", hint=hint)
        ) from error


def write_file(path: Path, content: bytes) -> None:
    """Writes a file atomically and durably: a temporary file beside it, fsync, rename."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_json(path: Path, data: Any) -> None:
    """Writes JSON atomically; floats keep all their digits."""
    write_file(path, (json.dumps(data, indent=1) + "\n").encode())


def read_json(path: Path) -> Any:
    """Reads JSON. Raises CheckpointError where it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(mismatch(f"file '{path}'", f"unreadable ({error})", "JSON of a training run")) from error


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[IO[str]]:
    """Holds a directory's lock, which children may share; the system frees it when the last of them has ended.

    Raises:
        RunDirectoryError: another process holds it.
        CheckpointError: the directory cannot be written.
    """
    with contextlib.ExitStack() as stack:
        with writing(directory):
            lock = stack.enter_context((directory / ".lock").open("a"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = "Wait until what runs there has ended"
            message = mismatch(f"directory '{directory}'", "in use by another process", "a free one", hint=hint)
            raise RunDirectoryError(message) from None
        yield lock


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A directory that appears whole or not at all: filled under a temporary name, then renamed to `path`."""
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        sync_directory(temporary)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes renames in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
