"""What a scripted expert does, and how it goes wrong.

A script is a function of a generator of random numbers that yields actions f32[A], because it looks
at the scene only once an episode has begun. What follows an expert's beginning is told its last
action, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from robostack.sim.env import SimEnv
from robostack.sim.scene import Scene

Script = Callable[[np.random.Generator], Iterator[np.ndarray]]
Sequel = Callable[[np.random.Generator, np.ndarray], Iterator[np.ndarray]]


class Beside(Scene):
    """A scene in which one body seems to stand a little beside where it is."""

    def __init__(self, scene: Scene, body: str, shift: np.ndarray):
        super().__init__(scene.model, scene.data, scene._site)
        self._body, self._shift = body, shift

    def body(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        position, rotation = super().body(name)
        return (position + self._shift if name == self._body else position), rotation


class Scripts:
    """The scripts of one environment. `noise` is of the expert's motions."""

    def __init__(self, env: SimEnv, noise: float):
        self.env, self.noise = env, noise
        self._moves = np.array([not name.endswith("gripper") for name in env.spec.action_names])

    def noisy(self, plan: Iterator[np.ndarray], rng: np.random.Generator) -> Iterator[np.ndarray]:
        for action in plan:
            yield action + self.noise * rng.standard_normal(len(action)) * self._moves
        yield from self.stay(rng, np.zeros(len(self._moves)))

    def expert(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        return self.noisy(self.env.plan(), rng)

    def beside(self, draw: np.random.Generator, body: str, reach: tuple[float, float]) -> Script:
        """The expert, who takes `body` to be `reach` [m] beside where it is."""
        angle, distance = draw.uniform(-np.pi, np.pi), draw.uniform(*reach)
        shift = distance * np.array([np.cos(angle), np.sin(angle), 0])

        def script(rng):
            scene = Beside(self.env.scene, body, shift)
            return self.noisy(self.env.plan(scene), rng)

        return script

    def astray(self, draw: np.random.Generator) -> Script:
        """The expert at another request than was made."""
        choice = draw.random()

        def script(rng):
            others = self.env.other_requests()
            request = others[int(choice * len(others))]
            return self.noisy(self.env.carry_out(request), rng)

        return script

    def then(self, steps: int, what: Sequel) -> Script:
        """The expert for `steps`, then something else."""

        def script(rng):
            action = np.zeros(len(self._moves), np.float32)
            for _, action in zip(range(steps), self.expert(rng)):
                yield action
            yield from what(rng, action)

        return script

    def disturbed(self, steps: int) -> Script:
        """The expert for `steps`, a while of wandering with open fingers, the expert again."""

        def script(rng):
            for _, action in zip(range(steps), self.expert(rng)):
                yield action
            for _, action in zip(range(rng.integers(6, 15)), self.wander(rng, None)):
                yield np.where(self._moves, action, -1.0)  # with open fingers
            yield from self.expert(rng)

        return script

    def wander(self, rng: np.random.Generator, last: np.ndarray | None) -> Iterator[np.ndarray]:
        """A smooth random walk of the velocity; the fingers change their mind now and then."""
        drift, fingers = np.zeros(len(self._moves)), rng.choice([-1.0, 1.0])
        while True:
            drift = 0.85 * drift + 0.35 * rng.standard_normal(len(drift))
            fingers = -fingers if rng.random() < 0.04 else fingers
            yield np.where(self._moves, drift, fingers)

    def fumble(self, rng: np.random.Generator, last: np.ndarray) -> Iterator[np.ndarray]:
        """Let go and move away, upwards on the whole."""
        away = rng.uniform(-0.4, 0.4, len(self._moves))
        away[2] = rng.uniform(0.1, 0.6)
        while True:
            noise = self.noise * rng.standard_normal(len(away))
            yield np.where(self._moves, away + noise, -1.0)

    def stay(self, rng: np.random.Generator, last: np.ndarray) -> Iterator[np.ndarray]:
        while True:
            noise = 0.05 * rng.standard_normal(len(last))
            yield np.where(self._moves, noise, np.sign(last))

    def drift(self, rng: np.random.Generator, last: np.ndarray) -> Iterator[np.ndarray]:
        """A slow, smooth random walk; the fingers stay as they are."""
        drift = np.zeros(len(self._moves))
        while True:
            drift = 0.9 * drift + 0.1 * rng.standard_normal(len(drift))
            yield np.where(self._moves, drift, np.sign(last))
