"""What can be wrong with a graph: one edit each, of a graph that is right."""

from __future__ import annotations

import random
import struct
from typing import Any

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper

from ddpg_robot.onnx_file import OPERATORS

INTEGERS = [
    -(2**63),
    -(2**31),
    -2,
    -1,
    0,
    1,
    2,
    3,
    24,
    255,
    2**15,
    2**16,
    2**31 - 1,
    2**31,
    2**32,
    2**40,
    2**62,
    2**63 - 1,
]
FLOATS = [float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 1e-45, -0.0, 1e9]
PATHS = [
    "canary",
    "../canary",
    "/dev/zero",
    "/proc/self/mem",
    "/etc/passwd",
    "../" * 40 + "etc/passwd",
    "",
    ".",
    "a\0b",
]
DOMAINS = ["", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "ai.onnx.contrib", "evil", "\u202e"]
ALL_OPERATORS = sorted({schema.name for schema in onnx.defs.get_all_schemas()} | {"FusedGemm", "PyOp", "Evil"})


def weight(rng: random.Random, graph: GraphProto) -> TensorProto:
    return rng.choice(list(graph.initializer))


def claim_dims(rng: random.Random, graph: GraphProto) -> None:
    dims = [rng.choice(INTEGERS) for _ in range(rng.randint(0, 4))]
    weight(rng, graph).dims[:] = dims


def move_data_out(rng: random.Random, graph: GraphProto) -> None:
    tensor = weight(rng, graph)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", rng.choice(PATHS)), ("offset", "0"), ("length", str(rng.choice(INTEGERS)))):
        tensor.external_data.add(key=key, value=value)


def retype_weight(rng: random.Random, graph: GraphProto) -> None:
    tensor = weight(rng, graph)
    tensor.data_type = rng.choice([0, *range(2, 30), 2**31 - 1])
    rng.choice([tensor.float_data, tensor.double_data]).extend([1.0] * rng.randint(0, 9))


def spoil_weight(rng: random.Random, graph: GraphProto) -> None:
    tensor = weight(rng, graph)
    raw = bytearray(tensor.raw_data)
    at = rng.randrange(0, len(raw), 4)
    raw[at : at + 4] = struct.pack("<f", rng.choice(FLOATS))
    tensor.raw_data = bytes(raw)


def attribute(rng: random.Random) -> AttributeProto:
    name = rng.choice(["axis", "transA", "transB", "alpha", "beta", "epsilon", "value", "shape", "body", "evil"])
    values: list[Any] = [rng.choice(INTEGERS), rng.choice(FLOATS), "x", [rng.choice(INTEGERS)] * rng.randint(1, 9)]
    values += [helper.make_tensor("t", TensorProto.INT64, [1], [rng.choice(INTEGERS)]), nested(rng.randint(1, 25))]
    return helper.make_attribute(name, rng.choice(values))


def nested(depth: int) -> GraphProto:
    """Graphs in graphs."""
    graph = helper.make_graph([], "inner", [], [])
    for _ in range(depth):
        graph = helper.make_graph([helper.make_node("If", ["c"], ["x"], then_branch=graph)], "body", [], [])
    return graph


def edit_attribute(rng: random.Random, graph: GraphProto) -> None:
    rng.choice(list(graph.node)).attribute.append(attribute(rng))


def other_operator(rng: random.Random, graph: GraphProto) -> None:
    node = rng.choice(list(graph.node))
    node.op_type = rng.choice(ALL_OPERATORS)
    node.domain = rng.choice(DOMAINS)


def other_layer(rng: random.Random, graph: GraphProto) -> None:
    rng.choice(list(graph.node)).op_type = rng.choice(sorted(OPERATORS))


def add_loop(rng: random.Random, graph: GraphProto) -> None:
    kind, name = rng.choice([("Loop", "body"), ("If", "then_branch"), ("Scan", "body")])
    node = helper.make_node(kind, [graph.input[0].name] * rng.randint(0, 3), ["looped"])
    node.attribute.append(helper.make_attribute(name, nested(rng.choice([1, 3, 25]))))
    graph.node.insert(0, node)


def grow(rng: random.Random, graph: GraphProto) -> None:
    """Nodes that make much of little."""
    node = helper.make_node(
        rng.choice(["Expand", "Tile", "ConstantOfShape", "RandomNormal", "Concat", "Resize"]), [], ["big"]
    )
    node.input.extend([graph.input[0].name] * rng.randint(0, 4))
    node.attribute.append(helper.make_attribute(rng.choice(["shape", "axis"]), [2**20, 2**10]))
    at = rng.randint(0, len(graph.node))
    for _ in range(rng.choice([1, 1, 60, 1000])):
        graph.node.insert(at, node)


def rewire(rng: random.Random, graph: GraphProto) -> None:
    names = [name for node in graph.node for name in (*node.input, *node.output)] + ["", "nowhere", "a\0b", "\u202e"]
    node: NodeProto = rng.choice(list(graph.node))
    ends = rng.choice([node.input, node.output])
    if ends:
        ends[rng.randrange(len(ends))] = rng.choice(names)
    else:
        ends.append(rng.choice(names))


def declare(rng: random.Random, graph: GraphProto) -> None:
    """Shapes and types of inputs, outputs and inner values that are huge or strange."""
    value = rng.choice([*graph.input, *graph.output, graph.value_info.add(name=graph.node[0].output[0])])
    shape = [rng.choice([*INTEGERS, "batch", "", None]) for _ in range(rng.randint(0, 5))]
    kind = helper.make_tensor_type_proto(rng.choice([0, 1, 1, 1, 7, 11, 99]), shape)
    for _ in range(rng.choice([0, 0, 1, 50])):
        kind = rng.choice([helper.make_sequence_type_proto, helper.make_optional_type_proto])(kind)
    value.type.CopyFrom(kind)


def repeat(rng: random.Random, graph: GraphProto) -> None:
    part = rng.choice([graph.node, graph.initializer, graph.input, graph.output])
    if rng.random() < 0.5:
        part.append(rng.choice(list(part)))
    else:
        del part[rng.randrange(len(part))]


EDITS = (
    *(claim_dims, move_data_out, retype_weight, spoil_weight, edit_attribute, other_operator, other_layer, add_loop),
    *(grow, rewire, declare, repeat),
)
