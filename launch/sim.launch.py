"""What `sim` is made of is said in robostack.real.graph, for `robostack up`, too."""

from robostack.real.launching import description


def generate_launch_description():
    return description("sim")
