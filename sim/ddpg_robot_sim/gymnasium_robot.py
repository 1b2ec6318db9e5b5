"""A Gymnasium MuJoCo task as a robot: its motors, its joints, and its observation in terms that a robot can measure.

Gymnasium gives a policy one plain vector. Each of `LAYOUTS` says of which terms such a vector may be made; the one that
gives the task's own observation on random states is the one, and a task for which none does is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.observation import ObservationBuilder, joint_term, observation_spec
from ddpg_robot.spec import (
    UNBOUNDED,
    ChainLink,
    CommandSpec,
    ControlSpec,
    JointSpec,
    KinematicChain,
    ObjectSpec,
    ObservationSpec,
    PolicyInterface,
    RobotSpec,
    TermSpec,
)
from ddpg_robot.state import Command, RobotState

SAMPLES = 64
"""Random states on which terms and observation are compared."""
TOLERANCE = 1e-6
"""Largest difference between them."""
TRIP_DAMPING = 0.2
"""Of a joint after a trip, in parts of its inertia per control period: well below 2, where a sampled damping would shake."""
LARGEST_DAMPING = 0.1
"""The same in parts of its effort limit per rad/s."""
NO_COMMAND = CommandSpec("none", "", 0, "", (), ())
MOVES = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
UNMEASURED = {
    "cinert": "inertias",
    "cvel": "velocities of every body",
    "qfrc_actuator": "torques of the motors",
    "cfrc_ext": "contact forces",
}
"""Part of an observation -> what it is."""
OPTION = "include_{}_in_observation"
"""A task's option to leave such a part out."""
PLANE = 0.1
"""Reacher's targets lie in a plane: what is said of their height does not matter, within this bound, m."""


@dataclass(frozen=True)
class Layout:
    """Terms that a plain observation may be made of, and what else a robot needs for them."""

    terms: tuple[TermSpec, ...]
    passive_joints: tuple[str, ...] = ()
    command: CommandSpec = NO_COMMAND
    target_joints: tuple[str, ...] = ()
    """Slides of the model that put its target where the command says: x, y."""
    chain: KinematicChain | None = None
    object: ObjectSpec | None = None
    object_joints: tuple[str, ...] = ()
    """Slides of the model on which its object moves: x, y."""
    still_joints: tuple[str, ...] = ()
    """Joints of the model that stand where they stand: those of a goal that is always the same."""
    odometry: bool = False
    """The base is free: the model's first joint."""


@dataclass(frozen=True)
class GymnasiumRobot:
    """What `Task.describe` asks of a robot."""

    interface: PolicyInterface
    action_scaling: tuple[np.ndarray, np.ndarray]
    """Offset and scale from the task's own action, MuJoCo's ctrl, to torque ``(n,)``, N·m: zero, and the gears."""
    layout: Layout


def robot_of(env: gymnasium.Env) -> Any:
    """The robot of a task: itself, where it is one of this package's, or that of a Gymnasium MuJoCo task.

    Raises:
        ConfigError: it is not one that can be built: another simulator, other motors, or an observation that no robot has.
    """
    task = env.unwrapped
    if hasattr(task, "interface") and hasattr(task, "action_scaling"):
        return task
    name = task.spec.id if task.spec is not None else type(task).__name__
    model = getattr(task, "model", None)
    if not isinstance(model, mujoco.MjModel) or not hasattr(task, "frame_skip"):
        raise ConfigError(mismatch(f"task '{name}'", "no MuJoCo model", "a robot, or a Gymnasium MuJoCo task"))
    joints = _motors(model, name)
    period = float(model.opt.timestep) * task.frame_skip
    control = ControlSpec(period=period, mode="effort", ticks_per_action=1)
    gear = model.actuator_gear[:, 0].copy()
    for layout in layouts(task, joints):
        robot = RobotSpec(
            name=Path(task.fullpath).stem,
            joints=tuple(
                _joint(model, j, gear[i] * model.actuator_ctrlrange[i, 1], period) for i, j in enumerate(joints)
            ),
            gravity_compensated=False,
            floating_base=layout.odometry,
            chain=layout.chain,
            passive_joints=layout.passive_joints,
            object=layout.object,
            odometry=layout.odometry,
        )
        interface = PolicyInterface(robot, control, ObservationSpec(layout.terms), layout.command)
        found = GymnasiumRobot(interface, (np.zeros(len(gear)), gear), layout)
        if difference(task, found) <= TOLERANCE:
            return found
    raise ConfigError(_refusal(task, name))


