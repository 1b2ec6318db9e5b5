"""Reads and checks the bytes of an ONNX model without the onnx package, trusting nothing that the file says of itself.

A policy file can come from anywhere, and a general ONNX graph can loop for ever, ask for terabytes or name other files.
So the graph is checked before ONNX Runtime sees it: a flat feed-forward network of known operators, weights inside.
Wire format: https://protobuf.dev/programming-guides/encoding; field numbers: onnx/onnx.proto.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ddpg_robot.errors import PolicyFileError, mismatch

MAX_FIELDS = 50_000
"""Largest number of protobuf fields that is read; a policy has a few hundred."""
MAX_NODES = 128
"""Largest number of nodes in the graph; a policy has about ten. With `MAX_WIDTH`, the slowest graph takes some 0.1 s."""
MAX_WIDTH = 2**14
"""Largest dimension of a weight, and so of any value in the network."""

# fmt: off
OPERATORS = frozenset((
    "Abs", "Add", "Clip", "Concat", "Div", "Elu", "Gelu", "Gemm", "HardSigmoid", "HardSwish", "Identity",
    "LayerNormalization", "LeakyRelu", "MatMul", "Max", "Min", "Mish", "Mul", "Neg", "PRelu", "Relu", "Selu",
    "Sigmoid", "Softplus", "Softsign", "Sqrt", "Sub", "Tanh",
))
# fmt: on
"""Operators a policy may use. None of them loops, reads a file, or makes more data than inputs and weights have."""

VARINT, BYTES, FIXED32 = 0, 2, 5  # wire types
NO_WEIGHT = -1
FLOAT = 1  # TensorProto.DataType.FLOAT


def _tags(*numbers: int, wire: int = BYTES) -> set[int]:
    return {number << 3 | wire for number in numbers}


# Fields that are understood, per message; anything else is refused, so nothing in the file goes unchecked. The wire type
# belongs to it: protobuf skips a field of another wire type, so a reader that took it would check what nobody runs.
MODEL_FIELDS = _tags(2, 3, 4, 6, 7, 8, 14) | _tags(1, 5, wire=VARINT)  # not training_info (20), functions (25)
METADATA_FIELDS = _tags(1, 2)
OPSET_FIELDS = _tags(1) | _tags(2, wire=VARINT)
GRAPH_FIELDS = _tags(1, 2, 5, 10, 11, 12, 13, 16)  # not sparse_initializer (15)
VALUE_FIELDS = _tags(1, 2, 3, 4)  # the type (2) is left to ONNX Runtime
NODE_FIELDS = _tags(1, 2, 3, 4, 5, 6, 7, 9)
# Numbers and a string: no tensor (5), no graph (6). Lists of numbers come packed or one by one.
ATTRIBUTE_FIELDS = _tags(1, 4, 7, 8, 13) | _tags(3, 8, 20, wire=VARINT) | _tags(2, 7, wire=FIXED32)
TENSOR_FIELDS = _tags(1, 8, 9, 12) | _tags(1, 2, 14, wire=VARINT)  # weights as raw_data (9): no external_data (13)


class Model(NamedTuple):
    """The parts of a ModelProto that matter here."""

    graph: memoryview
    """The serialized GraphProto."""
    metadata: dict[str, bytes]
    """metadata_props, values not decoded."""


def read_model(data: bytes) -> Model:
    """Splits a serialized ModelProto into its graph and its metadata.

    Raises:
        PolicyFileError: the bytes are truncated, are no ONNX model, or hold parts that a policy must not have.
    """
    walker = _Walker()
    graphs: list[memoryview] = []
    metadata: dict[str, bytes] = {}
    for number, value in walker.fields(memoryview(data), "ONNX model", MODEL_FIELDS):
        if number == 7:
            graphs.append(value)
        elif number == 8:
            _check_opset(walker, value)
        elif number == 14:
            entry = dict(walker.fields(value, "metadata entry", METADATA_FIELDS))
            key = _text(entry.get(1, b""), "metadata key")
            if key in metadata:
                raise PolicyFileError(mismatch(f"metadata key {key[:80]!r}", "it twice", "it once"))
            metadata[key] = bytes(entry.get(2, b""))
    if len(graphs) != 1:  # protobuf would merge several
        raise PolicyFileError(mismatch("graphs in the file", len(graphs), "1, as in an ONNX model"))
    return Model(graphs[0], metadata)


def graph_sha256(data: bytes) -> str:
    """The SHA-256 of the serialized GraphProto inside a serialized ModelProto: the weights and how they are wired.

    Raises:
        PolicyFileError: as `read_model`.
    """
    return hashlib.sha256(read_model(data).graph).hexdigest()


def check_graph(graph: memoryview) -> None:
    """Checks that a graph is a plain feed-forward network: known operators, finite float32 weights inside the file.

    Matrices may only be the weights of Gemm and MatMul, each once, and only graph inputs may be concatenated: no value
    inside the network is larger than the inputs or a weight, and no weight is copied. Each name stands for one value,
    made before it is used.

    Raises:
        PolicyFileError: it is not; says which part.
    """
    walker = _Walker()
    inputs: list[str] = []
    ranks: dict[str, int] = {}  # of weights, and NO_WEIGHT for all other values
    nodes: list[memoryview] = []
    for number, value in walker.fields(graph, "graph", GRAPH_FIELDS):
        if number == 1:
            nodes.append(value)
        elif number == 5:
            name, rank = _check_tensor(walker, value)
            _define(name, rank, ranks)
        elif number == 11:
            inputs.append(_string(walker, value, "graph input", VALUE_FIELDS))
    if len(nodes) > MAX_NODES:
        raise PolicyFileError(mismatch("graph nodes", len(nodes), f"at most {MAX_NODES}"))
    for name in inputs:
        _define(name, NO_WEIGHT, ranks)
    used: set[str] = set()
    for node in nodes:
        _check_node(walker, node, set(inputs), ranks, used)


def _define(name: str, rank: int, ranks: dict[str, int]) -> None:
    if name in ranks:
        raise PolicyFileError(mismatch(f"value '{name[:80]}'", "it twice", "it once"))
    ranks[name] = rank


def _check_node(
    walker: _Walker, node: memoryview, graph_inputs: set[str], ranks: dict[str, int], used: set[str]
) -> None:
    inputs: list[str] = []
    outputs: list[str] = []
    operator, domain = "", ""
    for number, value in walker.fields(node, "graph node", NODE_FIELDS):
        if number == 1:
            inputs.append(_text(value, "node input"))
        elif number == 2:
            outputs.append(_text(value, "node output"))
        elif number == 4:
            operator = _text(value, "operator")
        elif number == 5:
            _check_attribute(walker, value)
        elif number == 7:
            domain = _text(value, "operator domain")
    if domain not in ("", "ai.onnx") or operator not in OPERATORS:
        found = f"{domain}.{operator}" if domain else operator
        raise PolicyFileError(mismatch("graph operator", repr(found[:80]), "a feed-forward operator", OPERATORS))
    if operator == "Concat" and (len(set(inputs)) < len(inputs) or not graph_inputs.issuperset(inputs)):
        raise PolicyFileError(mismatch("Concat of", ", ".join(inputs)[:200], "graph inputs, each once"))
    is_layer = operator in ("Gemm", "MatMul")
    for index, name in enumerate(inputs):
        matrix_wanted = is_layer and index == 1
        if name and name not in ranks:  # empty: an optional input that is left out
            raise PolicyFileError(mismatch(f"input {index} of {operator}", f"'{name[:80]}'", "a value made before"))
        rank = ranks.get(name, NO_WEIGHT)
        if (rank == 2) != matrix_wanted:
            found = f"a weight with {rank} dimensions" if rank != NO_WEIGHT else "no weight"
            expected = "a weight matrix" if matrix_wanted else "no weight matrix"
            raise PolicyFileError(mismatch(f"input {index} '{name[:80]}' of {operator}", found, expected))
        if matrix_wanted and name in used:
            raise PolicyFileError(mismatch(f"weight '{name[:80]}'", "in several layers", "in one"))
        if matrix_wanted:
            used.add(name)
    for name in outputs:
        _define(name, NO_WEIGHT, ranks)


def _check_attribute(walker: _Walker, attribute: memoryview) -> None:
    fields = dict(walker.fields(attribute, "node attribute", ATTRIBUTE_FIELDS))
    if _text(fields.get(1, b""), "attribute name") == "transA" and fields.get(3, 0) != 0:
        raise PolicyFileError(mismatch("Gemm attribute transA", fields[3], 0))


def _check_tensor(walker: _Walker, tensor: memoryview) -> tuple[str, int]:
    """Returns name and rank of a weight."""
    dims: list[int] = []
    raw, name, data_type = memoryview(b""), "", 0
    for number, value in walker.fields(tensor, "graph weight", TENSOR_FIELDS, refusals={13: "weights in another file"}):
        if number == 1:
            dims += [value] if isinstance(value, int) else _packed(value)
        elif number == 2:
            data_type = value
        elif number == 8:
            name = _text(value, "weight name")
        elif number == 9:
            raw = value
        elif number == 14 and value != 0:
            raise PolicyFileError(mismatch(f"weight '{name[:80]}'", "data in another file", "data inside the file"))
    if data_type != FLOAT:
        raise PolicyFileError(mismatch(f"weight '{name[:80]}' data type", data_type, f"{FLOAT} (float32)"))
    if len(dims) > 2 or max(dims, default=0) > MAX_WIDTH or math.prod(dims) * 4 != len(raw):
        found = f"shape {dims[:8]} and {len(raw)} bytes of raw data"
        expected = f"at most 2 dimensions of at most {MAX_WIDTH}, and 4 bytes per element"
        raise PolicyFileError(mismatch(f"weight '{name[:80]}'", found, expected))
    if not np.isfinite(np.frombuffer(raw, "<f4")).all():
        raise PolicyFileError(mismatch(f"weight '{name[:80]}'", "NaN or infinity", "finite numbers"))
    return name, len(dims)


def _check_opset(walker: _Walker, opset: memoryview) -> None:
    domain = _string(walker, opset, "opset_import", OPSET_FIELDS)
    if domain not in ("", "ai.onnx"):
        raise PolicyFileError(mismatch("opset_import domain", repr(domain[:80]), "ai.onnx"))


class _Walker:
    """Walks protobuf messages in place. Lengths are checked against the message; the number of fields is limited."""

    def __init__(self) -> None:
        self._left = MAX_FIELDS

    def fields(
        self, message: memoryview, where: str, known: set[int], refusals: dict[int, str] | None = None
    ) -> Iterator[tuple[int, Any]]:
        """Yields (field number, value): an int for varints, a view for everything else."""
        at = 0
        while at < len(message):
            self._left -= 1
            if self._left < 0:
                raise PolicyFileError(mismatch("protobuf fields in the file", "more", f"at most {MAX_FIELDS}"))
            tag, at = _varint(message, at, where)
            number, wire_type = tag >> 3, tag & 7
            if tag not in known:
                found = (refusals or {}).get(number, f"field {number} of wire type {wire_type}")
                raise PolicyFileError(mismatch(where, found, "the parts of a policy in an ONNX model"))
            if wire_type == VARINT:
                value, at = _varint(message, at, where)
                yield number, value
                continue
            size, at = (4, at) if wire_type == FIXED32 else _varint(message, at, where)
            if size > len(message) - at:
                hint = "Truncated, or no ONNX file?"
                raise PolicyFileError(mismatch(where, f"{len(message) - at} bytes", f"{size} more bytes", hint=hint))
            yield number, message[at : at + size]
            at += size


def _varint(message: memoryview, at: int, where: str) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise PolicyFileError(mismatch(where, "the end of the data", "more bytes", hint="Truncated?"))
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise PolicyFileError(mismatch(where, "a number of more than 10 bytes", "an ONNX model"))


def _packed(view: memoryview) -> list[int]:
    values: list[int] = []
    at = 0
    while at < len(view) and len(values) <= 8:
        value, at = _varint(view, at, "weight dimensions")
        values.append(value)
    return values


def _text(value: bytes | memoryview, what: str) -> str:
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        raise PolicyFileError(mismatch(what, "bytes that are no UTF-8", "text, as in an ONNX model")) from None


def _string(walker: _Walker, message: memoryview, what: str, known: set[int]) -> str:
    """The string in field 1 of a message."""
    return _text(dict(walker.fields(message, what, known)).get(1, b""), what)
