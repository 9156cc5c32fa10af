"""What real-time chunking costs, and what it gives back to a robot that does not wait.

    python tests/bench/realtime_chunking.py

cost: the time of one plan in each mode, back to back. A policy of pi0-mini's size (random weights)
plans as a robot would while it executes: it knows what is left of the last chunk and that DELAY of
it cannot be changed. Medians of modes that take turns.

live: a small policy, trained here for seconds on demonstrations half of which go left and half
right, behind a latency of LATE control steps, on a real clock. `wait` stops for every chunk; the
others plan beside acting (`AsyncRunner`). A jump is the largest change of an action from one step
to the next, `flips` the hand-overs from one chunk to the next at which the robot turned round.

Prints a JSON object as its last line. What is gained in success is measured by
`robostack evaluate runner.delay=4 runner.rtc=guided`, see docs/backbones.md.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import policy_latency as sizes  # noqa: E402
from fakes import SPEC, make_episode, tiny_size  # noqa: E402

from robostack.device import device  # noqa: E402
from robostack.learn.bc import BCConfig, train  # noqa: E402
from robostack.learn.run import Run  # noqa: E402
from robostack.policy.chunking import ChunkRunner  # noqa: E402
from robostack.policy.realtime import AsyncRunner  # noqa: E402
from robostack.policy.rtc import MODES  # noqa: E402
from robostack.policy.vla import VLA  # noqa: E402
from robostack.types import Episode, Observation  # noqa: E402

EXECUTE, DELAY, ROUNDS = 25, 8, 12
ROBOT = replace(SPEC, control_hz=25.0)
HORIZON, TAKEN, LATE, STEPS = 16, 6, 3.5, 250  # of the live part; LATE in control steps
PERIOD = 1 / ROBOT.control_hz


def observe(seed: int) -> Observation:
    rng = np.random.default_rng(seed)
    images = {n: rng.integers(0, 256, (*s, 3), np.uint8) for n, s in sizes.SPEC.cameras.items()}
    return Observation(images, rng.normal(size=8).astype(np.float32), "lift the red cube", 0.0)


def cost() -> dict[str, dict[str, float]]:
    torch.manual_seed(0)
    vla = sizes.build(sizes.SIZES["pi0-mini"], "float32")
    runners = {mode: ChunkRunner(vla, EXECUTE, sizes.STEPS, rtc=mode) for mode in MODES}
    times: dict[str, list[float]] = {mode: [] for mode in MODES}
    for k in range(ROUNDS):
        seen = observe(k)
        previous = runners["none"].plan(seen)[EXECUTE:]
        for mode, runner in runners.items():
            times[mode].append(sizes.clock(partial(runner.plan, seen, previous, DELAY)))
    ms = {mode: round(statistics.median(taken[2:]), 1) for mode, taken in times.items()}
    return {"ms": ms, "ratio_to_none": {mode: round(ms[mode] / ms["none"], 2) for mode in MODES}}


def demonstration(seed: int) -> Episode:
    """All the way to one side or the other; nothing that is seen says which."""
    blank = make_episode(seed, steps=2 * HORIZON, spec=ROBOT)
    noise = np.random.default_rng(seed).normal(0, 0.02, blank.actions.shape)
    side = np.array([0.8 if seed % 2 else -0.8, 0, 0])
    return replace(
        blank,
        states=np.zeros_like(blank.states),
        images={name: np.zeros_like(frames) for name, frames in blank.images.items()},
        actions=(side + noise).astype(np.float32),
    )


def undecided() -> VLA:
    """A policy that goes left as often as right, and knows clean beginnings."""
    size = tiny_size(HORIZON, width=32)
    config = BCConfig(policy=size, steps=1500, lr=2e-3, average=0.99, max_delay=6)
    episodes = [demonstration(seed) for seed in range(16)]
    with tempfile.TemporaryDirectory() as folder:
        return train(config, ROBOT, episodes, Run(Path(folder) / "bc", "bench", {}))


class Late:
    """A planner whose answers come LATE control steps after they were asked for."""

    def __init__(self, planner: ChunkRunner):
        self.planner = planner

    def plan(
        self, observation: Observation, previous: np.ndarray | None = None, delay: int = 0
    ) -> np.ndarray:
        begin = time.monotonic()
        chunk = self.planner.plan(observation, previous, delay)
        time.sleep(max(0.0, begin + LATE * PERIOD - time.monotonic()))
        return chunk


def wait(planner: Late, seen: Observation) -> dict[str, float]:
    """Stop for every chunk: what is held is the share of control steps without an action."""
    held, actions, chunk_of = 0, [], []
    while len(actions) < STEPS:
        begin = time.monotonic()
        actions += list(planner.plan(seen)[:TAKEN])
        held += math.ceil((time.monotonic() - begin) / PERIOD)
        chunk_of += [len(actions)] * TAKEN
    return {"held": round(held / (held + len(actions)), 3), **jumps(actions, chunk_of)}


def beside(planner: Late, seen: Observation) -> dict[str, float]:
    """Plan beside acting, at control rate on the real clock."""
    runner = AsyncRunner(planner, ROBOT, TAKEN)
    runner.offer(replace(seen, stamp=time.monotonic()))
    runner.settle(10)
    begin, actions, chunk_of = time.monotonic(), [], []
    for step in range(STEPS):
        now = begin + step * PERIOD
        time.sleep(max(0.0, now - time.monotonic()))
        runner.offer(replace(seen, stamp=now))
        actions.append(runner.take(now))
        chunk_of.append(runner.statistics().chunks)
    told = runner.statistics()
    runner.close()
    return {
        "held": round(told.underruns / STEPS, 3),
        "chunks": told.chunks,
        "delay": told.delay,
        "dropped": told.dropped,
        **jumps(actions, chunk_of),
    }


def jumps(actions: list[np.ndarray | None], chunk_of: list[int]) -> dict[str, float]:
    within, across, flips = [0.0], [0.0], 0
    for k, (a, b) in enumerate(zip(actions, actions[1:])):
        if a is None or b is None:
            continue
        handed_over = chunk_of[k] != chunk_of[k + 1]
        (across if handed_over else within).append(float(np.abs(b - a).max()))
        flips += handed_over and bool(a[0] * b[0] < 0)
    largest = {"jump": max(across), "jump_within": max(within)}
    return {name: round(jump, 3) for name, jump in largest.items()} | {"flips": flips}


def main() -> None:
    costs = cost()
    vla, seen = undecided(), demonstration(0).observation(0)
    live = {"wait": wait(Late(ChunkRunner(vla, TAKEN)), seen)}
    for mode in MODES:
        live[mode] = beside(Late(ChunkRunner(vla, TAKEN, rtc=mode)), seen)
    for mode, told in live.items():
        print(f"{mode:9s}", told)
    print(json.dumps({"device": str(device()), **costs, "live": live}))


if __name__ == "__main__":
    main()
