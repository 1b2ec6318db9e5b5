"""The demo's chain of processes: it goes on where it was, whatever ended it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ddpg_robot.demo import Stage, planned

CHAIN = """
import signal
import sys
from pathlib import Path
from ddpg_robot.demo import Demo, Stage, exclusive

out = Path(sys.argv[1])
out.mkdir(exist_ok=True)
run, found = out / "train", out / "evaluation.json"
train = ("train", "Pendulum-v1", "--steps", "6000", "--set", "batch_size=32", "--out", str(run), "--resume")
stages = [
    Stage("train", "Train", train, run / "evaluation.json"),
    Stage("evaluate", "Evaluate", ("evaluate", str(run), "--episodes", "2", "--out", str(found)), found),
    Stage("report", "Report", ("report", str(out)), out / "report.html"),
]
signal.signal(signal.SIGTERM, signal.default_int_handler)
with exclusive(out) as lock:
    sys.exit(Demo(out, stages, lock).run())
"""


def start(out: Path) -> subprocess.Popen[str]:
    """Starts the chain in a session of its own."""
    command = [sys.executable, "-c", CHAIN, str(out)]

    def heed_ctrl_c() -> None:  # a shell's background jobs, this test perhaps among them, are started to ignore it
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=heed_ctrl_c,
    )


def wait_for(condition, seconds: float = 60.0) -> None:
    """Polls until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def metrics(out: Path) -> str:
    path = out / "train" / "metrics.jsonl"
    return path.read_text() if path.exists() else ""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="children that follow their parent's death need Linux")
def test_a_demo_goes_on_after_ctrl_c_and_after_kill_9(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    first = start(out)
    wait_for(lambda: '"step": 1000' in metrics(out))
    first.send_signal(signal.SIGINT)
    words, _ = first.communicate(timeout=60)
    assert first.returncode == 130, words
    assert "goes on from here" in words
    assert any((out / "train" / "checkpoint").iterdir())

    second = start(out)
    wait_for(lambda: '"step": 2000' in metrics(out))
    os.kill(second.pid, signal.SIGKILL)
    second.communicate(timeout=60)

    third = start(out)  # at once: waits until the orphaned training has saved and ended
    words, _ = third.communicate(timeout=200)
    assert third.returncode == 0, words
    assert "report.html" in words
    rows = [json.loads(line) for line in metrics(out).splitlines()]
    steps = [row["step"] for row in rows if row["kind"] == "train"]
    assert steps == sorted(set(steps)), "the training went on instead of starting anew"
    assert "Learning curve" in (out / "report.html").read_text()

    fourth = start(out)
    words, _ = fourth.communicate(timeout=60)
    assert fourth.returncode == 0
    assert words.count("done before") == 3, words


def test_fast_leaves_training_out_and_takes_the_shipped_policy(tmp_path: Path) -> None:
    names = [stage.name for stage in planned(tmp_path, fast=True, steps=1, seed=0)]
    assert "train" not in names
    assert "export" not in names
    full: list[Stage] = planned(tmp_path, fast=False, steps=1, seed=0)
    assert [stage.name for stage in full][:3] == ["train", "evaluate", "export"]
    assert "pd" in full[0].title
