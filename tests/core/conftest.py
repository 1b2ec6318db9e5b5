"""A policy file with random weights, for all tests of the policy file."""

from __future__ import annotations

from pathlib import Path

import pytest
from policy_factory import write_policy


@pytest.fixture(scope="module")
def policy_file(tmp_path_factory) -> Path:
    return write_policy(tmp_path_factory.mktemp("policies") / "two.onnx")


@pytest.fixture(scope="module")
def policy_bytes(policy_file) -> bytes:
    return policy_file.read_bytes()
