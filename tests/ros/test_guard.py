"""The effort guard: passes on, clamps, damps when nobody commands, refuses two masters."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from rclpy.publisher import Publisher
from ros.robot import WAIT_S, RobotDouble, set_parameter, started
from std_msgs.msg import Float64MultiArray

from ddpg_robot.spec import PolicyManifest
from ddpg_robot_ros.processes import wait_until
from ddpg_robot_ros.transport import COMMAND_QOS

EFFORT = [1.0, -2.0, 3.0, -4.0, 5.0, -6.0, 7.0]
COMMAND_PERIOD_S = 0.01
# 40 periods of 8 ms: a test machine may pause the publishing threads for a while.
TIMEOUTS, TIMEOUT_S = {"timeout_periods": 40.0, "state_timeout_periods": 40.0}, 0.32


class Guarded(RobotDouble):
    """A robot behind a guard, and the one publisher that may command it."""

    policy: Publisher

    @contextmanager
    def commanded(
        self, effort: list[float] | bytes, period: float = COMMAND_PERIOD_S, publisher: Publisher | None = None
    ) -> Iterator[None]:
        """Sends an effort, or bytes that may be none, 100 times a second."""
        ending = threading.Event()
        message = effort if isinstance(effort, bytes) else Float64MultiArray(data=effort)

        def run() -> None:
            while not ending.wait(period):
                (publisher or self.policy).publish(message)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()

    def dropped(self, suffix: str) -> int:
        """How many commands the guard refused, as it says itself."""
        return int(next(pair.value for pair in self.status(suffix).values if pair.key == "dropped"))

    def hears_exactly(self, effort: list[float]) -> bool:
        """Waits until this very effort arrives."""
        return self.hears(lambda heard: heard.tolist() == effort)


@contextmanager
def guarded(spring: Path, manifest: PolicyManifest) -> Iterator[Guarded]:
    with Guarded(manifest.robot) as robot:
        robot.process = started("effort_guard", {"policy": str(spring), **TIMEOUTS})
        robot.policy = robot.commander()
        try:
            assert robot.reports("no command yet", suffix="guard")
            assert not robot.commands, "a guard without commands must not publish"
            yield robot
        finally:
            robot.process.end()


@pytest.fixture(scope="module")
def live(spring: Path, manifest: PolicyManifest) -> Iterator[Guarded]:
    """One guard for all tests of this module."""
    with guarded(spring, manifest) as robot:
        yield robot


def test_commands_are_passed_on_unchanged(live: Guarded) -> None:
    with live.commanded(EFFORT):
        assert live.hears_exactly(EFFORT)


def test_commands_are_clamped_to_the_manifests_limits(live: Guarded) -> None:
    limits = [joint.effort_limit for joint in live.robot.joints]
    with live.commanded([1e6, -1e6] + [1e6] * 5):
        assert live.hears_exactly([limits[0], -limits[1], *limits[2:]])


def test_the_guard_damps_when_commands_stop_and_passes_again_when_they_return(live: Guarded) -> None:
    with live.commanded(EFFORT):
        assert live.hears_exactly(EFFORT)
    stopped = time.monotonic()
    assert live.hears_damping()
    assert time.monotonic() - stopped < TIMEOUT_S + 0.5
    damped = live.efforts(0.3)
    assert len(damped) > 10
    assert all(live.is_damping(effort) for effort in damped)
    assert live.reports("commands stopped", suffix="guard")
    with live.commanded(EFFORT):
        assert live.hears_exactly(EFFORT)


@pytest.mark.parametrize("bad", [[float("nan")] * 7, [float("-inf")] + [0.0] * 6, [1.0] * 6, [1.0] * 8, []])
def test_commands_that_make_no_sense_are_dropped_and_then_damped(live: Guarded, bad: list[float]) -> None:
    with live.commanded(EFFORT):
        assert live.hears_exactly(EFFORT)
    with live.commanded(bad):
        assert live.hears_damping()
        assert all(np.isfinite(effort).all() for effort in live.efforts(0.2))


@pytest.mark.parametrize("bad", [b"", b"\x00\x01\x00\x00", b"\xff" * 60, bytes(70_000)], ids=len)
def test_a_flood_of_bytes_that_are_no_command_does_not_keep_the_guard_from_damping(live: Guarded, bad: bytes) -> None:
    with live.commanded(EFFORT):
        assert live.hears_exactly(EFFORT)
    with live.commanded(bad, period=0.5e-3):  # several in each of the guard's ticks
        assert live.hears_damping()
        begin = len(live.commands)
        assert wait_until(lambda: len(live.commands) > begin + 10, WAIT_S)


def test_two_publishers_are_refused_until_one_is_left_and_the_guard_is_rearmed(live: Guarded) -> None:
    with live.commanded(EFFORT):
        assert live.hears_exactly(EFFORT)
        rival = live.commander()
        assert live.hears_damping()
        assert live.reports("two publishers", suffix="guard")
        assert not live.trigger("effort_guard/rearm").success
        live.node.destroy_publisher(rival)
        assert wait_until(lambda: live.trigger("effort_guard/rearm").success, WAIT_S)
        assert live.hears_exactly(EFFORT)


def test_of_two_publishers_one_is_chosen_by_its_topic_while_the_guard_runs(
    live: Guarded,
) -> None:
    other = [-effort for effort in EFFORT]
    rival = live.node.create_publisher(Float64MultiArray, "policy_b/commands", COMMAND_QOS)
    with live.commanded(EFFORT), live.commanded(other, publisher=rival):
        assert live.hears_exactly(EFFORT)
        assert set_parameter(live, "effort_guard", "commands", "policy_b/commands") == ""
        assert live.hears_exactly(other)
        assert all(effort.tolist() in (other, live.damping.tolist()) for effort in live.efforts(0.3))
        assert "topic name" in set_parameter(live, "effort_guard", "commands", "no topic")
        assert "only 'commands'" in set_parameter(live, "effort_guard", "effort_scale", 0.5)
        assert set_parameter(live, "effort_guard", "commands", "policy/commands") == ""
        assert live.hears_exactly(EFFORT)
    live.node.destroy_publisher(rival)


def test_a_successor_may_command_while_its_killed_forerunner_is_still_in_the_graph(live: Guarded) -> None:
    with live.commanded(EFFORT):
        assert live.hears_exactly(EFFORT)
    assert live.hears_damping()
    forerunner, live.policy = (
        live.policy,
        live.commander(),
    )  # silent, but matched: as after SIGKILL, before its lease ends
    with live.commanded(EFFORT):
        assert live.hears_exactly(EFFORT)
        live.node.destroy_publisher(forerunner)
        assert all(effort.tolist() == EFFORT for effort in live.efforts(0.3))


def test_nothing_is_passed_on_before_the_guard_hears_the_robot_that_it_would_damp(
    spring: Path, manifest: PolicyManifest
) -> None:
    with Guarded(manifest.robot, namespace="silent") as robot:
        robot.alter = lambda message: None
        robot.process = started("effort_guard", {"policy": str(spring), **TIMEOUTS}, {"__ns": "/silent"})
        robot.policy = robot.commander()
        try:
            with robot.commanded(EFFORT):
                assert robot.reports("no command yet", suffix="silent/effort_guard: guard")
                assert wait_until(lambda: robot.dropped("silent/effort_guard: guard") > 10, WAIT_S)
                assert not robot.commands
                robot.alter = lambda message: message
                assert robot.hears_exactly(EFFORT)
        finally:
            robot.process.end()


def test_the_guard_loads_no_inference_no_training_and_no_simulator(live: Guarded) -> None:
    maps = Path(f"/proc/{live.process.pid}/maps").read_text()
    assert "rclpy" in maps
    assert not re.search("onnxruntime|torch|mujoco", maps)


def test_sigterm_ends_in_damping_then_zero(spring: Path, manifest: PolicyManifest, live: Guarded) -> None:
    with live.commanded(EFFORT):
        assert live.hears_exactly(EFFORT)
        live.process.send(signal.SIGTERM)
        assert wait_until(lambda: live.process.exit_status == 0, WAIT_S)
    assert not live.last().any()
    last_moving = next(effort for _, effort in reversed(live.commands) if effort.any())
    assert live.is_damping(last_moving)


def test_limits_cannot_be_widened_by_a_parameter(start, spring: Path, capfd) -> None:
    guard = start("effort_guard", policy=str(spring), effort_scale=1.5)
    assert wait_until(lambda: guard.exit_status is not None, WAIT_S)
    assert guard.exit_status == 2
    assert "effort_scale" in capfd.readouterr().err
