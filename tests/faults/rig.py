"""A deployment that is broken on purpose: plant, guard and policy node in processes, and a wire that can be tampered with.

The plant publishes its joint states on a topic of its own; a thread of the test passes them on to ``joint_states``, as they
are or through a fault. Everything that reaches the plant is kept. The policy leaves a mark on all that it commands (see
`ros.spring_policy`), so a trial can tell when it was last in control.
"""

from __future__ import annotations

import heapq
import itertools
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rclpy.publisher import Publisher
from rclpy.serialization import deserialize_message, serialize_message
from ros.robot import HOME, WAIT_S, started
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from ddpg_robot.spec import PolicyManifest
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.processes import NodeProcess, wait_until
from ddpg_robot_ros.transport import EFFORT_TOPIC, STATE_QOS, MessageWait, Newest

DITHER = 0.4  # N·m of the last joint, with changing sign
TARGET = (0.5, 0.1, 0.45)
SILENT_RECOVERY_S = 0.3
PLANT_STATES = "plant/joint_states"
Alter = Callable[[JointState], Iterable[tuple[float, JointState]]]
"""What becomes of a joint state: messages, each with the delay (s) after which it is passed on."""


class Outcome(NamedTuple):
    """What a trial saw after the fault."""

    reaction: float
    """From the fault to the policy's last command, in periods of the policy."""
    held: float
    """The longest time for which one and the same command of the policy stood, in periods."""
    largest: float
    """Largest effort that reached the plant, in parts of its joint's limit."""
    in_control: bool
    """Whether the plant did to the end as the policy said."""
    tripped: bool
    """Whether the policy node had tripped at the end."""
    recovered: bool
    """Whether the policy commanded again when the fault had been taken away, without anybody's asking."""


