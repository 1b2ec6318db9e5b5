"""Opens a policy file as the policy node does and, if it opens, takes a few steps with it."""

from __future__ import annotations

import json

import numpy as np
import onnx
from fuzz.hostile_files import BASE, GRAPH
from onnx.reference import ReferenceEvaluator

from ddpg_robot.controller import PolicyController
from ddpg_robot.onnx_file import read_model
from ddpg_robot.policy import OnnxPolicy
from ddpg_robot.safety import SafetyLimits
from ddpg_robot.spec_json import to_dict
from ddpg_robot.state import Command, RobotState

GOOD = OnnxPolicy(BASE, "good.onnx")
ReferenceEvaluator(onnx.load_model_from_string(BASE))  # imports all of its operators
BATCH = 5


def attempt(data: bytes) -> str:
    """Raises DdpgRobotError for a refusal, AssertionError where something was accepted that should not have been."""
    policy = OnnxPolicy(data, "bad.onnx")
    controller = PolicyController(policy, SafetyLimits())
    manifest, robot = policy.manifest, policy.manifest.robot
    assert json.dumps(to_dict(manifest), ensure_ascii=False, allow_nan=False).isprintable()
    rng = np.random.default_rng(0)
    terms = {
        term.name: rng.standard_normal((BATCH, term.size)).astype(np.float32) for term in manifest.observation.terms
    }
    output = policy.infer(terms)
    if read_model(data).graph == GRAPH:
        assert (output == GOOD.infer(terms)).all()
    # What was checked is what runs: another reader of the file comes to the same numbers.
    (expected,) = ReferenceEvaluator(onnx.load_model_from_string(data)).run(None, terms)
    np.testing.assert_allclose(output, expected, rtol=1e-3, atol=1e-4)
    limit = np.array([joint.effort_limit for joint in robot.joints])
    state, command = RobotState(robot.n_joints, robot.floating_base), Command(manifest.command.size)
    for _ in range(5):
        state.position[:], state.velocity[:] = rng.uniform(-1, 1, (2, robot.n_joints))
        controller.step(state, command, 0.0)
        assert (np.abs(controller.effort) <= limit).all()  # NaN is no number's <=
    return "accepted"
