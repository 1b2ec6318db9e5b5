"""DDPG for torque-controlled robots: the core that runs on the robot.

Importing this package needs numpy only. ONNX Runtime is loaded when a policy is opened; torch, MuJoCo, Gymnasium and
rclpy live in other rooms (`ddpg_robot.learn`, `ddpg_robot_sim`, `ddpg_robot_export`, `ddpg_robot_ros`).
"""

__version__ = "0.1.0"
