"""THE observation builder: robot state + command + last effort -> named float32 terms. The only one in the project.

Simulation and robot both call it, so a policy meets the same numbers in both. docs/observations.md lists the terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddpg_robot.errors import ObservationError, mismatch
from ddpg_robot.kinematics import ChainKinematics, rotation_matrix
from ddpg_robot.spec import CommandSpec, ObservationSpec, RobotSpec, TermSpec
from ddpg_robot.state import Array, Command, RobotState

Float32 = NDArray[np.float32]

GAIT_FREQUENCY = 2.5
"""Turns of `gait_clock` per second, Hz."""


class Inputs:
    """Everything a term may be computed from; kinematics are current when a term asks for them."""

    __slots__ = ("command", "kinematics", "last_effort", "object_bounds", "previous_effort", "state")

    def __init__(self, robot: RobotSpec, needs_chain: bool) -> None:
        self.state = RobotState.of(robot)
        thing = robot.object
        self.object_bounds: Array = np.array([thing.lower, thing.upper] if thing is not None else [])  # (2, 3)
        self.command: Array = np.zeros(0)
        self.last_effort: Array = np.zeros(robot.n_joints)
        self.previous_effort: Float32 = np.zeros(robot.n_joints, np.float32)
        self.kinematics: ChainKinematics | None = None
        if needs_chain:
            if robot.chain is None:
                raise ObservationError(mismatch(f"robot '{robot.name}' kinematic chain", "none", "one"))
            self.kinematics = ChainKinematics(robot.chain)

    @property
    def chain(self) -> ChainKinematics:
        assert self.kinematics is not None  # guaranteed by needs_chain
        return self.kinematics


@dataclass(frozen=True)
class TermDefinition:
    """How a term is computed. `size` is a number, or ``joints`` or ``command`` for the robot's or the command's size."""

    unit: str
    size: int | str
    compute: Callable[[Inputs], Array | Float32]
    needs_chain: bool = False
    needs_base: bool = False
    needs: str = ""
    """One of `RobotSpec.more_state`."""


def _hand_velocity(inputs: Inputs) -> Array:
    return inputs.state.velocity @ inputs.chain.jacobian


def _target_error(inputs: Inputs) -> Array:
    return inputs.command - inputs.chain.tip


def _target_error_joints(inputs: Inputs) -> Array:
    # J^T e: the joint torque that a unit spring between tip and target would cause.
    return inputs.chain.jacobian @ (inputs.command - inputs.chain.tip)


def _target_direction_joints(inputs: Inputs) -> Array:
    # J^T e / (|e| + 5 cm): as above, with a force that levels off far away, so that the last millimetres are not lost in
    # the scale of the first decimetres.
    error = inputs.command - inputs.chain.tip
    direction: Array = inputs.chain.jacobian @ error
    direction /= math.sqrt(error.dot(error)) + 0.05
    return direction


def _projected_gravity(inputs: Inputs) -> Array:
    down: Array = -rotation_matrix(inputs.state.orientation_wxyz)[2]  # world z axis, in the base frame
    return down


def _gait_clock(inputs: Inputs) -> Array:
    # From the measurement's own stamp: simulation, robot and recording agree without a counter that could be lost.
    angle = 2.0 * math.pi * math.fmod(GAIT_FREQUENCY * inputs.state.stamp, 1.0)
    return np.array([math.sin(angle), math.cos(angle)])


def _object_position(inputs: Inputs) -> Array:
    # A camera's height of a thing on a table has noise; the policy was trained with none, and has never seen another height.
    inside: Array = np.clip(inputs.state.object_position, *inputs.object_bounds)
    return inside


@dataclass(frozen=True)
class JointTerm:
    """A term that may be of joints by name, passive ones too: `of` their positions and velocities ``(2, k)``."""

    unit: str
    of: Callable[[Array], Array]

    @property
    def of_motors(self) -> TermDefinition:
        """The same term of the joints with a motor."""
        return TermDefinition(self.unit, "joints", lambda i: self.of(i.state.motion))


SPEED_CLIP = 10.0
"""Bound of `joint_velocity_clipped`, rad/s or m/s: Gymnasium's own, for its hopper and its walker."""

