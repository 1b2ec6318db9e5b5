from __future__ import annotations

import dataclasses
import json
import resource

import gymnasium
import numpy as np
import onnx
import pytest
import torch
from policy_factory import TRAINING, deployed_actor, write_policy
from torch import nn

import ddpg_robot_sim
from ddpg_robot.errors import ConfigError, ParityError, PolicyFileError, RunDirectoryError
from ddpg_robot.learn.checkpoint import load_actor
from ddpg_robot.learn.config import TrainConfig
from ddpg_robot.learn.trainer import train
from ddpg_robot.policy import METADATA_KEY, OnnxPolicy, read_manifest
from ddpg_robot.spec_json import to_dict
from ddpg_robot_export import exporter
from ddpg_robot_export.actor import DeployedActor
from ddpg_robot_export.exporter import export_actor, export_run
from ddpg_robot_export.graph import IR_VERSION, OPSET, build_graph
from ddpg_robot_export.parity import check_parity, parity_observations
from ddpg_robot_export.probes import TOLERANCE, output_range, run_one_by_one, uniform_observations

ACTORS = {
    "effort": {},
    "pd": {"mode": "pd"},
    "relative pd": {"mode": "pd", "relative": True},
    "batch norm": {"preset": "paper"},
    "embedding": {"preset": "max", "embedding": 24},
    "no normaliser": {"normalize_observations": False},
}


def observations(deployed: DeployedActor, count: int = 500) -> np.ndarray:
    return uniform_observations(deployed.interface, count, np.random.default_rng(5))


@pytest.mark.parametrize("settings", ACTORS.values(), ids=ACTORS)
def test_an_exported_policy_gives_what_torch_gives(settings, tmp_path):
    deployed = deployed_actor(**settings)
    policy = OnnxPolicy.open(write_policy(tmp_path / "p.onnx", deployed, samples=500))
    seen = observations(deployed)
    expected = deployed.flat(seen)
    assert np.ptp(expected, axis=0).min() > 0.5  # the actor does something
    assert np.abs(run_one_by_one(policy, seen) - expected).max() < TOLERANCE * output_range(deployed.interface).min()
    assert policy.manifest.parity.max_abs_error <= TOLERANCE


@pytest.mark.parametrize("settings", ACTORS.values(), ids=ACTORS)
def test_a_nan_in_any_input_comes_out_as_nan_so_that_the_safety_filter_sees_it(settings, tmp_path):
    deployed = deployed_actor(**settings)
    policy = OnnxPolicy.open(write_policy(tmp_path / "p.onnx", deployed, samples=100))
    size = deployed.interface.observation.size
    spoilt = np.where(np.eye(size, dtype=bool), np.nan, observations(deployed, size)).astype(np.float32)
    assert np.isnan(run_one_by_one(policy, spoilt)).all()


def test_relative_targets_follow_the_joints():
    deployed = deployed_actor("pd", relative=True)
    seen = observations(deployed)
    position = seen[:, :2]
    assert np.abs(deployed.flat(seen) - position).max() <= deployed.scale.max() * 1.001


def test_relative_targets_need_the_joint_positions():
    deployed = deployed_actor("effort")
    with pytest.raises(ConfigError, match="mode pd with term joint_position"):
        DeployedActor(deployed.interface, deployed.normalizer, deployed.actor, np.zeros(2), np.ones(2), True)


def test_sizes_that_do_not_fit_are_refused():
    deployed = deployed_actor()
    with pytest.raises(ConfigError, match="action scale"):
        DeployedActor(deployed.interface, deployed.normalizer, deployed.actor, np.zeros(2), np.ones(3))


def test_the_graph_has_no_more_nodes_than_it_needs():
    graph = build_graph(deployed_actor()).graph
    layers = ["Gemm", "Relu", "Gemm", "Relu", "Gemm", "Tanh"]
    assert [node.op_type for node in graph.node] == ["Concat", "Sub", "Mul", "Clip", *layers, "Mul"]
    paper = build_graph(deployed_actor(preset="paper")).graph
    assert [node.op_type for node in paper.node] == ["Concat", "Mul", "Add", *layers, "Mul"]


