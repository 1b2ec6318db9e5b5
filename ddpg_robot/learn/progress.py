"""What a training shows and writes while it runs: a progress line, metrics.jsonl and TensorBoard."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from ddpg_robot.duration import duration
from ddpg_robot.learn.rundir import RunDirectory, write_file, writing


class Metrics:
    """Rows of numbers, appended to metrics.jsonl and to a TensorBoard event file.

    Args:
        run: where they go.
        step: where the training starts or resumes.
        rows: rows of an interrupted run to keep; what came after its checkpoint is dropped and will come again.
    """

    def __init__(self, run: RunDirectory, step: int, rows: int) -> None:
        self._file = run.metrics_file
        self.rows = rows
        """Rows in the file."""
        with writing(self._file):
            kept = _complete_lines(self._file)[:rows]
            write_file(self._file, "".join(line + "\n" for line in kept).encode())
            run.tensorboard.mkdir(parents=True, exist_ok=True)
            name = f"events.out.tfevents.{time.time_ns()}.ddpg_robot"
            self._events = (run.tensorboard / name).open("wb")
            self._writer = RecordWriter(self._events)
            self._event(Event(file_version="brain.Event:2", wall_time=time.time()))
            # A start at this step makes TensorBoard drop later points of the interrupted run.
            start = SessionLog(status=SessionLog.START)
            self._event(Event(session_log=start, step=step, wall_time=time.time()))

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *_: object) -> None:
        self._events.close()

    def write(self, row: dict[str, Any]) -> None:
        """Appends one row; `step` is its step, `kind` the prefix of its TensorBoard names; None is left out there."""
        with writing(self._file):
            with self._file.open("a") as file:
                file.write(json.dumps(row) + "\n")
            self.rows += 1
            numbers = {k: v for k, v in row.items() if k not in ("step", "kind") and isinstance(v, (int, float))}
            values = [Summary.Value(tag=f"{row['kind']}/{k}", simple_value=v) for k, v in numbers.items()]
            self._event(Event(step=row["step"], wall_time=time.time(), summary=Summary(value=values)))

    def _event(self, event: Event) -> None:
        self._writer.write(event.SerializeToString())
        self._events.flush()


def _complete_lines(path: Path) -> list[str]:
    if not path.is_file():
        return []
    lines = path.read_text().split("\n")
    return [line for line in lines[:-1] if line.startswith("{") and line.endswith("}")]


class ProgressLine:
    """One live line (steps, steps/s, ETA, return, success) on a terminal; a plain line now and then elsewhere."""

    PLAIN_EVERY_S = 15.0

    def __init__(self, name: str, steps: int, step: int, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._steps = steps
        self._first_step = self._step = step
        self._start = self._last_plain = time.monotonic()
        self._name = name
        self._bar: Progress | None = None
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[text]}"))
            self._bar = Progress(*columns, console=self._console, refresh_per_second=4)
            self._line = self._bar.add_task(name, total=steps, completed=step, text="")

    def __enter__(self) -> ProgressLine:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, step: int, mean_return: float | None, success: float | None) -> None:
        """Shows a step, and the mean return and success rate (0 to 1) of recent episodes."""
        now = time.monotonic()
        self._step = step
        rate = (step - self._first_step) / max(now - self._start, 1e-9)
        left = (self._steps - step) / rate if rate > 0 else math.inf
        text = f"{step:,}/{self._steps:,} steps  {rate:.0f} steps/s  ETA {duration(left)}"
        text += f"  return {mean_return:.1f}" if mean_return is not None else ""
        text += f"  success {100 * success:.0f} %" if success is not None else ""
        if self._bar:
            self._bar.update(self._line, completed=step, text=text)
        elif now - self._last_plain >= self.PLAIN_EVERY_S or step >= self._steps:
            self._last_plain = now
            self._console.print(f"{self._name}: {text}", soft_wrap=True, highlight=False)

    def note(self, text: str) -> None:
        """Prints a line of its own above the live line."""
        self._console.print(f"{self._name}: {text}", soft_wrap=True, highlight=False)
