"""Which MJCF model stands in for a robot. Needs no MuJoCo."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from xml.etree import ElementTree

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.spec import PolicyManifest


def find_model(text: str) -> Path:
    """An MJCF file, or the task file of a robot of one's own: a path, or the name of a model in ddpg_robot_sim.

    Raises:
        ConfigError: there is no such file.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return path
    shipped = shipped_models()
    if text not in shipped:
        raise ConfigError(
            mismatch("model", repr(text), "an MJCF file, a task file (.toml) or a shipped model", shipped)
        )
    return shipped[text]


def model_of(manifest: PolicyManifest) -> Path:
    """The shipped model whose motors drive exactly the joints of a policy's robot.

    Raises:
        ConfigError: there is none, or the robot has a task file of its own: its joints may have the names of a shipped one's.
    """
    robot, shipped = manifest.robot, shipped_models()
    for file in () if manifest.training.robot_file is not None else shipped.values():
        driven = [motor.get("joint") for motor in ElementTree.parse(file).iterfind("actuator/motor")]
        if sorted(map(str, driven)) == sorted(robot.joint_names):
            return file
    hint = "Name an MJCF file or the robot's task file in the plant's parameter model; `deploy` has --robot"
    raise ConfigError(mismatch(f"models with the joints of robot '{robot.name}'", "none", "one", shipped, hint=hint))


def shipped_models() -> dict[str, Path]:
    """Name -> file of the models in ddpg_robot_sim; empty where it is not installed."""
    spec = importlib.util.find_spec("ddpg_robot_sim")  # locates the package without importing it
    if spec is None or not spec.submodule_search_locations:
        return {}
    return {file.stem: file for file in sorted((Path(spec.submodule_search_locations[0]) / "models").glob("*.xml"))}
