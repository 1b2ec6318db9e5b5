"""Small real policies for tests: the core's two-joint arm, an actor that torch made, a file that the exporter wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from core.robots import two_joint_interface

from ddpg_robot.learn.config import resolve_agent
from ddpg_robot.learn.networks import Actor
from ddpg_robot.learn.normalizer import Normalizer
from ddpg_robot.policy import METADATA_KEY, graph_sha256
from ddpg_robot.spec import TrainingRecord
from ddpg_robot_export.actor import DeployedActor
from ddpg_robot_export.exporter import export_actor
from ddpg_robot_export.probes import uniform_observations

TRAINING = TrainingRecord(
    task="tests/TwoJoint-v0",
    task_hash="0" * 64,
    algorithm="DDPG",
    preset="ddpg",
    config_hash="1" * 64,
    seed=3,
    steps=1000,
    evaluation={"success_rate": 0.5},
    code_version="0.1",
)


def deployed_actor(mode: str = "effort", relative: bool = False, preset: str = "ddpg", **settings) -> DeployedActor:
    """A random actor with a normaliser that has seen states of the arm."""
    torch.manual_seed(1)
    interface = two_joint_interface(mode)
    size, n = interface.observation.size, interface.robot.n_joints
    config = resolve_agent(preset, {"actor_hidden": [32, 24], "actor_final_init": 0.3, **settings})
    actor = Actor(size, n, config).train()
    normalizer = Normalizer(size, config.normalize_observations)
    observations = uniform_observations(interface, 500, np.random.default_rng(1))
    for observation in observations:
        normalizer.observe(observation)
    actor(normalizer(torch.from_numpy(observations)))  # lets batch normalisation see the data
    offset = np.array([0.1, 1.0 / 3.0]) if mode == "pd" and not relative else np.zeros(n)
    return DeployedActor(interface, normalizer, actor, offset, np.array([2.5, 7.7]), relative)


def write_policy(path: Path, deployed: DeployedActor | None = None, samples: int = 10_000) -> Path:
    """Exports an actor (a random one in mode effort by default), parity gate and all."""
    deployed = deployed or deployed_actor()
    observations = uniform_observations(deployed.interface, samples, np.random.default_rng(2))
    export_actor(deployed, TRAINING, observations, path, path.stem)
    return path


def mutate(data: bytes, edit: Callable[[onnx.ModelProto], object], keep_hash: bool = False) -> bytes:
    """A policy file with its model edited; its manifest states the new graph's hash unless `keep_hash`."""
    model = onnx.load_model_from_string(data)
    edit(model)
    found = [entry for entry in model.metadata_props if entry.key == METADATA_KEY]
    if not keep_hash and found:
        found[0].value = found[0].value.replace(graph_sha256(data), hash_of_graph(model))
    return model.SerializeToString()


def hash_of_graph(model: onnx.ModelProto) -> str:
    """The hash of the graph as onnx itself serializes it."""
    return hashlib.sha256(model.graph.SerializeToString()).hexdigest()
