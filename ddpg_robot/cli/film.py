"""The film at the top of a report: the arm on its way to the first targets, as recorded over ROS or in process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ddpg_robot.cli.sources import actor_of
from ddpg_robot.errors import MissingExtraError
from ddpg_robot.report.pictures import Pictures, film_element

FILMED, FILMED_SECONDS = 4, 1.7
"""Targets in the film, and how much of each: rendering without a graphics card takes a tenth of a second per frame."""
FRAMES_PER_SECOND = 10.0
SIZE = (640, 480)


def film_of(run: Path) -> Pictures:
    """Renders the film for a demo's directory; a remark instead where MuJoCo or OpenGL is missing."""
    try:
        from ddpg_robot_sim.render import prefer_offscreen, render_arm

        prefer_offscreen()
        recorded, robot = read_paths(run), None
        if recorded is None:
            recorded, robot = simulated_paths(run)
        if not recorded:
            return Pictures()
        paths = [thin(*path) for path in recorded[:FILMED]]
        positions = np.concatenate([positions for positions, _ in paths])
        targets = np.concatenate([np.tile(target, (len(positions), 1)) for positions, target in paths])
        frames = list(render_arm(positions, targets, SIZE, robot))
    except (MissingExtraError, ModuleNotFoundError) as error:
        return Pictures(remark=f"No film, drawings only. {error}")
    where = "recorded over ROS 2" if (run / "ros.json").exists() else "in process"
    caption = f"The first {len(paths)} targets, {where}. Orange: the path of the hand."
    return Pictures(film_element(frames, FRAMES_PER_SECOND, "the arm reaches one target after the other"), caption)


def read_paths(run: Path) -> list[tuple[Any, Any, Any]] | None:
    """Times ``(k,)`` s, joint positions ``(k, n)`` rad and target per episode of `ros.json`; None without the file."""
    file = run / "ros.json"
    if not file.exists():
        return None
    rows = json.loads(file.read_text())["ros"]["per_episode"]
    return [(np.array(row["time"]), np.array(row["position"]), np.array(row["target"])) for row in rows]


def simulated_paths(run: Path) -> tuple[list[tuple[Any, Any, Any]], Any]:
    """The same from the task itself, for a machine without ROS, and the task; empty for a run whose task is not to reach."""
    source = next((path for path in (run / "policy.onnx", run / "train", run) if path.is_file() or is_run(path)), None)
    if source is None:
        return [], None
    act, task, kwargs = actor_of(str(source), None)
    import gymnasium

    env: Any = gymnasium.make(task, **kwargs)
    robot = env.unwrapped
    paths = []
    reaches = hasattr(robot, "interface") and robot.interface.command.kind == "point"
    for number in range(FILMED if reaches else 0):
        observation, _ = env.reset(seed=number, options={"keep_pose": number > 0})
        positions, over = [robot.truth.position.copy()], False
        while not over:
            observation, _, terminated, truncated, _ = env.step(np.clip(act(observation), -1.0, 1.0))
            positions.append(robot.truth.position.copy())
            over = terminated or truncated
        times = np.arange(len(positions)) * robot.interface.control.period
        paths.append((times, np.array(positions), robot.command.values.copy()))
    env.close()
    return paths, robot


def is_run(path: Path) -> bool:
    """True for the directory of a training run with something learned."""
    return (path / "settings.json").exists() and (path / "best").exists()


def thin(times: Any, positions: Any, target: Any) -> tuple[Any, Any]:
    """Positions at the film's rate ``(frames, n)``, and the target."""
    moments = np.arange(times[0], min(times[-1], times[0] + FILMED_SECONDS), 1 / FRAMES_PER_SECOND)
    return positions[np.searchsorted(times, moments).clip(max=len(times) - 1)], target
