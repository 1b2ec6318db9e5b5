"""Which MJCF model stands in for a robot. Needs no MuJoCo."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from xml.etree import ElementTree

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.spec import RobotSpec


def find_model(text: str) -> Path:
    """An MJCF file, or the task file of a robot of one's own: a path, or the name of a model in ddpg_robot_sim or Gymnasium.

    Raises:
        ConfigError: there is no such file.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return path
    models = {**gymnasium_models(), **shipped_models()}
    if text not in models:
        expected = "an MJCF file, a task file (.toml), a shipped model or one of Gymnasium's"
        raise ConfigError(mismatch("model", repr(text), expected, models))
    return models[text]


def model_of(robot: RobotSpec, own_file: bool = False) -> Path:
    """The shipped or Gymnasium model whose motors drive exactly the robot's joints; of several, the one of its name.

    Args:
        robot: of a policy.
        own_file: it has a task file of its own: then its joints may have the names of a shipped one's, and nobody guesses.

    Raises:
        ConfigError: there is none, or the robot has a file of its own.
    """
    models = {**gymnasium_models(), **shipped_models()}
    named = sorted(robot.joint_names)
    fitting = {} if own_file else {name: file for name, file in models.items() if sorted(_driven(file)) == named}
    if robot.name in fitting:
        return fitting[robot.name]
    if len(fitting) != 1:
        found = ", ".join(fitting) or "none"
        hint = "Name an MJCF file or the robot's task file in the plant's parameter model; `deploy` has --robot"
        raise ConfigError(mismatch(f"models with the joints of robot '{robot.name}'", found, "one", models, hint=hint))
    return next(iter(fitting.values()))


def shipped_models() -> dict[str, Path]:
    """Name -> file of the models in ddpg_robot_sim; empty where it is not installed."""
    return _models("ddpg_robot_sim", "models")


def gymnasium_models() -> dict[str, Path]:
    """Name -> file of the models of Gymnasium's MuJoCo tasks; empty where it is not installed."""
    return _models("gymnasium", "envs/mujoco/assets")


def _models(package: str, folder: str) -> dict[str, Path]:
    spec = importlib.util.find_spec(package)  # locates the package without importing it
    if spec is None or not spec.submodule_search_locations:
        return {}
    return {file.stem: file for file in sorted((Path(spec.submodule_search_locations[0]) / folder).glob("*.xml"))}


def _driven(model: Path) -> list[str]:
    return [str(motor.get("joint")) for motor in ElementTree.parse(model).iterfind("actuator/motor")]
