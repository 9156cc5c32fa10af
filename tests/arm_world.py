"""An arm, its policy and its operator without ROS: clocks are arguments, so that every fault takes
no time."""

import numpy as np
from arms import excess, jointed, moved

from robostack.real.arm import POLICY, ArmController
from robostack.real.messages import Chunk
from robostack.real.robot import Timeouts


class World:
    """An arm that does what it is told, a policy and an operator that may each fall silent."""

    def __init__(self, robot, start=1000.0):
        self.robot, self.arm = robot, ArmController(robot)
        self.now, self.heard = start, 50.0
        self.at = np.full(len(robot.state), 0.1)
        self.commands, self.sources, self.executed, self.sent = [], [], [], []
        self.alive, self.held, self.measures = True, False, True
        self.velocity = np.array([a.kind != "absolute" for a in robot.actions.values()])

    def chunk(self, value, rows=16, age=0.0, operator=False):
        actions = np.full((rows, len(self.robot.actions)), value, np.float64)
        return self.say(actions, age, operator)

    def say(self, actions, age=0.0, operator=False):
        offsets = np.arange(len(actions)) / self.robot.control_hz
        return self.arm.offer(Chunk(self.now - age, offsets, actions), self.now, operator)

    def run(self, seconds, each=None):
        for _ in range(round(seconds * self.robot.rate)):
            if self.measures:
                self.arm.measure(dict(zip(self.robot.state, self.at)), self.heard)
            if self.alive is not None:
                self.arm.alive(self.alive, self.heard)
            if self.held is not None:
                self.arm.deadman(self.held, self.heard)
            if each:
                each()
            self.command = self.arm.tick(self.now, self.heard)
            if self.arm.safety.seeded:  # before that they mean nothing
                self.commands.append(self.command.action)
            self.sources.append(self.command.source)
            self.sent.append(self.command.send)
            if self.command.executed is not None:
                self.executed.append(self.command.executed)
            self.obey(self.command)
            self.now += 1 / self.robot.rate
            self.heard += 1 / self.robot.rate
        return self

    def obey(self, command):
        if self.arm.safety.seeded:
            self.at = command.placed[: len(self.at)].copy()

    @property
    def legal(self):
        return max(excess(self.robot, np.array(self.commands)).values()) <= 1e-9

    @property
    def resting(self):
        return self.arm.safety.resting


def moving(robot=None, **timeouts):
    """A world in which the policy moves the arm as fast as it may."""
    world = World(robot or jointed(timeouts=Timeouts(**timeouts)))
    world.run(0.3)
    assert world.chunk(1.0)
    world.run(0.2)
    assert world.command.source == POLICY and not world.resting
    return world


def ticks_to_rest(world, most=0.15):
    """Runs until the arm rests; it must within `most` [s], and never beyond a limit."""
    for tick in range(round(most * world.robot.rate) + 1):
        if world.resting:
            assert world.legal
            return tick
        world.run(1 / world.robot.rate)
    raise AssertionError(f"not at rest after {most} s: {world.arm.reason}")


FROZEN = {  # kinds of commands, and how long it may take until nothing moves any more
    "targets": (jointed(), 1.5),
    "displacements": (moved(), 1.0),
    "displacements at 100 Hz": (moved(backend="twist", command_hz=100.0), 1.0),
    "integrated here": (moved(backend="pose", command_hz=100.0), 1.0),
}
