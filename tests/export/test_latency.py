from __future__ import annotations

import gc
import json

import numpy as np
import onnx
import pytest
import torch
from policy_factory import deployed_actor, mutate, write_policy

from ddpg_robot.errors import PolicyFileError
from ddpg_robot_export.latency import benchmark_inference
from ddpg_robot_export.probes import uniform_observations
from ddpg_robot_export.torch_graph import TorchGraph

ACTORS = {"effort": {}, "relative pd": {"mode": "pd", "relative": True}, "batch norm": {"preset": "paper"}}


def test_inference_is_timed_step_by_step_beside_torch(tmp_path, capsys):
    path = write_policy(tmp_path / "p.onnx", samples=200)
    result = benchmark_inference(path, seconds=0.5)
    rows = json.loads(json.dumps(result))["rows"]
    assert list(rows) == ["step", "onnx_run", "onnx_run_unbound", "torch_eager"]
    for row in rows.values():
        assert row["runs"] >= 500
        assert 0 < row["p50_us"] <= row["p90_us"] <= row["p99_us"] <= row["max_us"]
    assert rows["onnx_run"]["p50_us"] < rows["step"]["p50_us"]
    table = capsys.readouterr().out
    assert "budget p50" in table
    assert all(name in table for name in rows)
    assert gc.isenabled()


@pytest.mark.parametrize("settings", ACTORS.values(), ids=ACTORS)
def test_the_torch_network_that_is_timed_is_the_same_network(settings, tmp_path):
    deployed = deployed_actor(**settings)
    network = TorchGraph(write_policy(tmp_path / "p.onnx", deployed, samples=200))
    terms = deployed.interface.observation.terms
    seen = uniform_observations(deployed.interface, 50, np.random.default_rng(0))
    parts = torch.from_numpy(seen).split([term.size for term in terms], dim=1)
    found = network({term.name: part for term, part in zip(terms, parts)})
    assert found.numpy() == pytest.approx(deployed.flat(seen), abs=1e-5)


def test_a_network_of_another_exporter_is_not_timed_in_torch(tmp_path):
    def swap(model: onnx.ModelProto) -> None:
        next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Sigmoid"

    path = write_policy(tmp_path / "p.onnx", samples=200)
    path.write_bytes(mutate(path.read_bytes(), swap))
    with pytest.raises(PolicyFileError, match="operators: found Sigmoid"):
        TorchGraph(path)
