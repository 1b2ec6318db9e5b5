"""Whole episodes of a deployed policy, in lockstep: each begins where a judge says, and the judge sees every period of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.state import RobotState
from ddpg_robot_ros.console import Operator
from ddpg_robot_ros.convert import JointStateReader, stamp_seconds
from ddpg_robot_ros.deploy import use_own_domain
from ddpg_robot_ros.inputs import sensors_of
from ddpg_robot_ros.processes import Deployment, ProcessFailedError
from ddpg_robot_ros.transport import Newest
from ddpg_robot_ros.trial import await_start

EVERY_QOS = QoSProfile(depth=5000, reliability=ReliabilityPolicy.BEST_EFFORT)
POLL_S = 0.0005
ASK_S = 0.3
"""A target is asked for this long before the robot is put to its start: it must be in force at the first step."""
ATTEMPTS = 5
"""Of an episode: a state that the network lost makes another one necessary."""
SILENCE_S = 20.0
SAME = 1e-9
"""Positions and velocities that went through another frame differ by no more, m and m/s."""
PATIENT = 100.0
"""Timeouts in periods: in lockstep nothing moves while a process waits."""


class Judge(Protocol):
    """Whoever knows how episodes begin and end, and what they are worth."""

    @property
    def period(self) -> float:
        """Time between two steps, s."""
        ...

    def start(self, seed: int) -> Any:
        """Begins an episode: ``joints`` (names), ``motion`` ``(2, k)``, ``state`` (then measured), ``target`` (or None)."""
        ...

    def step(self, state: RobotState, effort: np.ndarray) -> tuple[float, bool]:
        """Reward of a period, and whether the episode is over: state at its end, effort in it ``(n,)``, N·m."""
        ...


class StateLostError(Exception):
    """A joint state did not arrive, or not in its place."""


def run_episodes(
    policy: str | Path,
    judge: Judge,
    seeds: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
    guard: bool = True,
) -> list[dict[str, Any]]:
    """Deploys plant, guard and policy in a ROS domain of their own, in lockstep, and runs one episode after the other.

    The policy starts without a soft start: an episode of the simulator has none.

    Args:
        policy: policy file.
        judge: of the task that the policy was trained on.
        seeds: of the episodes.
        progress: called with (finished episodes, all episodes).
        guard: with the effort guard between policy and plant.

    Returns:
        Per episode: seed, return, length (periods), attempts.

    Raises:
        ConfigError: policy and judge differ in their period. ProcessFailedError: a node ended by itself or did not start, the
            policy tripped, or states were lost again and again.
    """
    patient = {"state_timeout_periods": PATIENT, "age_source": "receipt"}
    # The task ends an episode, not the safety filter: it may let a base lean as it likes.
    own = {
        "safety.tilt_limit": 3.15,
        "lockstep": True,
        "stall_periods": 1000.0,
        "guard_timeout_periods": 1000.0,
        "safety.soft_start": 0.0,
    }
    use_own_domain()
    deployment = Deployment(
        policy,
        guard=guard,
        policy_parameters={"state_timeout_periods": PATIENT, **own},
        guard_parameters={"timeout_periods": PATIENT, **patient},
        plant_parameters={"lockstep": True, "rate": 1 / judge.period, "command_timeout": 60.0},
    )
    period = deployment.manifest.control.period
    if abs(period - judge.period) > 1e-9:
        raise ConfigError(mismatch("period of the task", f"{judge.period:g} s", f"the policy's {period:g} s"))
    rows = []
    with deployment, Operator(deployment.manifest.robot) as operator:
        await_start(deployment, operator)
        trial = EpisodeTrial(deployment, operator, judge)
        for seed in seeds:
            rows.append(trial.run(seed))
            if progress is not None:
                progress(len(rows), len(seeds))
    return rows


class EpisodeTrial:
    """Episodes of a deployment that runs in lockstep."""

    def __init__(self, deployment: Deployment, operator: Operator, judge: Judge) -> None:
        self._deployment, self._operator, self._judge = deployment, operator, judge
        self._states = Newest(operator.node, JointState, "joint_states", EVERY_QOS)
        robot = deployment.manifest.robot
        self._others = [
            (Newest(operator.node, kind, topic, EVERY_QOS), reader) for topic, kind, reader in sensors_of(robot)
        ]
        self._reader = JointStateReader(robot.measured_joints)
        self._driven = robot.joint_names

    def run(self, seed: int) -> dict[str, Any]:
        """One episode, again from its beginning when a state was lost on the way."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                total, length = self._episode(seed)
            except StateLostError:
                continue
            return {"seed": seed, "return": total, "length": length, "attempts": attempt}
        raise ProcessFailedError(mismatch("joint_states", f"one lost in each of {ATTEMPTS} attempts", "every one"))

    def _episode(self, seed: int) -> tuple[float, int]:
        start = self._judge.start(seed)
        if start.target is not None:
            self._ask(start.target)
        before = self._place(start)
        total, length, over = 0.0, 0, False
        while not over:
            now = self._next()
            if abs(now - before - self._judge.period) > 1e-6:
                raise StateLostError
            reward, over = self._judge.step(self._operator.state, self._exerted)
            total, length, before = total + reward, length + 1, now
        return total, length

    def _ask(self, target: np.ndarray) -> None:
        """Until the robot, which goes on with what it did, has surely heard."""
        end = time.monotonic() + ASK_S
        while time.monotonic() < end:
            self._operator.send_target(target, self._deployment.manifest.command.frame)
            time.sleep(ASK_S / 5)

    def _place(self, start: Any) -> float:
        """Puts the robot to the start of the episode; returns the time of the state that shows it there."""
        # Joint states last: of those that come from now on, nothing that belongs to them is dropped.
        for stream in (*(newest for newest, _ in self._others), self._states):
            while stream.take() is not None:
                pass
        base = start.state if self._deployment.manifest.robot.odometry else None
        self._operator.place(start.joints, start.motion[0], start.motion[1], base)
        end = time.monotonic() + SILENCE_S
        while time.monotonic() < end:
            now = self._next()
            if _same(self._operator.state, start.state):
                return now
            if np.array_equal(self._operator.state.measured, start.state.measured):
                # What was said of the base came after the joints: now it is there, and counts for the next time.
                self._operator.place(start.joints, start.motion[0], start.motion[1], base)
        raise ProcessFailedError(mismatch("joint_states", "another pose", "the start of the episode"))

    def _next(self) -> float:
        """Reads the next joint state and what was measured with it; returns its time, s."""
        message = self._await(self._states)
        if trip := self._operator.trip():
            raise ProcessFailedError(mismatch("policy node", trip, "one that drives"))
        self._reader.fill(message, self._operator.state)
        effort = dict(zip(message.name, message.effort))
        self._exerted = np.array([effort[name] for name in self._driven])
        now = stamp_seconds(message.header.stamp)
        for newest, reader in self._others:
            while (stamp := reader.fill(self._await(newest), self._operator.state)) < now:
                pass  # of a joint state that was lost, or not looked at
            if stamp > now:
                raise StateLostError
        return now

    def _await(self, newest: Newest) -> Any:
        end = time.monotonic() + SILENCE_S
        while (message := newest.take()) is None:
            self._deployment.check()
            if time.monotonic() > end:
                raise ProcessFailedError(mismatch(newest.topic, "silence", "messages"))
            time.sleep(POLL_S)
        return message


def _same(one: RobotState, other: RobotState) -> bool:
    """Whether two states of a robot are one and the same."""
    pairs = [(values, getattr(other, name)) for name, values in one.more]
    return np.array_equal(one.measured, other.measured) and all(np.abs(a - b).max() < SAME for a, b in pairs)
