"""Gains, home and targets for an arm that nobody has tuned, from its inertias and its reach."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from ddpg_robot.kinematics import ChainKinematics
from ddpg_robot_sim.robot_model import Tip

SAMPLES = 200
TARGET_RANGE = 0.35
"""Mode pd: farthest joint target of an arm that does not carry its weight, rad."""
QUICK = 12.0
"""Highest natural frequency of a joint under its gains, rad/s: slow beside ticks of 4 ms."""
DAMPING_RATIO = 0.6
STIFFEST_DAMPING = 75.0
"""Largest damping over the smallest inertia, 1/s: 0.3 of what would stop the joint within a tick of 4 ms."""
ASSUMED_ARMATURE, LEAST_ARMATURE = 0.1, 0.01
"""Inertia of the rotor of a joint whose model has none: a share of what the joint moves, and kg m^2 at least."""
SETTLED = 0.8
"""Speed at which a joint settles on its way to the farthest target, a share of its velocity limit."""
SHRINK = 0.85
REACHED = 0.005
"""How near an inverse kinematics has to come, m."""


@dataclass(frozen=True)
class Dynamics:
    """What a joint moves, over poses within the limits."""

    lightest: np.ndarray
    """Smallest inertia about each joint while the others are free ``(n,)``, kg m^2: what a damping must not overcome."""
    typical: np.ndarray
    """Median of the inertia about each joint while the others stand ``(n,)``, kg m^2."""
    heaviest: np.ndarray
    """Its largest ``(n,)``, kg m^2."""
    gravity: np.ndarray
    """Largest torque that gravity exerts ``(n,)``, N·m."""


def measure(model: mujoco.MjModel, tip: Tip, limits: np.ndarray) -> Dynamics:
    """Inertias and torques of gravity at random poses.

    Args:
        model: as it is in its file.
        tip: its chain.
        limits: effort, velocity, lower, upper ``(4, n)``.
    """
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    joints = list(tip.joints)
    dofs, columns = model.jnt_dofadr[joints], np.zeros((len(joints), model.nv))
    inertia, free, gravity = (np.empty((SAMPLES, len(joints))) for _ in range(3))
    unit = np.zeros_like(columns)
    unit[np.arange(len(joints)), dofs] = 1.0
    own = np.arange(len(joints)), dofs
    for k in range(SAMPLES):
        data.qpos[model.jnt_qposadr[joints]] = rng.uniform(limits[2], limits[3])
        mujoco.mj_forward(model, data)
        gravity[k] = np.abs(data.qfrc_bias[dofs])  # at rest
        for column, one in zip(columns, unit):
            mujoco.mj_mulM(model, data, column, one)
        inertia[k] = columns[own]
        mujoco.mj_solveM(model, data, columns, unit)
        free[k] = 1 / columns[own]
    return Dynamics(free.min(axis=0), np.median(inertia, axis=0), inertia.max(axis=0), gravity.max(axis=0))


def armature_of(model: mujoco.MjModel, tip: Tip, dynamics: Dynamics) -> tuple[np.ndarray, np.ndarray]:
    """Inertia of each joint's rotor ``(n,)``, kg m^2, the model's own or an assumed one, and which are assumed ``(n,)``.

    Without any, a light link is turned by nothing but itself, and no damping that acts once a tick could hold it.
    """
    own = model.dof_armature[model.jnt_dofadr[list(tip.joints)]].copy()
    assumed = np.maximum(ASSUMED_ARMATURE * dynamics.typical, LEAST_ARMATURE)
    return np.where(own == 0, assumed, own), own == 0


def gains(limits: np.ndarray, dynamics: Dynamics, gravity_compensated: bool) -> dict[str, np.ndarray]:
    """The columns of a task file that are about control, ``(n,)`` each.

    Mode pd: a full reversal takes at most 0.6 of the effort limit, no joint is quicker than `QUICK`, and it settles at
    `SETTLED`, well damped. Mode effort: about what such a joint target asks for. An arm that carries its own weight gets more
    of both.
    """
    effort, velocity = limits[:2]
    most_damping = STIFFEST_DAMPING * dynamics.lightest
    weight = np.zeros_like(effort) if gravity_compensated else dynamics.gravity
    kp = np.minimum(0.6 * effort / (2 * TARGET_RANGE), dynamics.typical * QUICK**2)
    slow = SETTLED * velocity / TARGET_RANGE
    kd = np.minimum(np.maximum(kp / slow, 2 * DAMPING_RATIO * np.sqrt(kp * dynamics.typical)), most_damping)
    kp = np.minimum(kp, kd * slow)
    return {
        "effort_rate_limit": 25 * effort,
        "trip_damping": np.minimum(0.25 * effort, most_damping),
        "kp": kp,
        "kd": kd,
        "target_range": np.minimum(TARGET_RANGE + 1.1 * weight / kp, 3.0),
        "effort_range": np.minimum((np.minimum(0.18 * effort, 20 * dynamics.typical) + 1.1 * weight) / effort, 1.0),
    }


def home_of(kinematics: ChainKinematics, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The pose ``(n,)`` from which the end effector moves best in all directions, near the middle of the joints' ranges.

    Of poses that are as good as their mirror image, the one before the base (x > 0), not behind it.
    """
    middle, half = (lower + upper) / 2, (upper - lower) / 2
    poses = np.random.default_rng(0).uniform(middle - 0.6 * half, middle + 0.6 * half, (1500, len(lower)))

    def dexterity(pose: np.ndarray) -> float:
        kinematics.update(pose)
        return float(np.sqrt(max(np.linalg.det(kinematics.jacobian.T @ kinematics.jacobian), 0.0)))

    found, before = np.empty(len(poses)), np.empty(len(poses))
    for k, pose in enumerate(poses):
        found[k] = dexterity(pose)
        before[k] = kinematics.tip[0] > 0
    away = np.mean(((poses - middle) / half) ** 2, axis=1)
    home = poses[np.argmax(found / max(found.max(), 1e-12) - away + 0.2 * before)].copy()
    for i in range(len(home)):  # joints that it does not matter to, a waist or a flange, are in the middle
        tried = home.copy()
        tried[i] = middle[i]
        if dexterity(tried) > 0.97 * dexterity(home):
            home = tried
    return np.asarray(home)


