"""Observations within the robot's limits, and how a policy file answers to them. Needs no torch and no onnx."""

from __future__ import annotations

import numpy as np

from ddpg_robot.observation import ObservationBuilder
from ddpg_robot.policy import OnnxPolicy
from ddpg_robot.spec import UNBOUNDED, PolicyInterface
from ddpg_robot.state import Command, RobotState

TOLERANCE = 1e-5
"""Largest error of an output, as a fraction of `output_range`."""

FREE_TURN, FREE_SPEED = np.pi, 10.0
"""How far and how fast a joint without limits is taken to move, rad and rad/s (of slides m and m/s)."""


def output_range(interface: PolicyInterface) -> np.ndarray:
    """The unit of output errors ``(n,)``: effort limits in N·m (mode effort), or widths of joint ranges in rad (pd)."""
    joints = interface.robot.joints
    if interface.control.mode == "effort":
        return np.array([joint.effort_limit for joint in joints])
    return np.array([joint.position_upper - joint.position_lower for joint in joints])


def run_one_by_one(policy: OnnxPolicy, observations: np.ndarray) -> np.ndarray:
    """Outputs ``(count, n)`` for flat observations ``(count, size)``, computed as on the robot: on bound buffers."""
    interface = policy.interface
    builder = ObservationBuilder(interface.robot, interface.observation, interface.command)
    policy.bind(builder)
    buffer = builder.flat()
    outputs = np.empty((len(observations), interface.robot.n_joints), np.float32)
    for output, observation in zip(outputs, observations, strict=True):
        buffer[:] = observation
        output[:] = policy.run()
    return outputs


def at_rest(interface: PolicyInterface) -> tuple[RobotState, Command]:
    """A robot at rest in the middle of the joint ranges, with the command in the middle of its bounds."""
    state = RobotState.of(interface.robot)
    state.position[:] = [(joint.position_lower + joint.position_upper) / 2 for joint in interface.robot.joints]
    command = Command(interface.command.size)
    command.values[:] = np.mean([interface.command.lower, interface.command.upper], axis=0)
    return state, command


def uniform_observations(interface: PolicyInterface, count: int, rng: np.random.Generator) -> np.ndarray:
    """Flat observations ``(count, size)``, float32, of states, efforts and commands uniform within their limits."""
    return _observations(interface, rng.uniform(-1, 1, (count, _dimensions(interface))), rng)


def corner_observations(interface: PolicyInterface, count: int, rng: np.random.Generator) -> np.ndarray:
    """Flat observations ``(count, size)``, float32, with every position, velocity, effort and command at a limit."""
    return _observations(interface, rng.choice([-1.0, 1.0], (count, _dimensions(interface))), rng)


def _dimensions(interface: PolicyInterface) -> int:
    return 3 * interface.robot.n_joints + interface.command.size


def _observations(interface: PolicyInterface, fractions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Observations at fractions -1 .. 1 of the ranges of position, velocity, effort, command ``(count, d)``."""
    robot, command = interface.robot, interface.command
    n = robot.n_joints
    speeds = [FREE_SPEED if j.velocity_limit == UNBOUNDED else j.velocity_limit for j in robot.joints]
    lowest = [-FREE_TURN if j.position_lower == -UNBOUNDED else j.position_lower for j in robot.joints]
    highest = [FREE_TURN if j.position_upper == UNBOUNDED else j.position_upper for j in robot.joints]
    speed_and_effort = speeds + [j.effort_limit for j in robot.joints]
    lower = np.array(lowest + [-x for x in speed_and_effort] + list(command.lower))
    upper = np.array(highest + speed_and_effort + list(command.upper))
    values = (upper + lower) / 2 + (upper - lower) / 2 * fractions
    builder = ObservationBuilder(robot, interface.observation, command)
    state, asked = RobotState.of(robot), Command(command.size)
    passive = np.array([[FREE_TURN], [FREE_SPEED]])
    rows = np.empty((len(values), interface.observation.size), np.float32)
    for row, value in zip(rows, values, strict=True):
        state.position[:], state.velocity[:] = value[:n], value[n : 2 * n]
        state.passive[:] = rng.uniform(-passive, passive, state.passive.shape)
        asked.values[:] = value[3 * n :]
        quaternion = rng.standard_normal(4)
        state.orientation_wxyz[:] = quaternion / np.linalg.norm(quaternion)
        state.angular_velocity[:] = rng.uniform(-10, 10, 3)  # rad/s, faster than any base should turn
        for _, values in state.more:
            values[:] = rng.uniform(-FREE_SPEED, FREE_SPEED, len(values))
        state.base_orientation_wxyz[:] = state.orientation_wxyz
        builder.build(state, asked, value[2 * n : 3 * n])
        row[:] = builder.flat()
    return rows
