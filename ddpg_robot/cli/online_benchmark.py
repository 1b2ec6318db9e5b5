"""`ddpg-robot benchmark online`: a robot that has changed learns beside its work, beside a frozen policy and lesser learners."""

from __future__ import annotations

import functools
import itertools
import json
import math
import shutil
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from tyro.conf import arg

from ddpg_robot.cli.arguments import RunPath
from ddpg_robot.cli.online_result import compact, draw, print_trials
from ddpg_robot.cli.sources import actor_of, import_tasks, need
from ddpg_robot.cli.terminal import ProgressLine
from ddpg_robot.duration import duration
from ddpg_robot.errors import ConfigError, MissingExtraError, mismatch
from ddpg_robot.files import write_json

MARKS = (0, 2, 5, 10, 20, 30)
"""Minutes of robot time at which the policy that drives is evaluated by itself."""
NAIVE = ("--no-gate", "--robot-share", "1.0")
"""No gate, no probation, no simulated data; and noise that is forgotten from one run of the policy to the next."""
NAIVE_CORRELATION_S = 0.01
SCRATCH = ("--no-gate", "--robot-share", "1.0", "--progress", "0")
"""As naive, with the step sizes of the beginning; and with all the exploration that a policy file allows, remembered as usual."""
SCRATCH_SHARE = 0.1
CORRELATION_S = 0.15
LESSER = {"naive": NAIVE, "scratch": SCRATCH}
VARIANTS = ("online", "frozen", "naive", "scratch")


class Kind(NamedTuple):
    """What differs between an arm that reaches and a quadruped that walks."""

    payload: float
    """kg."""
    friction: float
    variants: tuple[str, ...]
    """Those that make sense."""
    evaluation: dict[str, Any]
    """Of the task, where a policy is evaluated by itself: episodes begin as those of the robot do."""
    success: str
    errors: tuple[str, str]
    """How far the robot is from what it is asked for: name in an episode, and in an evaluation."""
    unit: tuple[str, float]
    """In which that is shown, and its factor."""


KINDS = {
    "point": Kind(
        payload=1.0,
        friction=2.0,
        variants=VARIANTS,
        evaluation={},
        success="targets reached",
        errors=("final_error", "final_error_median_m"),
        unit=("mm", 1e3),
    ),
    "velocity": Kind(
        payload=5.0,
        friction=1.0,
        variants=VARIANTS[:3],  # who learns to walk from nothing needs a teacher, and on a robot there is none
        evaluation={"soft_start": False},
        success="commands followed",
        errors=("speed_error", "speed_error_m_s"),
        unit=("m/s", 1.0),
    ),
}
"""By the kind of the command."""


