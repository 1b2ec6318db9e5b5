"""ROS: everything that needs rclpy."""
