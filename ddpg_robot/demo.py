"""The whole job as a chain of sub-commands: train, evaluate, export, drive over ROS, report.

Each stage is a process of its own that leaves one file or directory behind. `demo.json` records which stages are done
and by which command, so that an interrupted demo goes on where it was, and a stage runs again when what it was told has
changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ddpg_robot.children import start_child
from ddpg_robot.duration import duration
from ddpg_robot.errors import RunDirectoryError, mismatch
from ddpg_robot.files import write_json
from ddpg_robot.policy import shipped_policy

TARGET_SEED = 2026
"""Seed of the targets that training never sees."""
TARGETS, ROS_TARGETS = 100, 20
ROS_SECONDS = 3.0
"""Time for each target over ROS, s; evaluation in process gives four."""
TAKEOVER_S = 30.0
"""How long a demo that still runs in the same directory gets to end, s."""


@dataclass(frozen=True)
class Stage:
    """One sub-command and what it leaves behind."""

    name: str
    title: str
    command: tuple[str, ...]
    result: Path


def run_demo(out: Path, fast: bool, steps: int, seed: int) -> int:
    """Runs every stage that has no result yet, and prints a summary.

    Args:
        out: directory of all results.
        fast: leave training out and use the shipped policy.
        steps: environment steps of the training.
        seed: of the training.

    Returns:
        0; a failing stage's own exit code; 130 after Ctrl-C.

    Raises:
        RunDirectoryError: another demo runs in the same directory and does not end.
    """
    out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C
    with exclusive(out) as lock:
        return Demo(out, planned(out, fast, steps, seed), lock).run()


def planned(out: Path, fast: bool, steps: int, seed: int) -> list[Stage]:
    """The stages of a demo, in order."""
    run, evaluation, trial = out / "train", out / "evaluation.json", out / "ros.json"
    policy = shipped_policy("arm_reach") if fast else out / "policy.onnx"
    stages: list[Stage] = []
    options: tuple[object, ...]

    def add(name: str, title: str, result: Path, *command: object) -> None:
        stages.append(Stage(name, title, tuple(map(str, command)), result))

    if not fast:
        # Mode pd learns faster than torque straight from the network: it fits into a few minutes on two cores.
        title = f"Train arm_reach from scratch: control mode pd, {steps:,} steps"
        options = ("--control-mode", "pd", "--steps", steps, "--seed", seed, "--out", run, "--resume")
        add("train", title, run / "evaluation.json", "train", "arm_reach", *options)
    title = f"Evaluate on {TARGETS} targets that training never saw"
    options = ("--episodes", TARGETS, "--seed", TARGET_SEED, "--out", evaluation)
    add("evaluate", title, evaluation, "evaluate", policy if fast else run, *options)
    if not fast:
        options = (run, "--out", policy, "--name", "arm_reach_demo")
        add("export", "Export the actor to ONNX, behind the parity gate", policy, "export", *options)
    if importlib.util.find_spec("rclpy") is None:
        print("No rclpy for this platform: the demo leaves out its ROS part.")
    else:
        title = f"Deploy over ROS 2 and send {ROS_TARGETS} targets as messages"
        options = ("--ros", "--hold", ROS_SECONDS, "--episodes", ROS_TARGETS, "--seed", TARGET_SEED, "--out", trial)
        add("ros", title, trial, "evaluate", policy, *options)
    add("report", "Write the report", out / "report.html", "report", out)
    return stages


class Demo:
    """Runs stages in order and keeps the record of those that are done."""

    def __init__(self, out: Path, stages: list[Stage], lock: IO[str]) -> None:
        self._out = out
        self._stages = stages
        self._lock = lock
        self._record_file = out / "demo.json"
        self._records: dict[str, Any] = {}
        with contextlib.suppress(FileNotFoundError, ValueError):
            self._records = json.loads(self._record_file.read_text())

    def run(self) -> int:
        """Runs what is not done; returns the exit code."""
        fresh = True  # every stage before this one was done already, with the same command
        for number, stage in enumerate(self._stages, 1):
            record = self._records.get(stage.name, {})
            known = record.get("command") == list(stage.command)
            heading = f"[{number}/{len(self._stages)}] {stage.title}"
            if fresh and known and record.get("done") and stage.result.exists():
                print(f"{heading}: done before, {duration(record['seconds'])}", flush=True)
                continue
            fresh = False
            print(f"{heading} ...", flush=True)
            code = self._run_stage(stage, record["seconds"] if known and not record.get("done") else 0.0)
            if code == 128 + signal.SIGINT:
                print("Interrupted. The same command goes on from here.", flush=True)
            elif code:
                print(f"Stage '{stage.name}' failed. The same command tries it again.", flush=True)
            if code:
                return code
        self._summarise()
        return 0

    def _run_stage(self, stage: Stage, spent: float) -> int:
        """Runs one stage; `spent` are the seconds of earlier, interrupted tries. Returns its exit code."""
        self._note(stage, spent, done=False)
        start = time.monotonic()
        code = run_child([sys.executable, "-m", "ddpg_robot.cli", *stage.command], self._lock)
        seconds = spent + time.monotonic() - start
        self._note(stage, seconds, done=code == 0)
        if code == 0:
            print(f"      {duration(seconds)}", flush=True)
        return code

    def _note(self, stage: Stage, seconds: float, done: bool) -> None:
        self._records[stage.name] = {"command": list(stage.command), "seconds": seconds, "done": done}
        names = [planned.name for planned in self._stages]
        self._records = {name: self._records[name] for name in names if name in self._records}
        write_json(self._record_file, self._records)

    def _summarise(self) -> None:
        total = sum(self._records[stage.name]["seconds"] for stage in self._stages)
        results = {"in process": json.loads((self._out / "evaluation.json").read_text())}
        if (self._out / "ros.json").exists() and "ros" in self._records:
            results["over ROS"] = json.loads((self._out / "ros.json").read_text())["ros"]
        print()
        for place, result in results.items():
            if result["success_rate"] is None:
                continue
            reached = round(result["success_rate"] * result["episodes"])
            print(
                f"{place:<12}{reached}/{result['episodes']} targets reached and held within 2 cm, "
                f"{100 * result['within_5cm_rate']:.0f} % within 5 cm, "
                f"median error {1000 * result['final_error_median_m']:.1f} mm"
            )
        print(f"{'time':<12}{duration(total)}")
        print(f"{'report':<12}{self._out / 'report.html'}", flush=True)


def run_child(command: list[str], lock: IO[str]) -> int:
    """Runs a command that gets each Ctrl-C exactly once and holds the lock; returns its exit code."""
    child = start_child(command, lock)
    interrupted = 0
    while True:
        try:
            code = child.wait()
            return 128 + signal.SIGINT if interrupted else 128 - code if code < 0 else code
        except KeyboardInterrupt:
            interrupted += 1
            child.send_signal(signal.SIGINT if interrupted < 3 else signal.SIGKILL)


@contextlib.contextmanager
def exclusive(out: Path) -> Iterator[IO[str]]:
    """Holds the directory's lock. A demo that still runs in it (its terminal was killed, say) is asked to end first.

    Raises:
        RunDirectoryError: it does not end.
    """
    with (out / ".lock").open("a+") as lock:
        deadline = time.monotonic() + TAKEOVER_S
        asked = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().strip()
                if not asked and holder.isdigit():
                    asked = True
                    print(f"A demo still runs in {out} (process {holder}): ending it, going on from its results.")
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(holder), signal.SIGTERM)
                if time.monotonic() > deadline:
                    found = f"in use by process {holder}"
                    raise RunDirectoryError(mismatch(f"directory {out}", found, "no other demo in it")) from None
                time.sleep(0.1)
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield lock
