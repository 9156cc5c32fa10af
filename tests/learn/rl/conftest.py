"""A point on a line that any algorithm's policy can move."""

import numpy as np
import pytest
import torch
from fakes import SPEC, LineEnv, make_episode, tiny_size

from robostack.learn import rl
from robostack.policy.checkpoint import EDITS
from robostack.policy.chunking import ChunkRunner
from robostack.policy.edits import EditedRunner, Edits
from robostack.policy.vla import VLA
from robostack.protocols import Scores
from robostack.rollout import Pulled, hash_seed, rollout

ACTING = rl.Acting(execute=2, steps=3, level=0.7)
DEMOS = [make_episode(seed, steps=6, success=True, terminated=True) for seed in (90, 91)]


def line_vla():
    """Of one layer, without heat maps, with chunks of what is executed: a line needs no more."""
    torch.manual_seed(0)
    return VLA(tiny_size(horizon=ACTING.execute, layers=1, points=0), SPEC).eval()


def runner(folder, algorithm, explore=0.0, level=ACTING.level):
    """The policy in a folder, as `collect` runs it."""
    vla = VLA.load(folder, edited=True)
    if (folder / EDITS).is_dir():
        acts = EditedRunner(vla, Edits.load(folder / EDITS, vla.spec), ACTING.steps, level)
        return Pulled(acts, vla.spec, explore) if explore else acts
    once = algorithm in rl.LIKELIHOOD and level > 0
    return ChunkRunner(vla, ACTING.execute, ACTING.steps, level, once=once)


def outside(config, horizon=4, goal=0.25, check=None):
    """Rollouts on the line, scored by how far along it they are."""

    def collect(folder, seeds, tries, led=None):
        policy = runner(folder, config.algorithm, 0.3)
        for seed in seeds:
            for k in range(tries):
                drawn, group = hash_seed(seed, k), f"seed {seed}"
                env = LineEnv(horizon, goal=goal)
                yield rollout(env, policy, seed, policy_seed=drawn, group=group)

    def score(episode):
        potential = np.clip(episode.states[:, 0], 0, 1)
        return Scores(potential, np.ones_like(potential))

    return rl.Outside(collect, score, check)


@pytest.fixture
def played(new_run):
    """played("ppo", ...) trains on the line; returns the policy and the run."""

    def play(vla, config, name="played", demos=DEMOS, **where):
        run = new_run(name)
        return rl.train(config, vla, outside(config, **where), demos, run, 0, acting=ACTING), run

    return play
