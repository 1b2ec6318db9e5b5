"""The kinematic chain of any MuJoCo model, for a policy's manifest."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from ddpg_robot.spec import ChainLink, KinematicChain


def chain_of(
    model: mujoco.MjModel, joints: Sequence[int], body: int, position: np.ndarray, frame: str
) -> KinematicChain:
    """The chain through joints to a point on a body, from the model with every joint at zero.

    Bodies without joints between them count.

    Args:
        model: whose world frame is that of the chain.
        joints: hinges, from the base on.
        body: that the point is on.
        position: of the point in the body's frame ``(3,)``, m.
        frame: what the point is called.
    """
    data = mujoco.MjData(model)
    data.qpos[:] = 0.0
    mujoco.mj_kinematics(model, data)
    links, origin, turn = [], np.zeros(3), np.eye(3)
    for joint in joints:
        here = data.xmat[model.jnt_bodyid[joint]].reshape(3, 3)
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
    point = data.xpos[body] + data.xmat[body].reshape(3, 3) @ position
    return KinematicChain(tuple(links), tuple((turn.T @ (point - origin)).tolist()), frame)