JOINT_TERMS = {
    "joint_position": JointTerm("rad", lambda motion: motion[0]),
    "joint_velocity": JointTerm("rad/s", lambda motion: motion[1]),
    "joint_velocity_clipped": JointTerm("rad/s", lambda motion: np.clip(motion[1], -SPEED_CLIP, SPEED_CLIP)),
    "joint_cosine": JointTerm("1", lambda motion: np.cos(motion[0])),
    "joint_sine": JointTerm("1", lambda motion: np.sin(motion[0])),
}
WITH_SLIDES = {"rad": "rad or m", "rad/s": "rad/s or m/s", "1": "1"}
"""Unit of a joint term -> its unit where joints are named: some may be slides."""

TERMS: dict[str, TermDefinition] = {
    **{name: term.of_motors for name, term in JOINT_TERMS.items()},
    "last_effort": TermDefinition("N*m", "joints", lambda i: i.last_effort),
    "previous_effort": TermDefinition("N*m", "joints", lambda i: i.previous_effort),
    "command": TermDefinition("command", "command", lambda i: i.command),
    "command_xy": TermDefinition("m", 2, lambda i: i.command[:2]),
    "overshoot_xy": TermDefinition("m", 2, lambda i: i.chain.tip[:2] - i.command[:2], needs_chain=True),
    "hand_position": TermDefinition("m", 3, lambda i: i.chain.tip, needs_chain=True),
    "hand_velocity": TermDefinition("m/s", 3, _hand_velocity, needs_chain=True),
    "target_error": TermDefinition("m", 3, _target_error, needs_chain=True),
    "target_error_joints": TermDefinition("m^2/rad", "joints", _target_error_joints, needs_chain=True),
    "target_direction_joints": TermDefinition("m/rad", "joints", _target_direction_joints, needs_chain=True),
    "projected_gravity": TermDefinition("1", 3, _projected_gravity, needs_base=True),
    "base_angular_velocity": TermDefinition("rad/s", 3, lambda i: i.state.angular_velocity, needs_base=True),
    "base_height": TermDefinition("m", 1, lambda i: i.state.base_position[2:], needs="base_position"),
    "base_position": TermDefinition("m", 3, lambda i: i.state.base_position, needs="base_position"),
    "base_orientation": TermDefinition("1", 4, lambda i: i.state.base_orientation_wxyz, needs="base_orientation_wxyz"),
    "base_velocity": TermDefinition("m/s", 3, lambda i: i.state.base_velocity, needs="base_velocity"),
    "object_position": TermDefinition("m", 3, _object_position, needs="object_position"),
    "gait_clock": TermDefinition("1", 2, _gait_clock),
}


def observation_spec(names: tuple[str, ...], robot: RobotSpec, command: CommandSpec) -> ObservationSpec:
    """The spec of the named terms for this robot and command, sizes and units from `TERMS`.

    Raises:
        ObservationError: a name is no term.
    """
    return ObservationSpec(tuple(_term_spec(name, robot, command) for name in names))


def joint_term(name: str, joints: tuple[str, ...]) -> TermSpec:
    """The spec of a term of `JOINT_TERMS`, of named joints."""
    return TermSpec(name, len(joints), WITH_SLIDES[JOINT_TERMS[name].unit], joints)


def _expected(term: TermSpec, robot: RobotSpec, command: CommandSpec) -> TermSpec:
    """What this code computes under the name of a term.

    Raises:
        ObservationError: no such term, or it is not of joints, or the robot does not have them.
    """
    if not term.joints:
        return _term_spec(term.name, robot, command)
    if term.name not in JOINT_TERMS:
        raise ObservationError(mismatch("observation term of named joints", repr(term.name), "one", JOINT_TERMS))
    unknown = [joint for joint in term.joints if joint not in robot.measured_joints]
    if unknown:
        found = f"joints {', '.join(unknown)}"
        raise ObservationError(mismatch(f"term '{term.name}'", found, "the robot's joints", robot.measured_joints))
    return joint_term(term.name, term.joints)


