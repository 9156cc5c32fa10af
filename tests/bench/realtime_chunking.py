"""What real-time chunking costs: the time of one plan in each of its modes, back to back.

    python tests/bench/realtime_chunking.py

A policy of pi0-mini's size (random weights) plans as a robot would while it executes: it knows what
is left of the last chunk and that DELAY of it cannot be changed. Medians of modes that take turns.
Prints a JSON object as its last line. What it gives back in success is measured by
`robostack evaluate runner.delay=4 runner.rtc=guided`, see docs/backbones.md.
"""

from __future__ import annotations

import json
import statistics
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parent))

import policy_latency as sizes  # noqa: E402

from robostack.device import device  # noqa: E402
from robostack.policy.chunking import ChunkRunner  # noqa: E402
from robostack.policy.rtc import MODES  # noqa: E402
from robostack.types import Observation  # noqa: E402

EXECUTE, DELAY, ROUNDS = 25, 8, 12


def observe(seed: int) -> Observation:
    rng = np.random.default_rng(seed)
    images = {n: rng.integers(0, 256, (*s, 3), np.uint8) for n, s in sizes.SPEC.cameras.items()}
    return Observation(images, rng.normal(size=8).astype(np.float32), "lift the red cube", 0.0)


def main() -> None:
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
    ratio = {mode: round(ms[mode] / ms["none"], 2) for mode in MODES}
    print(json.dumps({"device": str(device()), "ms": ms, "ratio_to_none": ratio}))


if __name__ == "__main__":
    main()
