"""What a step of DPO costs with the backbone left as it is, and with it trained.

    python tests/bench/dpo_step.py

The default policy and settings, on pairs of real episodes of Lift; one thread; both kinds of step
in turns. Prints a JSON object as its last line: median seconds of processor time a step, and the
ratio.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch

from robostack.data.chunks import ChunkData
from robostack.learn import dpo
from robostack.learn.bc import Lesson
from robostack.learn.pairs import PairData
from robostack.learn.run import generator, rng
from robostack.policy.vla import VLA, VLAConfig
from robostack.rollout import rollout
from robostack.sim.env import EnvConfig, ScriptedExpert, make_env
from robostack.types import Clip, Preference


def episodes(count: int) -> dict:
    env = make_env(EnvConfig(task="Lift"))
    expert = ScriptedExpert(env, noise=0.3)
    found = {str(seed): rollout(env, expert, seed, source="demo") for seed in range(count)}
    env.close()
    return found


class Side:
    """One policy, and how it is trained."""

    def __init__(self, freeze: bool, tries: dict, pairs: list[Preference]):
        self.config = dpo.DPOConfig(freeze=freeze)
        spec = next(iter(tries.values())).spec
        torch.manual_seed(0)
        self.vla = VLA(VLAConfig(), spec).train()
        self.demos = ChunkData(spec, self.vla.config.horizon, tries.values())
        if freeze:
            self.vla.backbone.requires_grad_(False)
        self.reference = dpo.frozen_copy(self.vla)
        self.data = PairData(spec, self.vla.config.horizon, pairs, tries)

    def step(self, number: int) -> float:
        """Seconds of processor time."""
        config, random, draws = self.config, rng(0, number), generator(0, number)
        pick = random.choice(len(self.data), config.batch)
        label = np.ones(config.batch, np.float32)
        began = time.process_time()
        lesson = self.data.lesson(
            self.vla, pick, label, config.windows, config.draws, random, draws
        )
        rows = random.choice(self.demos.rows(), config.batch)
        demo = Lesson.draw(self.vla, self.demos.batch(rows), config.draws, draws)
        dpo.loss(self.vla, self.reference, lesson, demo, config)[0].backward()
        return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=12, help="of each kind")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tries = episodes(6)
    pairs = [
        Preference(Clip(a, 0, 24), Clip(b, 0, 24), 1.0, {}, a + b)
        for a, b in zip(tries, [*tries][1:])
    ]
    sides = {freeze: Side(freeze, tries, pairs) for freeze in (True, False)}
    taken: dict[bool, list[float]] = {True: [], False: []}
    for number in range(args.steps + 1):
        for freeze, side in sides.items():
            taken[freeze].append(side.step(number))
    frozen, trained = (float(np.median(taken[freeze][1:])) for freeze in (True, False))
    told = {"frozen_s": round(frozen, 3), "trained_s": round(trained, 3)}
    print(json.dumps(told | {"ratio": round(trained / frozen, 2), "steps": args.steps}))


if __name__ == "__main__":
    main()
