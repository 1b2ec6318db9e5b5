"""`benchmark learn` as a user calls it: real trainings in processes of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ddpg_robot.cli import main

pytest.importorskip("torch")
LEARN = ("benchmark", "learn", "--suite", "gym")
SETTINGS = ("actor_hidden=[8]", "critic_hidden=[8]", "batch_size=8", "warmup_steps=50")
TINY = tuple(word for setting in SETTINGS for word in ("--set", setting))


def command(out: Path, *words: object, tasks: tuple[str, ...] = ("Pendulum-v1",), steps: int = 300) -> list[str]:
    return [*LEARN, "--tasks", *tasks, "--steps", str(steps), *TINY, "--out", str(out), *map(str, words)]


def ends(words: list[str] | tuple[str, ...]) -> int:
    """Runs the command line in this process; returns its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished benchmark of two runs."""
    out = tmp_path_factory.mktemp("benchmark") / "out"
    assert ends(command(out, "--seeds", 0, 1, "--publish", out.parent / "docs")) == 0
    return out


def test_a_benchmark_leaves_and_publishes_json_and_table(benchmark: Path) -> None:
    result = json.loads((benchmark / "learn_gym_ddpg.json").read_text())
    assert result["incomplete"] == []
    assert [run["seed"] for run in result["tasks"]["Pendulum-v1"]["runs"]] == [0, 1]
    assert all(run["finished"] and run["curve"]["step"] == [300] for run in result["tasks"]["Pendulum-v1"]["runs"])
    assert result["settings"]["actor_hidden"] == [8]
    assert {"torch", "gymnasium", "ddpg_robot"} <= result["versions"].keys()
    assert "| Pendulum-v1 |" in (benchmark / "learn_gym_ddpg.md").read_text()
    for path in benchmark.glob("learn_*"):
        assert (benchmark.parent / "docs" / path.name).read_bytes() == path.read_bytes()


def test_runs_that_are_finished_are_not_trained_again(benchmark: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (benchmark / "runs").rglob("*")}
    assert ends(command(benchmark, "--seeds", 0, 1)) == 0
    assert {path: path.stat().st_mtime_ns for path in (benchmark / "runs").rglob("*")} == before


def test_without_matplotlib_the_json_is_written_and_the_extra_named(benchmark: Path) -> None:
    (benchmark / "learn_gym_ddpg.json").unlink()
    program = (
        "import sys; sys.modules['matplotlib'] = None; from ddpg_robot.cli import main; "
        f"main({command(benchmark, '--seeds', 0, 1, '--collect-only')!r})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done
    assert 'no matplotlib, expected extra bench. pip install "ddpg-robot[bench]"' in done.stderr
    assert (benchmark / "learn_gym_ddpg.json").exists()


def test_runs_that_another_machine_has_finished_are_taken_over(benchmark: Path, tmp_path: Path) -> None:
    there, out = benchmark / "learn_gym_ddpg.json", tmp_path / "out"
    assert ends(command(out, "--seeds", 1, 2, "--adopt", there)) == 0
    assert [path.name for path in sorted((out / "runs" / "Pendulum-v1").iterdir())] == ["seed2", "seed2.log"]
    result, adopted = (json.loads((path / "learn_gym_ddpg.json").read_text()) for path in (out, benchmark))
    assert (result["seeds"], result["incomplete"]) == ([0, 1, 2], [])
    assert result["tasks"]["Pendulum-v1"]["runs"][:2] == adopted["tasks"]["Pendulum-v1"]["runs"]
    assert result["machine"] == adopted["machine"]


def test_the_result_of_another_benchmark_is_not_taken_over(
    benchmark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, out = benchmark / "learn_gym_ddpg.json", tmp_path / "out"
    assert ends(command(out, "--adopt", there, steps=400)) == 2
    assert (
        "'learn_gym_ddpg' is the result of another benchmark: steps: found 300, expected 400" in capsys.readouterr().err
    )
    assert not out.exists()


def test_another_benchmark_is_not_mixed_in(benchmark: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(command(benchmark, steps=400)) == 2
    assert "holds another benchmark: steps: found 300, expected 400" in capsys.readouterr().err


def test_a_run_that_fails_is_named_and_does_not_stop_the_others(tmp_path: Path) -> None:
    words = command(tmp_path / "out", "--seeds", 0, tasks=("CartPole-v1", "Pendulum-v1"), steps=100)
    program = [sys.executable, "-m", "ddpg_robot.cli", *words]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done
    last = done.stderr.splitlines()[-1]
    assert last.startswith("failed: CartPole-v1 seed 0, exit code 2: error: action space of task 'CartPole-v1'")
    result = json.loads((tmp_path / "out" / "learn_gym_ddpg.json").read_text())
    assert [row["task"] for row in result["incomplete"]] == ["CartPole-v1"]
    assert result["tasks"]["Pendulum-v1"]["runs"][0]["finished"]


def test_ctrl_c_saves_every_run_and_the_same_command_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    words = command(out, "--seeds", 0, 1, 2, steps=4500)
    with log.open("w") as stream:
        process = subprocess.Popen([sys.executable, "-m", "ddpg_robot.cli", *words], stdout=stream, stderr=stream)
    runs = [out / "runs" / "Pendulum-v1" / f"seed{seed}" for seed in (0, 1)]
    while not all((run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text() for run in runs):
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)
    assert ends(words) == 2
    assert "in use by another process" in capsys.readouterr().err
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130, log.read_text()
    assert "Traceback" not in log.read_text()
    for run in runs:
        assert "stopped at step" in run.with_suffix(".log").read_text()
        assert list((run / "checkpoint").glob("step-*"))
    assert not runs[0].with_name("seed2").exists()

    assert ends([*words, "--collect-only"]) == 0
    assert "Not finished: Pendulum-v1 seed 0 (step" in capsys.readouterr().out
    assert ends(words) == 0
    result = json.loads((out / "learn_gym_ddpg.json").read_text())
    assert result["incomplete"] == []
    for run in runs:
        steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").open()]
        assert steps == [1000, 2000, 3000, 4000, 4500]


def test_an_ablation_trains_each_variant_and_leaves_one_table(tmp_path: Path) -> None:
    words = ["benchmark", "ablate", "--preset", "paper", "--tasks", "Pendulum-v1", "--seeds", "100", "--steps", "300"]
    words += [*TINY, "--set", "critic_action_layer=0"]
    assert ends([*words, "--out", str(tmp_path / "out"), "--publish", str(tmp_path / "docs")]) == 0
    result = json.loads((tmp_path / "docs" / "ablate_paper.json").read_text())["results"]
    assert [row["name"] for row in result] == ["nothing"]  # the paper deviates from itself in nothing
    assert result[0]["tasks"]["Pendulum-v1"]["runs"][0]["finished"]
    assert "| nothing    |" in (tmp_path / "docs" / "ablate_paper.md").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--suite", "gim"], "suite: found 'gim', expected a known suite (valid choices: arm, gym, ladder)"),
        (["--preset", "papr"], "preset: found 'papr', expected a known preset (valid choices:"),
        (["--algorithm", "sac"], "algorithm: found 'sac', expected a known algorithm (valid choices: ddpg,"),
        (["--algorithm", "dqn", "--preset", "paper"], "expected none: presets are ddpg's, and this is dqn"),
        (["--algorithm", "dqn", "--peer", "sb3_td3"], "--peer and --algorithm: found sb3_td3 and dqn"),
        (["--tasks", "Hoper-v5"], "task: found 'Hoper-v5', expected a task or a Gymnasium id (valid choices: Hopper"),
        (["--suite", "arm", "--tasks", "arm_reech"], "(valid choices: arm_reach_effort, arm_reach_pd)"),
        (["--tasks", "Hopper-v5", "Hopper-v5"], "tasks: found Hopper-v5 Hopper-v5, expected each task once"),
        (["--seeds"], "seeds: found none, expected at least one"),
        (["--seeds", "1", "2", "1"], "seeds: found 1 2 1, expected each seed once"),
        (["--seeds", "-1"], "seed: found -1"),
        (["--steps", "0"], "steps: found 0, expected a positive whole number"),
        (["--jobs", "0"], "jobs: found 0, expected a positive whole number"),
        (["--set", "gama=1"], "setting: found 'gama'"),
        (["--beside", "nothing.json"], "file 'nothing.json': found unreadable"),
        (["--collect-only"], "found no benchmark.json, expected the --out of a benchmark"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends([*LEARN, "--out", str(tmp_path / "out"), *words]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.count("\n") == 1
    assert found.err.startswith("error: ")
    assert says in found.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", ["inference", "loop", "train", "learn", "ladder"])
def test_each_benchmark_has_its_own_options(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(["benchmark", what, "--help"]) == 0
    shown = capsys.readouterr().out
    own = {"inference": "--seconds", "loop": "--rate", "train": "--rounds", "learn": "--suite", "ladder": "--repeats"}
    assert own[what] in shown
    assert ("--policy" in shown) == (what in ("inference", "loop"))
