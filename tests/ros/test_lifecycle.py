"""How a policy node begins and ends: transitions, refusals, signals."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from ros.robot import PATIENT, WAIT_S, RobotDouble

from ddpg_robot_ros.policy_node import PARAMETERS
from ddpg_robot_ros.processes import NodeProcess, wait_until


def change(robot: RobotDouble, transition: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=transition))
    return robot.call(ChangeState, "policy_node/change_state", request, WAIT_S).success


def assert_farewell(robot: RobotDouble, begin: int) -> None:
    efforts = [effort for _, effort in robot.commands[begin:]]
    assert not efforts[-1].any()
    last_moving = next(effort for effort in reversed(efforts) if effort.any())
    assert robot.is_damping(last_moving)


def refused(process: NodeProcess) -> bool:
    return wait_until(lambda: process.exit_status is not None, WAIT_S) and process.exit_status == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_in_damping_then_zero(start, spring: Path, robot: RobotDouble, number: int) -> None:
    node = start("policy_node", policy=str(spring), autostart=True, **PATIENT)
    assert robot.hears_damping()
    robot.puts_in_control((0.5, 0.2, 0.4))
    begin = len(robot.commands)
    node.send(number)
    assert wait_until(lambda: node.exit_status == 0, WAIT_S)
    assert_farewell(robot, begin)


def test_the_lifecycle_goes_round_and_every_deactivation_ends_in_damping_then_zero(
    start, spring: Path, robot: RobotDouble
) -> None:
    start("policy_node", policy=str(spring), **PATIENT)
    assert change(robot, Transition.TRANSITION_CONFIGURE)
    assert not robot.commands, "a configured node must not publish"
    for _ in range(3):
        begin = len(robot.commands)
        assert change(robot, Transition.TRANSITION_ACTIVATE)
        assert robot.hears_damping()
        assert change(robot, Transition.TRANSITION_DEACTIVATE)
        assert wait_until(lambda: not robot.last().any(), WAIT_S)
        assert_farewell(robot, begin)
    assert change(robot, Transition.TRANSITION_CLEANUP)
    assert change(robot, Transition.TRANSITION_CONFIGURE)
    assert change(robot, Transition.TRANSITION_ACTIVATE)


def test_a_transition_that_is_not_possible_is_refused_and_the_node_goes_on(
    start, spring: Path, robot: RobotDouble
) -> None:
    start("policy_node", policy=str(spring), **PATIENT)
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_ACTIVATE))
    robot.call(ChangeState, "policy_node/change_state", request, timeout=2.0)
    assert change(robot, Transition.TRANSITION_CONFIGURE)


def test_a_trip_outlives_deactivation(start, spring: Path, robot: RobotDouble) -> None:
    start("policy_node", policy=str(spring), autostart=True, **PATIENT)
    assert robot.hears_damping()
    assert robot.trigger("policy_node/estop").success
    assert robot.reports("tripped")
    assert change(robot, Transition.TRANSITION_DEACTIVATE)
    assert change(robot, Transition.TRANSITION_ACTIVATE)
    robot.send_target((0.5, 0.2, 0.4))
    assert all(robot.is_damping(effort) for effort in robot.efforts(0.5)[5:])


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"rate": 333.0}, "found 333 Hz, expected a whole multiple of the policy's 125 Hz"),
        ({"policy": "no_such_policy"}, "no_such_policy"),
        ({"rate": -1.0}, "parameter 'rate'"),
        ({"age_source": "guess"}, "receipt, stamp"),
        ({"state_wait": 0.3}, "joint_states (0 publishers): found no message"),
    ],
    ids=["rate", "policy", "range", "choice", "no robot"],
)
def test_what_cannot_work_ends_the_process_with_one_clear_line(start, spring: Path, capfd, parameters, says) -> None:
    node = start("policy_node", **{"policy": str(spring), "autostart": True, **parameters})
    assert refused(node)
    assert says in capfd.readouterr().err


def test_a_truncated_policy_is_refused(start, spring: Path, tmp_path: Path, capfd) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(spring.read_bytes()[:700])
    assert refused(start("policy_node", policy=str(broken), autostart=True))
    assert "broken.onnx: " in capfd.readouterr().err


def test_a_joint_that_the_robot_does_not_have_stops_the_activation(
    start, spring: Path, robot: RobotDouble, capfd
) -> None:
    def without_joint7(message):
        message.name = [*message.name[:-1], "wrist"]
        return message

    robot.alter = without_joint7
    assert refused(start("policy_node", policy=str(spring), autostart=True))
    assert "no 'joint7' among" in capfd.readouterr().err
    assert not robot.commands


def test_every_parameter_is_described() -> None:
    assert all(parameter.description.endswith(".") for parameter in PARAMETERS)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_hundred_lives_under_load_leave_nothing_behind(start, spring: Path, robot: RobotDouble) -> None:
    node = start("policy_node", policy=str(spring), shutdown_damping=0.0, **PATIENT)

    def live(times: int) -> None:
        for _ in range(times):
            for transition in (
                Transition.TRANSITION_CONFIGURE,
                Transition.TRANSITION_ACTIVATE,
                Transition.TRANSITION_DEACTIVATE,
                Transition.TRANSITION_CLEANUP,
            ):
                assert change(robot, transition)

    def footprint() -> tuple[float, int, int]:
        """Memory (MB), threads and open files of the node. Anonymous memory: the pages of a library
        count only once they are first read, and how many are depends on what else the machine does."""
        status = dict(line.split(":", 1) for line in Path(f"/proc/{node.pid}/status").read_text().splitlines())
        files = len(list(Path(f"/proc/{node.pid}/fd").iterdir()))
        return int(status["RssAnon"].split()[0]) / 1024, int(status["Threads"]), files

    live(100)  # the allocators' arenas have grown to what a life needs
    before = footprint()
    live(200)
    after = footprint()
    assert after[0] < before[0] + 4.0, f"memory, threads, files: {before}, then {after}"
    assert after[1:] == before[1:], f"memory, threads, files: {before}, then {after}"


def test_a_signal_at_any_moment_of_a_wait_ends_it() -> None:
    """A handler runs in the thread that waits: a lock that both want would never be given back."""
    program = """
import os, signal, threading
from ddpg_robot_ros.transport import StopSignal
stop = StopSignal()
def storm():
    for _ in range(20_000):
        os.kill(os.getpid(), signal.SIGTERM)
threads = [threading.Thread(target=storm) for _ in range(2)]
for thread in threads:
    thread.start()
while any(thread.is_alive() for thread in threads):
    assert stop.wait(0.001)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=WAIT_S)
