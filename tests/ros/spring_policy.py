"""A real policy file without training: a spring from hand to target, in one layer.

``effort = T tanh(K J^T (target - hand) / T) - D velocity - P (position - home)`` is a small network of the observation
terms. It reaches its targets to a centimetre or two, which is all that the tests of the ROS side ask of it.

With `dither` the last joint is left to a torque that changes its sign at every run of the policy, ``-dither
sign(last effort)``: nothing but this policy commands that, so whoever hears it knows who is in control. It is a softer
spring then, at 50 Hz: a test machine that pauses for 20 ms shall not be a fault.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ddpg_robot.observation import observation_spec
from ddpg_robot.policy import METADATA_KEY, graph_sha256
from ddpg_robot.spec import SCHEMA, ControlSpec, ParityRecord, PolicyInterface, PolicyManifest, TrainingRecord
from ddpg_robot.spec_json import to_dict
from ddpg_robot_sim.arm_reach import ArmReach

LARGEST_PULL = 15.0  # N·m
STIFFNESS = 500.0  # N/m at the hand
DAMPING = (12.0, 12.0, 12.0, 12.0, 2.0, 2.0, 1.0)  # N·m·s/rad
POSTURE = 1.0  # N·m/rad
SPRING_CONTROL = ControlSpec(0.008, "effort", 2)  # 125 Hz: held for longer, the damping would ring
DITHER_CONTROL, DITHER_SOFTNESS = ControlSpec(0.02, "effort", 5), 0.2
TERMS = ("joint_position", "joint_velocity", "target_error_joints")


def arm_interface(terms: tuple[str, ...] = TERMS, control: ControlSpec = SPRING_CONTROL) -> PolicyInterface:
    """The arm of the reaching task, seen through some terms."""
    interface = ArmReach("effort").interface
    observation = observation_spec(terms, interface.robot, interface.command)
    return replace(interface, observation=observation, control=control)


def write_spring_policy(
    path: Path, name: str = "spring", dither: float = 0.0, exploration_limit: float = 0.0
) -> PolicyManifest:
    """Writes the policy file and returns its manifest; `dither` in N·m."""
    interface, softness = (arm_interface(), 1.0)
    if dither:
        interface, softness = arm_interface((*TERMS, "last_effort"), DITHER_CONTROL), DITHER_SOFTNESS
    home = ArmReach("effort").home
    n = interface.robot.n_joints
    sprung, last = np.eye(n), np.zeros((n, n))
    if dither:
        last[-1, -1], sprung[-1, -1] = 1.0, 0.0
    weights = {
        "joint_position": -POSTURE * sprung,
        "joint_velocity": -softness * np.diag(DAMPING) @ sprung,
        "target_error_joints": STIFFNESS / LARGEST_PULL * sprung,
        "pull": softness * LARGEST_PULL * np.eye(n),
    }
    bias = POSTURE * sprung @ home
    nodes = [helper.make_node("MatMul", [term, f"W_{term}"], [f"y_{term}"]) for term in TERMS]
    nodes += [
        helper.make_node("Add", ["y_joint_position", "y_joint_velocity"], ["sum_1"]),
        helper.make_node("Tanh", ["y_target_error_joints"], ["bounded"]),
        helper.make_node("MatMul", ["bounded", "W_pull"], ["pull"]),
        helper.make_node("Add", ["sum_1", "pull"], ["sum_2"]),
        helper.make_node("Add", ["sum_2", "bias"], ["sum_3" if dither else "effort"]),
    ]
    tensors = [numpy_helper.from_array(matrix.astype(np.float32), f"W_{term}") for term, matrix in weights.items()]
    tensors.append(numpy_helper.from_array(bias.astype(np.float32), "bias"))
    if dither:
        nodes += [
            helper.make_node("MatMul", ["last_effort", "W_last"], ["y_last"]),
            helper.make_node("Add", ["y_last", "one"], ["signed"]),  # the sign of zero is one too
            helper.make_node("Tanh", ["signed"], ["sign"]),
            helper.make_node("MatMul", ["sign", "W_dither"], ["dither"]),
            helper.make_node("Add", ["sum_3", "dither"], ["effort"]),
        ]
        constants = {"W_last": -1000.0 * last, "one": np.ones(n), "W_dither": dither * last}
        tensors += [numpy_helper.from_array(value.astype(np.float32), key) for key, value in constants.items()]
    graph = helper.make_graph(
        nodes,
        "spring",
        [
            helper.make_tensor_value_info(t.name, TensorProto.FLOAT, ["batch", t.size])
            for t in interface.observation.terms
        ],
        [helper.make_tensor_value_info("effort", TensorProto.FLOAT, ["batch", n])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    manifest = PolicyManifest(
        schema=SCHEMA,
        name=name,
        created="2026-01-01T00:00:00+00:00",
        robot=interface.robot,
        control=interface.control,
        observation=interface.observation,
        command=interface.command,
        training=TrainingRecord("arm_reach", "", "spring", "none", "", 0, 0, {}, "test"),
        parity=ParityRecord(0, 0.0),
        weights_sha256=graph_sha256(model.SerializeToString()),
        exploration_limit=exploration_limit,
    )
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(to_dict(manifest))
    onnx.save(model, path)
    return manifest
