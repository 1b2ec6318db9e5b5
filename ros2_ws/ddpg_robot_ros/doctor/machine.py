"""What this machine gives a control loop: cores, priority, locked memory, a processor that does not sleep."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from ddpg_robot_ros.doctor.findings import Finding, ok, skipped, warning

FAST_LOOP_HZ = 300.0
"""From here on a loop should not have to wait behind other programs."""
LOCKED_BYTES = 256 * 1024 * 1024
FEWEST_CORES = 2
LIMITS = "/etc/security/limits.conf, or LimitRTPRIO and LimitMEMLOCK of the service"


def machine_findings(loop_rate: float, root: Path = Path("/")) -> list[Finding]:
    """Looks at the machine.

    Args:
        loop_rate: ticks per second of the policy's loop, Hz.
        root: where ``sys`` is.
    """
    priority = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return [
        cores_finding(len(os.sched_getaffinity(0)), os.getloadavg()[0]),
        priority_finding(priority, loop_rate, os.geteuid() == 0),
        memory_finding(locked, loop_rate, os.geteuid() == 0),
        governor_finding(root / "sys/devices/system/cpu"),
        kernel_finding(root / "sys/kernel/realtime"),
    ]


def cores_finding(cores: int, load: float) -> Finding:
    """Cores that this process may use, against the load of the last minute."""
    found = f"{cores}, load {load:.1f}"
    if cores < FEWEST_CORES:
        return warning(
            "cores", found, f"at least {FEWEST_CORES}: policy node, guard and middleware run beside one another"
        )
    if load > cores:
        return warning("cores", found, "a load below the number of cores", "Other programs will delay the loop")
    return ok("cores", found)


def priority_finding(limit: int, loop_rate: float, root: bool) -> Finding:
    """Whether a program may be started with real-time priority, ``RLIMIT_RTPRIO``."""
    check = "real-time priority"
    if root or limit != 0:
        return ok(check, "allowed" if root or limit == resource.RLIM_INFINITY else f"up to {limit}")
    if loop_rate < FAST_LOOP_HZ:
        return ok(check, f"not allowed; not needed at {loop_rate:g} Hz on a machine with nothing else to do")
    return warning(check, "not allowed", f"allowed, for a loop at {loop_rate:g} Hz", LIMITS)


def memory_finding(limit: int, loop_rate: float, root: bool) -> Finding:
    """How much memory may be kept from being swapped out, ``RLIMIT_MEMLOCK``, bytes."""
    check = "locked memory"
    if root or limit == resource.RLIM_INFINITY:
        return ok(check, "unlimited")
    found = f"up to {limit / 2**20:.0f} MiB"
    if limit >= LOCKED_BYTES or loop_rate < FAST_LOOP_HZ:
        return ok(check, found)
    return warning(check, found, f"{LOCKED_BYTES / 2**20:.0f} MiB, for a loop at {loop_rate:g} Hz", LIMITS)


def governor_finding(cpus: Path) -> Finding:
    """Whether the processor's frequency is kept up."""
    found = set()
    for file in sorted(cpus.glob("cpu*/cpufreq/scaling_governor")):
        try:
            found.add(file.read_text()[:40].strip())
        except OSError:
            continue
    if not found:
        return skipped("cpu governor", "this machine does not tell")
    names = ", ".join(sorted(found))
    if found != {"performance"}:
        return warning("cpu governor", names, "performance", "cpupower frequency-set --governor performance")
    return ok("cpu governor", names)


def kernel_finding(flag: Path) -> Finding:
    """Whether the kernel is a real-time one: information only."""
    try:
        real_time = flag.read_text()[:8].strip() == "1"
    except OSError:
        real_time = False
    return ok("kernel", f"{os.uname().release}{', PREEMPT_RT' if real_time else ', not PREEMPT_RT (not required)'}")
