"""A session on the fake robot, driven by a script and a clock that does not wait."""

import numpy as np
from fakes import SPEC, LineEnv

from robostack.collecting.loop import Collector, LoopConfig
from robostack.collecting.session import Session
from robostack.collecting.shelves import Shelves
from robostack.collecting.words import SessionConfig
from robostack.real.teleop.device import Poll
from robostack.real.teleop.driver import Driver
from robostack.real.teleop.mapping import of_actions
from robostack.real.teleop.scripted import Scripted

ALONE = SessionConfig(episodes=0, start_after=0, review="alone", decide_after=0, spare_mb=0)


FAST = LoopConfig(pace=0)


class Clock:
    """Seconds that pass only when somebody sleeps."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        assert seconds >= 0
        self.now += seconds


def push(dx=1.0, *buttons):
    return Poll({"dx": dx, "dy": 0.0, "gripper": 0.0}, frozenset(buttons), True)


def forward():
    """To the goal, by slightly different ways."""
    rng = np.random.default_rng()
    while True:
        yield push(float(rng.uniform(0.6, 1.0)))


def collector(out, config=ALONE, loop=FAST, script=forward, env=None, clock=None):
    """Everything but a screen."""
    env, clock = env or LineEnv(horizon=1000), clock or Clock()
    session = Session(config, Shelves(out, env.spec), clock())
    mapping = of_actions(SPEC)
    driver, device = Driver(mapping, env.spec), Scripted(script)
    return Collector(env, driver, device, session, loop, clock=clock, sleep=clock.sleep)
