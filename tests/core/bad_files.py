"""Policy files that are changed, and the message with which they are refused."""

from __future__ import annotations

import json

import onnx
import pytest
from policy_factory import mutate

from ddpg_robot.errors import PolicyFileError
from ddpg_robot.policy import (
    OnnxPolicy,
)


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
