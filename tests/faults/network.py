"""Trials with the policy node on the other side of a network link; runs in a network namespace of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from faults.catalogue import LEASE_S, NETWORK_FAULTS, NETWORK_LINK
from faults.rig import Rig
from faults.test_faults import trials
from ros.robot import WAIT_S

from ddpg_robot.policy import read_manifest
from ddpg_robot_ros.processes import wait_until

PROFILE = f"""<?xml version="1.0" encoding="UTF-8" ?>
<profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles">
  <participant profile_name="short lease" is_default_profile="true"><rtps><builtin><discovery_config>
    <leaseDuration><sec>{LEASE_S}</sec></leaseDuration>
    <leaseAnnouncement><sec>0</sec><nanosec>500000000</nanosec></leaseAnnouncement>
  </discovery_config></builtin></rtps></participant>
</profiles>
"""


def main(policy: str, name: str, count: str) -> None:
    """Prints the outcomes as JSON."""
    profile = Path(policy).with_name("short_lease.xml")
    profile.write_text(PROFILE)
    os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(profile)
    with subprocess.Popen(["unshare", "--net", "sleep", "infinity"]) as other_side:
        try:
            connect(other_side.pid)
            fault = next(fault for fault in NETWORK_FAULTS if fault.name == name)
            with Rig(Path(policy), read_manifest(policy), policy_namespace=other_side.pid) as rig:
                outcomes = trials(rig, fault, int(count))
        finally:
            other_side.kill()
    print(json.dumps([outcome._asdict() for outcome in outcomes]))


def connect(pid: int) -> None:
    """A link from this namespace to that of a process, which may still be making it."""
    here = Path("/proc/self/ns/net").readlink()
    assert wait_until(lambda: Path(f"/proc/{pid}/ns/net").readlink() != here, WAIT_S)
    inside = ["nsenter", "--net", "--target", str(pid)]
    for command in (
        f"ip link add {NETWORK_LINK} type veth peer name other0 netns {pid}",
        f"ip address add 10.99.0.1/24 dev {NETWORK_LINK}",
        f"ip link set {NETWORK_LINK} up",
        "ip link set lo up",
    ):
        subprocess.run(command.split(), check=True)
    for command in ("ip address add 10.99.0.2/24 dev other0", "ip link set other0 up", "ip link set lo up"):
        subprocess.run([*inside, *command.split()], check=True)
    # DDS looks for networks once, at its start, and leaves out those that do not run yet.
    show = [*inside, "ip", "link", "show", "other0"]
    assert wait_until(lambda: "state UP" in subprocess.check_output(show, text=True), WAIT_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
