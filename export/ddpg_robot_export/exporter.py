"""A trained actor becomes one self-describing ONNX file: behind the parity gate, written whole or not at all."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ddpg_robot.errors import ConfigError, PolicyFileError, mismatch
from ddpg_robot.learn.checkpoint import LoadedActor, load_actor
from ddpg_robot.learn.rundir import RunDirectory, read_json, write_file
from ddpg_robot.learn.tasks import RobotOf, open_task
from ddpg_robot.policy import METADATA_KEY, OnnxPolicy, graph_sha256
from ddpg_robot.spec import SCHEMA, ParityRecord, PolicyInterface, PolicyManifest, Scalar, TrainingRecord
from ddpg_robot.spec_json import from_dict, to_dict
from ddpg_robot_export.actor import DeployedActor
from ddpg_robot_export.graph import build_graph
from ddpg_robot_export.parity import check_parity, parity_observations

EXPLORATION_LIMIT = 0.1
"""What a policy file allows online learning, where nobody says otherwise: a tenth of each joint's effort limit."""


def export_run(
    run_dir: Path,
    out: Path,
    name: str | None = None,
    samples: int = 10_000,
    seed: int = 0,
    exploration_limit: float = EXPLORATION_LIMIT,
    robot_of: RobotOf | None = None,
) -> PolicyManifest:
    """Exports the best actor of a training run.

    Args:
        run_dir: directory of the run.
        out: the policy file, ``.onnx``; replaced in one step, or left as it was.
        name: of the policy; the file's name by default.
        samples: observations of the parity gate. They include rollouts when the task can be made here.
        seed: of the parity gate.
        exploration_limit: see `PolicyManifest`.
        robot_of: see `Task`; for a task that is no robot's by itself.

    Raises:
        RunDirectoryError: not a run directory.
        CheckpointError: nothing is saved in it, or it is damaged.
        ConfigError: the run's task has no robot, or its algorithm no actor.
        ParityError: the graph differs from torch; no file is written.
        PolicyFileError: the file could not be written.
    """
    run_dir, out = Path(run_dir), Path(out)
    loaded = load_actor(run_dir)
    task = loaded.task
    if task["interface"] is None and robot_of is not None:
        with open_task(task["task"], task["task_kwargs"], robot_of) as opened:
            task = opened.describe()
    if task["interface"] is None:
        hint = "A policy file is made for a robot"
        raise ConfigError(mismatch(f"robot interface of task '{task['task']}'", "none", "one", hint=hint))
    deployed = DeployedActor(
        from_dict(PolicyInterface, task["interface"]),
        loaded.normalizer,
        loaded.actor,
        np.array(task["action_offset"]),
        np.array(task["action_scale"]),
        task["target_relative"],
    )
    observations = parity_observations(deployed, task["task"], task["task_kwargs"], samples, seed, robot_of)
    record = _training_record(run_dir, loaded)
    return export_actor(deployed, record, observations, out, name or out.stem, exploration_limit)


def _training_record(run_dir: Path, loaded: LoadedActor) -> TrainingRecord:
    file = RunDirectory(run_dir).evaluation_file
    evaluation = read_json(file) if file.is_file() else {}
    if evaluation.get("step") != loaded.steps:  # of another actor: the training was interrupted since
        evaluation = {}
    return TrainingRecord(
        task=loaded.task["task"],
        task_hash=loaded.task["task_hash"],
        algorithm=loaded.settings["settings"]["algorithm"].upper(),
        preset=loaded.settings["settings"]["preset"] or "none",
        config_hash=loaded.settings["config_hash"],
        seed=loaded.seed,
        steps=loaded.steps,
        evaluation={key: value for key, value in evaluation.items() if key != "per_episode"},
        code_version=loaded.settings["versions"]["ddpg_robot"],
        robot_file=_robot_file(loaded.task["task_kwargs"].get("robot")),
    )


def _robot_file(content: Mapping[str, Any] | None) -> dict[str, Scalar] | None:
    """What a robot's task file said, keys joined by dots; of the model's path only the name: the rest is this machine's."""
    if content is None:
        return None
    flat: dict[str, Scalar] = {}

    def put(key: str, value: Any) -> None:
        if isinstance(value, (Mapping, list, tuple)):
            for name, item in value.items() if isinstance(value, Mapping) else enumerate(value):
                put(f"{key}.{name}" if key else str(name), item)
        else:
            flat[key] = value

    put("", {**content, "model": Path(str(content.get("model"))).name})
    return flat


def export_actor(
    deployed: DeployedActor,
    training: TrainingRecord,
    observations: np.ndarray,
    out: Path,
    name: str,
    exploration_limit: float = EXPLORATION_LIMIT,
) -> PolicyManifest:
    """Writes a policy file if the graph reproduces the actor on every observation.

    Args:
        deployed: the trained actor.
        training: where it comes from.
        observations: flat observations of the parity gate ``(samples, size)``, float32.
        out: the file; replaced in one step, or left as it was.
        name: of the policy.
        exploration_limit: see `PolicyManifest`.

    Raises:
        ParityError: the graph differs from torch; no file is written.
        SpecError: an exploration limit out of range.
        PolicyFileError: the file could not be written, or would be refused by its readers.
    """
    model = build_graph(deployed)
    interface = deployed.interface
    manifest = PolicyManifest(
        schema=SCHEMA,
        name=name,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        robot=interface.robot,
        control=interface.control,
        observation=interface.observation,
        command=interface.command,
        training=training,
        parity=ParityRecord(samples=0, max_abs_error=0.0),
        weights_sha256=graph_sha256(model.SerializeToString()),
        exploration_limit=exploration_limit,
    )
    draft = OnnxPolicy(_serialize(model, manifest), "the exported graph")
    manifest = dataclasses.replace(manifest, parity=check_parity(deployed, draft, observations))
    data = _serialize(model, manifest)
    OnnxPolicy(data, str(out))
    _write(out, data)
    return manifest


def _serialize(model: onnx.ModelProto, manifest: PolicyManifest) -> bytes:
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(to_dict(manifest), allow_nan=False)})
    return model.SerializeToString()


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, data)
    except OSError as error:
        raise PolicyFileError(
            mismatch(f"cannot write '{path}'", error.strerror, "a writable disk with space")
        ) from error
