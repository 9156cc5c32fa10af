"""Each stage of the ring as one function: folders in, folder out. The command line and the demo
call these and nothing else, so both do the same thing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from robostack.config import to_dict
from robostack.data.reading import read_windows
from robostack.data.store import (
    Store,
    find_stores,
    iter_episodes,
    open_store,
    require_episodes,
)
from robostack.evaluate import Evaluation, mcnemar, stops
from robostack.learn import bc, reward
from robostack.learn.run import Existing, Run, RunError, finished
from robostack.learn.trials import Check
from robostack.policy.checkpoint import CheckpointError, policy_folder
from robostack.policy.vla import VLA
from robostack.rewards.combined import Combined
from robostack.rewards.keypoints.camera import CALIBRATION
from robostack.rewards.load import LEARNED, load_reward
from robostack.rewards.saved import RewardError
from robostack.rewards.weigh import enough
from robostack.rollout import STOPPED
from robostack.sim.arena import Arena, BranchConfig
from robostack.sim.env import EnvConfig
from robostack.sim.worker import RunnerConfig
from robostack.types import Episode


@dataclass(frozen=True)
class CollectConfig:
    """Who acts, and how often."""

    by: Literal["expert", "policy", "branch"] = "expert"
    seeds: int = 20  # start states
    first_seed: int = 0
    tries: int = 1  # rollouts of each start state, by=policy
    noise: float = 0.15  # of the expert's motions, by=expert
    branch: BranchConfig = field(default_factory=BranchConfig)  # by=branch
    runner: RunnerConfig = field(default_factory=RunnerConfig)  # by=policy and by=branch

    def __post_init__(self) -> None:
        if min(self.seeds, self.tries) < 1:
            raise ValueError(f"seeds={self.seeds}, tries={self.tries}: expected 1 or more")


@dataclass(frozen=True)
class EvaluateConfig:
    """On which starts, and how the policy is run."""

    episodes: int = 100
    first_seed: int = 100_000  # apart from every seed that is trained on
    runner: RunnerConfig = field(default_factory=RunnerConfig)

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ValueError(f"episodes={self.episodes}: expected 1 or more")


@dataclass(frozen=True)
class Simulated:
    """Where a command that acts takes place; the demo's stages share one such place instead."""

    env: EnvConfig = field(default_factory=EnvConfig)


@dataclass(frozen=True)
class CollectCommand(Simulated, CollectConfig):
    pass


def require_policy(path: str | Path, edited: bool = False) -> None:
    """Raise CheckpointError where there is no policy, before a run folder is made; or one with
    edits, where it is not only to act."""
    VLA.load(policy_folder(path), edited)


def gather(
    path: Path, seeds: list[int], produce: Callable[[list[int]], Iterator[Episode]]
) -> Store | None:
    """Append what `produce` yields for the seeds that the store at `path` lacks.

    Rollouts are functions of their seeds, so a seed that was interrupted half-way is produced
    again and what the store already has of it is skipped.
    """
    store = Store(path) if (path / "zarr.json").is_file() else None
    have = Counter(store.attributes(i)["seed"] for i in store.ids()) if store else Counter()
    last = store.attributes(store.ids()[-1])["seed"] if have else None
    skip = have[last] if have else 0
    for episode in produce([s for s in seeds if s not in have or s == last]):
        if episode.seed == last and skip:
            skip -= 1
            continue
        store = store or Store.create(path, episode.spec)
        store.append(episode)
    return store


def collect(
    arena: Arena,
    config: CollectConfig,
    out: Path,
    policy: Path | None = None,
    existing: Existing = "refuse",
    label: str = "collect",
) -> dict:
    """Episodes of a scripted expert or of a policy into `out/store`."""
    if (policy is None) != (config.by == "expert"):
        raise ValueError(f"by={config.by}: {'needs' if policy is None else 'takes no'} --policy")
    settings = to_dict(config) | {"env": to_dict(arena.config), "policy": str(policy)}
    run = Run(out, "collect", settings, config.first_seed, existing)
    if run.done:
        return run.done
    seeds = list(range(config.first_seed, config.first_seed + config.seeds))

    def produce(missing: list[int]) -> Iterator[Episode]:
        if policy is None:
            return arena.demonstrations(missing, config.noise, label)
        folder = policy_folder(policy)
        if config.by == "branch":
            return arena.branches(folder, config.runner, config.branch, missing, label)
        return arena.rollouts(folder, config.runner, missing, label, config.tries)

    store = gather(run.path / "store", seeds, produce)
    arena.calibrate(arena.config, run.path / "store" / CALIBRATION)
    attributes = [store.attributes(i) for i in store.ids()]
    return run.finish(
        {"episodes": len(attributes), "successes": sum(bool(a["success"]) for a in attributes)}
    )