@dataclass(frozen=True)
class Online:
    """Let a robot that has changed learn beside its work, over ROS, in lockstep: success against minutes of robot time.

    An arm is asked for one target after the other, a quadruped for one velocity after the other. Every variant has the same
    commands, seed by seed. What is complete in the output directory is not run again, what was
    interrupted (Ctrl-C) is kept as far as it went, says so, and is begun again.
    """

    run: RunPath
    """Run directory of `arm_reach` or `quadruped_walk`, with its replay."""
    out: Annotated[Path, arg(metavar="DIR")] = Path("runs/online_benchmark")
    """Recordings, versions, result.json and result.png."""
    minutes: float = 30.0
    """Robot time of each variant."""
    seeds: int = 1
    """Seeds of the commands, from 0 on; what explores has none."""
    variants: Annotated[tuple[str, ...], arg(metavar="{online,frozen,naive,scratch} ...")] = ()
    """What runs: gated learning; no learning; neither gate nor simulated data, white noise; the same from an untrained actor (of
    an arm alone). Default: all."""
    payload: float | None = None
    """At the hand or on the trunk, kg; the firmware knows nothing of it. Default: 1 for an arm, 5 for a quadruped."""
    friction: float | None = None
    """Friction of the joints, a factor. Default: 2 for an arm, 1 for a quadruped."""
    strength: float = 0.85
    """Torque that the motors exert, a factor."""
    share: float = 0.02
    """Exploration: largest noise of a joint, as a share of its effort limit."""
    ratio: float = 1.0
    """Updates for each transition of the robot."""
    every: int = 1500
    """Transitions between two candidates."""
    episodes: int = 100
    """Episodes of an evaluation at a mark."""

    def __call__(self) -> int:
        """Runs it and prints a table; returns the exit code."""
        need("train", "sim", "export", "ros", "bag")
        for name in self.variants:
            if name not in VARIANTS:
                raise ConfigError(mismatch("variant", repr(name), "a known one", VARIANTS))
        import_tasks()
        return self._for(self._kind).measure()

    @functools.cached_property
    def _kind(self) -> Kind:
        """That of the run's robot."""
        from ddpg_robot.learn.rundir import RunDirectory

        task = RunDirectory(self.run).task()
        command = (task["interface"] or {"command": {"kind": "none"}})["command"]["kind"]
        if command not in KINDS:
            expected = "a point (arm_reach) or a velocity (quadruped_walk)"
            raise ConfigError(mismatch(f"command of task '{task['task']}'", command, expected))
        return KINDS[command]

    def _for(self, kind: Kind) -> Online:
        """The same with the defaults of a robot."""
        foreign = sorted(set(self.variants) - set(kind.variants))
        if foreign:
            raise ConfigError(mismatch("variant for this robot", foreign[0], "one that makes sense", kind.variants))
        own = {name: getattr(kind, name) for name in ("payload", "friction") if getattr(self, name) is None}
        return replace(self, variants=self.variants or kind.variants, **own)

    def measure(self) -> int:
        """Runs all variants; returns the exit code."""
        from ddpg_robot.learn.interruption import Interruption
        from ddpg_robot.learn.rundir import locked

        results: dict[str, list[dict[str, Any]]] = {}
        trials = list(itertools.product(range(self.seeds), self.variants))
        self.out.mkdir(parents=True, exist_ok=True)
        with locked(self.out), Interruption() as interruption:
            for number, (seed, name) in enumerate(trials, 1):
                progress = _Progress(f"trial {number}/{len(trials)} ({name}, seed {seed})", self.minutes)
                results.setdefault(name, []).append(self._measured(name, seed, progress, interruption))
                self._keep(results)
                if interruption.requested:
                    break
        print_trials(results, self._kind)
        return 130 if interruption.requested else 0

    def _keep(self, results: dict[str, list[dict[str, Any]]]) -> None:
        """Writes what is complete so far."""
        from ddpg_robot.learn.rundir import RunDirectory

        own = {name: value for name, value in asdict(self).items() if name not in ("run", "out")}
        settings = {**own, "training": RunDirectory(self.run).settings()}
        short = {name: [compact(trial, self._kind) for trial in trials] for name, trials in results.items()}
        write_json(self.out / "result.json", {"settings": settings, "variants": short})
        try:
            draw(results, self._kind, self.out / "result.png")
        except MissingExtraError as error:
            print(f"note: {error}", file=sys.stderr)

    def _policy(self, run: Path) -> Path:
        """A run's actor as a policy file."""
        from ddpg_robot_export.exporter import export_run

        path = self.out / f"{'scratch' if run == self._untrained else 'policy'}.onnx"
        if not path.is_file():
            export_run(run, path, "before")
        return path

    @property
    def _untrained(self) -> Path:
        return self.out / "untrained"

    def _begins_with(self, name: str) -> Path:
        """The run that a variant goes on from: for `scratch` one of random actions alone, which made no update."""
        if name != "scratch":
            return self.run
        from ddpg_robot.learn.config import TrainConfig
        from ddpg_robot.learn.rundir import RunDirectory
        from ddpg_robot.learn.trainer import train

        if not (self._untrained / "evaluation.json").is_file():
            known, task = RunDirectory(self.run).settings()["settings"], RunDirectory(self.run).task()
            steps = known["agent"]["warmup_steps"]
            few = {"eval_every": steps, "eval_episodes": 1, "final_eval_episodes": 1}
            config = TrainConfig(
                task["task"], task["task_kwargs"], preset=known["preset"], steps=steps, resume=True, **few
            )
            train(replace(config, out=self._untrained))
        return self._untrained

    def _measured(self, name: str, seed: int, progress: _Progress, interruption: Any) -> dict[str, Any]:
        from ddpg_robot_ros.benchmark.online import OnlineTrial, run_online

        where = self.out / f"{name}-{seed}"
        file = where / "result.json"
        known = dict(json.loads(file.read_text())) if file.is_file() else {}
        if known.get("complete"):
            return known
        shutil.rmtree(where, ignore_errors=True)  # it was interrupted
        where.mkdir(parents=True)
        run = self._begins_with(name)
        policy = self._policy(run)
        learner: tuple[str, ...] = ()
        if name != "frozen":
            # The benchmark's own figures; everything else is as `learner` has it. A plant in lockstep takes all the time that
            # there is: a learner that gives way would hear nothing of it.
            given = ["--ratio", str(self.ratio), "--every", str(self.every), "--nice", "0", *LESSER.get(name, ())]
            parts = ["learner", str(run), str(policy), "--out", str(where / "learner"), *given]
            learner = ("-m", "ddpg_robot.cli", *parts)
        share = SCRATCH_SHARE if name == "scratch" else self.share
        correlation = NAIVE_CORRELATION_S if name == "naive" else CORRELATION_S
        trial = OnlineTrial(policy, self._draw(), self.minutes, seed, where, learner, share, correlation)
        found: dict[str, Any] = run_online(trial, progress, lambda: interruption.requested)
        found["marks"] = self._evaluated(found, policy, where)
        found["candidates"] = _candidates(where / "learner" / "versions")
        shutil.rmtree(where / "record")  # a gigabyte an hour; what it says is in `found`
        write_json(file, found)
        return found

    def _ranges(self) -> dict[str, list[float | None]]:
        values = {"payload": self.payload, "joint_friction": self.friction, "motor_strength": self.strength}
        return {name: [value, value] for name, value in values.items()}

    def _draw(self) -> str:
        """The changed robot, as the plant takes it."""
        import gymnasium

        from ddpg_robot.learn.rundir import RunDirectory

        task = RunDirectory(self.run).task()
        made = gymnasium.make(task["task"], **{**task["task_kwargs"], "randomization": self._ranges()})
        _, info = made.reset(seed=0)
        return json.dumps(info["randomization"])

    def _evaluated(self, found: dict[str, Any], policy: Path, where: Path) -> dict[str, dict[str, float]]:
        """The policies that drove at each mark, without exploration, on episodes of their own with the same robot."""
        from ddpg_robot.learn.evaluate import evaluate
        from ddpg_robot.policy import read_manifest
        from ddpg_robot_ros.benchmark.online_work import WITHIN

        first = read_manifest(policy)
        files = {read_manifest(path).weights_sha256: path for path in (where / "learner" / "versions").glob("*.onnx")}
        files[first.weights_sha256] = policy
        marks: dict[str, dict[str, float]] = {}
        known: dict[str, dict[str, float]] = {}
        changed = {"randomization": self._ranges(), **self._kind.evaluation}
        for mark in (mark for mark in MARKS if mark <= found["minutes"] + 0.5):
            before = [row["weights"] for row in found["episodes"] if row["minute"] <= max(mark, 0.0)]
            weights = before[-1] if before else first.weights_sha256
            if weights not in known:
                act, task, kwargs = actor_of(str(files[weights]), None, changed)
                result = evaluate(act, task, kwargs, self.episodes, seed=1)
                names = (self._kind.errors[1], "return_mean", "limit_hit_rate")
                near = [_followed(row, WITHIN[first.command.kind]) for row in result["per_episode"]]
                known[weights] = {"success_rate": sum(near) / len(near), **{name: result[name] for name in names}}
            marks[str(mark)] = known[weights]
        return marks