def measurable(task_class: Callable[..., Any]) -> dict[str, bool]:
    """The keyword arguments of a task that leave out what no robot measures."""
    known = inspect.signature(task_class).parameters
    return {option: False for option in map(OPTION.format, UNMEASURED) if option in known}


def layouts(task: Any, joints: list[int]) -> Iterator[Layout]:
    """The layouts whose size is that of the task's observation."""
    size = int(np.prod(task.observation_space.shape))
    for kind in LAYOUTS:
        layout = kind(task, joints)
        if layout is not None and sum(term.size for term in layout.terms) == size:
            yield layout


def difference(task: Any, robot: GymnasiumRobot, samples: int = SAMPLES) -> float:
    """Largest difference between the terms and the task's own observation on random states, as a robot would measure them.

    Leaves the task in one of those states: reset it.
    """
    rng = np.random.default_rng(0)
    model, interface = task.model, robot.interface
    builder = ObservationBuilder(interface.robot, interface.observation, interface.command)
    state, command, worst = RobotState.of(interface.robot), Command(interface.command.size), 0.0
    still = [model.joint(name).qposadr[0] for name in robot.layout.still_joints]
    for _ in range(samples):
        qpos = model.qpos0 + rng.uniform(-1.0, 1.0, model.nq)
        qpos[still] = model.qpos0[still]
        mujoco.mj_normalizeQuat(model, qpos)
        task.set_state(qpos, rng.uniform(-15.0, 15.0, model.nv))
        read_state(model, task.data, interface.robot, state)
        command_of(model, task.data, robot.layout, command)
        builder.build(state, command, np.zeros(interface.robot.n_joints))
        observation = np.asarray(task._get_obs(), np.float32)
        worst = max(worst, float(np.abs(builder.flat() - observation).max()))
    return worst


def read_state(model: mujoco.MjModel, data: mujoco.MjData, robot: RobotSpec, state: RobotState) -> None:
    """MjData -> state: what joint_states tells, how a free base moves, where the object is."""
    for i, name in enumerate(robot.measured_joints):
        joint = model.joint(name).id
        state.measured[0, i] = data.qpos[model.jnt_qposadr[joint]]
        state.measured[1, i] = data.qvel[model.jnt_dofadr[joint]]
    if robot.odometry:
        state.base_position[:], orientation = data.qpos[:3], data.qpos[3:7] / np.linalg.norm(data.qpos[3:7])
        state.base_orientation_wxyz[:] = state.orientation_wxyz[:] = orientation
        state.base_velocity[:], state.angular_velocity[:] = data.qvel[:3], data.qvel[3:6]
    if robot.object is not None:
        mujoco.mj_kinematics(model, data)  # a step leaves bodies where they were at its beginning
        state.object_position[:] = data.body("object").xpos


def command_of(model: mujoco.MjModel, data: mujoco.MjData, layout: Layout, command: Command) -> None:
    """MjData -> command: what an operator says, where there is something to say."""
    if layout.command.kind == "fixed":
        command.values[:] = layout.command.lower
    for axis, name in enumerate(layout.target_joints):
        command.values[axis] = data.qpos[model.jnt_qposadr[model.joint(name).id]]


def _joint_motion(task: Any, velocity: str) -> Layout | None:
    """Positions of all joints but the first few, velocities of all: HalfCheetah, Hopper, Walker2d, Swimmer."""
    model = task.model
    names = [model.joint(j).name for j in range(model.njnt)]
    skipped = model.nq + model.nv - int(np.prod(task.observation_space.shape))
    if not all(model.jnt_type[j] in MOVES for j in range(model.njnt)) or not 0 <= skipped < len(names):
        return None
    driven = {model.joint(j).name for j in model.actuator_trnid[:, 0]}
    passive = tuple(name for name in names if name not in driven)
    return Layout((joint_term("joint_position", tuple(names[skipped:])), joint_term(velocity, tuple(names))), passive)


