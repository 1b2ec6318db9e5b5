"""Trains every run of a benchmark in processes of their own, some side by side."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import IO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from ddpg_robot.children import start_child
from ddpg_robot.duration import duration
from ddpg_robot.learn.interruption import Interruption
from ddpg_robot.learn.suite.plan import Run

POLL_S = 0.25
Child = subprocess.Popen[bytes]


def train_all(runs: list[Run], jobs: int, lock: IO[str]) -> dict[str, str]:
    """Trains what is not finished, `jobs` runs at a time, each from its last checkpoint on.

    A run that fails does not stop the others. After SIGINT or SIGTERM the trainings are told to save, and waited for; a
    second signal kills them.

    Args:
        runs: in the order in which they start.
        jobs: how many train side by side.
        lock: open file whose lock the trainings share.

    Returns:
        Name of each failed run -> its exit code and the last line that it wrote.

    Raises:
        SystemExit: 130 after a signal.
    """
    waiting = [run for run in runs if not run.finished]
    running: list[tuple[Run, Child]] = []
    failed: dict[str, str] = {}
    told = False
    with Interruption() as stop, Display(runs) as display:
        try:
            while running or (waiting and not stop.requested):
                while waiting and len(running) < jobs and not stop.requested:
                    running.append((waiting[0], _start(waiting.pop(0), lock)))
                display.update([run for run, _ in running], failed)
                time.sleep(POLL_S)
                if stop.requested and not told:
                    told = True
                    display.note("interrupted: the trainings save their checkpoints; the same command goes on")
                    for _, child in running:
                        child.terminate()
                ended = [(run, child.returncode) for run, child in running if child.poll() is not None]
                running = [(run, child) for run, child in running if child.returncode is None]
                for run, code in ended:
                    if code and not stop.requested:
                        failed[run.name] = f"exit code {code}: {_last_line(_log(run))}"
                        display.note(f"{run.name} failed, {failed[run.name]}")
        finally:
            for _, child in running:
                child.kill()
                child.wait()
        display.update([], failed, last=True)
    if stop.requested:
        raise SystemExit(130)
    return failed


def _start(run: Run, lock: IO[str]) -> Child:
    _log(run).parent.mkdir(parents=True, exist_ok=True)
    with _log(run).open("ab") as log:
        return start_child(run.command(), lock, log, OMP_NUM_THREADS=str(run.config.threads))


def _log(run: Run) -> Path:
    return run.config.out.with_suffix(".log")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it wrote nothing")


class Display:
    """All runs at a glance: a live table on a terminal, a plain line now and then elsewhere."""

    PLAIN_EVERY_S = 60.0

    def __init__(self, runs: list[Run], console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._runs = runs
        self._begun, self._start = sum(map(_steps, runs)), time.monotonic()
        self._last_plain = 0.0

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, running: list[Run], failed: dict[str, str], last: bool = False) -> None:
        """Shows where all runs are; `running` have a line each."""
        summary = self._summary(len(running), failed)
        if self._live:
            self._live.update(Group(_table(running), summary) if running else summary, refresh=True)
        elif last or time.monotonic() - self._last_plain >= self.PLAIN_EVERY_S:
            self._last_plain = time.monotonic()
            self.note(summary)

    def note(self, text: str) -> None:
        """Prints a line of its own."""
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)

    def _summary(self, running: int, failed: dict[str, str]) -> str:
        finished = sum(run.finished for run in self._runs)
        done = sum(map(_steps, self._runs))
        total = sum(_steps(run) if run.name in failed else run.config.steps for run in self._runs)
        rate = (done - self._begun) / (time.monotonic() - self._start + 1e-9)
        text = f"{finished}/{len(self._runs)} runs finished, {running} running, {len(failed)} failed"
        left = f", ETA {duration((total - done) / rate)}" if rate > 0 else ""
        return f"{text}; {done:,}/{total:,} steps, {rate:.0f} steps/s{left}"


def _table(runs: list[Run]) -> Table:
    """Where some runs are, a row each."""
    table = Table("run", "steps", "steps/s", "return", "time", box=None, padding=(0, 2, 0, 0))
    for run in runs:
        row = run.last_row()
        shown = row.get("return_mean", row.get("return"))
        table.add_row(
            run.name,
            f"{row.get('step', 0):,}/{run.config.steps:,}",
            f"{row.get('steps_per_s', 0):.0f}",
            "" if shown is None else f"{shown:.1f}",
            duration(row.get("time_s", 0)),
        )
    return table


def _steps(run: Run) -> int:
    """Environment steps that a run has behind it."""
    return run.config.steps if run.finished else run.last_row().get("step", 0)