def test_the_format_is_old_enough_for_old_runtimes():
    model = build_graph(deployed_actor())
    assert (model.ir_version, model.opset_import[0].version) == (IR_VERSION, OPSET) == (8, 17)
    assert {weight.data_type for weight in model.graph.initializer} == {onnx.TensorProto.FLOAT}


@pytest.mark.parametrize(
    "layer", [nn.LayerNorm(24), nn.ELU(0.7), nn.Tanh(), nn.BatchNorm1d(24)], ids=lambda x: type(x).__name__
)
def test_other_layers_of_an_actor_are_exported_too(layer, tmp_path):
    deployed = deployed_actor()
    layers = list(deployed.actor.mlp)
    deployed.actor.mlp = nn.Sequential(*layers[:-1], layer, layers[-1]).requires_grad_(False).eval()
    assert write_policy(tmp_path / "p.onnx", deployed, samples=200).exists()


def test_a_layer_that_cannot_be_exported_is_named():
    deployed = deployed_actor()
    deployed.actor.mlp.append(nn.Softshrink())
    with pytest.raises(ConfigError, match=r"found Softshrink, expected .* \(valid choices: BatchNorm1d, ELU"):
        build_graph(deployed)


def test_the_manifest_is_json_at_full_precision(tmp_path):
    deployed = deployed_actor("pd")
    record = dataclasses.replace(TRAINING, evaluation={"return_mean": 1 / 3, "success_rate": None})
    manifest = export_actor(deployed, record, observations(deployed), tmp_path / "p.onnx", "third")
    (entry,) = onnx.load(tmp_path / "p.onnx").metadata_props
    assert entry.key == METADATA_KEY
    assert json.loads(entry.value) == json.loads(json.dumps(to_dict(manifest)))
    assert "0.3333333333333333" in entry.value
    assert read_manifest(tmp_path / "p.onnx") == manifest


# The parity gate


@pytest.fixture
def perturbed_graph(monkeypatch):
    """The exporter, with one weight of the graph a little off."""

    def build(deployed):
        model = build_graph(deployed)
        bias = next(weight for weight in model.graph.initializer if weight.name.startswith("bias"))
        values = onnx.numpy_helper.to_array(bias).copy()
        values += 1e-3
        bias.raw_data = values.tobytes()
        return model

    monkeypatch.setattr(exporter, "build_graph", build)


