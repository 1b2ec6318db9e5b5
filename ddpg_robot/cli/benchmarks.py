"""The sub-commands of `ddpg-robot benchmark`."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Union

from tyro.conf import arg, subcommand

from ddpg_robot.cli.arguments import Flag, OutDir, OutFile, Pairs, PolicyOption
from ddpg_robot.cli.online_benchmark import Online
from ddpg_robot.cli.sources import import_tasks, need, policy_path, task_id
from ddpg_robot.cli.terminal import key_values
from ddpg_robot.cli.timing import Loop, Soak
from ddpg_robot.errors import ConfigError, MissingExtraError, mismatch
from ddpg_robot.files import write_json, write_whole

Tasks = dict[str, tuple[str, dict[str, Any]]]

GYM = ("HalfCheetah", "Hopper", "Walker2d", "Ant", "Swimmer", "Humanoid", "Reacher", "Pusher")
LADDER = ("MountainCarContinuous-v0", "Pendulum-v1", "HalfCheetah-v5", "arm_reach")
SUITES: dict[str, Tasks] = {
    "arm": {f"arm_reach_{mode}": ("arm_reach", {"control_mode": mode}) for mode in ("effort", "pd")},
    "gym": {f"{name}-v5": (f"{name}-v5", {}) for name in GYM},
    "ladder": {name: (name, {}) for name in LADDER},
}
"""Suite -> name of each task -> task as `train` takes it, and its keyword arguments."""
STEPS = {"arm": 150_000, "gym": 1_000_000, "ladder": 100_000}
PEER_STEPS = 300_000
"""Environment steps of a run, where nothing else is said."""
EVALUATIONS = {"arm": (5000, 20), "gym": (10_000, 10), "ladder": (5000, 10)}
"""Suite -> environment steps between evaluations, and episodes of one."""


@dataclass(frozen=True)
class Inference:
    """Time one step of a policy, from robot state to safe effort."""

    policy: PolicyOption = "arm_reach"
    """Policy file, or the name of a shipped policy."""
    seconds: float = 10.0
    """Duration of each measurement, s."""
    out: OutFile = None
    """Also write the figures to this JSON file."""

    def __call__(self) -> int:
        """Measures and prints a table; returns the exit code."""
        path = policy_path(self.policy)
        need("export")
        from ddpg_robot_export.latency import benchmark_inference

        result = benchmark_inference(path, self.seconds)
        if self.out:
            write_json(self.out, result)
        return 0


@dataclass(frozen=True)
class Train:
    """Time training: environment steps per second with one update each, beside other libraries if installed."""

    steps: int = 3000
    """Measured environment steps of each process."""
    rounds: int = 3
    """How often each contestant runs."""
    envs: Annotated[tuple[int, ...], arg(metavar="N ...")] = ()
    """Also measure preset ddpg with so many environments, with one update per step and with one per step of them all."""
    out: OutFile = None
    """Also write the figures to this JSON file."""

    def __call__(self) -> int:
        """Measures and prints a table; returns the exit code."""
        need("train", "sim")
        from ddpg_robot.learn.throughput import benchmark_train

        result = benchmark_train(self.steps, self.rounds, self.envs)
        if self.out:
            write_json(self.out, result)
        return 0


@dataclass(frozen=True)
class Replay:
    """Measure the replay: its memory, and what adding and sampling cost as it fills. Sizes are those of Ant-v5."""

    observations: int = 105
    """Numbers per observation."""
    actions: int = 8
    """Numbers per action."""
    capacity: int = 1_000_000
    """Transitions."""
    out: OutFile = None
    """Also write the figures to this JSON file."""

    def __call__(self) -> int:
        """Measures and prints a table; returns the exit code."""
        need("train")
        from ddpg_robot.learn.replay_cost import benchmark_replay

        result = benchmark_replay(self.observations, self.actions, self.capacity)
        if self.out:
            write_json(self.out, result)
        return 0


@dataclass(frozen=True)
class Learn:
    """Measure how well a preset learns: several tasks and seeds, their curves drawn beside published figures.

    One `train` per task and seed, some side by side. Ctrl-C saves them all, the same command goes on; more tasks or seeds
    may be asked for later. Writes learn_SUITE_PRESET.json, .md and .png (PRESET: the baseline's or the peer's name instead).
    """

    suite: Annotated[str, arg(metavar="{arm,gym,ladder}")]
    """Tasks: arm_reach in both control modes, eight of Gymnasium's MuJoCo tasks, or the four of docs/why-ddpg.md."""
    algorithm: str = "ddpg"
    """Algorithm, as of `train`."""
    preset: str = "ddpg"
    """Hyperparameters, as of `train`."""
    peer: Annotated[str | None, arg(metavar="{sb3_ddpg,sb3_td3}")] = None
    """Instead of a preset: Stable-Baselines3's agent with its own hyperparameters and Gaussian noise of 0.1. An
    interrupted run of a peer starts again from the beginning."""
    tasks: Annotated[tuple[str, ...], arg(metavar="TASK ...")] = ()
    """Only these tasks; suites gym and ladder take any Gymnasium id. Default: all of the suite."""
    seeds: Annotated[tuple[int, ...], arg(metavar="N ...")] = (0, 1, 2)
    """Seeds of the runs of each task."""
    steps: int | None = None
    """Environment steps of each run. Default: 150,000 (arm), 1,000,000 (gym), 100,000 (ladder), 300,000 (peers)."""
    jobs: int = 2
    """Runs side by side, one thread each."""
    set: Pairs = ()
    """Hyperparameter that differs, repeatable, as of `train`; for a peer, an argument of its class or noise_sigma."""
    out: OutDir = None
    """Directory of the benchmark. Default: runs/learn_SUITE_PRESET."""
    publish: OutDir = None
    """Also copy JSON, table and picture to this directory."""
    beside: Annotated[tuple[Path, ...], arg(metavar="JSON ...")] = ()
    """Results of other benchmarks of this suite, for the same picture and table."""
    adopt: Annotated[tuple[Path, ...], arg(metavar="JSON ...")] = ()
    """Results of this very benchmark from another machine: their finished runs are taken over instead of trained."""
    collect_only: Flag = False
    """Train nothing: collect, draw and compare what is there, finished or not."""

    def __call__(self) -> int:
        """Trains, collects, compares; returns the exit code: 1 when a run failed."""
        for option, given in (("preset", self.preset), ("algorithm", self.algorithm)):
            if self.peer and given != "ddpg":
                raise ConfigError(mismatch(f"--peer and --{option}", f"{self.peer} and {given}", "one of them"))
        need("train", "sim", *(["bench"] if self.peer else []))
        from ddpg_robot.learn.suite.collect import collect, finished_runs, read_result, write_result
        from ddpg_robot.learn.suite.run import train_all
        from ddpg_robot.learn.suite.table import markdown

        if self.jobs < 1:
            raise ConfigError(mismatch("jobs", self.jobs, "a positive whole number"))
        beside, adopted = ([read_result(path) for path in paths] for paths in (self.beside, self.adopt))
        asked = self.plan()
        plan = asked.joined(adopted)
        failed: dict[str, str] = {}
        if not self.collect_only:
            done = finished_runs(adopted)
            with plan.opened() as lock:
                failed = train_all([run for run in asked.runs() if run.name not in done], self.jobs, lock)
        result = collect(plan.recorded(), adopted)
        page = markdown(result, beside)
        file = plan.out / f"{plan.name}.json"
        write_result(result, file)
        write_whole(file.with_suffix(".md"), page)
        print(page)
        self.draw(result, beside, file.with_suffix(".png"))
        if self.publish:
            publish(plan.out, f"{plan.name}.*", self.publish)
        return say_failed(failed)

    def plan(self) -> Any:
        """The benchmark that was asked for.

        Raises:
            ConfigError: an unknown suite, task, algorithm, preset, peer or setting, or unsuitable seeds or steps.
        """
        from ddpg_robot.learn.config import TrainConfig
        from ddpg_robot.learn.peers import PeerConfig
        from ddpg_robot.learn.suite.plan import Plan

        tasks = chosen_tasks(self.suite, self.tasks)
        if self.peer:  # trains without the command line, so its tasks say which module registers them
            own = import_tasks().values()
            tasks = {
                name: (f"ddpg_robot_sim:{task}" if task in own else task, kw) for name, (task, kw) in tasks.items()
            }
        template = (PeerConfig if self.peer else TrainConfig)(
            task=self.suite,
            algorithm=self.algorithm,
            preset=self.peer or self.preset,
            steps=self.steps if self.steps is not None else PEER_STEPS if self.peer else STEPS[self.suite],
            overrides=key_values("--set", self.set),
            eval_every=EVALUATIONS[self.suite][0],
            eval_episodes=EVALUATIONS[self.suite][1],
            keep_replay=False,
        )
        out = self.out or Path("runs") / f"learn_{self.suite}_{template.label}"
        return Plan(self.suite, tasks, self.seeds, template, out)

    def draw(self, result: Any, beside: list[Any], path: Path) -> None:
        """Draws the curves; without matplotlib, a note says what would do it."""
        from ddpg_robot.learn.suite.draw import draw

        try:
            draw(result, beside, path)
        except MissingExtraError as error:
            print(f"note: {error}", file=sys.stderr)


