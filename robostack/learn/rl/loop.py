"""The loop of online learning, the same for every algorithm."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from robostack.data.store import Store
from robostack.learn.readings import Readings
from robostack.learn.rl.config import RLConfig
from robostack.learn.rl.curiosity import Curiosity
from robostack.learn.rl.flow_learner import Algorithm
from robostack.learn.rl.policy_gradient import GRPO, PPO
from robostack.learn.rl.replay import Replay
from robostack.learn.rl.rlpd import RLPD
from robostack.learn.rl.step_nft import StepNFT
from robostack.learn.rl.traces import Acting
from robostack.learn.rl.turns import Outside, Turns
from robostack.learn.rl.weighted import Filtered, Weighted
from robostack.learn.run import Run, trim
from robostack.policy.vla import VLA
from robostack.types import Episode

ALGORITHMS: dict[str, type] = {
    "awr": Weighted,
    "filtered": Filtered,
    "ppo": PPO,
    "grpo": GRPO,
    "nft": StepNFT,
    "rlpd": RLPD,
}


def train(
    config: RLConfig,
    start: VLA,
    outside: Outside,
    demonstrations: Iterable[Episode],
    run: Run,
    seed: int = 0,
    label: str = "train rl",
    acting: Acting = Acting(),  # noqa: B008
) -> VLA:
    """Improve `start` by its own rollouts, which are kept in `run.path / "store"`.

    An interrupted run goes on: finished rollouts are never collected again, and it ends at the
    weights that an uninterrupted one ends at. `acting` is how `outside.collect` runs the policy.
    """
    replay = Replay(start.spec, start.config.horizon, config)
    for episode in demonstrations:
        replay.add(episode, outside.score(episode))
    if config.refresh and outside.refresh is None:
        raise ValueError(f"rl: refresh={config.refresh}: expected 0, or rewards that can learn")
    readings = Readings(start, replay.data, seed)
    curiosity = None
    if config.curiosity.weight:
        curiosity = Curiosity(config.curiosity, replay.data.episodes, seed)
    algorithm = _algorithm(config, start, replay, seed, acting)
    turns = Turns(config, algorithm, outside, replay, readings, curiosity, run, label)
    store = Store.create(run.path / "store", start.spec)
    done, raised = algorithm.resume(run), []
    trim(run.path / "metrics.jsonl", done * config.episodes + 1, "rollouts")
    for iteration in range(config.iterations):
        raised = turns.turn(iteration, store, iteration < done)
        if raised and config.alarms.stop:
            break
    turns.finish(iteration, raised if config.alarms.stop else [], len(store))
    return VLA.load(run.path / "policy", edited=True)


def _algorithm(
    config: RLConfig, start: VLA, replay: Replay, seed: int, acting: Acting
) -> Algorithm:
    torch.manual_seed(seed)
    return ALGORITHMS[config.algorithm](config, start, replay, seed, acting)
