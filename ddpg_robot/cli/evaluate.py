"""Sub-command that measures a run or a policy, in process and over ROS."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from ddpg_robot.cli.arguments import Flag, OutFile, Pairs
from ddpg_robot.cli.sources import actor_of, is_robot_file, model_for, need, policy_path
from ddpg_robot.cli.terminal import EpisodeProgress, figures, key_values, print_table
from ddpg_robot.files import write_json


@dataclass(frozen=True)
class Evaluate:
    """Measure a run or a policy file on fresh episodes: success, error, return. `--ros` adds the same over real DDS."""

    source: Annotated[Positional[str], arg(metavar="RUN_OR_POLICY")]
    """Run directory, policy file, or the name of a shipped policy (arm_reach)."""
    task: Annotated[str | None, arg(metavar="TASK")] = None
    """Task, when it is not the one that it was trained on; of a policy for a robot of your own, its task file (my_arm.toml)."""
    episodes: int = 100
    """Number of episodes."""
    task_option: Pairs = ()
    """Keyword of the task that differs from the training's, repeatable: --task-option randomization=strong."""
    seed: int = 1
    """Seed of the episodes; never those of training."""
    ros: Flag = False
    """Also deploy the policy over ROS 2 and send it the same targets or velocities as messages (policy files only)."""
    hold: float = 4.0
    """`--ros`: time for each target, s."""
    json: Flag = False
    """Print JSON instead of a table."""
    out: OutFile = None
    """Also write everything measured, episode by episode, to this JSON file."""

    def __call__(self) -> int:
        """Evaluates; returns the exit code."""
        need("sim", *(["ros"] if self.ros else []))
        from ddpg_robot.learn.evaluate import evaluate

        act, task, kwargs = actor_of(self.source, self.task, key_values("--task-option", self.task_option))
        results = {"in_process": evaluate(act, task, kwargs, self.episodes, self.seed, EpisodeProgress())}
        if self.ros:
            policy = policy_path(self.source)
            robot = self.task if self.task and is_robot_file(self.task) else None
            results["ros"] = over_ros(policy, task, kwargs, results["in_process"], self.hold, robot)
        found = results if self.ros else results["in_process"]
        if self.out:
            write_json(self.out, found)
        rows = {place: figures(result) for place, result in results.items()}
        if self.json:
            print(json.dumps(rows if self.ros else rows["in_process"], indent=2))
        else:
            print_table(rows)
        return 0


def over_ros(
    policy: Path,
    task: str,
    kwargs: dict[str, Any],
    measured: dict[str, Any],
    hold: float,
    robot: str | None = None,
) -> Any:
    """The episodes of an evaluation with the deployed policy: points to reach, velocities to walk at, or whole episodes.

    Args:
        policy: policy file.
        task: Gymnasium id of the task.
        kwargs: its keyword arguments.
        measured: what `evaluate` returned.
        hold: time for each target, s.
        robot: the robot's task file, where it has one of its own.
    """
    import numpy as np

    from ddpg_robot.policy import read_manifest
    from ddpg_robot_ros.processes import stolen_seconds
    from ddpg_robot_ros.trial import run_trial
    from ddpg_robot_ros.walk_trial import run_walk

    began, stolen = time.monotonic(), stolen_seconds()
    rows, progress = measured["per_episode"], EpisodeProgress("over ROS: episode")
    if rows[0]["target"] is None:
        result = _episodes_over_ros(policy, task, kwargs, [row["seed"] for row in rows], progress)
    else:
        run: Callable[..., dict[str, Any]] = run_walk
        if read_manifest(policy).command.kind == "point":
            model = model_for(policy, robot)
            run = partial(run_trial, plant_parameters={} if model is None else {"model": model})
        result = run(policy, np.array([row["target"] for row in rows]), hold_s=hold, progress=progress)
    # A virtual machine whose host gives its processors to others delays the robot's state; a policy that stops for that is right.
    result["stolen_percent"] = 100 * (stolen_seconds() - stolen) / (time.monotonic() - began)
    return result


def _episodes_over_ros(
    policy: Path,
    task: str,
    kwargs: dict[str, Any],
    seeds: list[int],
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Episodes of a Gymnasium task in lockstep: the task itself judges what the robot did."""
    from ddpg_robot.learn.evaluate import summary
    from ddpg_robot.learn.tasks import open_task
    from ddpg_robot_ros.episode_trial import run_episodes
    from ddpg_robot_sim.gymnasium_judge import GymnasiumJudge

    with open_task(task, kwargs) as opened:
        rows = run_episodes(policy, GymnasiumJudge(opened.env), seeds, progress)
    unknown: dict[str, Any] = {"success": None, "final_error": None, "limit_hit": None, "metrics": {}}
    return {**summary([{**unknown, **row} for row in rows]), "episodes": len(rows), "seed": None, "per_episode": rows}