def _planar_reach(task: Any, joints: list[int]) -> Layout | None:
    """Cosines and sines of an arm in a plane, its target, its velocities, and how far the tip is beyond the target: Reacher."""
    model = task.model
    bodies = {model.body(b).name: b for b in range(model.nbody)}
    if not {"fingertip", "target"} <= set(bodies):
        return None
    slides = _slides(model, bodies["target"])
    names = tuple(model.joint(j).name for j in joints)
    if len(slides) != 2:
        return None
    lower, upper = (tuple(float(model.joint(slide).range[side]) for slide in slides) for side in (0, 1))
    command = CommandSpec("point", "base", 3, "m", (*lower, -PLANE), (*upper, PLANE))
    chain = _chain(model, joints, bodies["fingertip"], "fingertip")
    robot = RobotSpec("arm", tuple(_joint(model, j, 1.0, 1.0) for j in joints), False, False, chain)
    plane = observation_spec(("command_xy", "joint_velocity", "overshoot_xy"), robot, command).terms
    terms = (joint_term("joint_cosine", names), joint_term("joint_sine", names), *plane)
    return Layout(terms, command=command, target_joints=slides, chain=chain)


def _free_base(task: Any, joints: list[int]) -> Layout | None:
    """Pose of a free base, with or without where it is on the ground, joints, velocities of both: Ant, and what is like it."""
    model = task.model
    kinds, size = model.jnt_type.tolist(), int(np.prod(task.observation_space.shape))
    skipped = model.nq + model.nv - size
    if kinds[0] != mujoco.mjtJoint.mjJNT_FREE or not set(kinds[1:]) <= set(MOVES) or skipped not in (0, 2):
        return None
    names = tuple(model.joint(j).name for j in range(1, model.njnt))
    driven = {model.joint(j).name for j in joints}
    passive = tuple(name for name in names if name not in driven)
    terms = (
        TermSpec("base_height", 1, "m") if skipped else TermSpec("base_position", 3, "m"),
        TermSpec("base_orientation", 4, "1"),
        joint_term("joint_position", names),
        TermSpec("base_velocity", 3, "m/s"),
        TermSpec("base_angular_velocity", 3, "rad/s"),
        joint_term("joint_velocity", names),
    )
    return Layout(terms, passive, odometry=True)


def _push(task: Any, joints: list[int]) -> Layout | None:
    """Positions and velocities of an arm, where its tip is, an object that slides on a table, and a goal: Pusher."""
    model = task.model
    bodies = {model.body(b).name: b for b in range(model.nbody)}
    if not {"tips_arm", "object", "goal"} <= set(bodies):
        return None
    slides, still = _slides(model, bodies["object"]), _slides(model, bodies["goal"])
    if len(slides) != 2 or not _always_the_same(task, "goal"):
        return None
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    at, goal = data.xpos[bodies["object"]], tuple(data.xpos[bodies["goal"]].tolist())
    ways = np.array([*(model.joint(slide).range for slide in slides), (0.0, 0.0)])  # (3, 2)
    thing = ObjectSpec("base", *(tuple((at + ways[:, side]).tolist()) for side in (0, 1)))
    command = CommandSpec("fixed", "base", 3, "m", goal, goal)
    chain = _chain(model, joints, bodies["tips_arm"], "tips_arm")
    robot = RobotSpec("arm", tuple(_joint(model, j, 1.0, 1.0) for j in joints), False, False, chain, object=thing)
    names = ("joint_position", "joint_velocity", "hand_position", "object_position", "command")
    terms = observation_spec(names, robot, command).terms
    return Layout(terms, (), command, chain=chain, object=thing, object_joints=slides, still_joints=still)


def _slides(model: mujoco.MjModel, body: int) -> tuple[str, ...]:
    """The joints of a body that slides along x and y, in this order; none for another."""
    joints = [model.joint(j) for j in range(model.njnt) if model.jnt_bodyid[j] == body]
    along = {tuple(joint.axis.tolist()): joint.name for joint in joints if joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE}
    x, y = along.get((1.0, 0.0, 0.0)), along.get((0.0, 1.0, 0.0))
    return (x, y) if x is not None and y is not None and len(joints) == 2 else ()


def _always_the_same(task: Any, body: str) -> bool:
    """Whether episodes begin with a body in one and the same place."""
    places = []
    for seed in (0, 1):
        task.reset(seed=seed)
        places.append(task.data.body(body).xpos.copy())
    return bool((places[0] == places[1]).all())


