"""The stages about preferences: making them, and learning from them."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import robostack
from robostack import page, preference_card
from robostack.config import to_dict
from robostack.data.reading import read_windows
from robostack.data.store import Store, StoreError, open_store, require_episodes
from robostack.exam.results import Trust
from robostack.learn import dpo, guide
from robostack.learn.run import Existing, Run, finished
from robostack.learn.trials import Check
from robostack.policy import checkpoint
from robostack.policy.checkpoint import policy_folder
from robostack.policy.chunking import ChunkRunner
from robostack.policy.vla import VLA
from robostack.prefer import answers, candidates, people, saved, truth
from robostack.prefer.compare import Candidate, PreferConfig, build
from robostack.prefer.terms import OUTCOME, RANK
from robostack.protocols import ChunkReward, Reward
from robostack.rewards.deviation import Deviation
from robostack.rewards.world_model import WorldModel
from robostack.stages import EvaluateConfig, Simulated, require_policy
from robostack.types import Episode


def prefer(
    config: PreferConfig,
    rewards: dict[str, Reward],
    data: Path,
    out: Path,
    seed: int = 0,
    policy: Path | None = None,
    labels: Path | None = None,
    trust: Trust | None = None,
) -> dict:
    """Preference set `out`, and beside it its card as a page; returns the card.

    Of tries in groups and their side-cars; with source=demonstrations of a policy's chunks at
    demonstrated states; with source=people of tries and `labels`, what people said of them.
    Raises ValueError before anything is judged where `out` is no name for a set and its card.
    """
    beside = _card_of(out, labels)
    store = open_store(data)
    store.require_episodes()
    for source, given, flag in (
        ("demonstrations", policy, "--policy"),
        ("people", labels, "--labels"),
    ):
        if (config.source == source) != (given is not None):
            does = "needs" if given is None else "takes no"
            raise ValueError(f"source={config.source} {does} {flag}")
    if config.source == "people":
        pairs, card = _of_people(config, store, labels, seed)
        used: list[str] = []
    else:
        after, before = _terms(config, rewards)
        (trust or Trust()).require({name: rewards[name] for name in sorted({*after, *before})})
        rankers = {name: rewards[name] for name in before}
        if config.source == "tries":
            scores = {n: _scores(store, n, rewards[n].fingerprint()) for n in after}
            groups = candidates.of_tries(store.episodes(), scores, rankers, config)
        else:
            groups = _of_demonstrations(config, store, policy, rankers, seed)
        pairs, card = build(groups, config, seed)
        card["policy"] = checkpoint.fingerprint(policy_folder(policy)) if policy else ""
        _warn(card, config)
        used = sorted({*after, *before})
    card["rewards"] = {name: rewards[name].fingerprint() for name in used}
    card["made_from"] = str(policy or labels or "")
    card["version"] = robostack.__version__
    used_ids = {clip.episode for p in pairs for clip in (p.chosen, p.rejected)}
    episodes = {name: store.read(name) for name in sorted(used_ids)}
    card["truth"] = truth.by_margin(pairs, episodes)
    digests = {name: saved.digest(episode) for name, episode in episodes.items()}
    found = saved.PreferenceSet(pairs, card, str(store.path.resolve()), digests)
    preference_card.write(beside, found, episodes)
    saved.save(out, found)
    return card


def _card_of(out: Path, labels: Path | None) -> Path:
    """Where the card of set `out` goes. Raises ValueError where another set's card, another page
    or the labels would be overwritten."""
    if Path(out).suffix != ".jsonl":
        raise ValueError(f"--out {out}: expected a name that ends in .jsonl")
    if labels is not None and Path(out).resolve() == Path(labels).resolve():
        raise ValueError(f"--out {out}: expected a name of its own, got that of the labels")
    beside = Path(out).with_suffix(".html")
    page.require_ours(beside, "preferences")
    return beside


def unheard(config: PreferConfig, rewards: dict[str, Reward]) -> list[str]:
    """Names of rewards that have no say: no weight is theirs, or people decide."""
    asked = {name.removesuffix(RANK) for name, weight in config.weights.items() if weight > 0}
    if config.source == "people":
        asked = set()
    if Deviation.name in asked:  # it sees through the eye of a world model
        asked.add(WorldModel.name)
    return sorted(set(rewards) - asked)


def _scores(store: Store, name: str, fingerprint: str) -> dict[str, np.ndarray]:
    """A side-car that is up to date. Raises StoreError where it is not, or episodes have come or
    changed since."""
    found = store.read_scores(name, fingerprint)
    missing = [i for i in store.ids() if i not in found]
    if missing:
        raise StoreError(
            f"{store.path} has {len(missing)} episodes that {name} has not scored as they are now, "
            f"{missing[0]} first; write its scores anew with `robostack score`"
        )
    return found


def _warn(card: dict, config: PreferConfig) -> None:
    """Of terms that were weighed in vain, and of tries that were left out."""
    told = [
        f"{name} (weight {config.weights[name]:g}) has no say: within states it spreads by "
        f"{card['term_spread'][name]:.2g}"
        for name in card["silent"]
    ]
    told += [
        f"{name} is not known of {len(tries)}, which are left out: {tries[0]} first"
        for name, tries in card["unknown"].items()
    ]
    for line in told:
        print(f"warning: {line}", file=sys.stderr)


def _of_people(config: PreferConfig, store: Store, labels: Path, seed: int) -> tuple[list, dict]:
    if not Path(labels).is_file():
        raise FileNotFoundError(f"{labels} does not exist; make it with `robostack label`")
    ledger = answers.Ledger(labels)
    tries = people.tries_of(store, ledger.answers)
    pairs, card = people.preferences(ledger.answers, tries, config, seed)
    ledger.warn_of_unnamed(store.path)
    return pairs, {**card, "labels": answers.digest(ledger.answers)}


def _terms(config: PreferConfig, rewards: dict[str, Reward]) -> tuple[list[str], list[str]]:
    """Names of the rewards that judge what came of a try, and of those that judge chunks before.
    Raises ValueError for a term that nothing given can tell."""
    of_itself = {"tries": OUTCOME, "demonstrations": candidates.DEMONSTRATED}[config.source]
    terms = [name for name, weight in config.weights.items() if name != of_itself and weight > 0]
    before = sorted({name.removesuffix(RANK) for name in terms if name.endswith(RANK)})
    after = sorted(name for name in terms if not name.endswith(RANK))
    able = sorted(n for n, judge in rewards.items() if isinstance(judge, ChunkReward))
    offered = [of_itself, *(n + RANK for n in able)]
    if config.source == "tries":
        offered += sorted(rewards)
    missing = sorted({*after, *(n + RANK for n in before)} - set(offered))
    if missing:
        raise ValueError(
            f"weights name {', '.join(missing)}; for source={config.source} the rewards given "
            f"offer: {', '.join(offered)}"
        )
    return after, before


def _of_demonstrations(
    config: PreferConfig, store: Store, policy: Path, rankers: dict[str, ChunkReward], seed: int
) -> dict[str, list[Candidate]]:
    vla = VLA.load(policy_folder(policy))
    vla.spec.require_same(store.spec, f"the policy {policy}", f"the store {store.path}")
    if vla.config.horizon < config.horizon:
        raise ValueError(
            f"horizon={config.horizon}: the policy's chunks have {vla.config.horizon} actions"
        )
    runner = ChunkRunner(vla, execute=1)
    runner.reset(seed)
    return candidates.of_demonstrations(
        store.episodes(),
        runner.propose,
        rankers,
        config,
        config.states,
        config.candidates,
        seed,
    )


def _made_from(policy: Path, pairs: Path) -> dict[str, str]:
    """What a run must find unchanged to go on: the policy is the reference, too."""
    start = checkpoint.fingerprint(policy_folder(policy))
    return {"policy": start, "pairs": saved.fingerprint(pairs)}


def train_guide(
    config: guide.GuideConfig,
    policy: Path,
    pairs: Path,
    data: Path | None,
    out: Path,
    seed: int = 0,
    existing: Existing = "refuse",
    label: str = "train guide",
) -> dict:
    """A reward that reads noisy chunks of `policy`, from preferences."""
    chosen = saved.load(pairs)
    settings = to_dict(config) | {"policy": str(policy), "pairs": str(pairs)}
    require_policy(policy)
    run = Run(out, "train guide", settings, seed, existing, _made_from(policy, pairs))
    if run.done:
        return run.done
    try:
        vla = VLA.load(policy_folder(policy))
        tries = _tries(chosen, data, vla, policy, pairs)
        guide.train(config, vla, chosen.pairs, tries, run, seed, label)
    except ValueError:  # pairs that cannot be learned from
        run.abandon()
        raise
    return finished(out)


def _tries(
    chosen: saved.PreferenceSet, data: Path | None, vla: VLA, policy: Path, pairs: Path
) -> dict[str, Episode]:
    """The episodes of a set, for a policy. Raises SpecMismatch where they are of another robot."""
    tries = chosen.episodes(data)
    for name, episode in tries.items():
        vla.spec.require_same(episode.spec, f"the policy {policy}", f"episode {name} of {pairs}")
    return tries


@dataclass(frozen=True)
class TrainDPOCommand(Simulated, dpo.DPOConfig):
    """Preference learning; `env` and `trials` matter where check_every > 0."""

    trials: EvaluateConfig = field(
        default_factory=lambda: EvaluateConfig(episodes=40, first_seed=90_000)
    )


def train_dpo(
    config: dpo.DPOConfig,
    policy: Path,
    pairs: Path,
    data: Path | None,
    demonstrations: list[Path],
    out: Path,
    seed: int = 0,
    existing: Existing = "refuse",
    label: str = "train dpo",
    check: Check | None = None,
) -> dict:
    """`data` is where the pairs' episodes are, if no longer where they were; `check` tries a policy
    in a folder (`success_of`), where check_every > 0."""
    if bool(config.check_every) != (check is not None):
        raise ValueError(f"check_every={config.check_every}: expected 0, or a place to try it in")
    chosen = saved.load(pairs)
    settings = to_dict(config) | {
        "policy": str(policy),
        "preferences": len(chosen.pairs),
        "pairs": str(pairs),
    }
    require_policy(policy)
    require_episodes(demonstrations)
    run = Run(out, "train dpo", settings, seed, existing, _made_from(policy, pairs))
    if run.done:
        return run.done
    try:
        start = VLA.load(policy_folder(policy))
        tries = _tries(chosen, data, start, policy, pairs)
        demos = read_windows(demonstrations, start.spec, start.config.horizon)
        dpo.train(config, start, chosen.pairs, tries, demos, run, seed, label, check)
    except ValueError:  # pairs that cannot be learned from
        run.abandon()
        raise
    return finished(out)
