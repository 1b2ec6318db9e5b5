"""`arm_reach` for a robot of one's own: an end effector is brought to a point and held there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.kinematics import ChainKinematics
from ddpg_robot.spec import PolicyInterface
from ddpg_robot_sim.arm_reach import Reach
from ddpg_robot_sim.randomization import Randomization
from ddpg_robot_sim.robot_file import RobotFile, read_robot_file, robot_of
from ddpg_robot_sim.robot_model import TARGET, TIP, compile_robot, robot_spec

TRIED, NEEDED = 4000, 10
"""Start poses that are tried, and how many of them must do."""


class RobotReach(Reach):
    """Reach a target with the robot of a task file. Success: within 2 cm during the whole last half second.

    Args:
        robot: a task file, or what one says.
        control_mode: ``effort`` or ``pd``; None is the file's own.
        render_mode: ``rgb_array`` or None.
        randomization: as of `ArmReach`.

    Reset options: as of `ArmReach`.
    """

    def __init__(
        self,
        robot: str | Path | Mapping[str, Any],
        control_mode: str | None = None,
        render_mode: str | None = None,
        randomization: str | Mapping[str, Any] | Randomization = "off",
    ) -> None:
        file = robot_of(robot) if isinstance(robot, Mapping) else read_robot_file(Path(robot))
        if control_mode not in (None, "effort", "pd"):
            raise ConfigError(mismatch("control_mode", repr(control_mode), "a mode", ("effort", "pd")))
        model = compile_robot(file)
        spec, control = robot_spec(file, model), file.control_spec(control_mode)
        share = np.array(file.joints.effort_range) * np.array(file.joints.effort_limit)
        scale = share if control.mode == "effort" else np.array(file.joints.target_range)
        start = start_region(file)
        self._scratch = mujoco.MjData(model)
        self._contacts = file.contacts
        super().__init__(
            model,
            spec,
            control,
            scale,
            file.command_spec(),
            np.array(file.joints.home),
            start,
            (TIP, TARGET),
            file.target.seconds,
            render_mode,
            randomization,
        )
        self._require_start_poses()

    @classmethod
    def keywords_of(cls, interface: PolicyInterface) -> dict[str, Any]:
        """The keyword arguments that make the task of a policy's interface, beside its robot."""
        return {"control_mode": interface.control.mode}

    def may_start_at(self, pose: np.ndarray) -> bool:
        if not super().may_start_at(pose):
            return False
        if not self._contacts:
            return True
        self._scratch.qpos[:] = pose
        mujoco.mj_fwdPosition(self.model, self._scratch)
        return self._scratch.ncon == 0

    def _require_start_poses(self) -> None:
        rng, good = np.random.default_rng(0), 0
        for _ in range(TRIED):
            good += self.may_start_at(rng.uniform(*self.start_region))
            if good >= NEEDED:
                return
        found = f"{good} of {TRIED} poses around home with the end effector in the target's box" + (
            " and nothing in contact" if self._contacts else ""
        )
        hint = "Move target.lower and target.upper to where the arm reaches, or home, or set contacts = false"
        raise ConfigError(mismatch("start poses", found, f"at least {NEEDED}", hint=hint))


def start_region(file: RobotFile) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the poses around home that episodes begin in ``(n,)`` each, rad; a little off the end stops."""
    joints = file.joints
    lower, upper, home = (np.array(values) for values in (joints.position_lower, joints.position_upper, joints.home))
    margin = np.minimum(0.2, 0.1 * (upper - lower))
    spread = file.target.start_spread
    low, high = np.maximum(home - spread, lower + margin), np.minimum(home + spread, upper - margin)
    return np.minimum(low, high), np.maximum(low, high)  # a home beside an end stop


def tips_of(kinematics: ChainKinematics, poses: np.ndarray) -> np.ndarray:
    """Positions of the end effector ``(k, 3)``, m, at poses ``(k, n)``."""
    tips = np.empty((len(poses), 3))
    for tip, pose in zip(tips, poses):
        kinematics.update(pose)
        tip[:] = kinematics.tip
    return tips
