"""Computed torque with full knowledge of the robot: what a controller can do that knows masses, friction and the true state.

The reference that policies are measured against, and a teacher for them. No robot could run it: it reads the simulator.
"""

from __future__ import annotations

import mujoco
import numpy as np

from ddpg_robot.state import Array

STIFFNESS = 36.0
"""Acceleration of the hand per distance, 1/s^2: 6 rad/s, critically damped, which bears the delays of a slow bus."""
DAMPING = 12.0
"""1/s."""
SPEED = 0.5
"""Largest speed at which the hand is sent to its target, m/s: joints stay below the barrier of the safety filter."""
POSTURE = (9.0, 6.0)
"""Stiffness and damping, 1/s^2 and 1/s, with which what the hand leaves free is drawn to the home pose."""
REGULARIZATION = 1e-3
"""Of the inverse near singular poses, m^2."""
SLOW = 0.05
"""Speed from which friction is compensated wholly, rad/s."""


class ComputedTorque:
    """Operational-space computed torque for an arm of hinges with a motor each (Khatib 1987, posture in the null space).

    Args:
        model: of the arm as it is now: with the masses, friction and motors of its draw.
        data: its true state.
        site: number of the hand's site.
        home: pose for what the hand leaves free ``(n,)``, rad.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, site: int, home: Array) -> None:
        self._model, self._data, self._site, self._home = model, data, site, home
        joints = model.actuator_trnid[:, 0]
        self._qpos, self._dofs = model.jnt_qposadr[joints], model.jnt_dofadr[joints]
        self._scratch = mujoco.MjData(model)

    def effort(self, target: Array) -> Array:
        """Torque ``(n,)``, N·m, to ask the motors for, so that the hand goes to the target ``(3,)``, m."""
        model, scratch, dofs = self._model, self._scratch, self._dofs
        scratch.qpos[:], scratch.qvel[:] = self._data.qpos, self._data.qvel
        mujoco.mj_fwdPosition(model, scratch)
        mujoco.mj_fwdVelocity(model, scratch)
        jacobian = np.zeros((3, model.nv))
        mujoco.mj_jacSite(model, scratch, jacobian, None, self._site)
        jacobian = jacobian[:, dofs]
        velocity = scratch.qvel[dofs]

        wanted = STIFFNESS / DAMPING * (target - scratch.site_xpos[self._site])  # m/s
        wanted *= min(1.0, SPEED / max(float(np.linalg.norm(wanted)), 1e-9))
        inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + REGULARIZATION * np.eye(3))
        posture = POSTURE[0] * (self._home - scratch.qpos[self._qpos]) - POSTURE[1] * velocity
        acceleration = inverse @ (DAMPING * (wanted - jacobian @ velocity) - jacobian @ posture) + posture

        inertia = np.zeros(model.nv)
        full = np.zeros(model.nv)
        full[dofs] = acceleration
        mujoco.mj_mulM(model, scratch, inertia, full)
        # Passive forces hold damping and the gravity that the firmware compensates; friction is a constraint in MuJoCo.
        effort = (inertia + scratch.qfrc_bias - scratch.qfrc_passive)[dofs]
        effort += model.dof_frictionloss[dofs] * np.clip(velocity / SLOW, -1.0, 1.0)
        strength: Array = model.actuator_gainprm[:, 0]
        return np.asarray(effort / strength, dtype=float)
