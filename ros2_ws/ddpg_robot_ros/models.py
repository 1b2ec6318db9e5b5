"""Which MJCF model stands in for a robot. Needs no MuJoCo."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from xml.etree import ElementTree

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.spec import RobotSpec


def find_model(text: str) -> Path:
    """An MJCF file: a path, or the name of a model in ddpg_robot_sim or Gymnasium.

    Raises:
        ConfigError: there is no such file.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return path
    models = {**gymnasium_models(), **shipped_models()}
    if text not in models:
        raise ConfigError(mismatch("model", repr(text), "an MJCF file, a shipped model or one of Gymnasium's", models))
    return models[text]


def model_of(robot: RobotSpec) -> Path:
    """The shipped or Gymnasium model whose motors drive exactly the robot's joints; of several, the one of its name.

    Raises:
        ConfigError: there is none.
    """
    models = {**gymnasium_models(), **shipped_models()}
    fitting = {name: file for name, file in models.items() if sorted(_driven(file)) == sorted(robot.joint_names)}
    if robot.name in fitting:
        return fitting[robot.name]
    if len(fitting) != 1:
        found = ", ".join(fitting) or "none"
        hint = "Name an MJCF file in the plant's parameter model"
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
