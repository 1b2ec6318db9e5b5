"""The effort guard: a small process between policy and controller that never lets go of the robot.

Forward controllers hold the last command for ever. The guard passes commands on, clamped; when they stop coming it
publishes damping itself from ``joint_states``, and goes on doing so until they come again. Before it hears the robot, it
passes nothing on. It reads the limits from the
policy file's manifest and runs no policy: neither torch nor ONNX Runtime is loaded here.
"""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from enum import Enum

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from ddpg_robot.errors import DdpgRobotError, mismatch
from ddpg_robot.policy import read_manifest
from ddpg_robot.rate import PeriodicLoop
from ddpg_robot.safety import SafetyFilter, SafetyLimits, TripReason
from ddpg_robot_ros.diagnostics import status
from ddpg_robot_ros.effort_command import EffortPublisher, effort_values
from ddpg_robot_ros.inputs import StateInput
from ddpg_robot_ros.parameters import Parameter, declare, policy_path, value
from ddpg_robot_ros.realtime import REALTIME_PARAMETERS, Realtime
from ddpg_robot_ros.transport import (
    EFFORT_READER_QOS,
    EFFORT_TOPIC,
    GUARDED_TOPIC,
    MessageWait,
    Newest,
    StopSignal,
    run_node,
)

IDLE_WAIT_S = 0.1
ZERO_COMMANDS = 3
DIAGNOSTICS_PERIOD_S = 1.0

PARAMETERS = (
    Parameter("policy", "arm_reach", "Policy file (.onnx) or shipped policy whose robot is guarded."),
    Parameter(
        "commands", GUARDED_TOPIC, "Whose commands are passed on, of several publishers: a topic. May be changed."
    ),
    Parameter("timeout_periods", 3.0, "Damp when commands stop for this many periods of the policy.", 0.5, 100.0),
    Parameter("effort_scale", 1.0, "Clamp at this share of the effort limits; they cannot be widened.", 0.0, 1.0),
    Parameter("state_timeout_periods", 2.0, "Oldest usable state, in periods of the policy.", 0.5, 100.0),
    Parameter("extra_joints", "refuse", "Joints that the policy does not know.", choices=("refuse", "ignore")),
    Parameter("age_source", "stamp", "What a state's age is counted from.", choices=("stamp", "receipt")),
    Parameter("shutdown_damping", 0.5, "How long a stop damps before it sends zero effort, s.", 0.0, 10.0),
    *REALTIME_PARAMETERS,
)


class Mode(Enum):
    """What the guard does."""

    IDLE = "no command yet"
    PASS = "passing commands"
    DAMP = "commands stopped: damping"
    REFUSE = "two publishers: damping until ~/rearm"


