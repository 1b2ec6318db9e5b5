"""What a robot is, how it is controlled and what its policy sees: frozen dataclasses; their JSON form is in `spec_json`.

All quantities are SI: rad, rad/s, N·m, m, s. Joint order is the order of `RobotSpec.joints`, everywhere.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ddpg_robot.errors import SpecError, mismatch

SCHEMA = "ddpg_robot.policy/1"

# A manifest can come from anywhere, and timeouts and buffers are made from its numbers: a period of 1e300 s would be a
# guard that never damps, 8,000 joints a safety filter of 12 GB.
MAX_JOINTS = 256
SHORTEST_PERIOD, LONGEST_PERIOD = 1e-4, 1.0
"""Bounds of the control period, and of a tick of the loop from below, s."""
SMALLEST, LARGEST = 1e-6, 1e6
"""Bounds of a joint's limits and gains, in their SI units."""
UNBOUNDED = LARGEST
"""A joint's velocity limit, and its position limits with either sign, where it has none: the safety filter never acts on it."""
LARGEST_EXPLORATION = 0.5
COMMAND_SIZES = {"point": 3, "fixed": 3, "velocity": 3, "none": 0}

Vector = tuple[float, ...]
Scalar = str | bool | int | float | None


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise SpecError(message)


@dataclass(frozen=True)
class JointSpec:
    """One actuated joint and the limits its maker states."""

    name: str
    effort_limit: float
    """Largest torque, N·m."""
    velocity_limit: float
    """Largest speed, rad/s; `UNBOUNDED` for none."""
    position_lower: float
    """Lower end stop, rad; minus `UNBOUNDED` for none."""
    position_upper: float
    """Upper end stop, rad; `UNBOUNDED` for none."""
    damping: float
    """Gain of the damping torque ``-damping * velocity`` that stops the joint after a trip, N·m·s/rad."""
    effort_rate_limit: float
    """Largest change of torque, N·m/s."""

    def __post_init__(self) -> None:
        for field in ("effort_limit", "velocity_limit", "damping", "effort_rate_limit"):
            value = getattr(self, field)
            expected = f"a positive number, {SMALLEST:g} to {LARGEST:g}"
            _require(SMALLEST <= value <= LARGEST, mismatch(f"joint '{self.name}' {field}", value, expected))
        lower, upper = self.position_lower, self.position_upper
        _require(
            -LARGEST <= lower < upper <= LARGEST and upper - lower >= SMALLEST,
            mismatch(f"joint '{self.name}' limits", f"{lower} .. {upper}", f"lower < upper, within {LARGEST:g}"),
        )


@dataclass(frozen=True)
class ChainLink:
    """The fixed transform from the previous joint's frame to this joint's frame, and the joint's axis."""

    joint: str
    translation: Vector
    """m, in the previous joint's frame."""
    quaternion_wxyz: Vector
    """Unit quaternion, rotates this frame into the previous one."""
    axis: Vector
    """Unit vector in this joint's frame."""

    def __post_init__(self) -> None:
        for field, size in (("translation", 3), ("quaternion_wxyz", 4), ("axis", 3)):
            value = getattr(self, field)
            _require(len(value) == size, mismatch(f"chain link '{self.joint}' {field}", len(value), f"{size} numbers"))
        for field in ("quaternion_wxyz", "axis"):
            norm = math.sqrt(sum(x * x for x in getattr(self, field)))
            _require(abs(norm - 1) < 1e-6, mismatch(f"chain link '{self.joint}' norm of {field}", norm, 1.0))


@dataclass(frozen=True)
class KinematicChain:
    """A serial chain from the base frame through revolute joints to a tip."""

    links: tuple[ChainLink, ...]
    tip_translation: Vector
    """Tip in the last joint's frame, m."""
    tip_frame: str

    def __post_init__(self) -> None:
        _require(len(self.tip_translation) == 3, mismatch("tip_translation", len(self.tip_translation), "3 numbers"))


@dataclass(frozen=True)
class ObjectSpec:
    """A thing in the robot's reach, of which something says where it is: a camera."""

    frame: str
    """In which it is said."""
    lower: Vector
    """Where it can be, m. A policy sees it there and nowhere else: on a table, at the height that it was trained with."""
    upper: Vector

    def __post_init__(self) -> None:
        for field in ("lower", "upper"):
            _require(
                len(getattr(self, field)) == 3, mismatch(f"object {field}", len(getattr(self, field)), "3 numbers")
            )
        inside = all(low <= high for low, high in zip(self.lower, self.upper))
        _require(inside, mismatch("object bounds", f"{self.lower} .. {self.upper}", "lower <= upper"))


