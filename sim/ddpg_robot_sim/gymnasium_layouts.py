"""What Gymnasium's MuJoCo tasks make their observations of, in terms that a robot can measure: one layout for each way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from ddpg_robot.observation import joint_term, observation_spec
from ddpg_robot.spec import (
    UNBOUNDED,
    CommandSpec,
    JointSpec,
    KinematicChain,
    ObjectSpec,
    RobotSpec,
    TermSpec,
)
from ddpg_robot_sim.chain import chain_of

TRIP_DAMPING = 0.2
"""Of a joint after a trip, in parts of its inertia per control period: well below 2, where a sampled damping would shake."""
LARGEST_DAMPING = 0.1
"""The same in parts of its effort limit per rad/s."""
NO_COMMAND = CommandSpec("none", "", 0, "", (), ())
MOVES = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
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


def joint_spec(model: mujoco.MjModel, joint: int, effort_limit: float, period: float) -> JointSpec:
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
    chain = chain_of(model, joints, bodies["fingertip"], np.zeros(3), "fingertip")
    robot = RobotSpec("arm", tuple(joint_spec(model, j, 1.0, 1.0) for j in joints), False, False, chain)
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
    chain = chain_of(model, joints, bodies["tips_arm"], np.zeros(3), "tips_arm")
    robot = RobotSpec("arm", tuple(joint_spec(model, j, 1.0, 1.0) for j in joints), False, False, chain, object=thing)
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