class EffortGuard(Node):
    """Passes effort commands from ``policy/commands`` to ``effort_controller/commands``, and damps without them."""

    def __init__(self) -> None:
        super().__init__("effort_guard")
        declare(self, PARAMETERS)
        self._realtime = Realtime.of(self)
        self._realtime.prepare()
        manifest = read_manifest(policy_path(value(self, "policy")))
        robot, period = manifest.robot, manifest.control.period
        self._n = robot.n_joints
        self._limit = np.array([joint.effort_limit for joint in robot.joints]) * value(self, "effort_scale")
        self._period = manifest.control.loop_period
        self._timeout = value(self, "timeout_periods") * period
        self._farewell_ticks = math.ceil(value(self, "shutdown_damping") / self._period)
        self._state_timeout = value(self, "state_timeout_periods") * period
        self._damper = SafetyFilter(robot, SafetyLimits(state_timeout=self._state_timeout), self._period)
        self._damper.trip(TripReason.FAULT, "damping")
        self._zero = np.zeros(self._n)
        # What it damps with are the joints: neither a camera nor a state estimator that is dead may take that from it.
        self._state = StateInput(self, robot.of_joints, value(self, "extra_joints"), value(self, "age_source"))
        self._commands = self._subscribe(value(self, "commands"))
        self._chosen = self._commands  # by the operator; the guard's own thread turns to it
        self._wait = MessageWait(self, self._commands)
        self._publisher = EffortPublisher(self, EFFORT_TOPIC, self._n)
        self._effort = np.zeros(self._n)
        self._mode = Mode.IDLE
        self._deadline = math.inf
        self._silenced = 0  # publishers that were there when commands stopped
        self._sequence = 0
        self._rearm = False
        self._counts = {"passed": 0, "clamped": 0, "dropped": 0, "damped": 0}
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics)
        self.create_service(Trigger, "~/rearm", self._on_rearm)
        self.add_on_set_parameters_callback(self._on_change)

    def run(self, stop: StopSignal) -> None:
        """Guards until told to stop; then damps and sends zero."""
        self._realtime.enter()
        while not stop.is_set():
            self._guard(stop)
        if self._mode is not Mode.IDLE:
            self._farewell()

    # The guard's own thread

    def _guard(self, stop: StopSignal) -> None:
        try:
            if self._chosen is not self._commands:
                self._turn_to(self._chosen)
            if self._mode in (Mode.IDLE, Mode.PASS):
                self._forward()
            else:
                self._hold(stop)
        except Exception as error:  # a guard that dies is a held torque
            self.get_logger().error(f"{type(error).__name__}: {error}")
            self._enter(Mode.DAMP)

    def _forward(self) -> None:
        timeout = min(IDLE_WAIT_S, max(0.0, self._deadline - time.monotonic()))
        if self._wait.wait(timeout):
            self._accept()
        if time.monotonic() > self._deadline:
            self._silenced = self._commands.publishers
            self._enter(Mode.DAMP)

    def _hold(self, stop: StopSignal) -> None:
        """Damps tick by tick until commands come again (or a rearm, where two publishers were refused)."""
        loop = PeriodicLoop(self._period)
        loop.start()
        while not stop.is_set() and self._chosen is self._commands:
            loop.wait()
            if self._mode is Mode.REFUSE:
                self._commands.take()
                if self._rearm:
                    self._rearm = False
                    self._enter(Mode.DAMP)
            elif self._accept():
                return
            self._damp()

    def _turn_to(self, commands: Newest) -> None:
        """Listens to another publisher; damps until it speaks."""
        self._commands.destroy()
        self._commands, self._wait = commands, MessageWait(self, commands)
        self._silenced = self._sequence = 0
        if self._mode is not Mode.IDLE:
            self._enter(Mode.DAMP)

    def _accept(self) -> bool:
        """Takes the newest command and passes it on, clamped. True when one was passed."""
        raw = self._commands.take()
        if raw is None:
            return False
        if self._two_publishers():
            self._enter(Mode.REFUSE)
            return False
        try:
            values = effort_values(raw, self._n)
        except DdpgRobotError as error:
            self._counts["dropped"] += 1
            self.get_logger().error(str(error), throttle_duration_sec=1.0)
            return False
        if self._mode is not Mode.PASS and not self._could_damp():
            self._counts["dropped"] += 1
            text = f"commands are not passed on: {mismatch('joint states', self._state.describe(), 'a fresh one, to damp with')}"
            self.get_logger().warning(text, throttle_duration_sec=1.0, skip_first=True)  # it may be a matter of ms
            return False
        np.clip(values, -self._limit, self._limit, out=self._effort)
        self._publisher.publish(self._effort)
        self._counts["passed"] += 1
        self._counts["clamped"] += bool((self._effort != values).any())
        self._deadline = time.monotonic() + self._timeout
        if self._mode is not Mode.PASS:
            self._enter(Mode.PASS)
        return True

    def _two_publishers(self) -> bool:
        """True when more than one process commands.

        A killed process stays in the graph until its lease ends, so publishers that fell silent do not count; if one of
        them speaks again beside another, sequence numbers go backwards.
        """
        publishers = self._commands.publishers
        self._silenced = min(self._silenced, max(0, publishers - 1))
        sequence = int(self._commands.info.get("publication_sequence_number") or 0)
        backwards = self._mode is Mode.PASS and sequence < self._sequence
        self._sequence = sequence
        return publishers - self._silenced > 1 or backwards

    def _could_damp(self) -> bool:
        """Whether the velocity is known. A guard that was started a moment ago may not hear the robot yet."""
        self._take_state()
        return abs(self._state.age()) <= self._state_timeout

    def _take_state(self) -> None:
        try:
            self._state.take()
        except DdpgRobotError as error:  # the state ages; the damper sends zero where the velocity is not known
            self.get_logger().error(str(error), throttle_duration_sec=1.0)

    def _damp(self) -> None:
        self._take_state()
        self._damper.step(self._zero, self._state.state, self._state.age())
        self._effort[:] = self._damper.effort
        self._publisher.publish(self._effort)
        self._counts["damped"] += 1

    def _farewell(self) -> None:
        loop = PeriodicLoop(self._period)
        loop.start()
        for _ in range(self._farewell_ticks):
            loop.wait()
            self._damp()
        self._effort[:] = 0.0
        for _ in range(ZERO_COMMANDS):
            loop.wait()
            self._publisher.publish(self._effort)

    def _enter(self, mode: Mode) -> None:
        if mode is not self._mode:
            text = f"{mode.value} (before: {self._mode.value})"
            self._mode = mode
            if mode is Mode.PASS:
                self.get_logger().info(text)
            elif mode is Mode.DAMP and not self._effort.any():
                self.get_logger().warning(f"{text}; the last one was zero effort, as when a policy node ends in order")
            else:
                self.get_logger().error(text)

    # The executor's thread

    def _subscribe(self, topic: str) -> Newest:
        return Newest(self, Float64MultiArray, topic, EFFORT_READER_QOS, raw=True)

    def _on_change(self, changes: Sequence[RosParameter]) -> SetParametersResult:
        if [change.name for change in changes] == ["use_sim_time"]:
            return SetParametersResult(successful=True)
        if [change.name for change in changes] != ["commands"]:
            return SetParametersResult(successful=False, reason="only 'commands' may be changed, by itself")
        if self._chosen is not self._commands:
            return SetParametersResult(successful=False, reason="the guard is turning to another topic: ask again")
        try:
            self._chosen = self._subscribe(changes[0].value)
        except Exception as error:  # rclpy has a family of them: no valid name, another type
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _on_rearm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        others = self._commands.publishers - self._silenced
        response.success = others <= 1
        if not response.success:
            response.message = mismatch(f"publishers on {self._commands.topic}", others, 1)
        elif self._mode is Mode.REFUSE:
            self._rearm = True
        return response

    def _rivals(self) -> list[str]:
        """Nodes that command the robot past the guard. Those that command it, too, may take its place when it is dead."""

        def names(topic: str) -> Counter[str]:
            return Counter(
                f"{info.node_namespace.rstrip('/')}/{info.node_name}"
                for info in self.get_publishers_info_by_topic(topic)
            )

        others = names(self._publisher.publisher.topic_name) - names(self._commands.topic)
        return sorted((others - Counter([self.get_fully_qualified_name()])).elements())

    def _publish_diagnostics(self) -> None:
        levels = {Mode.IDLE: DiagnosticStatus.WARN, Mode.PASS: DiagnosticStatus.OK}
        level, text = levels.get(self._mode, DiagnosticStatus.ERROR), self._mode.value
        rivals = self._rivals()
        if rivals:
            level = DiagnosticStatus.ERROR
            text += f"; past the guard, {', '.join(rivals)} publish on {self._publisher.publisher.topic_name}"
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status.append(status(f"{self.get_fully_qualified_name()}: guard", level, text, self._counts))
        self._diagnostics.publish(message)


def main(args: Sequence[str] | None = None) -> int:
    """Entry point of the executable."""
    return run_node(EffortGuard, args)


if __name__ == "__main__":
    sys.exit(main())