def test_a_wrong_graph_is_refused_and_leaves_no_file(perturbed_graph, tmp_path):
    with pytest.raises(
        ParityError, match=r"joint '(shoulder|elbow)': found .* of its effort limit, expected at most 1e-05"
    ):
        write_policy(tmp_path / "p.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_graph_leaves_the_file_before_as_it_was(tmp_path, request):
    path = write_policy(tmp_path / "p.onnx", samples=200)
    before = path.read_bytes()
    request.getfixturevalue("perturbed_graph")
    with pytest.raises(ParityError):
        write_policy(path, samples=500)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_gate_compares_every_sample(tmp_path):
    deployed = deployed_actor()
    policy = OnnxPolicy.open(write_policy(tmp_path / "p.onnx", deployed, samples=200))
    seen = observations(deployed, 300)
    assert check_parity(deployed, policy, seen).samples == 300
    seen[299, 0] = np.nan  # one sample on which nothing can be said
    with pytest.raises(ParityError, match="found nan"):
        check_parity(deployed, policy, seen)


def test_gate_samples_are_within_bounds_and_at_corners():
    deployed = deployed_actor()
    seen = parity_observations(deployed, "tests/Nowhere-v0", {}, 1000, 0)  # no such task: no rollouts
    assert seen.shape == (1000, deployed.interface.observation.size)
    assert np.isfinite(seen).all()
    normalized = deployed.normalizer.normalize(seen)
    assert (np.abs(normalized[:125]) > 9.99).all()  # corners of the network's inputs
    shoulder = seen[125:250, 0]
    assert np.unique(shoulder).tolist() == [-1.5, 1.5]  # corners of the robot's limits
    assert -1.5 <= seen[250:, 0].min() < -1.4
    assert 1.4 < seen[250:, 0].max() <= 1.5


# A whole run


@pytest.fixture(scope="module", params=["effort", "pd"])
def trained(request, tmp_path_factory):
    """A real, very short training of the arm."""
    return train(
        TrainConfig(
            task=ddpg_robot_sim.TASKS["arm_reach"],
            task_kwargs={"control_mode": request.param},
            steps=400,
            out=tmp_path_factory.mktemp("runs") / request.param,
            overrides={"warmup_steps": 200, "batch_size": 32},
            eval_episodes=1,
            final_eval_episodes=1,
        )
    )


def test_a_run_becomes_a_policy_that_acts_as_the_run_does(trained, tmp_path):
    manifest = export_run(trained, tmp_path / "arm.onnx", samples=2000)
    assert manifest.name == "arm"
    assert manifest.parity.samples == 2000
    assert manifest.parity.max_abs_error <= TOLERANCE
    training = manifest.training
    assert training.task == "ddpg_robot/ArmReach-v0"
    assert (training.algorithm, training.preset, training.seed) == ("DDPG", "ddpg", 0)
    assert 0 < training.steps <= 400
    assert training.evaluation["episodes"] == 1
    assert "per_episode" not in training.evaluation
    policy = OnnxPolicy.open(tmp_path / "arm.onnx")
    assert policy.manifest == manifest
    # The simulator applies the action as it does in training; the robot gets the policy's output.
    actor, env = load_actor(trained), gymnasium.make(training.task, control_mode=manifest.control.mode).unwrapped
    observation, _ = env.reset(seed=7)
    offset, scale = env.action_scaling
    wanted = offset + scale * actor.act(observation) + (env.state.position if env.target_relative else 0)
    assert run_one_by_one(policy, observation[None])[0] == pytest.approx(wanted, abs=1e-4)


def test_rollouts_of_the_run_are_among_the_gates_samples(trained, tmp_path, caplog):
    export_run(trained, tmp_path / "arm.onnx", samples=200)
    assert not caplog.records  # it would say that it went without


def test_a_run_without_a_robot_cannot_become_a_policy(tmp_path):
    run = train(
        TrainConfig(
            task="Pendulum-v1",
            steps=300,
            out=tmp_path / "pendulum",
            overrides={"warmup_steps": 100, "batch_size": 16},
            eval_episodes=1,
            final_eval_episodes=1,
        )
    )
    with pytest.raises(ConfigError, match="robot interface of task 'Pendulum-v1': found none"):
        export_run(run, tmp_path / "p.onnx")
    assert not (tmp_path / "p.onnx").exists()


def test_a_directory_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunDirectoryError):
        export_run(tmp_path, tmp_path / "p.onnx")


# Writing


def test_a_full_disk_leaves_the_file_before_and_no_rest(tmp_path):
    path = write_policy(tmp_path / "p.onnx", samples=200)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # writes fail as they do on a full disk
    try:
        with pytest.raises(PolicyFileError, match=r"cannot write .*p\.onnx"):
            write_policy(path, samples=200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PolicyFileError, match="cannot write"):
        write_policy(tmp_path / "file" / "p.onnx", samples=200)


def test_exports_do_not_depend_on_threads_or_gradients(tmp_path):
    deployed = deployed_actor()
    first = build_graph(deployed).SerializeToString()
    with torch.inference_mode():
        assert build_graph(deployed).SerializeToString() == first
