"""Where security is asked for, a node that cannot have it does not start without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = ("identity_ca.cert.pem", "cert.pem", "key.pem", "permissions_ca.cert.pem", "governance.p7s", "permissions.p7s")


@pytest.mark.parametrize("files", [(), FILES], ids=["no enclave", "an enclave of rubbish"])
@pytest.mark.parametrize("node", ["policy_node", "effort_guard"])
def test_a_node_that_shall_be_secure_and_cannot_be_does_not_start(
    node: str, files: tuple[str, ...], tmp_path: Path
) -> None:
    enclave = tmp_path / "enclaves" / node
    for name in files:
        enclave.mkdir(parents=True, exist_ok=True)
        (enclave / name).write_text("rubbish")
    secure = {"ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_STRATEGY": "Enforce", "ROS_SECURITY_KEYSTORE": str(tmp_path)}
    command = [sys.executable, "-m", f"ddpg_robot_ros.{node}", "--ros-args", "--enclave", f"/{node}"]
    done = subprocess.run(
        command, env={**os.environ, **secure}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode not in (0, -11)
    assert "security" in done.stderr.lower()
