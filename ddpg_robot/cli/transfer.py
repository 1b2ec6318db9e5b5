"""`ddpg-robot transfer`: how a policy does on robots that differ from the model, beside what could be done and chance."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from ddpg_robot.cli.arguments import OutDir, Pairs
from ddpg_robot.cli.sources import Act, actor_of, need, policy_path
from ddpg_robot.cli.terminal import EpisodeProgress, key_values, print_table
from ddpg_robot.errors import ConfigError, MissingExtraError, mismatch
from ddpg_robot.files import write_json, write_whole

Result = dict[str, Any]
Actor = tuple[Callable[[Any], Act], Result]
"""What makes an actor of an open task, and the task's keyword arguments."""

ROS_TARGETS = 5
KEPT = 0.9
"""Part of the nominal success that counts as kept."""
FILM_FPS, FILM_SECONDS = 10.0, 5.0
FIGURES = ("success_rate", "return_mean", "length_mean", "final_error_median_m", "limit_hit_rate", "speed_error_m_s")


@dataclass(frozen=True)
class Transfer:
    """Measure a policy on robots that differ: axis by axis, two at a time, and all together; writes a page of heat maps."""

    source: Annotated[Positional[str], arg(metavar="RUN_OR_POLICY")]
    """Run directory, policy file, or the name of a shipped policy."""
    task: Annotated[str | None, arg(metavar="TASK")] = None
    """Task, when it is not the one that it was trained on."""
    beside: Annotated[str | None, arg(metavar="RUN_OR_POLICY")] = None
    """Another policy for the same task, measured under the same stress: one trained without randomisation, say."""
    episodes: int = 100
    """Episodes on the robot as modelled, and under the whole stress."""
    cell_episodes: int = 20
    """Episodes under each part of the stress, at each level of an axis and in each cell of a grid; 0 leaves these out."""
    task_option: Pairs = ()
    """Keyword of the task that differs from the training's, repeatable."""
    seed: int = 21
    """Seed of the episodes; never those of training."""
    film: bool = True
    """Film a success and a failure under the stress."""
    ros: int = 0
    """Robots drawn under the whole stress that are driven over ROS 2 too, each for `ROS_TARGETS` commands (policy files only)."""
    out: OutDir = None
    """Directory of `transfer.json` and `transfer.html`. Default: runs/transfer-NAME."""

    def __call__(self) -> int:
        """Measures and writes; returns the exit code."""
        need("sim", *(["ros"] if self.ros else []))
        from ddpg_robot.report.transfer import transfer_page
        from ddpg_robot_sim.render import prefer_offscreen

        prefer_offscreen()  # before MuJoCo is imported
        if self.episodes < 1 or self.cell_episodes < 0 or self.ros < 0:
            found = f"{self.episodes}, {self.cell_episodes}, {self.ros}"
            raise ConfigError(mismatch("episodes, cell-episodes, ros", found, "at least 1, 0 or more, 0 or more"))
        if self.ros and Path(self.source).is_dir():
            raise ConfigError(mismatch("--ros", f"the run directory {self.source}", "a policy file: export the run"))
        out = self.out or Path("runs") / f"transfer-{Path(self.source).stem}"
        bench = Bench(self.source, self.task, key_values("--task-option", self.task_option), self.seed)
        result = bench.measure(self.episodes, self.cell_episodes, self.beside)
        if self.ros:
            result["ros"] = over_ros(policy_path(self.source), result["stress"]["policy"]["together"], self.ros)
        pictures = film(bench, result) if self.film else []
        for who in result["stress"]:
            for row in result["stress"][who].values():
                row.pop("per_episode", None)
        write_json(out / "transfer.json", result)
        write_whole(out / "transfer.html", transfer_page(result, pictures))
        together = {who: rows["together"] for who, rows in result["stress"].items()}
        print_table({who: {name: row.get(name) for name in FIGURES} for who, row in together.items()})
        if self.ros:
            print(f"Over ROS: {100 * result['ros']['success_rate']:.0f} % of {result['ros']['episodes']} commands.")
        print(
            f"Keeps {100 * result['kept']:.0f} % of its success under the whole stress. Page: {out / 'transfer.html'}"
        )
        return 0


