"""Keeps the middleware out of shared memory, also where it insists.

Fast DDS guards its shared memory with locks that lie in that memory. A process that is killed while it holds one blocks all
that publish to the same reader, for ever (Fast-DDS issues 1144, 5469), and one that ends beside it may crash on what is left.
The guard would be blocked by the very death that it is there for. UDP makes a publish some
30 µs dearer.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

from rclpy.utilities import get_rmw_implementation_identifier

LOOPBACK_PROFILE = Path(__file__).with_name("loopback.xml")
RANGE, LOCALHOST_ONLY = "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY"


def avoid_shared_memory() -> None:
    """Keeps Fast DDS, in contexts that begin later and in processes that are started later, to UDP on this machine too.

    With a discovery range of ``LOCALHOST``, rmw_fastrtps chooses the transports itself, shared memory among them, and takes
    no notice of ``FASTDDS_BUILTIN_TRANSPORTS``. Then a profile says the same without shared memory: unicast discovery on
    127.0.0.1, which also finds nodes that were started with ``LOCALHOST`` or ``SUBNET``. A profile or a transport that the
    user has set, static peers, and other middlewares are left alone.
    """
    if "fastrtps" not in get_rmw_implementation_identifier():
        return
    os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")
    library = "FASTDDS" if int(version("rclpy").split(".")[0]) >= 9 else "FASTRTPS"  # renamed in Fast DDS 3, in Kilted
    profile = f"{library}_DEFAULT_PROFILES_FILE"
    localhost = os.environ.get(RANGE, "").upper() == "LOCALHOST" or os.environ.get(LOCALHOST_ONLY) == "1"
    of_the_user = os.environ.get(profile, str(LOOPBACK_PROFILE)) != str(LOOPBACK_PROFILE)
    if not localhost or of_the_user or os.environ.get("ROS_STATIC_PEERS"):
        return
    os.environ[profile] = str(LOOPBACK_PROFILE)
    os.environ[RANGE] = "SYSTEM_DEFAULT"  # leaves to the profile what is discovered
    os.environ.pop(LOCALHOST_ONLY, None)
