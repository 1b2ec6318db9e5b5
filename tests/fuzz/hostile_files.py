"""Bad policy files, each made by its number alone: with the pinned onnx, mutant 17 is the same file on every machine.

A change to the graph comes with the hash that fits it, so that it gets past the hash to the checks behind it: whoever
forges a file computes its hash, too. The policy that is changed is ``two.onnx``, which ``policy_factory`` wrote once.
"""

from __future__ import annotations

import hashlib
import json
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from fuzz.hostile_graphs import DOMAINS, EDITS, INTEGERS, nested
from onnx import GraphProto, ModelProto, helper

from ddpg_robot.policy import METADATA_KEY

BASE = (Path(__file__).parent / "two.onnx").read_bytes()
MODEL = onnx.load_model_from_string(BASE)
GRAPH = MODEL.graph.SerializeToString()
MANIFEST = json.loads(MODEL.metadata_props[0].value)

# fmt: off
JSON_VALUES = [
    "null", "true", "[]", "{}", '""', "0", "-1", "1e308", "-1e308", "5e-324", "1e999", "NaN", "-Infinity", "0.5", "7",
    "9" * 400, "-" + "9" * 400, "9" * 5000, "1" + "0" * 18, "[" * 200 + "]" * 200, "[" * 975 + "]" * 975, "[" * 10**5,
    '"\\ud800"', '"\\u001b[2J"', '"\\n"', '"\\u0000"', '"joint_position"', '"' + "x" * 10**5 + '"', "[[0,0,0]]",
    '{"a":1,"a":2}', "[" + "0," * 10**5 + "0]", '"../../etc/passwd"', '"pd"', '"elbow"', "[1,1]", '{"__class__":"os"}',
]
# fmt: on

Mutation = Callable[[random.Random], bytes]


def mutant(number: int) -> tuple[str, bytes]:
    """Name of the mutation and the file of a number."""
    rng = random.Random(number)
    mutation = MUTATIONS[number % len(MUTATIONS)]
    return mutation.__name__, mutation(rng)


def assemble(graph: bytes = GRAPH, manifest: str | bytes | None = None, head: bytes = b"", tail: bytes = b"") -> bytes:
    """A policy file of these parts, with the hash that fits the graph unless a whole manifest is given."""
    if manifest is None:
        manifest = json.dumps({**MANIFEST, "weights_sha256": hashlib.sha256(graph).hexdigest()})
    text = manifest if isinstance(manifest, bytes) else manifest.encode()
    entry = field(1, METADATA_KEY.encode()) + field(2, text)
    opset = field(8, b"\x10" + varint(MODEL.opset_import[0].version))
    return head + b"\x08" + varint(MODEL.ir_version) + opset + field(7, graph) + field(14, entry) + tail


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


# Bytes


