"""Child processes that end with their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from typing import IO

PR_SET_PDEATHSIG = 1


def start_child(
    command: list[str], lock: IO[str], output: IO[bytes] | None = None, **variables: str
) -> subprocess.Popen[bytes]:
    """Starts a command that the terminal's Ctrl-C does not reach, and that gets SIGTERM on Linux when this process dies.

    Args:
        command: program and arguments.
        lock: open file whose lock the child shares, so that nobody takes it before the child has ended.
        output: where it writes; this process's own streams without one.
        variables: added to its environment.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def prepare() -> None:
        os.setpgid(0, 0)
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=(lock.fileno(),),
        preexec_fn=prepare,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **variables},
    )