class Rig(Operator):
    """The deployment and its wire; a context manager.

    Args:
        policy: policy file that leaves the mark.
        manifest: its manifest.
        simulated_time: the nodes live by ``/clock``, which the wire publishes; `clock_error` (s) moves it.
        policy_namespace: id of a process in whose network namespace the policy node runs; None for this one.
    """

    def __init__(
        self, policy: Path, manifest: PolicyManifest, simulated_time: bool = False, policy_namespace: int | None = None
    ) -> None:
        super().__init__(manifest.robot)
        self._policy, self._namespace = policy, policy_namespace
        self._clock = self.node.create_publisher(Clock, "/clock", 10) if simulated_time else None
        self.clock_error = 0
        self.state_names = manifest.robot.joint_names
        self.period = manifest.control.period
        self.limits = np.array([joint.effort_limit for joint in manifest.robot.joints])
        self.alter: Alter | None = None
        self.commands: list[tuple[float, np.ndarray]] = []
        """(when it was published, s of the system's clock; effort) of everything that the plant was told."""
        self.processes: dict[str, NodeProcess] = {}
        self.rivals: list[Publisher] = []
        self.hogs: list[subprocess.Popen] = []
        self._wire = Newest(self.node, JointState, PLANT_STATES, STATE_QOS, raw=True)
        self._wait = MessageWait(self.node, self._wire)
        self._states = self.node.create_publisher(JointState, "joint_states", STATE_QOS)
        self.node.create_subscription(Float64MultiArray, EFFORT_TOPIC, self._on_command, 1000)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._pass_on, daemon=True)

    def __enter__(self) -> Rig:
        super().__enter__()
        self._thread.start()
        for name in ("plant_node", "effort_guard", "policy_node"):
            self.start(name)
        return self

    def __exit__(self, *exception: object) -> None:
        for process in reversed(self.processes.values()):
            process.end()
        self._ending.set()
        self._thread.join()
        super().__exit__(*exception)

    def start(self, name: str) -> None:
        """Starts one of the three processes (again)."""
        # An executor that is busy reads /clock late: ages are less sure then.
        time_source = {"use_sim_time": True, "state_timeout_periods": 10.0} if self._clock else {}
        if name == "plant_node":
            # A forward controller: it holds the last command for as long as it lives.
            parameters = {"rate": 250.0, "command_timeout": 60.0}
            self.processes[name] = started(name, parameters, {"joint_states": PLANT_STATES})
        elif name == "effort_guard":
            self.processes[name] = started(name, {"policy": str(self._policy), **time_source})
        else:
            parameters = {"policy": str(self._policy), "autostart": True, "guarded": True, "state_wait": WAIT_S}
            inside = {} if self._namespace is None else {"FAULTY_NETWORK": str(self._namespace)}
            self.processes[name] = started("faults.faulty_policy_node", {**parameters, **time_source}, None, inside)

    def control(self) -> None:
        """Mends everything and puts the policy in control: starts what ended, arm at home, rearms, sends the target."""
        self.alter = None
        self.place(self.state_names, HOME)
        for name, process in self.processes.items():
            if process.exit_status is not None:
                self.start(name)

        def controls() -> bool:
            answer = self.trigger("effort_guard/rearm") if self.guard_refuses() else None
            answer = self.trigger("policy_node/rearm") if self.tripped() else answer
            self.send_target(TARGET)
            return not self.tripped() and self.marked_since(time.time() - 4 * self.period)

        assert wait_until(controls, WAIT_S, 0.05), "the policy does not come into control"

    def run(self, start: Callable[[Rig], float | None], stop: Callable[[Rig], None], seconds: float) -> Outcome:
        """One trial, which begins with the policy in control.

        Args:
            start: brings the fault about; returns when it did (s of the system's clock), None for the moment of its call.
            stop: takes the fault away.
            seconds: how long the fault stays.
        """
        begin = len(self.commands)
        before = time.time()
        at = start(self) or before
        time.sleep(max(0.0, at + seconds - time.time()))
        tripped, end = self.tripped(), time.time()
        commands = [(when, effort) for when, effort in list(self.commands[begin:]) if when >= at]
        marks = [when for when, effort in commands if self.is_marked(effort)]
        stands = [
            later - when
            for (when, effort), (later, _) in itertools.pairwise([*commands, (end, self.limits)])
            if self.is_marked(effort)
        ]
        last = commands[-1][1] if commands else self.commands[begin - 1][1]
        outcome = Outcome(
            reaction=(marks[-1] - at if marks else 0.0) / self.period,
            held=max(stands, default=0.0) / self.period,
            largest=max((float((np.abs(effort) / self.limits).max()) for _, effort in commands), default=0.0),
            in_control=self.is_marked(last),
            tripped=tripped,
            recovered=False,
        )
        stop(self)
        time.sleep(SILENT_RECOVERY_S)
        return outcome._replace(recovered=self.marked_since(time.time() - SILENT_RECOVERY_S / 2))

    def is_marked(self, effort: np.ndarray) -> bool:
        """Whether this is a command of the policy."""
        return bool(abs(abs(effort[-1]) - DITHER) < 1e-6)

    def marked_since(self, when: float) -> bool:
        """Whether the policy has commanded since (s of the system's clock)."""
        return any(self.is_marked(effort) for at, effort in self.commands[-50:] if at >= when)

    def tripped(self) -> bool:
        """Whether the policy node says so."""
        status = self.status("control loop")
        return status is not None and status.message.startswith("tripped")

    def guard_refuses(self) -> bool:
        """Whether the guard refuses its publishers."""
        status = self.status("guard")
        return status is not None and "two publishers" in status.message

    def _on_command(self, message: Float64MultiArray, info: dict) -> None:
        self.commands.append((info["source_timestamp"] * 1e-9, np.array(message.data)))

    def _by_the_clock(self, message: JointState) -> list[tuple[float, JointState]]:
        """Publishes the time that the nodes live by, and the state with a stamp of that time."""
        message.header.stamp.sec += self.clock_error
        self._clock.publish(Clock(clock=message.header.stamp))
        return [(0.0, message)]

    def _pass_on(self) -> None:
        """The wire: a heap of messages by the time at which they are due."""
        waiting: list[tuple[float, int, bytes]] = []
        number = itertools.count()
        while not self._ending.is_set():
            due = waiting[0][0] - time.time() if waiting else 0.1
            if self._wait.wait(min(0.1, max(0.0, due))):
                raw, now = self._wire.take(), time.time()
                alter = self.alter or (self._by_the_clock if self._clock else None)
                if raw is not None and alter is None:
                    heapq.heappush(waiting, (now, next(number), raw))
                elif raw is not None:
                    for delay, message in alter(deserialize_message(raw, JointState)):
                        heapq.heappush(waiting, (now + delay, next(number), serialize_message(message)))
            while waiting and waiting[0][0] <= time.time():
                self._states.publish(heapq.heappop(waiting)[2])
