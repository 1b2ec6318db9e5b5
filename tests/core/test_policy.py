"""A policy file that is opened, bound and run."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import pytest
from core.robots import two_joint_interface
from policy_factory import deployed_actor, hash_of_graph, write_policy

from ddpg_robot.errors import PolicyFileError
from ddpg_robot.observation import ObservationBuilder
from ddpg_robot.policy import (
    OnnxPolicy,
    graph_sha256,
    read_manifest,
    shipped_policy,
)
from ddpg_robot.state import Command, RobotState

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


def test_who_runs_a_policy_sends_nobody_telemetry_and_keeps_no_files_for_it(policy_file, tmp_path):
    code = f"from ddpg_robot.policy import OnnxPolicy; import os, time; OnnxPolicy.open({str(policy_file)!r}); time.sleep(1); "
    code += "print(len(os.listdir('/proc/self/task')) if os.path.isdir('/proc/self/task') else 1)"
    clean = {
        name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    }
    command = [sys.executable, "-c", code]
    environment = clean | {"HOME": str(tmp_path / "home"), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    (tmp_path / "home").mkdir()
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(result.stdout) == 1
    assert not list((tmp_path / "home").rglob("*"))


def test_without_onnxruntime_the_manifest_is_readable_and_opening_names_what_to_install(policy_file):
    assert "pip install onnxruntime" in run_bare(policy_file, HEAVY | {"onnxruntime"})
