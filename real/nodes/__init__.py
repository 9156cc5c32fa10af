"""Thin rclpy nodes around what robostack.real does without ROS."""

from robostack.real.ros import require_ros

require_ros()