def evaluate(
    arena: Arena,
    config: EvaluateConfig,
    policy: Path,
    out: Path,
    against: Path | None = None,
    existing: Existing = "refuse",
    label: str = "evaluate",
    pictures: bool = True,
) -> dict:
    """Success rate with its interval, episodes kept in `out/store`.

    `against` names another evaluation on the same seeds; the summary then holds McNemar's p.
    Without `pictures` the same episodes are kept without any, which is faster.
    """
    other = _other(against, config)
    settings = to_dict(config) | {"env": to_dict(arena.config), "policy": str(policy)}
    settings |= {} if pictures else {"pictures": False}
    require_policy(policy, edited=True)
    run = Run(out, "evaluate", settings, config.first_seed, existing)
    if run.done:
        return run.done
    seeds = list(range(config.first_seed, config.first_seed + config.episodes))
    folder = policy_folder(policy)
    how = {"label": label, "pictures": pictures}
    store = gather(
        run.path / "store", seeds, lambda s: arena.rollouts(folder, config.runner, s, **how)
    )
    rows = [store.attributes(i) for i in store.ids()]
    result = Evaluation(
        [row["seed"] for row in rows],
        [bool(row["success"]) for row in rows],
        [row["steps"] for row in rows],
    )
    summary = result.summary()
    if config.runner.stop:
        summary["stops"] = stops(result.outcomes, [row["label"] == STOPPED for row in rows])
    if other is not None:
        summary["against"] = str(against)
        summary["mcnemar_p"] = mcnemar(np.array(other["outcomes"]), np.array(result.outcomes))
    return run.finish(summary)


def _other(against: Path | None, config: EvaluateConfig) -> dict | None:
    if against is None:
        return None
    other = finished(against)
    if other is None or "outcomes" not in other:
        raise RunError(f"{against} is not a finished evaluation")
    if other["seeds"][0] != config.first_seed or other["episodes"] != config.episodes:
        raise RunError(f"{against} was evaluated on other seeds; a paired test needs the same")
    return other


def train_bc(
    config: bc.BCConfig,
    data: list[Path],
    out: Path,
    seed: int = 0,
    start: Path | None = None,
    existing: Existing = "refuse",
    label: str = "train bc",
) -> dict:
    require_episodes(data)
    settings = to_dict(config) | {"data": [str(p) for p in data], "start": str(start)}
    settings.pop("reading")  # another machine with less memory may go on with the run
    run = Run(out, "train bc", settings, seed, existing)
    if run.done:
        return run.done
    try:
        policy = None if start is None else VLA.load(policy_folder(start))
        spec = open_store(find_stores(data[0])[0]).spec
        horizon = (config.policy if policy is None else policy.config).horizon
        windows = read_windows(data, spec, horizon, config.reading)
        bc.train(config, spec, windows, run, seed, policy, label)
    except (ValueError, CheckpointError):  # a size that cannot be, a backbone that is not there
        run.abandon()
        raise
    return finished(out)


def train_reward(
    config: reward.RewardConfig,
    data: list[Path],
    out: Path,
    seed: int = 0,
    existing: Existing = "refuse",
    start: Path | None = None,
    members: Sequence[str | Path] = (),
) -> dict:
    """A reward from episodes. `start` is one to go on from, `members` what a combination or a
    deviation is made of."""
    require_episodes(data)
    parts = [load_reward(path) for path in members]
    before = None if start is None else load_reward(start)
    if before is not None and before.name != config.kind:
        raise RewardError(f"{start} is a {before.name}; kind={config.kind} cannot go on from it")
    settings = to_dict(config) | {
        "data": [str(p) for p in data],
        "start": str(start),
        "members": [str(p) for p in members],
    }
    run = Run(out, "train reward", settings, seed, existing)
    if run.done:
        return run.done
    try:
        if config.kind in LEARNED:
            midway = LEARNED[config.kind].midway
            reward.train(config, iter_episodes(data, midway), run, seed, before)
        else:
            midway = config.kind != Combined.name or not _enough_whole(data)
            reward.make(config, iter_episodes(data, midway), parts, run)
    except (ValueError, RewardError):  # settings or data that cannot be
        run.abandon()
        raise
    return finished(out)


def _enough_whole(data: list[Path]) -> bool:
    """Whether episodes that began with a reset are enough to weigh rewards by; a try that is cut
    off on its way tells less of them, and there are many."""
    stores = [open_store(path) for each in data for path in find_stores(each)]
    found = [store.attributes(i) for store in stores for i in store.ids()]
    ends = [about["success"] for about in found if about.get("whole", True)]
    return enough(ends.count(True), ends.count(False))


def success_of(arena: Arena, config: EvaluateConfig) -> Check:
    """The success rate of a policy in `arena`, on starts apart from those of evaluations."""

    def check(folder: Path) -> float:
        seeds = list(range(config.first_seed, config.first_seed + config.episodes))
        how = {"pictures": False, "spare": True}
        tried = arena.rollouts(folder, config.runner, seeds, "trial", **how)
        return sum(bool(episode.success) for episode in tried) / config.episodes

    return check
