"""Where policies act: in a simulation, or on a robot over ROS 2. Only here do both meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robostack.protocols import Env
from robostack.sim import env as sim

if TYPE_CHECKING:
    from robostack.sim.worker import Worker


def make_env(config: sim.EnvConfig) -> Env:
    """A simulated environment, or with `config.real` the robot that this file describes.

    `config.task` is the robot's instruction; where it is the name of a simulated task, that task's.
    """
    if not config.real:
        return sim.make_env(config)
    from robostack.real.env import RosEnv  # rclpy, only where it is asked for
    from robostack.sim.catalog import TASKS

    known = TASKS.get(config.task)
    task = known.instruction if known else config.task
    return RosEnv.open(config.real, task, config.horizon, config.namespace)


def make_worker() -> Worker:
    """The context of a `Pool`, for both."""
    import torch  # here, because people who teach a robot by hand need not wait for it

    from robostack.sim.worker import Worker

    torch.set_num_threads(1)
    return Worker(make=make_env)
