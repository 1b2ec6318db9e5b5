"""What the words on the command line stand for: extras, tasks, policies, runs. Imports every room, lazily."""

from __future__ import annotations

import difflib
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ddpg_robot.errors import ConfigError, MissingExtraError, mismatch
from ddpg_robot.spec import PolicyInterface

Act = Callable[[Any], Any]

UNIT_LENGTH = 1e-6
"""A quaternion in float32 is no nearer to length one."""
EXTRAS = {
    "train": ("torch", "gymnasium", "safetensors", "rich", "tensorboard"),
    "sim": ("gymnasium", "mujoco", *(() if sys.version_info >= (3, 11) else ("tomli",))),
    "export": ("onnx", "torch", "safetensors"),
    "ros": ("rclpy", "nav_msgs"),
    "bag": ("mcap",),
    "fit": ("scipy",),
    "bench": ("stable_baselines3", "matplotlib"),
}
"""Extra -> the modules that its sub-commands import."""


def need(*extras: str) -> None:
    """Checks that extras are installed.

    Raises:
        MissingExtraError: at least one is not; names it and the pip line that installs it.
    """
    absent = {extra: [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None] for extra in extras}
    missing = {extra: names for extra, names in absent.items() if names}
    if missing:
        modules = ", ".join(dict.fromkeys(name for names in missing.values() for name in names))
        hint = f'pip install "ddpg-robot[{",".join(missing)}]"'
        if "ros" in missing:
            hint += " (rclpy wheels: Linux x86-64; elsewhere source a ROS 2 installation)"
        extra = f"extra {', '.join(missing)}"
        raise MissingExtraError(mismatch("installed packages", f"no {modules}", extra, hint=hint))


def import_tasks() -> dict[str, str]:
    """Registers this package's tasks with Gymnasium; returns short name -> Gymnasium id, empty without MuJoCo."""
    try:
        from ddpg_robot_sim import TASKS
    except ModuleNotFoundError:
        return {}
    return dict(TASKS)


def is_robot_task(name: str) -> bool:
    """True for this package's tasks and for task files, which need MuJoCo; a Gymnasium id may do without."""
    return is_robot_file(name) or (
        ":" not in name and ("/" not in name or name.startswith("ddpg_robot/")) and "-v" not in name
    )


def task_id(name: str) -> str:
    """The Gymnasium id of a task given by short name or id.

    Raises:
        ConfigError: neither a short name nor a registered id; lists the valid choices.
    """
    import gymnasium

    tasks = import_tasks()
    if name in tasks:
        return tasks[name]
    if ":" in name or name in gymnasium.registry:
        return name
    known = difflib.get_close_matches(name, gymnasium.registry, n=3)
    raise ConfigError(mismatch("task", repr(name), "a task or a Gymnasium id", [*tasks, *known]))


def is_robot_file(name: str) -> bool:
    """True for the path of a task file: a robot of one's own."""
    return Path(name).suffix == ".toml"


def task_of(name: str) -> tuple[str, dict[str, Any]]:
    """The Gymnasium id of a task, and the keyword arguments that its name stands for: those of a task file.

    Raises:
        ConfigError: neither a task file that can be read, nor a task; says what is wrong.
    """
    if not is_robot_file(name):
        return task_id(name), {}
    need("sim")
    from ddpg_robot_sim import ROBOT_REACH
    from ddpg_robot_sim.robot_file import read_robot_file

    return ROBOT_REACH, {"robot": read_robot_file(Path(name)).content()}


def model_for(policy: Path, robot: str | None) -> str | None:
    """What the plant simulates for a policy: the task file, None for the shipped model of the policy's robot.

    Raises:
        ConfigError: the policy's robot has a task file and none is given, or the file's robot is another one.
    """
    from ddpg_robot.policy import read_manifest
    from ddpg_robot.spec_json import to_dict

    manifest = read_manifest(policy)
    if robot is None:
        if manifest.training.robot_file is not None:
            raise ConfigError(wants_robot_file(policy.name, manifest.robot.name, "--robot"))
        return None
    need("sim")
    from ddpg_robot_sim.robot_file import read_robot_file
    from ddpg_robot_sim.robot_model import compile_robot, robot_spec

    file = read_robot_file(Path(robot))
    found, wanted = to_dict(robot_spec(file, compile_robot(file))), to_dict(manifest.robot)
    if json.dumps(found) != json.dumps(wanted):
        path, one, other = first_difference(found, wanted, "robot")
        raise ConfigError(mismatch(f"{path} of {robot}", one, f"the policy's {other}"))
    return str(Path(robot).expanduser().resolve())


def wants_robot_file(policy: str, robot: str, option: str) -> str:
    """The message for a policy whose robot is in nobody's package."""
    expected = f"its task file as well: {option} FILE.toml"
    return mismatch(f"robot of policy '{policy}'", f"'{robot}', which has a task file of its own", expected)


