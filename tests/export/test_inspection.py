from __future__ import annotations

import json
import subprocess
import sys

import pytest
from policy_factory import deployed_actor, mutate, write_policy

from ddpg_robot.errors import PolicyFileError
from ddpg_robot_export.inspection import format_policy, format_verification, inspect_policy, verify_policy


@pytest.fixture(scope="module", params=["effort", "pd"])
def policy_file(request, tmp_path_factory):
    return write_policy(tmp_path_factory.mktemp("policies") / f"{request.param}.onnx", deployed_actor(request.param))


def test_inspect_gives_the_manifest_as_json_and_as_a_page(policy_file):
    data = json.loads(json.dumps(inspect_policy(policy_file)))
    mode = data["control"]["mode"]
    assert data["output"] == {
        "name": {"effort": "effort", "pd": "joint_target"}[mode],
        "size": 2,
        "unit": {"effort": "N*m", "pd": "rad"}[mode],
    }
    assert data["file_bytes"] == policy_file.stat().st_size
    page = format_policy(data)
    for text in (data["name"], data["weights_sha256"], "shoulder", "target_error", "10000 samples", "success_rate 0.5"):
        assert text in page
    assert ("kp" in page) == (mode == "pd")
    assert all(len(line) <= 120 for line in page.splitlines())


def test_verify_runs_the_robots_own_controller(policy_file):
    report = verify_policy(policy_file)
    assert [name for name, _ in report["checks"]] == [
        "file",
        "parity record",
        "batch and bound runs agree",
        "one control step",
    ]
    assert format_verification(report).count("  ok  ") == 4


@pytest.mark.parametrize(("samples", "error"), [(9999, 1e-7), (10_000, 2e-5)])
def test_a_policy_that_did_not_pass_the_gate_is_not_verified(policy_file, tmp_path, samples, error):
    def weaken(model):
        (entry,) = model.metadata_props
        manifest = json.loads(entry.value)
        manifest["parity"] = {"samples": samples, "max_abs_error": error}
        entry.value = json.dumps(manifest)

    (tmp_path / "weak.onnx").write_bytes(mutate(policy_file.read_bytes(), weaken))
    with pytest.raises(PolicyFileError, match="parity record: found"):
        verify_policy(tmp_path / "weak.onnx")


def test_inspect_and_verify_need_no_more_than_the_bare_install(policy_file):
    code = (
        "import sys\n"
        "from ddpg_robot_export.inspection import inspect_policy, verify_policy\n"
        f"inspect_policy({str(policy_file)!r})\n"
        "assert 'onnxruntime' not in sys.modules\n"
        f"verify_policy({str(policy_file)!r})\n"
        "heavy = {'torch', 'gymnasium', 'mujoco', 'rclpy', 'onnx', 'safetensors'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