def _term_spec(name: str, robot: RobotSpec, command: CommandSpec) -> TermSpec:
    definition = TERMS.get(name)
    if definition is None:
        raise ObservationError(mismatch("observation term", repr(name), "a known term", TERMS))
    sizes = {"joints": robot.n_joints, "command": command.size}
    size = definition.size if isinstance(definition.size, int) else sizes[definition.size]
    return TermSpec(name, size, command.unit if name == "command" else definition.unit)


def _of_joints(term: TermSpec, robot: RobotSpec) -> Callable[[Inputs], Array]:
    where = np.array([robot.measured_joints.index(joint) for joint in term.joints])
    of = JOINT_TERMS[term.name].of
    return lambda inputs: of(inputs.state.measured[:, where])


class ObservationBuilder:
    """Fills the terms of one policy from state, command and last effort.

    Attributes:
        terms: name -> float32 ``(1, size)``, the same buffers at every call (bind them once, read them every tick).

    Raises:
        ObservationError: a term is unknown, has another size or unit than this code computes, or needs what the robot
            does not have.
    """

    def __init__(self, robot: RobotSpec, observation: ObservationSpec, command: CommandSpec) -> None:
        for term in observation.terms:
            expected = _expected(term, robot, command)
            if term != expected:
                found = f"{term.size} x {term.unit}"
                raise ObservationError(mismatch(f"term '{term.name}'", found, f"{expected.size} x {expected.unit}"))
            if TERMS[term.name].needs_base and not robot.floating_base:
                raise ObservationError(mismatch(f"term '{term.name}' on '{robot.name}'", "a fixed base", "an IMU"))
            if (needs := TERMS[term.name].needs) and needs not in robot.more_state:
                raise ObservationError(
                    mismatch(f"term '{term.name}' on '{robot.name}'", f"no {needs} in its state", "one")
                )
        self._inputs = Inputs(robot, any(TERMS[term.name].needs_chain for term in observation.terms))
        # One flat buffer: the terms are views of it, in order, so the flat observation costs nothing.
        self._flat: Float32 = np.zeros(observation.size, np.float32)
        self.terms: dict[str, Float32] = {}
        self._fill: list[tuple[Float32, Callable[[Inputs], Array | Float32]]] = []
        start = 0
        for term in observation.terms:
            view = self._flat[start : start + term.size]
            self.terms[term.name] = view[None, :]
            # First of all comes what `last_effort` still says of the run before.
            place = 0 if term.name == "previous_effort" else len(self._fill)
            self._fill.insert(place, (view, _of_joints(term, robot) if term.joints else TERMS[term.name].compute))
            start += term.size
        if "previous_effort" in self.terms:
            if "last_effort" not in self.terms:
                raise ObservationError(mismatch("terms", "'previous_effort' alone", "'last_effort' beside it"))
            self._inputs.previous_effort = self.terms["last_effort"][0]

    def build(self, state: RobotState, command: Command, last_effort: Array) -> dict[str, Float32]:
        """Computes all terms.

        Args:
            state: newest state, joints in the spec's order.
            command: newest command.
            last_effort: the effort applied when the policy last ran ``(n,)``, N·m.

        Returns:
            `terms`, refilled.
        """
        inputs = self._inputs
        inputs.state, inputs.command, inputs.last_effort = state, command.values, last_effort
        if inputs.kinematics is not None:
            inputs.kinematics.update(state.position)
        for view, compute in self._fill:
            view[:] = compute(inputs)
        return self.terms

    def forget(self) -> None:
        """Begins an episode: nothing was applied before."""
        if "last_effort" in self.terms:
            self.terms["last_effort"].fill(0.0)

    def flat(self) -> Float32:
        """The terms of the last `build` end to end, float32 ``(size,)``; a view that the next `build` overwrites."""
        return self._flat

    @property
    def tip(self) -> Array:
        """Tip position of the last `build` ``(3,)``, m (robots with a chain)."""
        return self._inputs.chain.tip