LAYOUTS: tuple[Callable[[Any, list[int]], Layout | None], ...] = (
    lambda task, joints: _joint_motion(task, "joint_velocity"),
    lambda task, joints: _joint_motion(task, "joint_velocity_clipped"),
    _planar_reach,
    _push,
    _free_base,
)
"""Ways in which Gymnasium's tasks make an observation of what a robot can measure; None where a model is none of the kind."""


def _motors(model: mujoco.MjModel, name: str) -> list[int]:
    """The joint of each actuator, every one a torque motor on a hinge."""
    joints: list[int] = model.actuator_trnid[:, 0].tolist()
    for i, joint in enumerate(joints):
        low, high = model.actuator_ctrlrange[i]
        on_joint = model.actuator_trntype[i] == mujoco.mjtTrn.mjTRN_JOINT
        is_motor = (
            model.actuator_biastype[i] == mujoco.mjtBias.mjBIAS_NONE
            and model.actuator_dyntype[i] == mujoco.mjtDyn.mjDYN_NONE
            and model.actuator_gaintype[i] == mujoco.mjtGain.mjGAIN_FIXED
            and model.actuator_gainprm[i, 0] == 1.0
        )
        limited = bool(model.actuator_ctrllimited[i]) and -low == high and model.actuator_gear[i, 0] > 0
        if not (on_joint and is_motor and limited and model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_HINGE):
            what = model.joint(joint).name if on_joint else model.actuator(i).name
            expected = "torque motors on hinges, with a positive gear and ctrlrange -x .. x"
            raise ConfigError(mismatch(f"actuators of task '{name}'", f"another at '{what}'", expected))
    if not joints:
        raise ConfigError(mismatch(f"actuators of task '{name}'", "none", "torque motors"))
    return joints


def _joint(model: mujoco.MjModel, joint: int, effort_limit: float, period: float) -> JointSpec:
    """A joint as the safety filter shall see it: nothing but its torque is bounded, as in the task where it was trained."""
    limit = float(effort_limit)
    return JointSpec(
        name=model.joint(joint).name,
        effort_limit=limit,
        velocity_limit=UNBOUNDED,
        position_lower=-UNBOUNDED,
        position_upper=UNBOUNDED,
        damping=min(float(TRIP_DAMPING * model.dof_M0[model.jnt_dofadr[joint]] / period), LARGEST_DAMPING * limit),
        effort_rate_limit=2 * limit / period,  # from one end to the other in one period
    )


def _chain(model: mujoco.MjModel, joints: list[int], tip: int, frame: str) -> KinematicChain:
    """The chain through joints to a body, from the model with every joint at zero; bodies without joints between them count."""
    data = mujoco.MjData(model)
    data.qpos[:] = 0.0
    mujoco.mj_kinematics(model, data)
    links, origin, turn = [], np.zeros(3), np.eye(3)
    for joint in joints:
        body = model.jnt_bodyid[joint]
        here = data.xmat[body].reshape(3, 3)
        quaternion = np.zeros(4)
        mujoco.mju_mat2Quat(quaternion, (turn.T @ here).ravel())
        links.append(
            ChainLink(
                joint=model.joint(joint).name,
                translation=tuple((turn.T @ (data.xanchor[joint] - origin)).tolist()),
                quaternion_wxyz=tuple(quaternion.tolist()),
                axis=tuple(model.jnt_axis[joint].tolist()),
            )
        )
        origin, turn = data.xanchor[joint].copy(), here.copy()
    return KinematicChain(tuple(links), tuple((turn.T @ (data.xpos[tip] - origin)).tolist()), frame)


def _refusal(task: Any, name: str) -> str:
    parts = dict(getattr(task, "observation_structure", {}))
    unknown = [key for key in UNMEASURED if parts.get(key)]
    options = " ".join(f"--task-option {OPTION.format(key)}=false" for key in unknown)
    hint = f"Train with {options}" if unknown else None
    size = int(np.prod(task.observation_space.shape))
    expected = "positions and velocities of hinges and slides, of a free base, or of an arm and its target or object"
    found = ", ".join(UNMEASURED[key] for key in unknown) + ", which no robot measures"
    return mismatch(
        f"observation of task '{name}'", found if unknown else f"{size} numbers of another kind", expected, hint=hint
    )
