"""Files that are no policies, and manifests that are none, are refused."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from core.bad_files import edit_manifest, refusal, replace_manifest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policy_factory import mutate

from ddpg_robot.errors import PolicyFileError
from ddpg_robot.onnx_file import check_graph, read_model
from ddpg_robot.policy import (
    MAX_FILE_BYTES,
    METADATA_KEY,
    OnnxPolicy,
    read_manifest,
)

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
