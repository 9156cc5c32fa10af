"""Arms that do not do as they are told, and broken policies: what a safety layer is fuzzed with."""

import numpy as np
from arms import excess

from robostack.real.safety import Safety, UnsafeAction

BLOCK = 500  # commands; then the arm is left alone, and moved


class Plant:
    """The arms behind the commands: they lag, are noisy, get stuck, are pushed, fall silent, and
    now and then one sample is somewhere else."""

    def __init__(self, robot, rng, ideal):
        self.robot, self.rng, self.ideal = robot, rng, ideal
        actions = list(robot.actions.values())
        self.span = np.array([a.allowed for a in actions]).T
        self.at = rng.uniform(*self.span)
        self.moving = np.array([a.kind != "absolute" for a in actions])
        per = np.array([robot.control_hz if a.kind == "delta" else 1.0 for a in actions])
        self.gain = np.array([a.scale for a in actions]) * per / robot.rate
        self.share = np.where(self.moving, 1.0, 1.0 if ideal else 0.4)

    def draw(self, n):
        """What happens in the next n steps."""
        shape, rng = (n, len(self.at)), self.rng
        self.noise, self.free = np.zeros(shape), np.ones(shape, bool)
        self.pushed = np.zeros(shape)
        if self.ideal:
            return
        self.noise = 1e-4 * rng.standard_normal(shape)
        self.noise[(rng.random(shape) < 0.1) & (rng.random((n, 1)) < 0.02)] = np.nan
        self.noise += rng.uniform(-0.5, 0.5, shape) * (rng.random(shape) < 0.002)
        begins = filled(np.where(rng.random(shape) < 0.002, np.arange(n)[:, None], np.nan), -40)
        self.free = np.arange(n)[:, None] - begins >= 40
        self.pushed = 0.3 * rng.standard_normal(shape) * (rng.random(shape) < 0.001)

    def measured(self, i):
        return self.at + self.noise[i]

    def obey(self, i, command):
        way = np.where(self.moving, self.gain * command, command - self.at)
        self.at = self.at + self.free[i] * self.share * way + self.pushed[i]


def filled(values, first):
    """Of f64[n, A] NaN becomes what was last above it, and `first` at the top."""
    values = values.copy()
    values[0] = np.where(np.isnan(values[0]), first, values[0])
    rows = np.where(np.isnan(values), 0, np.arange(len(values))[:, None])
    return np.take_along_axis(values, np.maximum.accumulate(rows, axis=0), 0)


def wishes(robot, rng, n):
    """What broken policies say, each axis another thing: noise, jumps, ends, ramps, too much; and
    sometimes nothing, or what is no action."""
    low, high = np.array([(a.low, a.high) for a in robot.actions.values()]).T
    shape, span = (n, len(low)), high - low
    kind = rng.integers(30, size=shape)
    ends = np.where(rng.random(shape) < 0.5, low, high)
    jumps = [rng.uniform(low, high, shape), ends, 1e6 * rng.standard_normal(shape)]
    wish = filled(np.select([kind == k for k in range(3)], jumps, np.nan), (low + high) / 2)
    slope = np.select([kind == 3, kind == 4], [0.02 * rng.standard_normal(shape), 0.0], np.nan)
    gone = np.cumsum(filled(slope, 0.0), axis=0)
    wish += span * (gone - filled(np.where(kind < 3, gone, np.nan), 0.0))
    wish += 0.01 * (kind > 20) * span * rng.standard_normal(shape)
    odd = rng.integers(40, size=n)
    wrong = (odd[:, None] == 0) & (kind == 5)
    wish[wrong] = rng.choice([np.nan, np.inf, -np.inf], wrong.sum())
    for row, what in zip(wish, odd):
        yield row[1:] if what == 1 else None if what == 2 else row


def commanded(robot, rng, n, ideal=False):
    """-> commands f64[n + 1 or more, A] from rest on, states f64[n, S] after each step; how many
    were refused"""
    safety, plant, refused = Safety(robot), Plant(robot, rng, ideal), 0
    safety.seed(plant.at)
    commands, states = [safety.command], []
    for _ in range(0, n, BLOCK):
        plant.draw(BLOCK)
        for i, wish in enumerate(wishes(robot, rng, BLOCK)):
            measured = plant.measured(i)
            try:
                command = safety.step(wish, measured)
            except UnsafeAction:
                refused += 1
                command = safety.step(None, measured)
            plant.obey(i, command)
            commands.append(command)
            states.append(plant.at)
        if not ideal:
            commands += moved_by_hand(safety, plant)
    return np.array(commands), np.array(states), refused


def moved_by_hand(safety, plant):
    """The arm rests, somebody moves it, and its command goes after it. -> commands"""
    commands = []
    while not safety.resting:
        commands.append(safety.step(None, plant.at))
    speed = np.array([a.velocity for a in plant.robot.actions.values()])
    plant.at = plant.at + 0.2 * speed * plant.rng.standard_normal(len(speed))
    plant.at = np.where(plant.moving, plant.at, np.clip(plant.at, *plant.span))
    there = False
    while not there:
        there = safety.approach(plant.at)
        commands.append(safety.command)
    assert safety.displaced(plant.at) == []
    return commands


def assert_legal(robot, commands):
    worst = excess(robot, commands)
    assert max(worst.values()) <= 1e-9, {k: v for k, v in worst.items() if v > 1e-9}
