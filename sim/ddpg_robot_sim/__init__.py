"""MuJoCo tasks as Gymnasium environments. Importing this package registers them."""

from __future__ import annotations

import gymnasium

TASKS = {"arm_reach": "ddpg_robot/ArmReach-v0", "quadruped_walk": "ddpg_robot/QuadrupedWalk-v0"}
"""Short task name -> Gymnasium id."""
ROBOT_REACH = "ddpg_robot/RobotReach-v0"
"""Gymnasium id of the task that a robot's own file (`robot_file`) describes."""

gymnasium.register(TASKS["arm_reach"], entry_point="ddpg_robot_sim.arm_reach:ArmReach")
gymnasium.register(TASKS["quadruped_walk"], entry_point="ddpg_robot_sim.quadruped_walk:QuadrupedWalk")
gymnasium.register(ROBOT_REACH, entry_point="ddpg_robot_sim.robot_reach:RobotReach")
