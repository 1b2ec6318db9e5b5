"""Which runs a benchmark consists of, and the directory that holds them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ddpg_robot.errors import ConfigError, RunDirectoryError, mismatch
from ddpg_robot.learn.config import TrainConfig
from ddpg_robot.learn.peers import PeerConfig
from ddpg_robot.learn.rundir import RunDirectory, locked, read_json, write_json

TAIL_BYTES = 8192
"""Enough of metrics.jsonl's end to hold its last row."""


@dataclass(frozen=True)
class Run:
    """One training of a benchmark."""

    task: str
    """Name of the task in the benchmark."""
    config: TrainConfig
    """Its settings and place."""

    @property
    def name(self) -> str:
        return run_name(self.task, self.config.seed)

    @property
    def files(self) -> RunDirectory:
        return RunDirectory(self.config.out)

    @property
    def finished(self) -> bool:
        return self.files.evaluation_file.is_file()

    def rows(self) -> list[dict[str, Any]]:
        """All complete rows of metrics.jsonl; empty before the first."""
        file = self.files.metrics_file
        return _rows(file.read_bytes()) if file.is_file() else []

    def last_row(self) -> dict[str, Any]:
        """The newest row of metrics.jsonl; empty before the first."""
        if not self.files.metrics_file.is_file():
            return {}
        with self.files.metrics_file.open("rb") as file:
            file.seek(max(file.seek(0, 2) - TAIL_BYTES, 0))
            return next(iter(_rows(file.read())[-1:]), {})

    def command(self) -> list[str]:
        """The process that trains, or goes on training."""
        config = self.config
        if isinstance(config, PeerConfig):
            return config.command()
        words = ["train", config.task, "--algorithm", config.algorithm, "--preset", config.preset]
        words += ["--steps", config.steps, "--seed", config.seed]
        for option, pairs in (("--task-option", config.task_kwargs), ("--set", config.overrides)):
            for key, value in pairs.items():
                words += [option, f"{key}={json.dumps(value)}"]
        words += ["--threads", config.threads, "--out", config.out, "--resume", "--whole-observation"]
        words += ["--eval-every", config.eval_every, "--eval-episodes", config.eval_episodes]
        words += [] if config.keep_replay else ["--discard-replay"]
        return [sys.executable, "-m", "ddpg_robot.cli", *map(str, words)]


@dataclass(frozen=True)
class Plan:
    """A benchmark: every task with every seed, all else the same.

    Raises:
        ConfigError: no seeds, a seed twice or out of range, or an unknown algorithm, preset, peer or setting.
    """

    suite: str
    """Name of the set of tasks."""
    tasks: dict[str, tuple[str, dict[str, Any]]]
    """Name -> Gymnasium id and keyword arguments; at least one."""
    seeds: tuple[int, ...]
    """Seeds of the runs of each task."""
    template: TrainConfig
    """Settings of every run, but for task, seed and place."""
    out: Path
    """Directory of the benchmark."""

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ConfigError(mismatch("seeds", "none", "at least one"))
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(mismatch("seeds", " ".join(map(str, self.seeds)), "each seed once"))
        self.settings(), self.runs()  # raise where something is wrong, before anything is written

    @property
    def name(self) -> str:
        """Stem of the files that the benchmark writes."""
        return f"learn_{self.suite}_{self.template.label}"

    def runs(self) -> list[Run]:
        """All runs, the first seed of every task before the second seed of any."""
        return [self._run(name, seed) for seed in self.seeds for name in self.tasks]

    def _run(self, name: str, seed: int) -> Run:
        task, kwargs = self.tasks[name]
        place = self.out / "runs" / re.sub(r"[^\w.-]+", "_", name) / f"seed{seed}"
        changes = {"task": task, "task_kwargs": kwargs, "seed": seed, "out": place, "resume": True}
        return Run(name, dataclasses.replace(self.template, **changes))

    def settings(self) -> dict[str, Any]:
        """What all runs share, and what makes two benchmarks the same one: flat, resolved settings."""
        return {"suite": self.suite, **shared_settings(self.template.settings())}

    @contextlib.contextmanager
    def opened(self) -> Iterator[IO[str]]:
        """Adds this plan's tasks and seeds to the directory's benchmark.json and holds its lock, which trainings share.

        Raises:
            RunDirectoryError: the directory holds another benchmark or something else, or is in use.
        """
        found = self.recorded() if self._file.is_file() else self._require_unused()
        self.out.mkdir(parents=True, exist_ok=True)
        with locked(self.out) as lock:
            seeds = sorted({*found.seeds, *self.seeds})
            write_json(self._file, {"settings": self.settings(), "tasks": found.tasks | self.tasks, "seeds": seeds})
            yield lock

    def recorded(self) -> Plan:
        """The plan of everything that was ever asked for in this directory.

        Raises:
            RunDirectoryError: nothing was, or it was another benchmark.
        """
        if not self._file.is_file():
            found = "no benchmark.json"
            raise RunDirectoryError(mismatch(f"directory '{self.out}'", found, "the --out of a benchmark"))
        record = read_json(self._file)
        require_same(f"directory '{self.out}' holds another benchmark", record["settings"], self.settings())
        tasks = {name: (task, kwargs) for name, (task, kwargs) in record["tasks"].items()}
        return dataclasses.replace(self, tasks=tasks, seeds=tuple(record["seeds"]))

    def _require_unused(self) -> Plan:
        if self.out.exists() and any(not path.name.startswith(".") for path in self.out.iterdir()):
            found = "files, but no benchmark.json"
            raise RunDirectoryError(mismatch(f"directory '{self.out}'", found, "a new path or a benchmark"))
        return self

    def joined(self, results: list[dict[str, Any]]) -> Plan:
        """This plan with the tasks and seeds of other results of the same benchmark, as `read_result` gives them.

        Raises:
            ConfigError: a result is of another benchmark.
        """
        tasks, seeds = dict(self.tasks), set(self.seeds)
        for result in results:
            if details := _differences(result["settings"], rounded(self.settings())):
                raise ConfigError(f"'{result['name']}' is the result of another benchmark: {details}")
            tasks |= {name: (task["task"], task["task_kwargs"]) for name, task in result["tasks"].items()}
            seeds |= set(result["seeds"])
        return dataclasses.replace(self, tasks=tasks, seeds=tuple(sorted(seeds)))

    @property
    def _file(self) -> Path:
        return self.out / "benchmark.json"


def run_name(task: str, seed: int) -> str:
    """How a run of a benchmark is called."""
    return f"{task} seed {seed}"


def shared_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """A run's settings as settings.json has them, without its task, what that declares, and seed, flat."""
    own = ("task", "task_kwargs", "seed", "agent", "declared")
    return {key: value for key, value in settings.items() if key not in own} | settings["agent"]


def require_same(what: str, found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raises RunDirectoryError that names each setting in which two differ."""
    if details := _differences(found, expected):
        raise RunDirectoryError(f"{what}: {details}. Choose another --out, or the settings that are there")


def _differences(found: dict[str, Any], expected: dict[str, Any]) -> str:
    differing = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
    return "; ".join(f"{key}: found {found.get(key)!r}, expected {expected.get(key)!r}" for key in differing)


def rounded(data: Any) -> Any:
    """JSON data as it is written to results: six digits of each number."""
    return json.loads(json.dumps(data), parse_float=lambda text: float(f"{float(text):.6g}"))


def _rows(text: bytes) -> list[dict[str, Any]]:
    lines = text.split(b"\n")[:-1]
    return [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}")]
