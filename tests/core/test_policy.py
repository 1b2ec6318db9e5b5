from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from core.robots import two_joint_interface
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from policy_factory import deployed_actor, hash_of_graph, mutate, write_policy

from ddpg_robot.errors import PolicyFileError
from ddpg_robot.observation import ObservationBuilder
from ddpg_robot.onnx_file import check_graph, read_model
from ddpg_robot.policy import (
    MAX_FILE_BYTES,
    METADATA_KEY,
    OnnxPolicy,
    graph_sha256,
    read_manifest,
    shipped_policy,
)
from ddpg_robot.state import Command, RobotState


@pytest.fixture(scope="module")
def policy_file(tmp_path_factory) -> Path:
    return write_policy(tmp_path_factory.mktemp("policies") / "two.onnx")


@pytest.fixture(scope="module")
def policy_bytes(policy_file) -> bytes:
    return policy_file.read_bytes()


def refusal(data: bytes) -> str:
    """The message with which a file of these bytes is refused."""
    with pytest.raises(PolicyFileError) as caught:
        OnnxPolicy(data, "some.onnx")
    text = str(caught.value)
    assert text.startswith("some.onnx: ")
    assert "found" in text
    assert "expected" in text
    assert text.isprintable()
    assert len(text) < 1200
    return text


def edit_manifest(data: bytes, change) -> bytes:
    """The file with its manifest's JSON changed by `change(dict)`."""

    def edit(model):
        (entry,) = model.metadata_props
        manifest = json.loads(entry.value)
        change(manifest)
        entry.value = json.dumps(manifest)

    return mutate(data, edit, keep_hash=True)


def replace_manifest(data: bytes, text: str) -> bytes:
    return mutate(data, lambda model: setattr(model.metadata_props[0], "value", text), keep_hash=True)


def weight(model: onnx.ModelProto, name: str = "weight") -> onnx.TensorProto:
    return next(w for w in model.graph.initializer if w.name.startswith(name))


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


# What works


def test_bound_runs_give_what_a_batch_gives_and_reuse_one_buffer(policy_file):
    policy = OnnxPolicy.open(policy_file)
    interface = policy.interface
    builder = ObservationBuilder(interface.robot, interface.observation, interface.command)
    policy.bind(builder)
    state, command, rng = RobotState(2), Command(3), np.random.default_rng(0)
    first = policy.run()
    for _ in range(20):
        state.position[:], state.velocity[:] = rng.uniform(-1, 1, (2, 2))
        command.values[:] = rng.uniform(-1, 1, 3)
        builder.build(state, command, rng.uniform(-1, 1, 2))
        output = policy.run()
        assert output is first
        assert output.shape == (2,)
        assert output == pytest.approx(policy.infer(builder.terms)[0], abs=1e-6)


def test_binding_again_moves_the_policy_to_another_builder(policy_file):
    policy = OnnxPolicy.open(policy_file)
    interface = policy.interface
    builders = [ObservationBuilder(interface.robot, interface.observation, interface.command) for _ in range(2)]
    outputs = []
    for value, builder in enumerate(builders):
        builder.flat()[:] = value
        policy.bind(builder)
        outputs.append(policy.run().copy())
    assert not np.allclose(*outputs)


def test_run_before_bind_says_so(policy_file):
    with pytest.raises(RuntimeError, match="bind"):
        OnnxPolicy.open(policy_file).run()


def test_another_robots_builder_cannot_be_bound(policy_file):
    interface = two_joint_interface()
    fewer = type(interface.observation)(interface.observation.terms[:2])
    with pytest.raises(PolicyFileError, match="terms to bind"):
        OnnxPolicy.open(policy_file).bind(ObservationBuilder(interface.robot, fewer, interface.command))


def test_manifest_comes_back_at_full_precision(tmp_path):
    deployed = deployed_actor("pd")
    manifest = read_manifest(write_policy(tmp_path / "pd.onnx", deployed))
    assert manifest.interface == deployed.interface
    assert manifest.training.evaluation == {"success_rate": 0.5}
    assert manifest == OnnxPolicy.open(tmp_path / "pd.onnx").manifest


