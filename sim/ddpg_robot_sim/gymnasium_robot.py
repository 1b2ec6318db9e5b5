"""A Gymnasium MuJoCo task as a robot: its motors, its joints, and its observation in terms that a robot can measure.

Gymnasium gives a policy one plain vector. Each of `LAYOUTS` says of which terms such a vector may be made; the one that
gives the task's own observation on random states is the one, and a task for which none does is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.observation import ObservationBuilder
from ddpg_robot.spec import (
    ControlSpec,
    ObservationSpec,
    PolicyInterface,
    RobotSpec,
)
from ddpg_robot.state import Command, RobotState
from ddpg_robot_sim.gymnasium_layouts import LAYOUTS, Layout, joint_spec
from ddpg_robot_sim.measurable import OPTION, UNMEASURED

SAMPLES = 64
"""Random states on which terms and observation are compared."""
TOLERANCE = 1e-6
"""Largest difference between them."""


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
                joint_spec(model, j, gear[i] * model.actuator_ctrlrange[i, 1], period) for i, j in enumerate(joints)
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


def _refusal(task: Any, name: str) -> str:
    parts = dict(getattr(task, "observation_structure", {}))
    unknown = [key for key in UNMEASURED if parts.get(key)]
    options = " ".join(f"--task-option {OPTION.format(key)}=false" for key in unknown)
    hint = f"Train with {options}, as `train` does by itself" if unknown else None
    size = int(np.prod(task.observation_space.shape))
    expected = "positions and velocities of hinges and slides, of a free base, or of an arm and its target or object"
    found = ", ".join(UNMEASURED[key] for key in unknown) + ", which no robot measures"
    return mismatch(
        f"observation of task '{name}'", found if unknown else f"{size} numbers of another kind", expected, hint=hint
    )
