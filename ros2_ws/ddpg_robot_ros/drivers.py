"""Makes policies ready to drive: opened, checked, with controller and recorder; exploring, where learning is wanted."""

from __future__ import annotations

import numpy as np
from rclpy.node import Node

from ddpg_robot.controller import PolicyController
from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.exploration import ExplorationSettings, Explorer, ExploringController
from ddpg_robot.policy import OnnxPolicy
from ddpg_robot.recorder import Recorder
from ddpg_robot.safety import SafetyLimits
from ddpg_robot.spec import PolicyManifest
from ddpg_robot_ros.hot_swap import Driver
from ddpg_robot_ros.inputs import CommandInput, StateInput
from ddpg_robot_ros.parameters import policy_path, value
from ddpg_robot_ros.tick_stream import TickStream


class DriverMaker:
    """Makes all that drive one robot in one loop, behind one safety filter.

    Args:
        node: its parameters say what is recorded, and whether there is exploration.
        manifest: of the first policy.
        limits: settings of the safety filter.

    Raises:
        ConfigError: parameters that contradict each other, or more exploration than the policy file allows.
    """

    def __init__(self, node: Node, manifest: PolicyManifest, limits: SafetyLimits) -> None:
        self._node, self._limits = node, limits
        self._directory, self._shadow = value(node, "record"), value(node, "shadow")
        self._explorer: Explorer | None = None
        self._ticks: TickStream | None = None
        if value(node, "online"):
            if self._shadow or not self._directory:
                expected = "a directory in `record`, and no shadow: what is learnt from was done, and is on disk"
                found = f"record '{self._directory}', shadow {self._shadow}"
                raise ConfigError(mismatch("parameters of online learning", found, expected))
            wanted = (value(node, f"exploration.{name}") for name in ("share", "correlation_time"))
            settings, rng = ExplorationSettings(*wanted), np.random.default_rng()
            cap = manifest.exploration_limit
            self._explorer = Explorer(manifest.robot, manifest.control, limits, settings, cap, rng)
            self._ticks = TickStream(node)

    def controller(
        self, policy: OnnxPolicy, rate: float | None, predecessor: PolicyController | None = None
    ) -> PolicyController:
        """Raises RateError, and ConfigError where the policy file allows less exploration than there is."""
        if self._explorer is None:
            return PolicyController(policy, self._limits, rate, predecessor)
        self._explorer.check(policy.manifest.exploration_limit)
        return ExploringController(self._explorer, policy, self._limits, rate, predecessor)

    def driver(
        self, source: str, policy: OnnxPolicy, controller: PolicyController, state: StateInput, command: CommandInput
    ) -> Driver:
        """A policy with its controller, and a recorder where the node records."""
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
                None if self._ticks is None else lambda rows: self._ticks.send(rows, recorder.path.stem),
            )
        return Driver(source, policy, controller, recorder)

    def successor(self, source: str, driver: Driver, state: StateInput, command: CommandInput) -> Driver:
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
        made = self.driver(source, policy, controller, state, command)
        if made.recorder is not None:
            made.recorder.start()
        return made

    def begin(self) -> None:
        """The loop starts: there may be exploration again."""
        if self._explorer is not None:
            self._explorer.active = True

    def destroy(self) -> None:
        """Ends what it publishes."""
        if self._ticks is not None:
            self._ticks.destroy()

    def _complain(self, text: str) -> None:
        """The recorder's thread has something to say."""
        self._node.get_logger().error(text)
        if self._explorer is not None and self._explorer.active:
            self._explorer.active = False
            self._node.get_logger().error("exploration ends: what cannot be recorded cannot be learnt from")
