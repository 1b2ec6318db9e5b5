"""Makes policies ready to drive: opened, checked, with controller and recorder; exploring, where learning is wanted."""

from __future__ import annotations

from rclpy.node import Node

from ddpg_robot.controller import PolicyController
from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.exploration import ExploringController
from ddpg_robot.policy import OnnxPolicy
from ddpg_robot.recorder import Recorder
from ddpg_robot.safety import SafetyLimits
from ddpg_robot_ros.hot_swap import Driver
from ddpg_robot_ros.inputs import CommandInput, StateInput
from ddpg_robot_ros.online import Online
from ddpg_robot_ros.parameters import policy_path, value


class DriverMaker:
    """Makes all that drive one robot in one loop, behind one safety filter.

    Args:
        node: its parameters say what is recorded.
        limits: settings of the safety filter.
        online: what online learning adds; None without.
    """

    def __init__(self, node: Node, limits: SafetyLimits, online: Online | None) -> None:
        self._node, self._limits, self._online = node, limits, online
        self._directory, self._shadow = value(node, "record"), value(node, "shadow")

    def controller(
        self, policy: OnnxPolicy, rate: float | None, predecessor: PolicyController | None = None
    ) -> PolicyController:
        """Raises RateError, and ConfigError where the policy file allows less exploration than there is."""
        if self._online is None:
            return PolicyController(policy, self._limits, rate, predecessor)
        explorer = self._online.explorer
        explorer.check(policy.manifest.exploration_limit)
        return ExploringController(explorer, policy, self._limits, rate, predecessor)

    def driver(
        self,
        source: str,
        policy: OnnxPolicy,
        controller: PolicyController,
        state: StateInput,
        command: CommandInput,
        candidate: bool = False,
    ) -> Driver:
        """A policy with its controller, and a recorder where the node records."""
        online = self._online
        recorder = None
        if self._directory:
            recorder = Recorder(
                self._directory,
                policy.manifest,
                controller,
                self._limits,
                state.state,
                command.command,
                self._complain,
                self._shadow,
                None if online is None else lambda rows: online.ticks.send(rows, policy, recorder.path.stem),
                None if online is None else online.episodes.marks,
            )
        return Driver(source, policy, controller, recorder, candidate)

    def successor(
        self, source: str, driver: Driver, state: StateInput, command: CommandInput, candidate: bool = False
    ) -> Driver:
        """Another policy for the same robot and command, opened, checked and rehearsed; its recorder runs.

        Raises:
            PolicyFileError: the file cannot be opened. ConfigError: another robot, command or period, or see `controller`.
            ObservationError: it proposes what is not finite.
        """
        policy = OnnxPolicy.open(policy_path(source))
        for part in ("robot", "command"):
            found, expected = getattr(policy.manifest, part), getattr(driver.policy.manifest, part)
            if found != expected:
                raise ConfigError(mismatch(f"{part} of policy '{source}'", found, expected))
        found, expected = policy.manifest.control.period, driver.policy.manifest.control.period
        if found != expected:
            raise ConfigError(mismatch(f"period of policy '{source}'", f"{found:g} s", f"{expected:g} s"))
        controller = self.controller(policy, driver.controller.rate, driver.controller)
        controller.rehearse(state.state, command.command)
        made = self.driver(source, policy, controller, state, command, candidate)
        if made.recorder is not None:
            made.recorder.start()
        return made

    def _complain(self, text: str) -> None:
        """The recorder's thread has something to say."""
        self._node.get_logger().error(text)
        if self._online is not None:
            self._online.stop_exploring("what cannot be recorded cannot be learnt from")
