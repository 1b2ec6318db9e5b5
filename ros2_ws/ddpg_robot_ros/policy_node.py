"""The policy node: joint states in, safe effort out, at the rate that the policy was trained for.

A lifecycle node. Configure opens and checks the policy, activate waits for the robot's state and starts the loop.
The loop is a thread of its own (`ControlLoop`); the executor only serves lifecycle, services, parameters, diagnostics.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from std_srvs.srv import Trigger

from ddpg_robot.controller import ticks_per_action
from ddpg_robot.errors import ConfigError, DdpgRobotError, JointMappingError, mismatch
from ddpg_robot.policy import OnnxPolicy
from ddpg_robot.safety import SafetyLimits, TripReason, Verdict
from ddpg_robot.state import Array
from ddpg_robot_ros.control_loop import ControlLoop
from ddpg_robot_ros.diagnostics import loop_status
from ddpg_robot_ros.drivers import DriverMaker
from ddpg_robot_ros.effort_command import EffortPublisher
from ddpg_robot_ros.guard_watch import GuardWatch
from ddpg_robot_ros.hot_swap import Driver, HotSwap
from ddpg_robot_ros.inputs import CommandInput, StateInput
from ddpg_robot_ros.lockstep import ClockTime
from ddpg_robot_ros.online import Online
from ddpg_robot_ros.parameters import declare, policy_path, value
from ddpg_robot_ros.policy_parameters import PARAMETERS
from ddpg_robot_ros.realtime import Realtime
from ddpg_robot_ros.transport import (
    EFFORT_TOPIC,
    GUARDED_TOPIC,
    SHADOW_TOPIC,
    Newest,
    StopSignal,
    serving,
    start_ros,
)

DIAGNOSTICS_PERIOD_S = 1.0
REARM_WAIT_S = 0.5


class PolicyNode(LifecycleNode):
    """Runs one policy file on one robot.

    Args:
        stop: ends waits when the process shall end.
    """

    loop_type: type[ControlLoop] = ControlLoop
    subscription_type: type[Newest] = Newest

    def __init__(self, stop: StopSignal) -> None:
        super().__init__("policy_node")
        self._stop = stop
        self._loop: ControlLoop | None = None
        self._setting = False  # the node itself sets a parameter
        self._seen_verdict = Verdict()
        declare(self, PARAMETERS)
        self.add_on_set_parameters_callback(self._check_change)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._event = self.create_guard_condition(self._on_event)
        self._seen_refusals = 0
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics)
        self.create_service(Trigger, "~/estop", self._on_estop)
        self.create_service(Trigger, "~/rearm", self._on_rearm)

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Opens and checks the policy, checks the rate, subscribes."""
        return self._guarded(self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Waits for the robot's state and starts the loop."""
        return self._guarded(self._activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Damps, sends zero, ends the loop."""
        return self._guarded(self._deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lets go of policy and subscriptions."""
        return self._guarded(self._cleanup)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As deactivate and cleanup, from any state."""
        return self._guarded(self._cleanup)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As shutdown; the node can then be configured again."""
        return self._guarded(self._cleanup)

    def autostart(self) -> bool:
        """Configures and activates; False, after a line in the log, when either fails."""
        done = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == done and self.trigger_activate() == done

    def begin_to_stop(self) -> None:
        """Ends the policy's control at the next tick (any thread); `on_shutdown` does the rest."""
        if self._loop is not None:
            self._loop.begin_to_stop()

    def _guarded(self, change: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            change()
        except DdpgRobotError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # rclpy would swallow it without a word
            self.get_logger().error(f"{type(error).__name__}: {error}")
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        if value(self, "shadow") and value(self, "guarded"):
            hint = "A policy in shadow commands nobody: there is nothing to guard"
            raise ConfigError(mismatch("parameters", "both shadow and guarded", "one of them", hint=hint))
        source = value(self, "policy")
        policy = OnnxPolicy.open(policy_path(source))
        robot, control = policy.manifest.robot, policy.manifest.control
        realtime = Realtime.of(self)
        realtime.prepare()
        own = {field.name: value(self, f"safety.{field.name}") for field in fields(SafetyLimits)[1:]}
        limits = SafetyLimits(state_timeout=value(self, "state_timeout_periods") * control.period, **own)
        self._online = Online(self, policy.manifest, limits) if value(self, "online") else None
        self._drivers = DriverMaker(self, limits, self._online)
        controller = self._drivers.controller(policy, value(self, "rate") or None)
        subscribe = self.subscription_type
        self._lockstep = ClockTime(self) if value(self, "lockstep") else None
        extra, ages = value(self, "extra_joints"), value(self, "age_source")
        self._state = StateInput(self, robot, extra, ages, subscribe, self._lockstep)
        self._command = CommandInput(self, policy.manifest.command, value(self, "stamped_twist"), subscribe)
        guarded = value(self, "guarded")
        topic = SHADOW_TOPIC if value(self, "shadow") else GUARDED_TOPIC if guarded else EFFORT_TOPIC
        self._effort = EffortPublisher(self, topic, robot.n_joints)
        self._guard = (
            GuardWatch(self, robot.n_joints, value(self, "guard_timeout_periods") * control.period) if guarded else None
        )
        now = self._lockstep or time.monotonic
        episodes = None
        if self._online is not None:
            episodes = self._online.connect(self._command, now, self._try_version, self._judge_candidate)
        driver = self._drivers.driver(source, policy, controller, self._state, self._command)
        rest_speed = value(self, "swap_speed") * np.array([joint.velocity_limit for joint in robot.joints])
        self._loop = self.loop_type(
            HotSwap(driver, rest_speed, value(self, "swap_probation"), now, value(self, "verdict_timeout")),
            robot,
            self._state,
            self._command,
            self._publish,
            self._event.trigger,
            shutdown_damping=value(self, "shutdown_damping"),
            stall_limit=value(self, "stall_periods") * control.period,
            command_every=ticks_per_action(controller.rate, control.period),
            guard=self._guard,
            realtime=realtime,
            episodes=episodes,
            clock=self._lockstep,
        )
        self._rate = controller.rate
        self.get_logger().info(
            f"policy '{policy.manifest.name}' for {robot.name}: {robot.n_joints} joints, mode {control.mode}, "
            f"policy at {1 / control.period:g} Hz, loop at {controller.rate:g} Hz"
            + (f", in shadow: only on {self._effort.publisher.topic_name}" if value(self, "shadow") else "")
        )

    def _activate(self) -> None:
        assert self._loop is not None
        self._await_state()
        if self._online is not None:
            self._online.prepare()
        self._loop.start()
        if self._online is not None:
            self._online.begin()
        topic = self._command.topic
        self.get_logger().info(f"active; waiting for a command on {topic}" if topic else "active; it takes no command")
        if self._loop.tripped:
            self.get_logger().warning("still tripped: call ~/rearm")

    def _await_state(self) -> None:
        """Returns when a state has arrived that is usable; refuses to start without."""
        deadline = time.monotonic() + value(self, "state_wait")
        complaint: DdpgRobotError | None = None
        while not self._stop.is_set():
            clock = self._lockstep
            if clock is not None:
                clock.look()  # before the state: else that is of a time long ago when the loop looks for the first time
            try:
                self._state.take()
                if self._state.age() < np.inf and (clock is None or clock.spoken):
                    return
            except DdpgRobotError as error:
                complaint = error
                if time.monotonic() > deadline - value(self, "state_wait") + 1.0:
                    raise
            if time.monotonic() > deadline:
                raise complaint or JointMappingError(
                    mismatch(self._state.describe(), "no message", f"one within {value(self, 'state_wait'):g} s")
                )
            time.sleep(0.005)
        raise JointMappingError("stopped before the first state arrived")

    def _deactivate(self) -> None:
        loop = self._loop
        if loop is None or not loop.running:
            return
        loop.stop()
        self.get_logger().info("stopped: damped, then zero effort")
        self._retire(loop.swap.driver)
        self._report_swap(loop.swap)
        if value(self, "timing_log"):
            loop.timing.save(value(self, "timing_log"), rate=self._rate, **vars(loop.counts))

    def _cleanup(self) -> None:
        self._deactivate()
        if self._loop is None:
            return
        self._loop = None
        self._state.destroy()
        self._command.destroy()
        self.destroy_publisher(self._effort.publisher)
        if self._guard is not None:
            self._guard.destroy()
        if self._online is not None:
            self._online.destroy()
        if self._lockstep is not None:
            self._lockstep.destroy()

    # The loop's thread

    def _publish(self, effort: Array) -> None:
        self._effort.publish(effort)
        if self._guard is not None and self._guard.lost:
            self._guard.publish(effort)

    # The executor's thread

    def _on_event(self) -> None:
        """The loop tripped, was rearmed, or refused a command."""
        loop = self._loop
        if loop is None:
            return
        if loop.counts.refused_commands > self._seen_refusals:
            self.get_logger().warning(f"command refused: {loop.refusal}", throttle_duration_sec=1.0)
            self._seen_refusals = loop.counts.refused_commands
        self._report_swap(loop.swap)
        verdict = loop.verdict
        if verdict.reason is not None and verdict is not self._seen_verdict:
            self.get_logger().error(f"tripped, {verdict.reason.value}: {verdict.detail}. Damping until ~/rearm")
        self._seen_verdict = verdict
        self._publish_diagnostics()

    def _report_swap(self, swap: HotSwap) -> None:
        """Says what happened, ends the recordings of policies that drive no more, and keeps the parameter true."""
        while swap.news:
            news = swap.news.popleft()
            self.get_logger().warning(news.text)
            if self._online is not None:
                self._online.note(news)
        while swap.retired:
            self._retire(swap.retired.popleft())
        if not swap.waiting and value(self, "policy") != swap.driver.source:
            self._setting = True
            self.set_parameters([RosParameter("policy", value=swap.driver.source)])
            self._setting = False

    def _retire(self, driver: Driver) -> None:
        if driver.recorder is not None:
            driver.recorder.close()
            written, dropped = driver.recorder.written, driver.recorder.dropped
            self.get_logger().info(f"recorded {written} ticks, {dropped} dropped: {driver.recorder.path}")

    def _on_estop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._loop is None:
            response.success, response.message = False, "not configured: no loop to stop"
            return response
        self._loop.trip(TripReason.ESTOP, "asked for by ~/estop")
        response.success, response.message = True, "damping until ~/rearm"
        return response

    def _on_rearm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        loop = self._loop
        if loop is None:
            response.success, response.message = False, "not configured: nothing to rearm"
            return response
        loop.rearm()
        # The cause may still be there: two periods of ticks tell.
        last_tick = loop.counts.ticks + 2 * round(self._rate * loop.swap.driver.policy.manifest.control.period)
        deadline = time.monotonic() + REARM_WAIT_S
        while loop.running and loop.counts.ticks < last_tick and time.monotonic() < deadline:
            time.sleep(0.002)
        verdict = loop.verdict
        response.success = not loop.tripped
        response.message = "rearmed, soft start" if response.success else f"tripped again: {verdict.detail}"
        return response

    def _check_change(self, changes: Sequence[RosParameter]) -> SetParametersResult:
        if self._loop is None or self._setting:
            return SetParametersResult(successful=True)
        if not {change.name for change in changes} <= {"policy", "use_sim_time"}:
            return SetParametersResult(successful=False, reason="settings are read by configure: clean up first")
        try:
            for change in changes:
                if change.name == "policy":
                    self._swap_to(change.value)
        except Exception as error:  # rclpy would end the node
            return SetParametersResult(successful=False, reason=str(error) or repr(error))
        return SetParametersResult(successful=True)

    def _swap_to(self, source: str) -> None:
        if source == self._loop.swap.driver.source:
            self._loop.propose(None)
            return
        if not self._loop.running:
            raise ConfigError("a hot swap needs an active node; to configure another policy, clean up first")
        self._propose(source, candidate=False)

    def _propose(self, source: str, candidate: bool) -> None:
        driver = self._loop.swap.driver
        self._loop.propose(self._drivers.successor(source, driver, self._state, self._command, candidate))

    def _try_version(self, path: Path, candidate: bool) -> bool:
        """Lets what was learnt wait for its turn; False where the loop does not run."""
        if self._loop is None or not self._loop.running:
            return False
        if str(path) != self._loop.swap.driver.source:
            self._propose(str(path), candidate)
        return True

    def _judge_candidate(self, source: str, keep: bool, why: str) -> None:
        if self._loop is not None:
            self._loop.judge(source, keep, why)

    def _publish_diagnostics(self) -> None:
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status.append(loop_status(self.get_fully_qualified_name(), self._loop))
        if self._loop is not None and self._online is not None:
            message.status.append(self._online.status())
        self._diagnostics.publish(message)


def run(make_node: Callable[[StopSignal], PolicyNode], args: Sequence[str] | None = None) -> int:
    """Runs a policy node until SIGINT, SIGTERM, or a failed autostart. Returns the exit status."""
    stop = start_ros(args)
    try:
        node = make_node(stop)
    except DdpgRobotError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failed: list[bool] = []

    def autostart() -> None:
        if not node.autostart():
            failed.append(True)
            stop.set()

    with serving(node) as executor:
        if value(node, "autostart"):
            executor.submit(autostart)
        stop.wait()
        node.begin_to_stop()  # at once; an executor may take its time
        executor.stop()
        node.on_shutdown(None)
    return 2 if failed and stop.received is None else 0


def main(args: Sequence[str] | None = None) -> int:
    """Entry point of the executable."""
    return run(PolicyNode, args)


if __name__ == "__main__":
    sys.exit(main())
