"""A robot of one's own as MuJoCo simulates it: its model, with the limits of its task file and torque motors."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

import mujoco
import numpy as np

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.spec import RobotSpec
from ddpg_robot_sim.chain import chain_of
from ddpg_robot_sim.hardware import PAYLOAD
from ddpg_robot_sim.robot_file import RobotFile, read_robot_file

TIP, TARGET = "ddpg_robot_tip", "ddpg_robot_target"
"""Site at the end effector, and body that shows the target: added to every model."""
LARGEST_MODEL = 16 * 1024 * 1024
"""Bytes of a model; meshes are files of their own."""
NUMERICS = ("velocity_limit", "effort_rate_limit", "trip_damping")
"""What MJCF has no field for and `Plant` looks for."""


class Tip(NamedTuple):
    """Where the end effector is, and which joints move it."""

    body: int
    position: np.ndarray
    """In the body's frame ``(3,)``, m."""
    joints: tuple[int, ...]
    """From the base to it."""


def model_kind(path: Path) -> str:
    """``mujoco`` or ``robot``: whether a file is MJCF or URDF.

    Raises:
        ConfigError: there is no such file, it is too large, or it is neither.
    """
    what, expected = f"model {path.name}", "an MJCF or URDF file"
    if not path.is_file():
        raise ConfigError(mismatch("model", f"nothing at {path}", expected))
    if path.stat().st_size > LARGEST_MODEL:
        raise ConfigError(mismatch(what, f"more than {LARGEST_MODEL:,} bytes", f"at most {LARGEST_MODEL:,}"))
    text = path.read_bytes()
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise ConfigError(mismatch(what, "a document type or entities", "none: they can grow without bounds"))
    try:
        root = ElementTree.fromstring(text).tag
    except (ElementTree.ParseError, ValueError) as error:
        raise ConfigError(mismatch(what, f"no XML ({error})", expected)) from None
    if root not in ("mujoco", "robot"):
        raise ConfigError(mismatch(what, f"an element {root[:40]!r}", expected, ("mujoco", "robot")))
    if root == "robot" and b"<xacro:" in text:
        hint = f"Expand it first: xacro {path.name} > robot.urdf"
        raise ConfigError(mismatch(what, "xacro", "a URDF file", hint=hint))
    return root


def open_model(path: Path) -> tuple[mujoco.MjSpec, mujoco.MjModel]:
    """A model to edit, and compiled as it is.

    Raises:
        ConfigError: MuJoCo cannot read or compile it; in MuJoCo's own words, and what to do.
    """
    model_kind(path)
    try:
        spec = mujoco.MjSpec.from_file(str(path))
        spec.compiler.fusestatic = False  # an end effector is often a link that does not move by itself
        return spec, spec.compile()
    except ValueError as error:
        found = " ".join(str(error).split("The static bodies")[0].split())
        hint = None
        if "mjMINVAL" in found:
            hint = "Every link that a joint moves needs an inertia: <inertial>, or geoms with mass"
        elif "opening file" in found:
            hint = "A mesh is missing: put it where the model says it is, beside the model"
        elif "repeated" in found:
            hint = "Two elements have one name: rename one"
        raise ConfigError(mismatch(f"model {path.name}", found, "a model that MuJoCo compiles", hint=hint)) from None


def find_tip(model: mujoco.MjModel, end_effector: str, where: str) -> Tip:
    """The end effector, a site or else a body, and its chain.

    Raises:
        ConfigError: there is no such site or body, or what moves it is no chain of hinges from a fixed base, which is all
            of the model that moves.
    """
    sites = [name for i in range(model.nsite) if (name := model.site(i).name)]
    bodies = [name for i in range(1, model.nbody) if (name := model.body(i).name)]
    if end_effector in sites:
        site = model.site(end_effector).id
        body, position = int(model.site_bodyid[site]), model.site_pos[site].copy()
    elif end_effector in bodies:
        body, position = model.body(end_effector).id, np.zeros(3)
    else:
        choices = [*(f"site {name}" for name in sites), *(f"body {name}" for name in bodies)]
        raise ConfigError(mismatch(f"end effector in {where}", repr(end_effector), "a site or body", choices))
    joints: list[int] = []
    above = body
    while above:
        first = int(model.body_jntadr[above])
        joints[:0] = range(first, first + int(model.body_jntnum[above])) if first >= 0 else ()
        above = int(model.body_parentid[above])
    _require_chain(model, joints, end_effector, where)
    return Tip(body, position, tuple(joints))


