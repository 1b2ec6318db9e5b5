"""The faults: how each comes about, what must happen, and how fast."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from faults.rig import Alter, Outcome, Rig
from ros.robot import WAIT_S
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from ddpg_robot_ros.processes import wait_until
from ddpg_robot_ros.transport import COMMAND_QOS, GUARDED_TOPIC

Must = Literal["goes on", "trips", "guard damps", "stops", "goes on or trips"]
MUST = {
    "goes on": "the policy goes on",
    "trips": "the policy node trips, damps, and stays tripped until `~/rearm`",
    "guard damps": "the guard damps",
    "stops": "the policy node damps, then sends zero effort, then ends",
    "goes on or trips": "the policy goes on, or its node trips and stays tripped",
}
LONGEST_HELD = 6.0  # periods: 3, and the guard's timeout of 3
HOUR = 3600
NETWORK_LINK = "faulty0"
LEASE_S = 2
"""How long DDS remembers a participant that it does not hear, across that link; its default is 20 s."""


@dataclass(frozen=True)
class Fault:
    """One way in which a deployment can fail."""

    name: str
    must: Must
    """What has to happen."""
    within: float | None
    """Largest reaction, in periods of the policy."""
    start: Callable[[Rig, np.random.Generator], float | None]
    """Brings it about; returns when it did (s of the system's clock), or None for the moment of the call."""
    stop: Callable[[Rig], None] = lambda rig: None
    """Takes it away again; `Rig.control` mends the rest."""
    seconds: float = 0.4
    """How long it stays."""

    def in_order(self, outcome: Outcome) -> bool:
        """Whether what must happen has happened, and in time."""
        if outcome.held > LONGEST_HELD or (self.within is not None and outcome.reaction > self.within):
            return False
        if self.must == "goes on":
            return outcome.in_control and not outcome.tripped
        if self.must == "goes on or trips" and not outcome.tripped:
            return outcome.in_control
        if self.must == "trips" and not outcome.tripped:
            return False
        return not outcome.in_control and not outcome.recovered


def on_the_wire(make: Callable[[np.random.Generator], Alter]) -> Callable[[Rig, np.random.Generator], None]:
    """A fault of the joint states."""

    def start(rig: Rig, rng: np.random.Generator) -> None:
        rig.alter = make(rng)

    return start


def changed(change: Callable[[JointState], None]) -> Callable[[Rig, np.random.Generator], None]:
    """A fault that changes every joint state in the same way."""

    def alter(message: JointState) -> list[tuple[float, JointState]]:
        change(message)
        return [(0.0, message)]

    return on_the_wire(lambda rng: alter)


def mended(rig: Rig) -> None:
    rig.alter = None


def silence(rng: np.random.Generator) -> Alter:
    return lambda message: []


def delay(low: float, high: float) -> Callable[[np.random.Generator], Alter]:
    """All messages late by the same time, s."""

    def make(rng: np.random.Generator) -> Alter:
        seconds = rng.uniform(low, high)
        return lambda message: [(seconds, message)]

    return make


def jitter(rng: np.random.Generator) -> Alter:
    return lambda message: [(rng.uniform(0.0, 0.08), message)]


def duplicates(rng: np.random.Generator) -> Alter:
    return lambda message: [(0.0, message), (0.0, message), (0.001, message)]


def echoes(rng: np.random.Generator) -> Alter:
    """Each message once more, 100 ms later."""
    return lambda message: [(0.0, message), (0.1, message)]


def value(field: str, number: float) -> Callable[[JointState], None]:
    def change(message: JointState) -> None:
        getattr(message, field)[2] = number

    return change


def reordered(message: JointState) -> None:
    order = [3, 1, 6, 0, 2, 5, 4]
    for field in ("name", "position", "velocity", "effort"):
        values = getattr(message, field)
        setattr(message, field, [values[i] for i in order])


def short_of_one(*fields: str) -> Callable[[JointState], None]:
    """These fields lack their last value."""

    def change(message: JointState) -> None:
        for field in fields:
            setattr(message, field, getattr(message, field)[:-1])

    return change


def without_velocity(message: JointState) -> None:
    message.velocity = []


def with_a_gripper(message: JointState) -> None:
    message.name = [*message.name, "gripper"]
    for field in ("position", "velocity", "effort"):
        setattr(message, field, [*getattr(message, field), 0.0])


def with_a_joint_twice(message: JointState) -> None:
    message.name = [message.name[1], *message.name[1:]]


def huge(message: JointState) -> None:
    message.name = [*message.name, *(f"joint{i}" for i in range(100, 20_000))]
    message.position = np.zeros(len(message.name))
    message.velocity = np.zeros(len(message.name))


def later(seconds: int) -> Callable[[JointState], None]:
    """The stamps of a clock that is wrong."""

    def change(message: JointState) -> None:
        message.header.stamp.sec += seconds

    return change


def frozen(rng: np.random.Generator) -> Alter:
    stamps: list = []

    def alter(message: JointState) -> list[tuple[float, JointState]]:
        stamps.append(message.header.stamp)
        message.header.stamp = stamps[0]
        return [(0.0, message)]

    return alter


def target(x: float, frame: str = "") -> Callable[[Rig, np.random.Generator], None]:
    def start(rig: Rig, rng: np.random.Generator) -> None:
        rig.send_target((x, 0.1, 0.45), frame)

    return start


def signalled(name: str, number: int) -> Callable[[Rig, np.random.Generator], float]:
    """A signal to one of the processes, at a moment that has nothing to do with its ticks."""

    def start(rig: Rig, rng: np.random.Generator) -> float:
        time.sleep(rng.uniform(0.0, 2 * rig.period))
        rig.processes[name].send(number)
        return time.time()

    return start


def continued(name: str) -> Callable[[Rig], None]:
    def stop(rig: Rig) -> None:
        rig.processes[name].send(signal.SIGCONT)

    return stop


def second_commander(rig: Rig, rng: np.random.Generator) -> float:
    rival = rig.node.create_publisher(Float64MultiArray, GUARDED_TOPIC, COMMAND_QOS)
    rig.rivals.append(rival)
    at = time.time()
    for _ in range(20):
        rival.publish(Float64MultiArray(data=[0.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
        time.sleep(rig.period)
    return at


def no_second_commander(rig: Rig) -> None:
    while rig.rivals:
        rig.node.destroy_publisher(rig.rivals.pop())


def hog(rig: Rig, rng: np.random.Generator) -> None:
    busy = [sys.executable, "-c", "while True: pass"]
    rig.hogs += [subprocess.Popen(busy) for _ in range(2 * (os.cpu_count() or 1))]


def no_hog(rig: Rig) -> None:
    while rig.hogs:
        process = rig.hogs.pop()
        process.kill()
        process.wait()


def clock_off_by(seconds: int) -> Callable[[Rig, np.random.Generator], None]:
    """The time that all nodes live by jumps; stamps follow."""

    def start(rig: Rig, rng: np.random.Generator) -> None:
        rig.clock_error += seconds

    return start


def cut(rig: Rig, rng: np.random.Generator) -> None:
    subprocess.run(["ip", "link", "set", NETWORK_LINK, "down"], check=True)


def mended_network(rig: Rig) -> None:
    subprocess.run(["ip", "link", "set", NETWORK_LINK, "up"], check=True)


def discovered_anew(rig: Rig) -> None:
    def policies() -> int:
        return rig.node.count_publishers(GUARDED_TOPIC)

    assert wait_until(lambda: policies() == 0, WAIT_S), "the lease did not run out"
    mended_network(rig)
    assert wait_until(lambda: policies() == 1, WAIT_S), "the policy node was not discovered again"


def _state(name: str, make: Callable[[np.random.Generator], Alter], must: Must = "trips", within: float = 4.0) -> Fault:
    return Fault(name, must, None if must == "goes on" else within, on_the_wire(make), mended)


def _changed(name: str, change: Callable[[JointState], None], must: Must = "trips") -> Fault:
    return Fault(name, must, None if must == "goes on" else 3.0, changed(change), mended)


FAULTS = (
    _state("joint states stop", silence),
    _state("joint states late by 1 to 25 ms", delay(0.001, 0.025), "goes on"),
    _state("joint states late by 45 to 80 ms", delay(0.045, 0.080)),
    _state("joint states late by 0 to 80 ms, each by another time", jitter),
    _state("joint states three times each", duplicates, "goes on"),
    _state("joint states again after 100 ms", echoes, within=8.0),
    _changed("joints in another order", reordered, "goes on"),
    _changed("a position is NaN", value("position", np.nan)),
    _changed("a velocity is infinite", value("velocity", np.inf)),
    _changed("a position beyond its limit", value("position", 9.0)),
    _changed("a velocity beyond its limit", value("velocity", -9.0)),
    _changed("velocities lack one value", short_of_one("velocity")),
    _changed("no velocities", without_velocity),
    _changed("a joint is missing", short_of_one("name", "position", "velocity", "effort")),
    _changed("an unknown joint", with_a_gripper),
    _changed("a joint twice", with_a_joint_twice),
    _changed("20,000 joints", huge),
    Fault("the stamp is frozen", "trips", 4.0, on_the_wire(frozen), mended),
    _changed("stamps one hour ahead", later(HOUR)),
    _changed("stamps one hour behind", later(-HOUR)),
    Fault("a target out of bounds", "goes on", None, target(9.0)),
    Fault("a target that is NaN", "goes on", None, target(np.nan)),
    Fault("a target in another frame", "goes on", None, target(0.5, "camera")),
    Fault("policy process: SIGKILL", "guard damps", 1.0, signalled("policy_node", signal.SIGKILL)),
    Fault(
        "policy process: SIGSTOP",
        "guard damps",
        1.0,
        signalled("policy_node", signal.SIGSTOP),
        continued("policy_node"),
    ),
    Fault("policy process: SIGTERM", "stops", 3.0, signalled("policy_node", signal.SIGTERM), seconds=1.0),
    Fault("policy process: Ctrl-C", "stops", 3.0, signalled("policy_node", signal.SIGINT), seconds=1.0),
    Fault("an exception inside a tick", "trips", 3.0, signalled("policy_node", signal.SIGUSR1)),
    Fault("an inference that hangs", "guard damps", 1.0, signalled("policy_node", signal.SIGUSR2)),
    Fault("guard: SIGKILL", "trips", 6.0, signalled("effort_guard", signal.SIGKILL)),
    Fault("guard: SIGSTOP", "trips", 6.0, signalled("effort_guard", signal.SIGSTOP), continued("effort_guard")),
    Fault("plant: SIGKILL and a new start", "trips", 4.0, signalled("plant_node", signal.SIGKILL)),
    Fault("two commanders", "guard damps", 4.0, second_commander, no_second_commander),
    Fault("all cores busy", "goes on or trips", None, hog, no_hog, seconds=1.0),
)
CLOCK_FAULTS = (
    Fault("the clock jumps one hour ahead", "goes on or trips", None, clock_off_by(HOUR)),
    Fault("the clock jumps one hour back", "goes on or trips", None, clock_off_by(-HOUR)),
)
NETWORK_FAULTS = (
    Fault("the network between policy and guard is cut for 1 s", "guard damps", 1.0, cut, mended_network, seconds=1.0),
    Fault("the same for longer than discovery lasts", "guard damps", 1.0, cut, discovered_anew, seconds=2 * LEASE_S),
)
ALL_FAULTS = (*FAULTS, *CLOCK_FAULTS, *NETWORK_FAULTS)
