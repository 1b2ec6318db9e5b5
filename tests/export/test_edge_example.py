from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from policy_factory import deployed_actor, write_policy

from ddpg_robot.control import ControlLaw
from ddpg_robot.state import RobotState
from ddpg_robot_export.probes import uniform_observations

EXAMPLE = Path(__file__).parents[2] / "examples" / "edge_inference.py"


def test_the_edge_example_is_short_and_needs_numpy_and_onnxruntime_only():
    source = EXAMPLE.read_text()
    assert len(source.splitlines()) < 40
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    imported = {alias.name for node in nodes for alias in node.names}
    assert imported <= {"json", "os", "sys", "numpy", "onnxruntime"}


@pytest.mark.parametrize("mode", ["effort", "pd"])
def test_the_edge_example_prints_the_torque_that_the_core_computes(mode, tmp_path):
    deployed = deployed_actor(mode)
    path = write_policy(tmp_path / "p.onnx", deployed, samples=200)
    interface = deployed.interface
    observation = uniform_observations(interface, 1, np.random.default_rng(4))
    ends = np.cumsum([term.size for term in interface.observation.terms])[:-1]
    parts = np.split(observation[0], ends)
    terms = {term.name: part.tolist() for term, part in zip(interface.observation.terms, parts)}
    result = subprocess.run(
        [sys.executable, "-I", str(EXAMPLE), str(path), json.dumps(terms)], capture_output=True, text=True, check=True
    )
    state = RobotState(2)
    state.position[:], state.velocity[:] = terms["joint_position"], terms["joint_velocity"]
    limits = np.array([joint.effort_limit for joint in interface.robot.joints])
    expected = ControlLaw(interface.control, 2).effort(deployed.flat(observation)[0], state).clip(-limits, limits)
    lines = [line.split() for line in result.stdout.splitlines() if line.startswith("out ")]
    assert [line[1] for line in lines] == ["shoulder:", "elbow:"]
    assert [float(line[2]) for line in lines] == pytest.approx(expected, abs=1e-3)
