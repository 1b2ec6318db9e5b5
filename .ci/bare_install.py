"""What an edge device does with the bare package; run by `.ci/bare-install` in an environment without extras."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np

HEAVY = ("torch", "gymnasium", "mujoco", "rclpy", "onnx", "mcap")


def main() -> None:
    """Runs every shipped policy for a second of ticks; checks what is loaded and what a missing extra says."""
    present = [name for name in HEAVY if importlib.util.find_spec(name)]
    assert not present, f"this environment is not bare: {present}"
    from ddpg_robot.controller import PolicyController
    from ddpg_robot.policy import OnnxPolicy, shipped_policy
    from ddpg_robot.safety import SafetyLimits
    from ddpg_robot.state import Command, RobotState

    for name in ("arm_reach", "arm_reach_pd"):
        policy = OnnxPolicy.open(shipped_policy(name))
        robot, command_spec = policy.manifest.robot, policy.manifest.command
        controller = PolicyController(policy, SafetyLimits())
        state, command = RobotState(robot.n_joints, robot.floating_base), Command(command_spec.size)
        state.position[:] = [(joint.position_lower + joint.position_upper) / 2 for joint in robot.joints]
        command.values[:] = np.mean([command_spec.lower, command_spec.upper], axis=0)
        for _ in range(round(controller.rate)):
            verdict = controller.step(state, command, 0.0)
            assert not verdict.tripped, verdict
        limit = [joint.effort_limit for joint in robot.joints]
        assert np.isfinite(controller.effort).all() and (np.abs(controller.effort) <= limit).all()
        print(f"{name}: effort {np.round(controller.effort, 2)} N·m")

    program = Path(sys.executable).with_name("ddpg-robot")
    shown = subprocess.run([program, "inspect", "arm_reach"], capture_output=True, text=True, check=True)
    assert "arm" in shown.stdout
    refused = subprocess.run([program, "train", "arm_reach"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2, refused
    assert 'pip install "ddpg-robot[train,sim]"' in refused.stderr, refused.stderr
    print(refused.stderr.strip())

    Path("some.mcap").write_bytes(b"\x89MCAP0\r\n")
    refused = subprocess.run([program, "replay", "arm_reach", "some.mcap"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2, refused
    assert 'pip install "ddpg-robot[bag]"' in refused.stderr, refused.stderr


if __name__ == "__main__":
    main()
