"""Scheduler, memory and processors of the loop's thread, as the operating system sees them."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from pathlib import Path

import pytest
from ros.robot import PATIENT, WAIT_S, RobotDouble

from ddpg_robot.errors import ConfigError
from ddpg_robot_ros.processes import wait_until
from ddpg_robot_ros.realtime import SLICE_NS, TIMER_SLACK_NS, Realtime, ask_for_short_slices


def may_use_fifo() -> bool:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        return False
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return True


def test_the_loops_thread_gets_what_was_asked_for(start, spring: Path, robot: RobotDouble) -> None:
    if not may_use_fifo():
        pytest.skip("this user may not use SCHED_FIFO")
    cpu = max(os.sched_getaffinity(0))
    asked = {"realtime.priority": 10, "realtime.lock_memory": True, "realtime.cpus": str(cpu)}
    node = start("policy_node", policy=str(spring), autostart=True, **PATIENT, **asked)
    assert robot.hears_damping()
    threads = [int(path.name) for path in Path(f"/proc/{node.pid}/task").iterdir()]
    fifo = [thread for thread in threads if os.sched_getscheduler(thread) == os.SCHED_FIFO]
    assert len(fifo) == 1
    assert os.sched_getparam(fifo[0]).sched_priority == 10
    assert os.sched_getaffinity(fifo[0]) == {cpu}
    status = dict(line.split(":", 1) for line in Path(f"/proc/{node.pid}/status").read_text().splitlines())
    assert int(status["VmLck"].split()[0]) > 10_000  # kB


def slice_of(thread: int) -> int:
    """Processor time that a thread asks for at once, ns, as ``sched_getattr`` tells; 0 where it does not."""
    number = {"x86_64": 315, "aarch64": 275}.get(platform.machine())
    attributes = ctypes.create_string_buffer(48)
    if number is None or ctypes.CDLL(None).syscall(number, thread, attributes, 48, 0):
        return 0
    return struct.unpack("=IIQiIQQQ", attributes.raw)[5]


def test_a_thread_that_asks_for_short_slices_keeps_its_niceness() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.nice(3)
        ask_for_short_slices()
        os.write(writer, struct.pack("=iQ", os.nice(0), slice_of(0)))
        os._exit(0)
    niceness, found = struct.unpack("=iQ", os.read(reader, 12))
    os.waitpid(child, 0)
    assert niceness == os.nice(0) + 3
    assert found in (0, SLICE_NS)  # 0: before Linux 6.12


@pytest.mark.parametrize("module", ["policy_node", "effort_guard"])
def test_without_privileges_the_nodes_wake_on_time_and_ask_for_short_slices(
    start, spring: Path, robot: RobotDouble, module: str
) -> None:
    known = os.fork()
    if known == 0:
        ask_for_short_slices()
        os._exit(slice_of(0) == SLICE_NS)
    kernel_knows = os.waitstatus_to_exitcode(os.waitpid(known, 0)[1])
    own = {"autostart": True, **PATIENT} if module == "policy_node" else {}
    node = start(module, policy=str(spring), **own)
    threads: list[int] = []

    def punctual() -> list[int]:
        threads[:] = [int(path.name) for path in Path(f"/proc/{node.pid}/task").iterdir()]
        return [one for one in threads if int(Path(f"/proc/{one}/timerslack_ns").read_text()) == TIMER_SLACK_NS]

    assert wait_until(lambda: len(punctual()) == 1, WAIT_S)
    if kernel_knows:
        assert slice_of(punctual()[0]) == SLICE_NS
        assert sum(slice_of(one) == SLICE_NS for one in threads) > len(threads) / 2  # those of the middleware too


def test_processors_that_are_not_there_are_refused(start, spring: Path, capfd) -> None:
    node = start("policy_node", policy=str(spring), autostart=True, **{"realtime.cpus": "4096"})
    assert wait_until(lambda: node.exit_status is not None, WAIT_S)
    assert node.exit_status == 2
    assert "realtime.cpus: found [4096], expected processors of this process" in capfd.readouterr().err


def test_a_priority_that_is_not_allowed_is_refused_with_the_line_that_allows_it() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # without privileges
        os.setgroups([]) if os.getuid() == 0 else None
        os.setresuid(65534, 65534, 65534) if os.getuid() == 0 else None
        try:
            Realtime(priority=10).prepare()
        except ConfigError as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.close(writer)
    text = os.read(reader, 10_000).decode()
    os.waitpid(child, 0)
    assert "limits.conf" in text
