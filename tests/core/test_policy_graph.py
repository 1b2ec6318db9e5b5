"""Weights and graphs that are not what they should be are refused before anything runs."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
from core.bad_files import edit_manifest, refusal, varint, weight
from onnx import TensorProto, helper, numpy_helper
from policy_factory import mutate

from ddpg_robot.errors import PolicyFileError
from ddpg_robot.onnx_file import check_graph, read_model
from ddpg_robot.policy import (
    MAX_FILE_BYTES,
    OnnxPolicy,
    read_manifest,
)

# Weights


def test_a_changed_weight_is_refused_by_its_hash(policy_bytes, tmp_path):
    def change(model):
        tensor = weight(model)
        values = numpy_helper.to_array(tensor).copy()
        values[0, 0] = np.nextafter(values[0, 0], np.float32(1e9))
        tensor.raw_data = values.tobytes()

    changed = mutate(policy_bytes, change, keep_hash=True)
    assert "weights_sha256: found" in refusal(changed)
    (tmp_path / "changed.onnx").write_bytes(changed)
    with pytest.raises(PolicyFileError, match="weights_sha256"):
        read_manifest(tmp_path / "changed.onnx")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_although_the_hash_is_right(bad, policy_bytes):
    def spoil(model):
        tensor = weight(model)
        values = numpy_helper.to_array(tensor).copy()
        values[3, 1] = bad
        tensor.raw_data = values.tobytes()

    assert "NaN or infinity" in refusal(mutate(policy_bytes, spoil))


def test_finite_weights_that_give_nan_are_refused_by_the_probe(policy_bytes):
    def overflow(model):
        for name in ("weight_4", "scale"):
            tensor = weight(model, name)
            tensor.raw_data = np.full_like(numpy_helper.to_array(tensor), 3e38).tobytes()
        model.graph.node[-1].op_type = "Sub"  # inf - finite, then tanh would hide it
        model.graph.node[-2].op_type = "Sqrt"

    assert "probe run" in refusal(mutate(policy_bytes, overflow))


def test_weights_in_another_file_are_refused_and_that_file_is_not_read(policy_bytes, tmp_path, monkeypatch):
    def move_out(model):
        tensor = weight(model)
        (tmp_path / "weights.bin").write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "weights.bin"), ("offset", "0")):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value

    monkeypatch.chdir(tmp_path)
    assert "another file" in refusal(mutate(policy_bytes, move_out))
    # A file that only says so, without the list of places.
    assert "another file" in refusal(mutate(policy_bytes, lambda m: setattr(weight(m), "data_location", 1)))


@pytest.mark.parametrize(
    "dims",
    [[2**62, 2**62], [2**40], [-1, -1], [1, 1, 1], [0], [10**9, 10**9]],
    ids=lambda dims: "x".join(map(str, dims)),
)
def test_weights_with_claimed_shapes_that_their_bytes_do_not_fill_are_refused(dims, policy_bytes):
    def claim(model):
        weight(model).dims[:] = dims

    assert "shape" in refusal(mutate(policy_bytes, claim))


def test_weights_of_another_type_or_given_twice_are_refused(policy_bytes):
    def double(model):
        tensor = weight(model)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))

    assert "data type" in refusal(mutate(policy_bytes, double))
    assert "twice" in refusal(mutate(policy_bytes, lambda m: m.graph.initializer.append(m.graph.initializer[0])))


@pytest.mark.parametrize("claimed", [2**16, 2**31, 2**40, 2**63 - 1, 2**64 - 1, 2**69])
def test_a_claimed_length_is_never_trusted(claimed, policy_bytes):
    for tag in (7 << 3 | 2, 14 << 3 | 2, 2 << 3 | 2):
        refusal(bytes([tag]) + varint(claimed) + policy_bytes)
        refusal(policy_bytes + bytes([tag]) + varint(claimed))


def test_millions_of_empty_fields_are_refused_quickly():
    start = time.perf_counter()
    assert "protobuf fields" in refusal(b"\x08\x00" * (MAX_FILE_BYTES // 2))
    assert time.perf_counter() - start < 5


# Graphs


def with_nodes(data: bytes, *nodes: onnx.NodeProto, weights: tuple[onnx.TensorProto, ...] = ()) -> bytes:
    """The policy with nodes before its own."""

    def edit(model):
        old = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend([*nodes, *old])
        model.graph.initializer.extend(weights)

    return mutate(data, edit)


def test_a_loop_is_refused_before_it_can_run(policy_bytes):
    body = helper.make_graph([helper.make_node("Identity", ["c"], ["d"])], "body", [], [])
    text = refusal(with_nodes(policy_bytes, helper.make_node("Loop", ["m", "c"], ["x"], body=body)))
    assert "graph operator" in text or "node attribute" in text


@pytest.mark.parametrize(
    "operator", ["ConstantOfShape", "Expand", "Tile", "RandomNormal", "Loop", "If", "Scan", "Constant"]
)
def test_operators_that_are_no_layers_are_refused(operator, policy_bytes):
    text = refusal(with_nodes(policy_bytes, helper.make_node(operator, ["joint_position"], ["x"])))
    assert f"found '{operator}'" in text
    assert "valid choices: Abs, Add" in text


def test_operators_of_other_domains_and_model_functions_are_refused(policy_bytes):
    foreign = helper.make_node("Gemm", ["joint_position"], ["x"], domain="com.microsoft")
    assert "com.microsoft.Gemm" in refusal(with_nodes(policy_bytes, foreign))

    def add_function(model):
        model.functions.append(helper.make_function("", "Tanh", ["x"], ["y"], [], [helper.make_opsetid("", 17)]))

    assert "field 25" in refusal(mutate(policy_bytes, add_function))
    assert "domain" in refusal(mutate(policy_bytes, lambda m: m.opset_import.append(helper.make_opsetid("evil", 1))))


def test_graphs_that_would_multiply_their_size_are_refused(policy_bytes):
    column = numpy_helper.from_array(np.ones((4000, 1), np.float32), "column")
    row = numpy_helper.from_array(np.ones((1, 4000), np.float32), "row")
    outer = [helper.make_node(op, ["column", "row"], [f"{op}_x"]) for op in ("Mul", "MatMul", "Gemm")]
    for node in outer:
        assert "weight matrix" in refusal(with_nodes(policy_bytes, node, weights=(column, row)))
    transposed = helper.make_node("Gemm", ["joint_position", "row"], ["x"], transA=1)
    assert "transA" in refusal(with_nodes(policy_bytes, transposed, weights=(row,)))
    doubling = [helper.make_node("Concat", [a, a], [b], axis=1) for a, b in zip("abc", "bcd")]
    assert "Concat" in refusal(with_nodes(policy_bytes, *doubling))
    first = next(node for node in onnx.load_model_from_string(policy_bytes).graph.node if node.op_type == "Gemm")
    again = helper.make_node("Gemm", ["joint_position", first.input[1]], ["x"], transB=1)
    assert "in several layers" in refusal(with_nodes(policy_bytes, again))
    wide = numpy_helper.from_array(np.zeros(2**14 + 1, np.float32), "wide")
    assert "16384" in refusal(with_nodes(policy_bytes, weights=(wide,)))
    many = [helper.make_node("Identity", ["joint_position"], [f"x{i}"]) for i in range(600)]
    assert "at most 128" in refusal(with_nodes(policy_bytes, *many))


def test_a_file_that_also_looks_like_onnxruntimes_own_format_is_read_as_the_onnx_that_was_checked(policy_bytes):
    disguised = b"\x12\x06xxORTM" + policy_bytes  # producer_name "xxORTM": ORT's magic number at its place
    assert OnnxPolicy(disguised, "x").manifest == OnnxPolicy(policy_bytes, "x").manifest


def test_a_second_graph_is_refused(policy_bytes):
    graph = bytes(read_model(policy_bytes).graph)
    assert "graphs in the file: found 2" in refusal(policy_bytes + b"\x3a" + varint(len(graph)) + graph)


def rename_input(model):
    model.graph.input[0].name = "position"
    for node in model.graph.node:
        node.input[:] = ["position" if name == "joint_position" else name for name in node.input]


def rename_output(model):
    model.graph.output[0].name = model.graph.node[-1].output[0] = "torque"


def second_output(model):
    model.graph.output.append(helper.make_tensor_value_info("relu_5", TensorProto.FLOAT, ["batch", 32]))


def fix_batch(model):
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = 1


def double_input(model):
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def drop_node(model):
    del model.graph.node[-1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (rename_input, "graph inputs: found position"),
        (rename_output, "graph outputs: found torque"),
        (second_output, "graph outputs: found effort, relu_5"),
        (fix_batch, "['batch', 2]"),
        (double_input, "graph"),
        (drop_node, "graph"),
    ],
)
def test_a_graph_that_does_not_match_its_manifest_is_refused(change, says, policy_bytes):
    assert says in refusal(mutate(policy_bytes, change))


def test_a_manifest_of_other_sizes_than_the_graph_is_refused(policy_bytes):
    other = edit_manifest(policy_bytes, lambda m: m["observation"]["terms"][0].update(size=3))
    assert "graph input 'joint_position'" in refusal(other)
    fewer = edit_manifest(policy_bytes, lambda m: (m["robot"]["joints"].pop(), m["robot"].update(chain=None)))
    assert "graph output 'effort'" in refusal(fewer)
    pd = {"mode": "pd", "kp": [1.0, 1.0], "kd": [1.0, 1.0]}
    assert "expected joint_target" in refusal(edit_manifest(policy_bytes, lambda m: m["control"].update(pd)))


def test_a_name_stands_for_one_value_that_is_made_before_it_is_used(policy_bytes):
    twice = [helper.make_node("Relu", ["joint_position"], ["x"]) for _ in range(2)]
    assert "'x': found it twice" in refusal(with_nodes(policy_bytes, *twice))
    assert "a value made before" in refusal(with_nodes(policy_bytes, helper.make_node("Relu", ["effort"], ["x"])))
    # Weights that are inputs, too, could be concatenated to something huge.
    as_input = helper.make_tensor_value_info("bias_4", TensorProto.FLOAT, [32])
    assert "'bias_4': found it twice" in refusal(mutate(policy_bytes, lambda m: m.graph.input.append(as_input)))


@pytest.mark.parametrize("wire_type", [0, 1, 3, 4, 5, 6, 7])
def test_a_field_of_another_wire_type_is_refused_because_protobuf_would_skip_it(wire_type, policy_bytes):
    """A reader that took it would see a Relu where ONNX Runtime runs what was there before: RandomNormal, gigabytes of it."""
    node = helper.make_node("RandomNormal", [], ["x"], shape=[1 << 20, 1 << 10]).SerializeToString()
    disguise = bytes([4 << 3 | wire_type]) + (b"\x01" if wire_type == 0 else b"Relu" + bytes(4))
    node += disguise[: 5 if wire_type == 5 else 9]
    graph = b"\x0a" + varint(len(node)) + node + bytes(read_model(policy_bytes).graph)
    with pytest.raises(PolicyFileError, match=f"field 4 of wire type {wire_type}"):
        check_graph(memoryview(graph))


def test_packed_dimensions_are_understood_as_other_writers_write_them():
    shape, kind, name = b"\x0a\x02\x02\x01", b"\x10\x01", b"\x42\x01w"
    for raw, fits in ((bytes(8), True), (bytes(4), False)):
        tensor = shape + kind + name + b"\x4a" + varint(len(raw)) + raw
        graph = memoryview(b"\x2a" + varint(len(tensor)) + tensor)
        if fits:
            check_graph(graph)
        else:
            with pytest.raises(PolicyFileError, match=r"shape \[2, 1\] and 4 bytes"):
                check_graph(graph)
