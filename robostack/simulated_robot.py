"""A simulated robot on ROS 2 topics, in real time, with the physics of robostack.sim.

  python -m robostack.simulated_robot --ros-args -p task:=Lift
  python -m robostack.real.nodes.arm_node --ros-args -p robot:=configs/robot/sim.yaml

Parameters: robot (its YAML file), task (`robostack tasks` lists them), seed (of the first reset;
the service sim/reset counts on), clock (publish simulated time on /clock), announce (publish the
task's instruction on `task`).
"""

from __future__ import annotations

from rclpy.context import Context
from rclpy.node import Node

from robostack.real.nodes.node import parameter, run
from robostack.real.nodes.sim_robot_node import SimRobotNode
from robostack.real.paths import find
from robostack.real.robot import RobotConfig
from robostack.sim.env import EnvConfig, make_env

ENDLESS = 10**9  # control steps: a robot has no time limit


def simulated(robot: RobotConfig, task: str) -> EnvConfig:
    """The environment of a task as the robot's file has it: cameras, rate of pictures, looks.

    Raises ValueError where its pictures are not square.
    """
    for name, camera in robot.cameras.items():
        if camera.size[0] != camera.size[1]:
            raise ValueError(f"cameras.{name}.size: expected a square, got {camera.size}")
    return EnvConfig(
        task=task,
        cameras={name: camera.size[0] for name, camera in robot.cameras.items()},
        render=robot.conventions.get("render", "lean") if robot.cameras else "none",
        horizon=ENDLESS,
    )


def make(context: Context) -> SimRobotNode:
    node = Node("sim_robot", context=context)
    file = parameter(node, "robot", "configs/robot/sim.yaml", "the robot's YAML file")
    task = parameter(node, "task", "Lift", "what to do, as `robostack tasks` lists it")
    clock = parameter(node, "clock", False, "publish simulated time on /clock")
    announce = parameter(node, "announce", True, "publish the instruction on `task`")
    robot = RobotConfig.load(find(file))
    config = simulated(robot, task)
    return SimRobotNode(context, robot, lambda: make_env(config), 0, clock, announce, node)


def main(args: list[str] | None = None) -> int:
    return run(__doc__, make, args)


if __name__ == "__main__":
    raise SystemExit(main())