@dataclass(frozen=True)
class RobotSpec:
    """The robot: its joints in order, their limits, and its kinematic chain where an observation term needs it."""

    name: str
    joints: tuple[JointSpec, ...]
    gravity_compensated: bool
    """True when the robot's own firmware adds the torque that holds it against gravity."""
    floating_base: bool
    """True for a robot whose base moves freely: it has an IMU."""
    chain: KinematicChain | None = None
    passive_joints: tuple[str, ...] = ()
    """Joints without a motor that joint_states tells of all the same: the slides and the hinge of a planar walker's base."""
    object: ObjectSpec | None = None
    """What the policy handles, where it sees that."""
    odometry: bool = False
    """True for a floating base whose pose and velocity a state estimator tells, on the topic ``odom``."""

    def __post_init__(self) -> None:
        names = list(self.measured_joints)
        expected = f"1 to {MAX_JOINTS}"
        _require(1 <= len(self.joints), mismatch(f"robot '{self.name}' joints", 0, expected))
        _require(len(names) <= MAX_JOINTS, mismatch(f"robot '{self.name}' joints", len(names), expected))
        _require(len(set(names)) == len(names), mismatch(f"robot '{self.name}' joints", names, "unique names"))
        found = "odometry and a fixed base"
        _require(self.floating_base or not self.odometry, mismatch(f"robot '{self.name}'", found, "a floating base"))
        if self.chain is not None:
            chained, driven = [link.joint for link in self.chain.links], list(self.joint_names)
            _require(chained == driven, mismatch(f"robot '{self.name}' chain joints", chained, driven))

    @cached_property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(joint.name for joint in self.joints)

    @cached_property
    def measured_joints(self) -> tuple[str, ...]:
        """Joints that joint_states tells of: those with a motor, then those without."""
        return (*self.joint_names, *self.passive_joints)

    @cached_property
    def more_state(self) -> dict[str, tuple[int, str]]:
        """What its state has beside joints and IMU: attribute of `RobotState` -> size and unit."""
        base = {"base_position": (3, "m"), "base_orientation_wxyz": (4, "1"), "base_velocity": (3, "m/s")}
        return {
            **(base if self.odometry else {}),
            **({"object_position": (3, "m")} if self.object is not None else {}),
        }

    @property
    def n_joints(self) -> int:
        return len(self.joints)

    @property
    def of_joints(self) -> RobotSpec:
        """The same robot without what it has beside joints and IMU."""
        return dataclasses.replace(self, object=None, odometry=False)


@dataclass(frozen=True)
class ControlSpec:
    """How the policy's output becomes torque, and when."""

    period: float
    """Time between two runs of the policy, s."""
    mode: Literal["effort", "pd"]
    """``effort``: the output is torque. ``pd``: the output is a joint target, turned into torque every tick."""
    ticks_per_action: int
    """Ticks of control law and safety filter per run of the policy, in training and by default on the robot."""
    kp: Vector | None = None
    """Stiffness per joint, N·m/rad (mode ``pd``)."""
    kd: Vector | None = None
    """Damping per joint, N·m·s/rad (mode ``pd``)."""

    def __post_init__(self) -> None:
        expected = f"{SHORTEST_PERIOD:g} to {LONGEST_PERIOD:g} s"
        _require(SHORTEST_PERIOD <= self.period <= LONGEST_PERIOD, mismatch("control period", self.period, expected))
        _require(self.mode in ("effort", "pd"), mismatch("control mode", self.mode, "a mode", ("effort", "pd")))
        _require(self.ticks_per_action >= 1, mismatch("ticks_per_action", self.ticks_per_action, "at least 1"))
        _require(
            self.loop_period >= SHORTEST_PERIOD * (1 - 1e-9),
            mismatch("ticks_per_action", self.ticks_per_action, f"ticks of at least {SHORTEST_PERIOD:g} s"),
        )
        given = [name for name in ("kp", "kd") if getattr(self, name) is not None]
        wanted = ["kp", "kd"] if self.mode == "pd" else []
        _require(given == wanted, mismatch(f"gains of mode {self.mode}", given, f"{wanted}: kp and kd belong to pd"))
        for gain in (*(self.kp or ()), *(self.kd or ())):
            _require(0 <= gain <= LARGEST, mismatch("control gain", gain, f"0 to {LARGEST:g}"))

    @property
    def loop_period(self) -> float:
        """Time between two ticks of control law and safety filter, s."""
        return self.period / self.ticks_per_action