def policy_path(source: str) -> Path:
    """The file of a policy given by path, or by the name of a shipped one.

    Raises:
        PolicyFileError: a bare name that is neither.
    """
    from ddpg_robot.policy import shipped_policy

    path = Path(source)
    return path if path.exists() or path.suffix or len(path.parts) > 1 else shipped_policy(source)


def actor_of(source: str, task: str | None, options: dict[str, Any] | None = None) -> tuple[Act, str, dict[str, Any]]:
    """Opens a run directory or a policy file.

    Args:
        source: of the actor.
        task: when it is not the one that it was trained on.
        options: keyword arguments of the task that differ from those of its training.

    Returns:
        Flat observation -> action in [-1, 1]; the Gymnasium id and keyword arguments of its task.

    Raises:
        DdpgRobotError: it cannot be opened, or does not fit the task.
    """
    if Path(source).is_dir():
        need("train")
        import_tasks()
        from ddpg_robot.learn.checkpoint import load_policy

        run = load_policy(Path(source))
        name, own = task_of(task or run.task["task"])
        return run.act, name, {**run.task["task_kwargs"], **own, **(options or {})}
    from ddpg_robot.policy import OnnxPolicy

    policy = OnnxPolicy.open(policy_path(source))
    if task is None and policy.manifest.training.robot_file is not None:
        raise ConfigError(wants_robot_file(source, policy.manifest.robot.name, "--task"))
    name, own = task_of(task or policy.manifest.training.task)
    kwargs = {**task_keywords(name, policy.interface), **own, **(options or {})}
    return policy_act(policy, name, kwargs), name, kwargs


def task_keywords(task: str, interface: PolicyInterface) -> dict[str, Any]:
    """The keyword arguments that make a task the one of a policy's interface, as the task's class says them.

    Of a Gymnasium task those that leave out what no policy file can have seen.
    """
    creator = creator_of(task)
    return dict(creator.keywords_of(interface)) if hasattr(creator, "keywords_of") else left_out(task)


def left_out(task: str) -> dict[str, Any]:
    """The keyword arguments that leave out of a Gymnasium task's observation what no robot measures; empty for other tasks."""
    from ddpg_robot_sim.measurable import measurable

    creator = creator_of(task)
    return {} if creator is None else measurable(creator)


def creator_of(task: str) -> Any:
    """The class behind a Gymnasium id, or a function; None where that is not known."""
    import gymnasium
    from gymnasium.envs.registration import load_env_creator

    spec = gymnasium.registry.get(task)
    try:
        return load_env_creator(spec.entry_point) if spec and isinstance(spec.entry_point, str) else None
    except (gymnasium.error.Error, ImportError, AttributeError):  # who makes the task will say it
        return None


def policy_act(policy: Any, task: str, kwargs: dict[str, Any]) -> Act:
    """A policy file as the task sees an agent: flat observation in, action in [-1, 1] out.

    It meets what a robot would say: Gymnasium begins episodes with a quaternion that is of another length than one.

    Raises:
        ConfigError: the task's robot, control or observation is not the policy's.
    """
    import numpy as np

    from ddpg_robot.learn.tasks import open_task
    from ddpg_robot.spec_json import to_dict
    from ddpg_robot_sim.gymnasium_robot import robot_of

    with open_task(task, kwargs, robot_of) as opened:
        described = opened.describe()
    if described["interface"] is None:
        raise ConfigError(mismatch(f"robot of task '{task}'", "none", f"'{policy.manifest.robot.name}'"))
    for part in ("robot", "control", "observation"):
        found, wanted = described["interface"][part], to_dict(getattr(policy.interface, part))
        if json.dumps(found) != json.dumps(wanted):
            path, one, other = first_difference(found, wanted, part)
            raise ConfigError(mismatch(f"{path} of task '{task}'", one, f"the policy's {other}"))
    terms = policy.interface.observation.terms
    ends = np.cumsum([term.size for term in terms])[:-1]
    offset, scale = np.array(described["action_offset"]), np.array(described["action_scale"])
    relative = described.get("target_relative", False)

    def act(observation: Any) -> Any:
        parts = np.split(observation[None], ends, axis=1)  # (1, size) each
        named = {term.name: part for term, part in zip(terms, parts)}
        if "base_orientation" in named:
            length = np.linalg.norm(named["base_orientation"])
            if abs(length - 1) > UNIT_LENGTH:
                named["base_orientation"] = named["base_orientation"] / length
        output = policy.infer(named)[0]
        if relative:
            output = output - named["joint_position"][0]
        return (output - offset) / scale

    return act


def first_difference(found: Any, wanted: Any, path: str) -> tuple[str, Any, Any]:
    """Where two JSON values differ first: path, value here, value there."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in wanted:
            if json.dumps(found.get(key)) != json.dumps(wanted[key]):
                return first_difference(found.get(key), wanted[key], f"{path}.{key}")
    if isinstance(found, (list, tuple)) and isinstance(wanted, (list, tuple)) and len(found) == len(wanted):
        for i, (one, other) in enumerate(zip(found, wanted)):
            if json.dumps(one) != json.dumps(other):
                return first_difference(one, other, f"{path}[{i}]")
    return path, found, wanted