def publish(out: Path, pattern: str, directory: Path) -> None:
    """Copies the results of a benchmark to a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for path in out.glob(pattern):
        (directory / path.name).write_bytes(path.read_bytes())


def say_failed(failed: dict[str, str]) -> int:
    """Prints the runs that failed, each with the reason; returns the exit code."""
    for name, reason in failed.items():
        print(f"failed: {name}, {reason}", file=sys.stderr)
    return 1 if failed else 0


def chosen_tasks(suite: str, names: tuple[str, ...]) -> Tasks:
    """Name -> Gymnasium id and keyword arguments; all tasks of the suite without names.

    Raises:
        ConfigError: an unknown suite or task, or a task twice.
    """
    if suite not in SUITES:
        raise ConfigError(mismatch("suite", repr(suite), "a known suite", SUITES))
    known = SUITES[suite]
    if len(set(names)) < len(names):
        raise ConfigError(mismatch("tasks", " ".join(names), "each task once"))
    for name in names:
        if suite == "arm" and name not in known:
            raise ConfigError(mismatch("task", repr(name), f"a task of suite {suite}", known))
    found = {name: known.get(name, (name, {})) for name in names or known}
    return {name: (task_id(task), kwargs) for name, (task, kwargs) in found.items()}


@dataclass(frozen=True)
class Ablate:
    """Measure what each setting of a preset is worth: train with one at a time as the paper has it.

    Ctrl-C saves all trainings, the same command goes on. Writes ablate_PRESET.json and .md.
    """

    preset: str = "ddpg"
    """Preset whose deviations are taken back."""
    tasks: Annotated[tuple[str, ...], arg(metavar="TASK ...")] = ("HalfCheetah-v5", "Hopper-v5")
    """Gymnasium ids."""
    seeds: Annotated[tuple[int, ...], arg(metavar="N ...")] = (100, 101)
    """Seeds of the runs of each task."""
    steps: int = 100_000
    """Environment steps of each run."""
    jobs: int = 2
    """Runs side by side, one thread each."""
    set: Pairs = ()
    """Hyperparameter that differs in all runs, repeatable, as of `train`."""
    out: OutDir = None
    """Directory of the benchmark. Default: runs/ablate_PRESET."""
    publish: OutDir = None
    """Also copy JSON and table to this directory."""

    def __call__(self) -> int:
        """Trains and compares; returns the exit code: 1 when a run failed."""
        need("train", "sim")
        from ddpg_robot.learn.suite.ablation import without_each
        from ddpg_robot.learn.suite.collect import collect, write_result
        from ddpg_robot.learn.suite.run import train_all
        from ddpg_robot.learn.suite.table import comparison

        out = self.out or Path("runs") / f"ablate_{self.preset}"
        learn = Learn(
            "gym", preset=self.preset, tasks=self.tasks, seeds=self.seeds, steps=self.steps, set=self.set, out=out
        )
        plans = without_each(learn.plan(), "paper")
        with contextlib.ExitStack() as stack:
            lock, *_ = [stack.enter_context(plan.opened()) for plan in plans.values()]
            failed = train_all([run for plan in plans.values() for run in plan.runs()], self.jobs, lock)
        results = [{**collect(plan), "name": text} for text, plan in plans.items()]
        seeds = " ".join(map(str, self.seeds))
        page = f"# Preset {self.preset}, one setting at a time as in preset paper\n\n{self.steps:,} environment steps, "
        page += f"seeds {seeds}. Score: mean of a run's last 10 evaluations.\n\n{comparison(results, 'taken back')}\n"
        file = out / f"ablate_{self.preset}.json"
        write_result({"results": results}, file)
        write_whole(file.with_suffix(".md"), page)
        print(page)
        if self.publish:
            publish(out, f"ablate_{self.preset}.*", self.publish)
        return say_failed(failed)


@dataclass(frozen=True)
class Ladder:
    """Time one action and one update of DDPG and of the methods that led to it, as joints go from 1 to 7."""

    repeats: int = 30
    """Timed pairs of calls of each; the fastest counts."""
    out: OutFile = None
    """Also write the figures to this JSON file, and their picture beside it."""

    def __call__(self) -> int:
        """Measures and prints a table; returns the exit code."""
        need("train")
        from ddpg_robot.learn.scaling import benchmark_scaling, draw_scaling

        result = benchmark_scaling(self.repeats)
        if self.out:
            write_json(self.out, result)
            try:
                draw_scaling(result, self.out.with_suffix(".png"))
            except MissingExtraError as error:
                print(f"note: {error}", file=sys.stderr)
        return 0


@dataclass(frozen=True)
class Benchmark:
    """Measure: inference, loop, a long run, training speed, replay, how well agents learn and why, learning on the robot."""

    what: Annotated[
        Union[  # noqa: UP007 - tyro reads the annotations
            Annotated[Inference, subcommand("inference")],
            Annotated[Loop, subcommand("loop")],
            Annotated[Soak, subcommand("soak")],
            Annotated[Train, subcommand("train")],
            Annotated[Replay, subcommand("replay")],
            Annotated[Learn, subcommand("learn")],
            Annotated[Ablate, subcommand("ablate")],
            Annotated[Ladder, subcommand("ladder")],
            Annotated[Online, subcommand("online")],
        ],
        arg(name=""),
    ]
    """What to measure."""

    def __call__(self) -> int:
        """Measures; returns the exit code."""
        return self.what()