class Bench:
    """A policy, the task that it is for, and robots of that task which differ.

    Raises:
        DdpgRobotError: the policy cannot be opened or does not fit the task; the task has no randomisation.
    """

    def __init__(self, source: str, task: str | None, options: Result, seed: int) -> None:
        self.source, self.seed = source, seed
        self.act, self.task, self.kwargs = actor_of(source, task, {**options, "randomization": "off"})
        self._tell: Callable[[int, int], None] | None = None

    @contextmanager
    def opened(self, ranges: Any, kwargs: Result | None = None) -> Iterator[Any]:
        """The task with robots of these ranges; `kwargs` where another policy needs other ones."""
        from ddpg_robot.learn.tasks import open_task
        from ddpg_robot_sim.changes import as_option

        with open_task(self.task, {**(kwargs or self.kwargs), "randomization": as_option(ranges)}) as opened:
            yield opened

    def run(self, ranges: Any, episodes: int, actor: Actor | None = None) -> Result:
        """An evaluation on robots of these ranges; by default of the policy."""
        from ddpg_robot.learn.evaluate import evaluate_task

        make, kwargs = actor or (lambda _: self.act, self.kwargs)
        with self.opened(ranges, kwargs) as opened:
            act = make(opened)
            result = evaluate_task(act, opened, episodes, self.seed, self._tell)
        return {name: value for name, value in result.items() if value is not None}

    def measure(self, episodes: int, cell_episodes: int, beside: str | None) -> Result:
        """Everything that the page shows."""
        from ddpg_robot_sim.changes import AXES, GRIDS, STRESS, corner, stressed
        from ddpg_robot_sim.randomization import Randomization

        actors: dict[str, Actor | None] = {"policy": None, "random": (self._random, self.kwargs)}
        with self.opened(Randomization()) as opened:
            if opened.has_teacher:
                actors["reference"] = (lambda task: lambda _: task.teacher_action(), self.kwargs)
        if beside is not None:
            other, _, kwargs = actor_of(beside, self.task, {"randomization": "off"})
            actors["beside"] = (lambda _: other, kwargs)  # its own gains, for one, on the same robots and targets
        robots = {"nominal": (Randomization(), episodes), "together": (stressed(), episodes)}
        if cell_episodes:
            ends = {"light, slippery, weak": corner(0), "heavy, stiff, strong": corner(1)}
            parts = {part: stressed(part) for part in STRESS}
            robots |= {name: (ranges, cell_episodes) for name, ranges in {**parts, **ends}.items()}
        measured = [who for who in ("policy", "beside") if who in actors and cell_episodes]
        levels = sum(len(axis.levels) for axis in AXES.values())
        cells = len(measured) * sum(len(AXES[across].coarse) * len(AXES[up].coarse) for across, up in GRIDS)
        everything = len(actors) * sum(count for _, count in robots.values()) + cell_episodes * (levels + cells)
        progress, done = EpisodeProgress(), itertools.count(1)
        self._tell = lambda *_: progress(next(done), everything)
        stress = {
            who: {name: self.run(ranges, count, actor) for name, (ranges, count) in robots.items()}
            for who, actor in actors.items()
        }
        nominal = stress["policy"]["nominal"]["success_rate"]
        axes = self._along_axes(cell_episodes, KEPT * nominal) if cell_episodes else {}
        grids = [grid for who in measured for grid in self._on_grids(cell_episodes, who, actors[who])]
        kept = stress["policy"]["together"]["success_rate"] / nominal if nominal else 0.0
        return {
            "policy": Path(self.source).stem, "beside": beside and Path(beside).stem, "task": self.task,
            "control_mode": self.kwargs.get("control_mode"), "seed": self.seed, "episodes": episodes,
            "cell_episodes": cell_episodes, "kept": kept, "scores": scores(stress), "stress": stress,
            "axes": axes, "grids": grids,
        }  # fmt: skip

    def _along_axes(self, episodes: int, bar: float) -> Result:
        """Success at each level of each axis, and the first levels at which it is under the bar."""
        from ddpg_robot_sim.changes import AXES, changed

        axes = {}
        for name, axis in AXES.items():
            rates = [self.run(changed(**{name: level}), episodes)["success_rate"] for level in axis.levels]
            fails = failing(axis.levels, rates, axis.nominal, bar)
            axes[name] = {"words": axis.words, "unit": axis.unit, "levels": list(axis.levels)}
            axes[name] |= {"success_rate": rates, "first_failing": fails}
        return axes

    def _on_grids(self, episodes: int, who: str, actor: Actor | None) -> list[Result]:
        """Success in each cell of two axes."""
        from ddpg_robot_sim.changes import AXES, GRIDS, changed

        def success(**levels: float) -> float:
            return float(self.run(changed(**levels), episodes, actor)["success_rate"])

        grids = []
        for across, up in GRIDS:
            xs, ys = AXES[across].coarse, AXES[up].coarse
            rates = [[success(**{across: x, up: y}) for x in xs] for y in ys]
            labels = {"x": AXES[across].label, "y": AXES[up].label}
            grids.append({"who": who, **labels, "xs": list(xs), "ys": list(ys), "success_rate": rates})
        return grids

    def _random(self, task: Any) -> Act:
        import numpy as np

        rng = np.random.default_rng(self.seed)
        return lambda _: rng.uniform(-1.0, 1.0, task.action_size)


