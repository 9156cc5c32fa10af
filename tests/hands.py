"""A policy that sees where the hand is and was told where the cube is: it lifts without a model."""

import asyncio
import queue
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np

from robostack.policy.serve import ServeConfig
from robostack.policy.server import PolicyServer

H, SCALE = 8, 0.05  # rows of a chunk, metres of an action of 1
FOLLOWS = 0.3  # share of it that the arm goes within a control period
OPEN, CLOSE = -1.0, 1.0


class Hands:
    """Goes above the cube, down, closes, up. Each chunk begins where the state says that it is."""

    horizon = H

    def __init__(self, spec, cube):
        self.spec, self.cube = spec, np.asarray(cube, float)
        self.columns = [spec.state_names.index(f"gripper_{a}") for a in "xyz"]
        self.opening = spec.state_names.index("gripper_opening")

    def reset(self, seed):
        pass

    def plan(self, observation, previous=None, delay=0):
        at = observation.state[self.columns].astype(float)
        opening = float(observation.state[self.opening])
        rows = np.zeros((H, self.spec.action_dim), np.float32)
        for row in rows:
            goal, finger = self._goal(at, opening)
            move = np.clip((goal - at) / SCALE, -1, 1)
            row[:3], row[-1] = move, finger
            at = at + FOLLOWS * SCALE * move
        return rows

    act = plan

    def _goal(self, at, opening):
        beside = np.abs(at[:2] - self.cube[:2]).max()
        near = beside < 0.02 and at[2] < self.cube[2] + 0.15
        if near and opening < 0.053:  # the fingers are at the cube's sides
            return self.cube + [0, 0, 0.12], CLOSE
        if at[2] < self.cube[2] + 0.012 and beside < 0.015:
            return self.cube, CLOSE
        return self.cube + [0, 0, 0.0 if beside < 0.012 and opening > 0.06 else 0.08], OPEN


class HandsServer(PolicyServer):
    """The server of `robostack serve`, with hands in the place of a model."""

    def __init__(self, hands):
        self.hands = hands
        model = SimpleNamespace(spec=hands.spec, config=SimpleNamespace(horizon=hands.horizon))
        super().__init__(model, ServeConfig(port=0), "hands", "hands")

    def _runner(self):
        return self.hands


@contextmanager
def serving(hands):
    """The address of hands that are served."""
    begun = queue.Queue()

    async def work():
        stop = asyncio.Event()
        end = asyncio.get_running_loop().call_soon_threadsafe
        await HandsServer(hands).run(stop, lambda url: begun.put((url, lambda: end(stop.set))))

    thread = threading.Thread(target=lambda: asyncio.run(work()), daemon=True)
    thread.start()
    url, end = begun.get(timeout=30)
    try:
        yield url
    finally:
        end()
        thread.join(10)