def _require_chain(model: mujoco.MjModel, joints: list[int], end_effector: str, where: str) -> None:
    kinds = {int(kind): kind.name.removeprefix("mjJNT_").lower() for kind in map(mujoco.mjtJoint, range(4))}

    def said(those: list[int]) -> str:
        return ", ".join(f"'{model.joint(j).name}' ({kinds[int(model.jnt_type[j])]})" for j in those)

    if free := [j for j in range(model.njnt) if model.jnt_type[j] == mujoco.mjtJoint.mjJNT_FREE]:
        hint = "Robots that walk need a task of their own: docs/walking.md"
        raise ConfigError(mismatch(f"base of {where}", f"a free joint, {said(free)}", "a fixed base", hint=hint))
    if not joints:
        found = f"none between the base and '{end_effector}'"
        raise ConfigError(mismatch(f"joints of {where}", found, "a chain of hinges", hint="Name what the joints move"))
    if other := [j for j in joints if model.jnt_type[j] != mujoco.mjtJoint.mjJNT_HINGE]:
        raise ConfigError(mismatch(f"joints of {where}", said(other), "hinges from the base to the end effector"))
    if beside := [j for j in range(model.njnt) if j not in joints]:
        hint = "Take a model without them (no gripper), or delete these joints, which welds their links"
        expected = f"one chain from the base to '{end_effector}' and nothing beside it that moves"
        raise ConfigError(mismatch(f"joints of {where}", f"also {said(beside)}", expected, hint=hint))
    if model.neq:
        expected = "none: each joint moves by itself"
        raise ConfigError(mismatch(f"equality constraints of {where}", f"{model.neq}", expected))
    if unnamed := [j for j in joints if not model.joint(j).name]:
        raise ConfigError(mismatch(f"joints of {where}", f"{len(unnamed)} without a name", "a name for each"))


def compile_robot(robot: RobotFile | Path) -> mujoco.MjModel:
    """The model with what its task file says: limits, torque motors, keyframe `home`, compensation of gravity.

    Raises:
        ConfigError: the model cannot be used, or its chain has other joints than the file.
    """
    file = robot if isinstance(robot, RobotFile) else read_robot_file(robot)
    path = Path(file.model)
    spec, plain = open_model(path)
    tip = find_tip(plain, file.end_effector, path.name)
    names = tuple(plain.joint(j).name for j in tip.joints)
    if names != file.joints.name:
        raise ConfigError(
            mismatch("joints.name", ", ".join(file.joints.name), f"{', '.join(names)}, as in {path.name}")
        )
    foreign = [*spec.keys, *spec.actuators, *spec.sensors, *(one for one in spec.numerics if one.name in NUMERICS)]
    for element in foreign:
        spec.delete(element)
    for body in spec.bodies:
        if body.id != 0:  # the world
            body.gravcomp = float(file.gravity_compensated)
    _add(spec, plain, tip, file)
    try:
        model = spec.compile()
    except ValueError as error:
        raise ConfigError(mismatch(f"model {path.name}", " ".join(str(error).split()), "one chain of motors")) from None
    joints = list(tip.joints)
    model.jnt_limited[joints] = True
    model.jnt_range[joints] = np.column_stack([file.joints.position_lower, file.joints.position_upper])
    model.jnt_actfrclimited[joints] = False
    model.opt.timestep = file.physics_step
    if not file.contacts:
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    return model


def _add(spec: mujoco.MjSpec, plain: mujoco.MjModel, tip: Tip, file: RobotFile) -> None:
    """Motors and their rotors, limits that MJCF has no field for, home, end effector, payload and target."""
    for name, limit, armature in zip(file.joints.name, file.joints.effort_limit, file.joints.armature):
        spec.joint(name).armature = armature
        spec.add_actuator(
            name=name,
            target=name,
            trntype=mujoco.mjtTrn.mjTRN_JOINT,
            dyntype=mujoco.mjtDyn.mjDYN_NONE,
            gaintype=mujoco.mjtGain.mjGAIN_FIXED,
            gainprm=[1.0] + 9 * [0.0],
            biastype=mujoco.mjtBias.mjBIAS_NONE,
            biasprm=10 * [0.0],
            gear=[1.0] + 5 * [0.0],
            ctrllimited=True,
            ctrlrange=[-limit, limit],
            forcelimited=False,
        )
    for key in NUMERICS:
        spec.add_numeric(name=key, data=list(getattr(file.joints, key)), size=len(file.joints.name))
    spec.add_key(name="home", qpos=list(file.joints.home))
    hand = next(body for body in spec.bodies if body.id == tip.body)  # it may have no name
    hand.add_site(name=TIP, pos=tip.position, size=[0.005, 0.005, 0.005])
    if PAYLOAD not in [body.name for body in spec.bodies]:
        hand.add_body(name=PAYLOAD, pos=tip.position, gravcomp=0.0)
    target = spec.worldbody.add_body(name=TARGET, mocap=True)
    radius = 0.02 * plain.stat.extent
    sphere = mujoco.mjtGeom.mjGEOM_SPHERE
    target.add_geom(type=sphere, size=[radius, 0, 0], rgba=[0.9, 0.25, 0.2, 0.85], contype=0, conaffinity=0, mass=0)


def robot_spec(file: RobotFile, model: mujoco.MjModel) -> RobotSpec:
    """The robot of a task file, for a policy's manifest.

    Args:
        file: its task file.
        model: of `compile_robot`.
    """
    tip = find_tip(model, file.end_effector, Path(file.model).name)
    chain = chain_of(model, tip.joints, tip.body, tip.position, file.end_effector)
    return RobotSpec(file.name, file.joint_specs(), file.gravity_compensated, floating_base=False, chain=chain)
