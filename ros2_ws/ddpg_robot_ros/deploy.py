"""Drives a robot, simulated or real, with a policy file: the processes that the launch file starts, without launch."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddpg_robot.spec import CommandSpec
from ddpg_robot_ros.processes import LEARNER, REFUSED, Deployment, ros_arguments
from ddpg_robot_ros.transport import StopSignal

POLL_S = 0.1
SEND = {"point": ("A target", "send_target"), "velocity": ("A velocity", "send_velocity")}
"""Kind of command -> what it is, and the program that sends one."""


def deploy(
    policy: str | Path,
    plant: bool = True,
    guard: bool = True,
    rate: float | None = None,
    namespace: str = "",
    params_file: str | Path | None = None,
    duration: float | None = None,
    shadow: bool = False,
    record: str | Path | None = None,
    learner: Sequence[str] = (),
    model: str | None = None,
) -> int:
    """Runs until Ctrl-C, SIGTERM, `duration` s, or until a node fails. Ends in damping, then zero effort.

    A guard or a learner that dies is started again. When the policy node dies on a real robot, the guard goes on damping
    until Ctrl-C.

    Args:
        policy: policy file.
        plant: start the simulated robot; False drives a real one.
        guard: put the effort guard between policy and controller.
        rate: ticks per second, a whole multiple of the policy's; None as trained.
        namespace: ROS namespace of all nodes.
        params_file: ROS parameter file for all nodes.
        duration: stop by itself after so many s.
        shadow: the policy publishes what it would command on ``policy_node/shadow_effort``, and commands nobody.
        record: directory for a recording of every tick.
        learner: command line, behind the interpreter, of a learner beside it; the policy then explores.
        model: what the plant simulates, a file; None for the shipped model of the policy's robot.

    Returns:
        Exit status: 0, or 1 when a node failed.

    Raises:
        PolicyFileError: not a policy. RateError: not a whole multiple of the policy's rate.
    """
    deployment = Deployment(
        policy,
        plant,
        guard,
        rate,
        namespace,
        params_file,
        plant_parameters={} if model is None else {"model": model},
        environment=discovery(plant),
        shadow=shadow,
        record=record,
        learner=learner,
    )
    stop = StopSignal()
    end = math.inf if duration is None else time.monotonic() + duration
    with deployment:
        print(f"{_what_to_send(deployment.manifest.command, namespace)}\nCtrl-C ends.", flush=True)
        while not stop.wait(POLL_S) and time.monotonic() < end:
            if not _supervise(deployment, stop):
                return 1
    return 0


def _what_to_send(command: CommandSpec, namespace: str) -> str:
    """Tells the operator how the robot is asked for something."""
    if command.is_given:
        return "The policy takes no command: it begins at once."
    what, program = SEND[command.kind]
    example = " ".join(f"{low + 0.75 * (high - low):.3g}" for low, high in zip(command.lower, command.upper))
    where = f" --ros-args -r __ns:=/{namespace.strip('/')}" if namespace else ""
    return f"{what}, from another terminal: {sys.executable} -m ddpg_robot_ros.{program} {example}{where}"


def _supervise(deployment: Deployment, stop: StopSignal) -> bool:
    """Looks after processes that ended; False when the deployment has to end."""
    for name, node in deployment.nodes.items():
        status = node.exit_status
        if status is None or stop.is_set():
            continue
        print(f"error: {name} ended by itself, exit status {status}", file=sys.stderr)
        if name in ("effort_guard", LEARNER) and status != REFUSED:
            deployment.restart(name)
            return True
        guarded_robot = "effort_guard" in deployment.nodes and "plant_node" not in deployment.nodes
        if name == "policy_node" and status != REFUSED and guarded_robot:
            print("The guard is damping the robot; Ctrl-C ends it.", file=sys.stderr)
            stop.wait()
        return False
    return True


def run_plant(
    model: str = "arm_reach",
    rate: float = 500.0,
    gravity_compensation: bool = True,
    joint_order: tuple[str, ...] = (),
    namespace: str = "",
    publish_clock: bool = False,
    draw: str = "",
) -> int:
    """Runs the simulated robot alone, in this process, until Ctrl-C. Parameters as those of plant_node."""
    from ddpg_robot_ros.plant_node import main as plant_main  # MuJoCo is not there on a robot

    parameters: dict[str, Any] = {
        "model": model,
        "rate": float(rate),
        "gravity_compensation": gravity_compensation,
        "publish_clock": publish_clock,
        "draw": draw,
    }
    if joint_order:
        parameters["joint_order"] = list(joint_order)
    os.environ.update(discovery(simulated=True))
    return plant_main(["plant_node", *ros_arguments(parameters, namespace=namespace)])


def discovery(simulated: bool) -> dict[str, str]:
    """A simulated robot stays on this machine unless the user's environment says otherwise."""
    chosen = {"ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY"} & set(os.environ)
    return {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"} if simulated and not chosen else {}


def use_own_domain() -> None:
    """Gives this process, and those that it starts from now on, a ROS domain of their own on this machine."""
    os.environ.update(discovery(simulated=True), ROS_DOMAIN_ID=str(1 + os.getpid() % 100))
