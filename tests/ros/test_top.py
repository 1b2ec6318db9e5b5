"""A robot at a glance."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ros.robot import PATIENT, WAIT_S, RobotDouble

from ddpg_robot_ros.top import WIDEST, bar


def top(policy: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ddpg_robot.cli", "top", str(policy), "--once"]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S)


def test_joints_rates_and_verdicts_of_a_running_robot_are_shown(start, spring: Path, robot: RobotDouble) -> None:
    start("policy_node", policy=str(spring), autostart=True, **PATIENT)
    robot.puts_in_control((0.5, 0.2, 0.4))
    done = top(spring)
    assert done.returncode == 0, done.stderr
    assert "control loop: running" in done.stdout
    assert "guard: not heard of" in done.stdout
    assert all(joint in done.stdout for joint in robot.robot.joint_names)
    rate = int(done.stdout.split("joint_states ")[1].split(" Hz")[0])
    assert 50 < rate <= 300
    assert "-2.356" in done.stdout  # where its fourth joint is
    assert "…" not in done.stdout  # 80 columns are enough
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_robot_that_says_nothing_is_told_and_ends_with_1(spring: Path) -> None:
    done = top(spring)
    assert done.returncode == 1
    assert "newest none seen" in done.stdout


def test_a_bar_grows_from_the_middle_to_its_limit() -> None:
    half = WIDEST // 2
    assert bar(0.0).plain == " " * half + "│" + " " * half
    assert bar(-1.0).plain == "█" * half + "│" + " " * half
    assert bar(5.0).plain == " " * half + "│" + "█" * half
    assert [bar(share).style for share in (0.5, -0.8, 0.96)] == ["green", "yellow", "red"]
    assert "?" in bar(float("nan")).plain
