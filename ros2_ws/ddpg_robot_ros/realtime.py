"""What the operating system can do for a control loop: a real-time scheduler, memory that stays, processors of its own.

And what it does for anybody who asks, without privileges: timers that are on time, and short slices.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
import sys
import threading
from dataclasses import dataclass

from rclpy.node import Node

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot_ros.parameters import Parameter, value

MCL_CURRENT, MCL_FUTURE = 1, 2
SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}.get(platform.machine())
"""Number of the system call, which Python has no function for."""
SLICE_NS = 200_000
"""Processor time that a thread asks for at once: a tick's work, so that it is not cut in two. Linux gives a ms or
more to those who do not ask, and 0.1 ms at least."""
PR_SET_TIMERSLACK = 29
TIMER_SLACK_NS = 1
"""How much later than asked for the kernel may wake the loop's thread; Linux allows itself 50 µs where nobody says so."""

REALTIME_PARAMETERS = (
    Parameter("realtime.priority", 0, "SCHED_FIFO priority of the loop's thread; 0 = the ordinary scheduler.", 0, 98),
    Parameter("realtime.lock_memory", False, "Keep all memory of the process in RAM."),
    Parameter("realtime.cpus", "", "Processors that the loop's thread may run on, as in 2,3; empty = all."),
)


@dataclass(frozen=True)
class Realtime:
    """Settings of one thread and of its process.

    Raises:
        ConfigError: a processor that this process may not use.
    """

    priority: int = 0
    """SCHED_FIFO priority of the loop's thread, 1 to 98; 0 leaves the ordinary scheduler."""
    lock_memory: bool = False
    """Keep all memory of the process in RAM."""
    cpus: tuple[int, ...] = ()
    """Processors that the loop's thread may run on; empty for all."""

    def __post_init__(self) -> None:
        allowed = os.sched_getaffinity(0)
        if not allowed.issuperset(self.cpus):
            raise ConfigError(
                mismatch("realtime.cpus", list(self.cpus), "processors of this process", map(str, sorted(allowed)))
            )

    @classmethod
    def of(cls, node: Node) -> Realtime:
        """The settings that a node's parameters ask for.

        Raises:
            ConfigError: they make no sense on this machine.
        """
        text = value(node, "realtime.cpus")
        try:
            cpus = tuple(int(part) for part in text.split(",") if part.strip())
        except ValueError:
            raise ConfigError(mismatch("realtime.cpus", repr(text), "numbers with commas, as in 2,3")) from None
        return cls(value(node, "realtime.priority"), value(node, "realtime.lock_memory"), cpus)

    def prepare(self) -> None:
        """Locks the memory, and tries in a thread of its own whether the rest is allowed.

        Raises:
            ConfigError: it is not; the message says what would allow it.
        """
        if self.lock_memory and ctypes.CDLL(None).mlockall(MCL_CURRENT | MCL_FUTURE):
            limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
            hint = "In /etc/security/limits.conf: '<user> - memlock unlimited'; container: --ulimit memlock=-1"
            raise ConfigError(mismatch("realtime.lock_memory", f"a limit of {limit} bytes", "no limit", hint=hint))
        refused: list[OSError] = []

        def attempt() -> None:
            try:
                self.enter()
            except OSError as error:
                refused.append(error)

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        if refused:
            limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
            hint = (
                "In /etc/security/limits.conf: '<user> - rtprio 98'; container: --cap-add=sys_nice --ulimit rtprio=98"
            )
            found = f"{refused[0].strerror}, rtprio limit {limit}"
            raise ConfigError(mismatch("realtime.priority", found, f"a limit of at least {self.priority}", hint=hint))

    def enter(self) -> None:
        """Gives the calling thread its processors, its scheduler and timers that wake it on time.

        Raises:
            OSError: the system does not allow it.
        """
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, ctypes.c_ulong(TIMER_SLACK_NS))
        if self.cpus:
            os.sched_setaffinity(0, self.cpus)
        if self.priority:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(self.priority))


def ask_for_short_slices() -> None:
    """Makes the calling thread, and those that it starts, one that the ordinary scheduler lets run soon after it wakes.

    Since Linux 6.12 the slice that a thread asks for decides when its turn comes: who asks for little at once is let in
    before those who compute at length. The share of the processor stays what it was. Older kernels take no notice.
    """
    if sys.platform != "linux" or SCHED_SETATTR is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = struct.pack("=IIQiIQQQ", 48, os.SCHED_OTHER, 0, nice, 0, SLICE_NS, 0, 0)  # struct sched_attr
    ctypes.CDLL(None).syscall(SCHED_SETATTR, 0, attributes, 0)
