"""What a ROS user types: the launch file and the parameter file beside it."""

from __future__ import annotations

import ast
import importlib.util
import os
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml
from ros.robot import WAIT_S

from ddpg_robot.safety import SafetyLimits
from ddpg_robot.spec import PolicyManifest
from ddpg_robot_ros import effort_guard, plant_node, policy_node
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.processes import wait_until

ROS = Path(__file__).parents[2] / "ros2_ws"
LAUNCH, CONFIG = ROS / "launch" / "policy.launch.py", ROS / "config" / "policy.yaml"
LAUNCH_PROGRAM = """
import asyncio, sys
from launch import LaunchService
from launch.actions import IncludeLaunchDescription
from launch import LaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
arguments = [tuple(one.split(":=", 1)) for one in sys.argv[2:]]
include = IncludeLaunchDescription(PythonLaunchDescriptionSource(sys.argv[1]), launch_arguments=arguments)
service = LaunchService()
service.include_launch_description(LaunchDescription([include]))
sys.exit(service.run())
"""


def test_the_parameter_file_names_every_setting_at_its_default() -> None:
    given = yaml.safe_load(CONFIG.read_text())
    launched = {"policy", "rate", "autostart", "guarded", "shadow", "online", "joint_order", "command_order"}
    for module in (policy_node, effort_guard, plant_node):
        name = module.__name__.rpartition(".")[2]
        found = flat(given[f"/**/{name}"]["ros__parameters"])
        keep = launched - ({"rate"} if name == "plant_node" else set())
        assert found == {one.name: one.default for one in module.PARAMETERS if one.name not in keep}


def test_every_limit_of_the_safety_filter_is_a_parameter_with_the_filters_own_default() -> None:
    declared = {one.name: one.default for one in policy_node.PARAMETERS}
    own = [field for field in fields(SafetyLimits) if field.name != "state_timeout"]  # given in periods
    assert {f"safety.{field.name}": field.default for field in own}.items() <= declared.items()


def test_every_launch_file_is_python_that_says_what_its_arguments_are() -> None:
    for path in LAUNCH.parent.glob("*.launch.py"):
        tree = ast.parse(path.read_text())
        (table,) = [
            node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "ARGUMENTS"
        ]
        assert all(len(row.elts) == 3 for row in table.elts), path


@pytest.mark.skipif(importlib.util.find_spec("launch_ros") is None, reason="needs a ROS installation")
def test_the_launch_file_starts_an_arm_that_listens_and_ctrl_c_ends_it(spring: Path, manifest: PolicyManifest) -> None:
    command = [sys.executable, "-c", LAUNCH_PROGRAM, str(LAUNCH), f"policy:={spring}", "namespace:=cell"]
    launched = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        with Operator(manifest.robot, namespace="cell") as operator:
            assert wait_until(lambda: operator.active() and operator.ready(), WAIT_S)

            def moving() -> bool:
                operator.send_target((0.5, 0.2, 0.4))
                return operator.watch() and np.abs(operator.state.velocity).max() > 0.05

            assert wait_until(moving, WAIT_S)
            launched.send_signal(signal.SIGINT)
            output, _ = launched.communicate(timeout=WAIT_S)
            assert "stopped: damped, then zero effort" in output
            assert output.count("process has finished cleanly") == 3, output
    finally:
        if launched.poll() is None:
            os.killpg(launched.pid, signal.SIGKILL)


def flat(tree: dict, prefix: str = "") -> dict:
    found = {}
    for key, one in tree.items():
        found.update(flat(one, f"{prefix}{key}.") if isinstance(one, dict) else {f"{prefix}{key}": one})
    return found
