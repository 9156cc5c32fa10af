"""Real arms: safety, timing and the ROS 2 nodes around them. Without ROS all but nodes/ imports."""