def test_graph_hash_is_that_of_the_serialized_graph(policy_bytes):
    assert graph_sha256(policy_bytes) == hash_of_graph(onnx.load_model_from_string(policy_bytes))


def test_a_thousand_runs_take_no_more_than_a_fraction_of_a_period(policy_file):
    policy = OnnxPolicy.open(policy_file)
    interface = policy.interface
    policy.bind(ObservationBuilder(interface.robot, interface.observation, interface.command))
    durations = []
    for _ in range(1000):
        start = time.perf_counter()
        policy.run()
        durations.append(time.perf_counter() - start)
    assert np.median(durations) < 200e-6  # about 6 µs on an idle machine


# Files that are no policies


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"hello, this is not a policy file\n" * 50,
        b"PK\x03\x04" + bytes(500),
        b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93.",
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        bytes(100_000),
        b"\xff" * 100_000,
        b'{"schema": "ddpg_robot.policy/1"}',
    ],
    ids=["empty", "newline", "text", "zip", "pickle", "png", "zeros", "ones", "json"],
)
def test_files_that_are_not_onnx_are_refused(content, tmp_path):
    refusal(content)
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(PolicyFileError, match=r"x\.onnx"):
        read_manifest(tmp_path / "x.onnx")


def test_missing_files_directories_and_pipes_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    for path, found in (
        (tmp_path / "absent.onnx", "nothing"),
        (tmp_path, "no regular file"),
        (tmp_path / "pipe.onnx", "no regular file"),
    ):
        for read in (OnnxPolicy.open, read_manifest):
            with pytest.raises(PolicyFileError, match=found):
                read(path)


def test_a_file_of_absurd_size_is_refused_without_reading_it_all(tmp_path):
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse: a tebibyte that takes no room
    start = time.perf_counter()
    with pytest.raises(PolicyFileError, match=f"found {2**40} bytes, expected at most {MAX_FILE_BYTES}"):
        OnnxPolicy.open(path)
    assert time.perf_counter() - start < 5


def test_a_policy_truncated_anywhere_is_refused(policy_bytes):
    for size in [*range(60), *range(60, len(policy_bytes), 53), len(policy_bytes) - 1]:
        refusal(policy_bytes[:size])


def test_a_policy_with_anything_appended_is_refused(policy_bytes):
    for tail in (b"\x00", b"garbage", policy_bytes):
        refusal(policy_bytes + tail)


def test_a_flipped_bit_anywhere_in_the_graph_is_refused(policy_bytes):
    graph = bytes(read_model(policy_bytes).graph)
    start = policy_bytes.index(graph)
    rng = np.random.default_rng(0)
    for at in start + rng.integers(0, len(graph), 300):
        flipped = bytearray(policy_bytes)
        flipped[at] ^= 1 << rng.integers(8)
        refusal(bytes(flipped))


def test_a_flipped_bit_outside_the_graph_never_crashes(policy_bytes):
    graph = bytes(read_model(policy_bytes).graph)
    start = policy_bytes.index(graph)
    rng = np.random.default_rng(1)
    after = rng.integers(start + len(graph), len(policy_bytes), 200)
    refused = 0
    for at in [*range(start), *after]:
        flipped = bytearray(policy_bytes)
        flipped[at] ^= 1 << rng.integers(8)
        try:
            OnnxPolicy(bytes(flipped), "some.onnx")
        except PolicyFileError:
            refused += 1
    assert refused > 50  # the rest fell into free text: names, units, the record of the training


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=400))
def test_arbitrary_bytes_only_ever_raise_a_policy_file_error(data):
    for read in (read_model, lambda b: check_graph(memoryview(b)), lambda b: OnnxPolicy(b, "x")):
        try:
            read(data)
        except PolicyFileError:
            continue


# Manifest


def test_an_onnx_file_without_manifest_is_refused(policy_bytes):
    text = refusal(mutate(policy_bytes, lambda model: model.ClearField("metadata_props")))
    assert f"found none, expected metadata key '{METADATA_KEY}'" in text