def over_ros(policy: Path, measured: Result, robots: int) -> Result:
    """Drives the first robots of an evaluation over ROS: each a plant with its draw, real delays of DDS on top.

    Args:
        policy: its file.
        measured: an evaluation whose episodes have draws.
        robots: how many; each is given the targets of the next `ROS_TARGETS` episodes, its own first.
    """
    import json

    import numpy as np

    from ddpg_robot.policy import read_manifest
    from ddpg_robot_ros.trial import run_trial
    from ddpg_robot_ros.walk_trial import run_walk

    rows = measured["per_episode"]
    point = read_manifest(policy).command.kind == "point"
    found, progress = [], EpisodeProgress("over ROS: robot")
    for robot, row in enumerate(rows[:robots]):
        targets = np.array([rows[(robot + k) % len(rows)]["target"] for k in range(ROS_TARGETS)])
        drawn = {"draw": json.dumps(row["randomization"])}
        hold = {"hold_s": 4.0 if point else 20.0}
        result = (run_trial if point else run_walk)(policy, targets, plant_parameters=drawn, **hold)
        ends = [{"trip": one.get("trip") or "", "final_error": one.get("final_error")} for one in result["per_episode"]]
        found.append({"success_rate": result["success_rate"], "targets": ends})
        progress(robot + 1, min(robots, len(rows)))
    rate = float(np.mean([one["success_rate"] for one in found]))
    return {"success_rate": rate, "episodes": ROS_TARGETS * len(found), "robots": found}


def scores(stress: dict[str, dict[str, Result]]) -> dict[str, dict[str, float | None]]:
    """``(policy - random) / (reference - random)`` of the mean returns, for each robot.

    None where the reference succeeds no more often than chance, and measures nothing; empty without a reference.
    """
    if "reference" not in stress:
        return {}

    def score(who: str, robot: str) -> float | None:
        own, low, high = (stress[one][robot] for one in (who, "random", "reference"))
        if high["success_rate"] <= low["success_rate"] or high["return_mean"] <= low["return_mean"]:
            return None
        return float((own["return_mean"] - low["return_mean"]) / (high["return_mean"] - low["return_mean"]))

    return {who: {robot: score(who, robot) for robot in stress[who]} for who in ("policy", "beside") if who in stress}


def failing(levels: Any, rates: list[float], nominal: float, bar: float) -> dict[str, float | None]:
    """The first level below and above the nominal one whose success is under the bar; None where none is."""
    below = [level for level, rate in zip(levels, rates) if level < nominal and rate < bar]
    above = [level for level, rate in zip(levels, rates) if level > nominal and rate < bar]
    return {"below": max(below, default=None), "above": min(above, default=None)}


def film(bench: Bench, found: Result) -> list[tuple[str, str]]:
    """A success and a failure under the whole stress: (image element, caption) each; a remark where nothing can be drawn."""
    from ddpg_robot.report.pictures import film_element
    from ddpg_robot_sim.changes import stressed

    rows = found["stress"]["policy"]["together"]["per_episode"]
    chosen = {word: next((row for row in rows if row["success"] is ok), None) for word, ok in WORDS.items()}
    films = []
    try:
        with bench.opened(stressed()) as opened:
            for word, row in chosen.items():
                if row is not None:
                    frames = _frames(bench.act, opened, row)
                    films.append((film_element(frames, FILM_FPS, word), f"{word}, episode seed {row['seed']}"))
    except MissingExtraError as error:
        return [("", f"No films: {error}.")]
    return films


WORDS = {"A success under the whole stress": True, "A failure under the whole stress": False}


def _frames(act: Act, opened: Any, row: Result) -> list[Any]:
    """The last seconds of an episode; a failure's end is what one wants to see, and a success holds what it has."""
    robot = opened.env.unwrapped
    period = robot.interface.control.period
    every, last = round(1 / (FILM_FPS * period)), row["length"]
    first = max(0, last - round(FILM_SECONDS / period))
    observation, _ = opened.reset(row["seed"])
    frames = []
    for step in range(last):
        observation = opened.step(act(observation)).observation
        if step >= first and (step % every == 0 or step == last - 1):
            frames.append(robot.render())
    return frames