def scrambled(rng: random.Random, data: bytes) -> bytes:
    """Bits flipped; or a piece cut out, doubled, moved, overwritten; or the end cut off."""
    data, at = bytearray(data), rng.randrange(len(data))
    size = min(rng.choice([1, 2, 4, 8, 60, 1000]), len(data) - at)
    match rng.randrange(6):
        case 0 | 1:
            for _ in range(rng.randint(1, 4)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 2:
            del data[at : at + size]
        case 3:
            to = rng.randrange(len(data))
            data[to:to] = data[at : at + size]
        case 4:
            data[at : at + size] = rng.randbytes(size)
        case _:
            del data[at:]
    return bytes(data)


def scrambled_file(rng: random.Random) -> bytes:
    return scrambled(rng, BASE)


def scrambled_graph(rng: random.Random) -> bytes:
    return assemble(scrambled(rng, GRAPH))


def scrambled_manifest(rng: random.Random) -> bytes:
    return assemble(manifest=scrambled(rng, json.dumps(MANIFEST).encode()))


# Protobuf


def split(message: bytes) -> list[tuple[int, int, bytes]]:
    """Field number, start of the payload in the field, and the field, of a message that has only varints and bytes."""
    fields, at = [], 0
    while at < len(message):
        start = at
        tag, at = read_varint(message, at)
        size, at = read_varint(message, at)
        head = at - start
        if tag & 7 == 2:
            at += size
        elif tag & 7 == 5:
            at = start + 5
        fields.append((tag, head, message[start:at]))
    return fields


def read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (message[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if message[at - 1] < 0x80:
            return value, at


def spliced(rng: random.Random, message: bytes, depth: int) -> bytes:
    """One field, somewhere inside, doubled, moved, dropped, or followed by one that should not be there."""
    fields = split(message)
    inner = [i for i, (tag, _, _) in enumerate(fields) if tag in (1 << 3 | 2, 5 << 3 | 2, 11 << 3 | 2)]
    if depth and inner and rng.random() < 0.8:
        i = rng.choice(inner)
        tag, head, whole = fields[i]
        try:
            fields[i] = (tag, 0, field(tag >> 3, spliced(rng, whole[head:], depth - 1)))
        except IndexError:  # a string, no message
            fields[i] = (tag, 0, field(tag >> 3, scrambled(rng, whole[head:] or b"x")))
    elif fields:
        i, (tag, _, whole) = rng.randrange(len(fields)), rng.choice(fields)
        match rng.randrange(4):
            case 0:
                fields.insert(i, (tag, 0, whole))
            case 1:
                del fields[i]
            case 2:
                rng.shuffle(fields)
            case _:
                fields.insert(i, (tag, 0, foreign_field(rng)))
    return b"".join(whole for _, _, whole in fields)


def foreign_field(rng: random.Random) -> bytes:
    """Any number, any wire type, a payload that fits or a length that lies."""
    tag = varint(rng.randint(1, 26) << 3 | rng.choice([0, 1, 2, 2, 2, 3, 4, 5, 6, 7]))
    payload = rng.choice([b"Relu", b"Identity", b"Loop", b"x", b"\x01" * 10, bytes(4), bytes(8), rng.randbytes(30)])
    size = varint(rng.choice([len(payload), len(payload), 2**31, 2**32, 2**63, 2**64 - 1, 2**69]))
    return tag + rng.choice([size + payload, payload, varint(rng.choice(INTEGERS) % 2**64)])


def spliced_graph(rng: random.Random) -> bytes:
    return assemble(spliced(rng, GRAPH, 3))


def spliced_model(rng: random.Random) -> bytes:
    return assemble(head=foreign_field(rng) * rng.choice([0, 1]), tail=foreign_field(rng))


# Graphs, models and manifests


def edited_graph(rng: random.Random) -> bytes:
    graph = GraphProto()
    graph.CopyFrom(MODEL.graph)
    for _ in range(rng.choice([1, 1, 1, 2])):
        rng.choice(EDITS)(rng, graph)
    return assemble(graph.SerializeToString())


def deep_graph(rng: random.Random) -> bytes:
    """Deeper than any protobuf library builds it."""
    inner = b""
    for _ in range(rng.choice([1, 30, 200, 5000])):
        branch = field(1, b"then_branch") + field(6, inner) + b"\xa0\x01\x05"
        inner = field(1, field(1, b"c") + field(2, b"x") + field(4, b"If") + field(5, branch))
    return assemble(rng.choice([inner + GRAPH, GRAPH + inner]))


def edited_model(rng: random.Random) -> bytes:
    model = ModelProto()
    match rng.randrange(6):
        case 0:
            model.functions.append(helper.make_function("", "Tanh", ["x"], ["y"], [], [helper.make_opsetid("", 17)]))
        case 1:
            model.training_info.add().algorithm.CopyFrom(nested(2))
        case 2:
            model.opset_import.append(helper.make_opsetid(rng.choice(DOMAINS), rng.choice(INTEGERS)))
        case 3:
            model.ir_version = rng.choice(INTEGERS)
        case 4:
            bomb = zlib.compress(bytes(10**7)).decode("latin-1")
            model.metadata_props.add(key=rng.choice(["ort_config", "zip", METADATA_KEY]), value=bomb)
        case _:
            model.doc_string = "\x1b[2J" * rng.choice([1, 10**5])
    return assemble(tail=model.SerializeToString())


def places(data: Any) -> list[tuple[Any, Any]]:
    """All (container, key) of a JSON value."""
    keys = list(data) if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else []
    return [place for key in keys for place in [(data, key), *places(data[key])]]


def lying_manifest(rng: random.Random) -> bytes:
    """One or two values of the manifest are other ones; or a key is gone, or new, or the list longer."""
    data = json.loads(json.dumps({**MANIFEST, "weights_sha256": hashlib.sha256(GRAPH).hexdigest()}))
    raw = [rng.choice(JSON_VALUES) for _ in range(rng.choice([1, 1, 2]))]
    for i in range(len(raw)):
        container, key = rng.choice(places(data))
        match rng.randrange(6):
            case 0 if isinstance(container, list):
                container.append(container[key])
            case 0:
                del container[key]
            case 1 if isinstance(container, dict):
                container[f"@{i}@"] = 1
            case _:
                container[key] = f"@{i}@"
    text = json.dumps(data)
    for i, value in enumerate(raw):
        text = text.replace(f'"@{i}@"', value if f'"@{i}@": 1' not in text else '"extra"')
    return assemble(manifest=text)


def strange_manifest(rng: random.Random) -> bytes:
    text = json.dumps(MANIFEST)
    inner = text.strip("{}")
    return assemble(
        manifest=rng.choice(
            [
                text.encode("utf-16"),
                text.encode("utf-8-sig"),
                text.replace("elbow", "\udcff").encode("utf-8", "surrogateescape"),
                "{" + inner + "," + inner + "}",
                text.replace('"period": 0.02', '"period": 0.02, "period": 0.5'),
                "[" * rng.randint(900, 1100) + "]" * 1100,
                '{"a":' * rng.randint(900, 1100) + "1",
                text.replace('"effort"', "[" * (depth := rng.randint(940, 1000)) + "]" * depth),
                '{"schema": "ddpg_robot.policy/1", "name": "' + "x" * rng.choice([2**20, 2**23]) + '"}',
                " " * rng.choice([2**20 - 10, 2**20, 2**22]) + text,
                json.dumps({**MANIFEST, "robot": {**MANIFEST["robot"], "joints": MANIFEST["robot"]["joints"] * 2000}}),
            ]
        )
    )


# fmt: off
MUTATIONS: tuple[Mutation, ...] = (
    scrambled_file, scrambled_graph, scrambled_manifest, spliced_graph, spliced_model,
    edited_graph, edited_graph, edited_graph, edited_model, deep_graph, lying_manifest, lying_manifest, strange_manifest,
)
# fmt: on
