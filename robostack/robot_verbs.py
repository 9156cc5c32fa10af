"""The verbs about the nodes of a robot: `robostack up`, `call` and `ros-env`."""

from __future__ import annotations

from robostack.verb import Verb, config_of


def _up(config, args) -> int:
    from robostack.real import up

    return up.up(config)


def _call(config, args) -> int:
    from robostack.real import up

    return up.call(config, args.service)


def _ros_env(config, args) -> int:
    from robostack.real import up

    print(up.exports())
    return 0


ROBOT: dict[str, Verb] = {
    "up": Verb(
        "the nodes of a robot, simulated or real, without `ros2 launch`; Ctrl-C ends them in order",
        "robostack up configs/up/sim.yaml\n"
        "robostack up configs/up/sim.yaml use='[sim, policy, record]' policy=runs/bc\n"
        "robostack up use='[robot, teleop, record]' robot=configs/robot/mine.yaml device=gamepad",
        config_of("real.up", "UpConfig"),
        _up,
        out=None,
        words="config",
    ),
    "call": Verb(
        "a service of the robot's nodes, without `ros2 service call`",
        "robostack call recorder/start\n"
        "robostack call arm/enable true\n"
        "robostack call left/arm/estop",
        config_of("real.up", "CallConfig"),
        _call,
        takes=("--service",),
        out=None,
        words="service",
    ),
    "ros-env": Verb(
        "the environment in which `ros2` finds robostack, and pictures fit through Fast DDS",
        'eval "$(robostack ros-env)"',
        None,
        _ros_env,
        out=None,
    ),
}