def target_box(
    kinematics: ChainKinematics, tips: np.ndarray, home: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A box of targets ``(3,)`` each, m: around where random poses have the end effector, drawn together until all is reached.

    Args:
        kinematics: of the arm.
        tips: positions of the end effector at random poses around home ``(k, 3)``, m.
        home: that pose ``(n,)``, rad.
        lower: limits ``(n,)``, rad.
        upper: limits ``(n,)``, rad.
    """
    kinematics.update(home)
    centre, rng = kinematics.tip.copy(), np.random.default_rng(0)
    low, high = np.percentile(tips, 15, axis=0), np.percentile(tips, 85, axis=0)
    low, high = np.minimum(low, centre - 0.02), np.maximum(high, centre + 0.02)
    if centre[2] > 0.1:
        low[2] = max(low[2], 0.05)  # most arms stand on something
    corners = np.array([[k & 1, k >> 1 & 1, k >> 2 & 1] for k in range(8)], dtype=float)
    for _ in range(12):
        shares = np.concatenate([corners, rng.random((12, 3))])
        if all(_reaches(kinematics, low + share * (high - low), home, lower, upper) for share in shares):
            break
        low, high = centre + SHRINK * (low - centre), centre + SHRINK * (high - centre)
    return low, high


def _reaches(
    kinematics: ChainKinematics, target: np.ndarray, home: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> bool:
    """Damped least squares from home, within the joint limits."""
    pose = home.copy()
    for _ in range(300):
        kinematics.update(pose)
        error, jacobian = target - kinematics.tip, kinematics.jacobian
        if error @ error < REACHED**2:
            return True
        step = jacobian @ np.linalg.solve(jacobian.T @ jacobian + 1e-3 * np.eye(3), error)
        pose = np.clip(pose + 0.3 * step, lower, upper)
    return False
