"""Starts and ends the node processes: in order, each in a session of its own, none outliving the program."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ddpg_robot.controller import ticks_per_action
from ddpg_robot.errors import DdpgRobotError
from ddpg_robot.policy import read_manifest
from ddpg_robot.spec import PolicyManifest

END_WAIT_S = 8.0
PR_SET_PDEATHSIG = 1
LEARNER = "learner_node"
STEAL = 8
"""Place of the stolen time in the first line of /proc/stat."""
REFUSED = 2
"""Exit status of a node whose settings cannot work."""


class ProcessFailedError(DdpgRobotError):
    """A node process ended by itself, or did not do what it was started for."""


class NodeProcess:
    """One node in a process of its own.

    Terminal signals do not reach it, so that the program can end its nodes in order; when the program dies, the kernel
    sends the node SIGTERM, and it ends as it should (damping, zero).
    """

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        parent = os.getpid()
        libc = ctypes.CDLL(None)

        def follow_parent() -> None:  # between fork and exec: system calls only
            if sys.platform == "linux":
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            preexec_fn=follow_parent,
        )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def resident_bytes(self) -> int:
        """Memory that is in RAM, bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def send(self, number: int) -> None:
        """Sends a signal, if it still runs."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def end(self, timeout: float = END_WAIT_S) -> int:
        """Asks it to end (SIGINT), kills it after `timeout` s, returns its exit status."""
        self.send(signal.SIGINT)
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def cpu_seconds(self) -> float:
        """Processor time used so far, all threads, s."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Deployment:
    """Plant, guard and policy node as three processes; a context manager.

    Args:
        policy: policy file.
        plant: start the simulated robot; False drives a real one.
        guard: put the effort guard between policy and controller; there is none in shadow.
        rate: ticks per second; None as trained.
        namespace: ROS namespace of all nodes.
        params_file: ROS parameter file for all nodes.
        policy_parameters: further parameters of the policy node; likewise `guard_parameters`, `plant_parameters`.
        environment: further environment variables of the processes.
        policy_module: module of the policy node.
        shadow: the policy commands nobody.
        record: directory for a recording of every tick.
        learner: command line, behind the interpreter, of a learner beside it; the policy node then explores.

    Attributes:
        manifest: the policy's.
        nodes: name -> process, in the order of their start.

    Raises:
        PolicyFileError: not a policy. RateError: not a whole multiple of the policy's rate.
    """

    def __init__(
        self,
        policy: str | Path,
        plant: bool = True,
        guard: bool = True,
        rate: float | None = None,
        namespace: str = "",
        params_file: str | Path | None = None,
        policy_parameters: Mapping[str, Any] | None = None,
        guard_parameters: Mapping[str, Any] | None = None,
        plant_parameters: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        policy_module: str = "ddpg_robot_ros.policy_node",
        shadow: bool = False,
        record: str | Path | None = None,
        learner: Sequence[str] = (),
    ) -> None:
        self.manifest: PolicyManifest = read_manifest(policy)
        if rate is not None:
            ticks_per_action(rate, self.manifest.control.period)
        path = str(Path(policy).resolve())
        common = ros_arguments(namespace=namespace, params_file=params_file)
        self._plan: list[tuple[str, list[str]]] = []
        if plant:
            compensated = self.manifest.robot.gravity_compensated
            pays = {"reward": True} if learner else {}
            own = {"policy": path, "gravity_compensation": compensated, **pays, **(plant_parameters or {})}
            self._plan.append(("plant_node", ["-m", "ddpg_robot_ros.plant_node", *common, *ros_arguments(own)]))
        guard = guard and not shadow
        if guard:
            own = {"policy": path, **(guard_parameters or {})}
            self._plan.append(("effort_guard", ["-m", "ddpg_robot_ros.effort_guard", *common, *ros_arguments(own)]))
        own = {
            "policy": path,
            "rate": float(rate or 0.0),
            "autostart": True,
            "guarded": guard,
            "shadow": shadow,
            **({} if record is None else {"record": str(Path(record).expanduser().resolve())}),
            **({"online": True} if learner else {}),
            **(policy_parameters or {}),
        }
        self._plan.append(("policy_node", ["-m", policy_module, *common, *ros_arguments(own)]))
        if learner:
            self._plan.append((LEARNER, list(learner)))
        self._environment = dict(environment or {})
        self.nodes: dict[str, NodeProcess] = {}

    def __enter__(self) -> Deployment:
        try:
            for name, arguments in self._plan:
                self.nodes[name] = NodeProcess(name, arguments, self._environment)
        except BaseException:
            self.end()
            raise
        return self

    def restart(self, name: str) -> None:
        """Starts a process that has ended once more."""
        self.nodes[name] = NodeProcess(name, dict(self._plan)[name], self._environment)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def check(self) -> None:
        """Sees whether all processes still run.

        Raises:
            ProcessFailedError: one has ended.
        """
        for node in self.nodes.values():
            if node.exit_status is not None:
                raise ProcessFailedError(f"{node.name} ended by itself, exit status {node.exit_status}")

    def end(self) -> None:
        """Ends the processes one after the other: policy (damps, sends zero), guard, plant."""
        for node in reversed(list(self.nodes.values())):
            node.end()


def ros_arguments(
    parameters: Mapping[str, Any] | None = None,
    remaps: Mapping[str, str] | None = None,
    namespace: str = "",
    params_file: str | Path | None = None,
) -> list[str]:
    """A ``--ros-args`` command line."""
    arguments = ["--ros-args"]
    if namespace:
        arguments += ["-r", f"__ns:=/{namespace.strip('/')}"]
    if params_file is not None:
        arguments += ["--params-file", str(params_file)]
    for key, one in (parameters or {}).items():
        arguments += ["-p", f"{key}:={json.dumps(one)}"]
    for old, new in (remaps or {}).items():
        arguments += ["-r", f"{old}:={new}"]
    return [*arguments, "--"]


def wait_until(condition: Any, timeout: float, period: float = 0.02) -> bool:
    """Asks `condition` again and again; False when `timeout` s have passed."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(period)
    return True


def stolen_seconds() -> float:
    """Processor time that a virtual machine's host has given to others so far, of all cores, s; 0 where nobody tells."""
    try:
        processors = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        return int(processors[STEAL]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):  # not Linux
        return 0.0
