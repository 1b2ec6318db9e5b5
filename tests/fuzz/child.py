"""Tries bad files or messages in a process of its own: ``python -m fuzz.child files 0 2000``, one JSON line per mutant.

A process of its own, because a crash, a hang or a gigabyte shall end this one and not the tests. What it opens, starts,
imports or compiles while a mutant is tried is a failure of that mutant; so is memory beyond `MEMORY`, which cannot be had.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ddpg_robot.errors import DdpgRobotError

MEMORY = 2**30
"""Memory that may be added to what the process has before the first mutant, bytes."""
WATCHED = (
    "open",
    "import",
    "exec",
    "compile",
    "ctypes.",
    "os.",
    "pty.",
    "shutil.",
    "socket.",
    "subprocess.",
    "pickle.",
    "mmap.",
)

Attempt = Callable[[bytes], str]


class Watch:
    """Notes what Python does that reaches outside the process (sys.addaudithook), while it is told to."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._note)

    def _note(self, event: str, args: tuple[Any, ...]) -> None:
        if self.on and event.startswith(WATCHED):
            self.seen.append(f"{event} {args!r}"[:200])


def complaint(error: DdpgRobotError) -> str:
    """What a refusal lacks to be one short line for people; empty where it lacks nothing."""
    text = str(error)
    good = text.isprintable() and len(text) < 1500 and "found " in text and "expected " in text
    return "" if good else f"unclear: {text!r}"


def try_one(attempt: Attempt, data: bytes, watch: Watch) -> tuple[str, str]:
    """Outcome and, of a failure, the reason."""
    watch.on, watch.seen = True, []
    try:
        outcome, reason = attempt(data), ""
    except DdpgRobotError as error:
        outcome, reason = "refused", complaint(error)
    except BaseException as error:  # whatever it is, it is no refusal
        outcome, reason = "failed", f"{type(error).__name__}: {error}"
    watch.on = False
    if watch.seen or (outcome == "refused" and reason):
        return "failed", "; ".join([reason, *watch.seen])
    return outcome, reason


def bytes_read() -> int:
    """What this process has read so far from files and pipes, in whatever language."""
    return int(Path("/proc/self/io").read_text().split()[1])


def peak() -> int:
    """Largest resident memory so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(kind: str, first: int, count: int) -> None:
    """Prints a line for each mutant, and one about all of them."""
    if kind == "files":
        from fuzz.hostile_files import BASE as GOOD
        from fuzz.hostile_files import mutant
        from fuzz.try_file import attempt
    else:
        from fuzz.hostile_messages import GOOD, mutant

        if kind == "messages":
            from fuzz.try_message import attempt
        else:
            from fuzz.try_wire import attempt
    faulthandler.enable()
    warnings.simplefilter("ignore")  # numpy's of numbers that overflow, which the control loop silences, too
    watch = Watch()
    assert attempt(GOOD) == "accepted"  # what is loaded once is loaded now
    with contextlib.suppress(DdpgRobotError):
        attempt(b"")
    for number in range(200):
        mutant(number)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    before, read, slowest = peak(), bytes_read(), 0.0
    for number in range(first, first + count):
        name, data = mutant(number)
        os.write(1, f'{{"number": {number}, "name": "{name}", '.encode())  # stands there if the process crashes
        began = time.perf_counter()
        outcome, reason = try_one(attempt, data, watch)
        slowest = max(slowest, time.perf_counter() - began)
        os.write(1, f'"outcome": "{outcome}", "reason": {json.dumps(reason)}}}\n'.encode())
    grown, read = peak() - before, bytes_read() - read
    print(json.dumps({"grown_bytes": grown, "read_bytes": read, "slowest_s": slowest}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