def _followed(row: dict[str, Any], within: float) -> bool:
    """Success in an episode: of an arm the task's own, of a robot that walks to walk as it was told, too."""
    return bool(row["success"] and row["metrics"].get("speed_error_m_s", 0.0) <= within)


def _candidates(versions: Path) -> dict[str, int]:
    """How many versions were sent, kept, sent back and refused."""
    from ddpg_robot.versions import read_events

    events = [event.event for event in read_events([versions])] if versions.is_dir() else []
    return {name: events.count(name) for name in ("sent", "kept", "back", "refused")} if events else {}


class _Progress(ProgressLine):
    """How far a trial is, and how long the rest of it will take.

    Args:
        trial: which it is.
        minutes: of robot time that it has.
    """

    def __init__(self, trial: str, minutes: float) -> None:
        super().__init__()
        self._trial = trial
        self._minutes = minutes

    def __call__(self, robot: float, clock: float) -> None:
        """Shows that it has had so many minutes of robot time, in so many of this clock."""
        left = 60 * clock / robot * (self._minutes - robot) if robot > 0 else math.inf
        of = f"{robot:.1f}/{self._minutes:g} min of the robot"
        self.show(f"{self._trial}: {of}, ETA {duration(max(left, 0.0))}", robot >= self._minutes)
