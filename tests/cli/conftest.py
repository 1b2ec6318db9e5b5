"""The command line as a user calls it: a process, its exit code, what it prints."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from policy_factory import write_policy

Call = Callable[..., subprocess.CompletedProcess[str]]
PROGRAM = [sys.executable, "-m", "ddpg_robot.cli"]


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """Runs `ddpg-robot` in an empty directory."""

    def run(*words: object, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        command = [*PROGRAM, *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=timeout, check=False)

    return run


@pytest.fixture
def refused(call: Call) -> Callable[..., str]:
    """Runs `ddpg-robot`, expects a refusal in exactly one line and exit code 2; returns the line."""

    def run(*words: object) -> str:
        done = call(*words)
        assert done.returncode == 2, done
        assert done.stdout == "", done
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("error: "), done.stderr
        return lines[0]

    return run


@pytest.fixture(scope="session")
def policy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small real policy of a two-joint arm."""
    return write_policy(tmp_path_factory.mktemp("policy") / "two_joint.onnx")