@dataclass(frozen=True)
class TermSpec:
    """One named observation term: an input of the policy graph, float32 ``(batch, size)``."""

    name: str
    size: int
    unit: str
    joints: tuple[str, ...] = ()
    """Of which joints, in this order, passive ones among them; none named: of those with a motor."""


@dataclass(frozen=True)
class ObservationSpec:
    """The terms in the order in which the network sees them."""

    terms: tuple[TermSpec, ...]

    def __post_init__(self) -> None:
        names = [term.name for term in self.terms]
        _require(len(names) > 0, mismatch("observation terms", "none", "at least one"))
        _require(len(set(names)) == len(names), mismatch("observation terms", names, "unique names"))
        for term in self.terms:
            _require(term.size >= 1, mismatch(f"observation term '{term.name}' size", term.size, "at least 1"))

    @property
    def size(self) -> int:
        return sum(term.size for term in self.terms)


@dataclass(frozen=True)
class CommandSpec:
    """What the operator asks for: a point to reach, a velocity to walk at, or nothing."""

    kind: str
    """``point`` (geometry_msgs/PointStamped), ``velocity`` (geometry_msgs/Twist), ``fixed``: the one point that both bounds are,
    which nobody need say, or ``none``: the policy has one task."""
    frame: str
    size: int
    unit: str
    lower: Vector
    upper: Vector

    def __post_init__(self) -> None:
        _require(self.kind in COMMAND_SIZES, mismatch("command kind", repr(self.kind), "a kind", COMMAND_SIZES))
        _require(self.size == COMMAND_SIZES[self.kind], mismatch("command size", self.size, COMMAND_SIZES[self.kind]))
        for field in ("lower", "upper"):
            bound = getattr(self, field)
            _require(len(bound) == self.size, mismatch(f"command bound {field}", len(bound), f"{self.size} numbers"))
        if self.kind == "fixed":
            _require(self.lower == self.upper, mismatch("command bounds", f"{self.lower} .. {self.upper}", "one point"))
            return
        _require(
            all(low <= high for low, high in zip(self.lower, self.upper))
            and (self.lower != self.upper or not self.size),
            mismatch("command bounds", f"{self.lower} .. {self.upper}", "lower <= upper, and a choice somewhere"),
        )

    @property
    def is_given(self) -> bool:
        """Nobody is asked for anything: a robot with this policy begins by itself."""
        return self.kind in ("fixed", "none")


@dataclass(frozen=True)
class PolicyInterface:
    """All that a task and a policy must agree on."""

    robot: RobotSpec
    control: ControlSpec
    observation: ObservationSpec
    command: CommandSpec

    def __post_init__(self) -> None:
        for field in ("kp", "kd"):
            gains = getattr(self.control, field)
            expected = self.robot.n_joints
            _require(
                gains is None or len(gains) == expected,
                mismatch(f"control {field}", f"{len(gains or ())} gains", f"{expected}, one per joint"),
            )


@dataclass(frozen=True)
class TrainingRecord:
    """Where a policy comes from."""

    task: str
    task_hash: str
    algorithm: str
    preset: str
    config_hash: str
    seed: int
    steps: int
    evaluation: dict[str, Scalar]
    """Episodes, return mean and std, success rate, as `evaluate` measured them."""
    code_version: str
    robot_file: dict[str, Scalar] | None = None
    """What the task file of a robot of one's own said, keys joined by dots; None for a shipped robot. For people to read:
    nobody opens the model that it names."""


@dataclass(frozen=True)
class ParityRecord:
    """How closely the exported graph follows the trained actor."""

    samples: int
    max_abs_error: float
    """Largest difference, as a fraction of each joint's effort limit (``effort``) or position range (``pd``)."""


@dataclass(frozen=True)
class PolicyManifest:
    """The JSON that travels inside the policy file, under the metadata key ``ddpg_robot.manifest``."""

    schema: str
    name: str
    created: str
    robot: RobotSpec
    control: ControlSpec
    observation: ObservationSpec
    command: CommandSpec
    training: TrainingRecord
    parity: ParityRecord
    weights_sha256: str
    exploration_limit: float = 0.0
    """Online learning: largest exploration torque of a joint, as a share of its effort limit; 0: it may not explore."""

    def __post_init__(self) -> None:
        _require(self.schema == SCHEMA, mismatch("policy schema", repr(self.schema), repr(SCHEMA)))
        expected = f"0 to {LARGEST_EXPLORATION:g}"
        _require(
            0 <= self.exploration_limit <= LARGEST_EXPLORATION,
            mismatch("exploration_limit", self.exploration_limit, expected),
        )

    @cached_property
    def interface(self) -> PolicyInterface:
        return PolicyInterface(self.robot, self.control, self.observation, self.command)
