"""What the operating system can do for a control loop: a real-time scheduler, memory that stays, processors of its own."""

from __future__ import annotations

import ctypes
import os
import resource
import threading
from dataclasses import dataclass

from rclpy.node import Node

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot_ros.parameters import Parameter, value

MCL_CURRENT, MCL_FUTURE = 1, 2

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
        """Gives the calling thread its processors and its scheduler.

        Raises:
            OSError: the system does not allow it.
        """
        if self.cpus:
            os.sched_setaffinity(0, self.cpus)
        if self.priority:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(self.priority))