def test_another_schema_is_refused_by_name(policy_bytes):
    text = refusal(edit_manifest(policy_bytes, lambda m: m.update(schema="ddpg_robot.policy/2", novelty=1)))
    assert "found 'ddpg_robot.policy/2', expected 'ddpg_robot.policy/1'" in text


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "7", "9" * 5000, "[" * 100_000, '{"schema": NaN}', '"' + "x" * 2**21 + '"'],
    ids=["empty", "open", "null", "list", "number", "long number", "deep", "nan", "long"],
)
def test_a_manifest_that_is_no_manifest_is_refused(text, policy_bytes):
    refusal(replace_manifest(policy_bytes, text))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda m: m.pop("robot"), "robot"),
        (lambda m: m.update(extra=1), "extra"),
        (lambda m: m["robot"]["joints"][0].update(effort_limit="87"), "effort_limit"),
        (lambda m: m["robot"]["joints"][0].update(effort_limit=-1.0), "effort_limit"),
        (lambda m: m["robot"]["joints"][1].update(position_lower=float("nan")), "position_lower"),
        (lambda m: m["control"].update(mode="velocity"), "mode"),
        (lambda m: m["control"].update(period=0), "period"),
        (lambda m: m["observation"]["terms"][0].update(size=10**12), "observation size"),
        (lambda m: m["robot"].update(chain={"links": [], "tip_translation": [0, 0, 0], "tip_frame": ""}), "chain"),
    ],
)
def test_a_manifest_with_an_impossible_value_is_refused_and_says_where(change, where, policy_bytes):
    assert where in refusal(edit_manifest(policy_bytes, change))


def test_names_in_the_file_cannot_write_to_the_terminal(policy_bytes):
    refusal(edit_manifest(policy_bytes, lambda m: m["control"].update(mode="\x1b[2J\nerror: all is well")))


def test_a_manifest_given_twice_is_refused(policy_bytes):
    text = refusal(mutate(policy_bytes, lambda model: model.metadata_props.append(model.metadata_props[0])))
    assert "twice" in text


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


# Shipped policies, and the bare install


def test_an_unknown_shipped_policy_lists_those_there_are():
    with pytest.raises(PolicyFileError, match=r"shipped policy: found '\.\./policy', expected"):
        shipped_policy("../policy")


BARE = """
    import importlib.abc, sys

    class Blocker(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in {blocked}:
                raise ImportError(f"{{name}} is not installed here")

    sys.meta_path.insert(0, Blocker())
    from ddpg_robot.policy import OnnxPolicy, read_manifest
    manifest = read_manifest({path!r})
    assert "onnxruntime" not in sys.modules
    if "onnxruntime" in {blocked}:
        from ddpg_robot.errors import MissingExtraError
        try:
            OnnxPolicy.open({path!r})
        except MissingExtraError as error:
            print(error)
        sys.exit(0)
    policy = OnnxPolicy.open({path!r})
    from ddpg_robot.controller import PolicyController
    from ddpg_robot.safety import SafetyLimits
    from ddpg_robot.state import Command, RobotState
    controller = PolicyController(policy, SafetyLimits())
    verdict = controller.step(RobotState(2), Command(3), 0.0)
    assert not verdict.tripped
    assert abs(controller.effort).max() > 0
    loaded = {{name.partition(".")[0] for name in sys.modules}} & {heavy}
    assert not loaded, loaded
    print("ok", manifest.name)
"""
HEAVY = {"torch", "gymnasium", "mujoco", "rclpy", "onnx", "onnxscript", "safetensors", "tyro", "rich", "tensorboard"}


def run_bare(path: Path, blocked: set[str]) -> str:
    code = textwrap.dedent(BARE).format(path=str(path), blocked=blocked, heavy=HEAVY)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def test_the_bare_install_runs_a_policy_through_the_whole_controller(policy_file):
    assert run_bare(policy_file, HEAVY) == "ok two\n"


def test_without_onnxruntime_the_manifest_is_readable_and_opening_names_what_to_install(policy_file):
    assert "pip install onnxruntime" in run_bare(policy_file, HEAVY | {"onnxruntime"})


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
