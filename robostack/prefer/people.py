"""What people are asked of two tries from one state, how far they agree, and the preferences that
follow from their answers.

Everybody is asked the same pairs in the same order, each with sides of their own, so that whoever
has answered can be compared and a liking for one side cancels.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations

import numpy as np

from robostack.data.store import Store
from robostack.prefer import saved
from robostack.prefer.answers import Answer
from robostack.prefer.compare import PreferConfig, summary
from robostack.prefer.saved import PreferenceError
from robostack.rollout import hash_seed
from robostack.types import Clip, Episode, Preference, RobotSpec

PEOPLE = "people"  # term of the preferences that follow
KEYS = ("keep", "apart", "tie", "clip", "horizon", "shuffle")  # of PreferConfig that mean something


@dataclass(frozen=True)
class Question:
    """Two tries of one group, in the order of their ids."""

    group: str
    first: str
    second: str

    @property
    def key(self) -> str:
        return f"{self.first}-{self.second}"

    def sides(self, annotator: str) -> tuple[str, str]:
        """(left, right), which of them is which fixed by the annotator's name."""
        turned = hash_seed(*annotator.encode(), *self.key.encode()) % 2
        return (self.second, self.first) if turned else (self.first, self.second)


@dataclass(frozen=True)
class Try:
    """What is needed of an episode that people are asked about."""

    group: str
    success: bool | None
    digest: str
    spec: RobotSpec
    actions: np.ndarray = field(compare=False, repr=False)  # f32[T, A]

    @classmethod
    def of(cls, episode: Episode) -> Try:
        told = episode.group, episode.success, saved.digest(episode)
        return cls(*told, episode.spec, episode.actions)


def tries_of(store: Store, answers: Iterable[Answer]) -> dict[str, Try]:
    """The episodes that answers are about, by id, as far as the store has them."""
    named = {episode for a in answers for episode in (a.left, a.right)}
    return {i: Try.of(store.read(i)) for i in store.ids() if i in named}


def require_about(answers: Iterable[Answer], tries: Mapping[str, Try]) -> None:
    """Raise PreferenceError naming the answer that is not about two tries of one state among these:
    ids are the same in every store. An answer without digests passes where the states agree."""
    for a in answers:
        for episode in (a.left, a.right):
            if episode not in tries:
                raise _astray(a, f"is about episode {episode}, which the store does not have")
            if a.digests is not None and a.digests[episode] != tries[episode].digest:
                raise _astray(a, f"is about another episode {episode} than the store holds")
        left, right = (tries[episode].group for episode in (a.left, a.right))
        if left != right or not left:
            raise _astray(a, f"compares tries of different states, {left!r} and {right!r}")


def _astray(a: Answer, why: str) -> PreferenceError:
    return PreferenceError(
        f"{a.annotator}'s answer to {a.key} {why}; give the store that was labelled, or labels "
        "without this line"
    )


def questions(groups: dict[str, list[str]], pairs: int, seed: int) -> list[Question]:
    """Up to `pairs` pairs of each group of tries, in a drawn order."""
    rng = np.random.default_rng(seed)
    found = []
    for group, tries in sorted(groups.items()):
        able = list(combinations(sorted(tries), 2))
        chosen = rng.choice(len(able), min(pairs, len(able)), replace=False)
        found += [Question(group, *able[k]) for k in sorted(chosen)]
    return [found[k] for k in rng.permutation(len(found))]


def agreement(answers: Iterable[Answer]) -> dict:
    """How often two people said the same of the pairs that both judged, and Cohen's kappa (1960),
    which takes away what chance would give, the mean over pairs of people."""
    by: dict[str, dict[str, float]] = defaultdict(dict)
    for a in answers:
        vote = a.vote()
        if vote is not None:
            by[a.annotator][a.key] = vote[min(vote)]
    same, kappas, shared = [], [], 0
    for one, two in combinations(sorted(by), 2):
        both = sorted(set(by[one]) & set(by[two]))
        if not both:
            continue
        pairs = [(by[one][k], by[two][k]) for k in both]
        agreed = np.mean([a == b for a, b in pairs])
        counts = [Counter(side) for side in zip(*pairs)]
        chance = sum(counts[0][v] * counts[1][v] for v in counts[0]) / len(both) ** 2
        shared += len(both)
        same += [a == b for a, b in pairs]
        kappas.append(1.0 if chance == 1 else (agreed - chance) / (1 - chance))
    return {
        "answers": {name: len(said) for name, said in sorted(by.items())},
        "shared": shared,
        "agreement": round(float(np.mean(same)), 4) if same else None,
        "kappa": round(float(np.mean(kappas)), 4) if kappas else None,
    }


def preferences(
    answers: Iterable[Answer], tries: Mapping[str, Try], config: PreferConfig, seed: int
) -> tuple[list[Preference], dict]:
    """Preferences by the majority of those who were asked, and a data card. Deterministic given
    `seed`.

    The margin is the difference of the vote's shares, the uncertainty what is missing to a
    unanimous one; an even vote is a tie, and so is one with a margin up to config.tie.
    Near-duplicates are dropped, then the smallest margins, of equal ones by a draw.
    Raises ValueError for keys of `config` that say nothing here, and PreferenceError as
    `require_about` does, or where nothing was decided.
    """
    _require_meant(config)
    require_about(answers := list(answers), tries)
    latest = list({(a.annotator, a.key): a for a in answers}.values())
    by: dict[str, list[Answer]] = defaultdict(list)
    for answer in latest:
        if answer.answer != "skip":
            by[answer.key].append(answer)
    found = [_majority(said, tries, config) for _, said in sorted(by.items())]
    apart = [p for p in found if _distance(p, tries) >= config.apart]
    ties, decided = ([p for p in apart if p.tie is tie] for tie in (True, False))
    if not decided:
        raise PreferenceError(
            f"nobody prefers anything: {len(latest)} answers, {len(ties)} of them ties, "
            f"{len(found) - len(apart)} of clips less than apart={config.apart} apart"
        )
    rng = np.random.default_rng(seed)
    ranked = sorted(rng.permutation(len(decided)), key=lambda k: -decided[k].margin)
    kept = [decided[k] for k in sorted(ranked[: max(1, round(config.keep * len(ranked)))])]
    chosen = [_turned(p) if config.shuffle and rng.random() < 0.5 else p for p in kept] + ties
    clips = {c: tries[c.episode].success for p in chosen for c in (p.chosen, p.rejected)}
    card = {
        "comparisons": len(found),
        "duplicates": len(found) - len(apart),
        "small": len(decided) - len(kept),
        "unnamed": sum(a.digests is None for a in latest),  # do not name their episodes
        **summary(chosen, clips),
        **agreement(latest),
        "config": asdict(config),
        "seed": seed,
    }
    return chosen, card


def _require_meant(config: PreferConfig) -> None:
    usual = replace(PreferConfig(), source=config.source, **{k: getattr(config, k) for k in KEYS})
    given = [f"{k}={v}" for k, v in asdict(config).items() if v != getattr(usual, k)]
    if given:
        raise ValueError(
            f"{', '.join(given)}: source=people has no use for it, expected keys among "
            f"{', '.join(KEYS)}"
        )


def _majority(said: list[Answer], tries: Mapping[str, Try], config: PreferConfig) -> Preference:
    votes = [a.vote() for a in said]
    first, second = sorted(votes[0])
    share = float(np.mean([vote[first] for vote in votes]))
    better, worse = (first, second) if share >= 0.5 else (second, first)
    margin = abs(2 * share - 1)
    tie = margin <= config.tie
    length = {e: config.end(len(tries[e].actions)) for e in (better, worse)}
    return Preference(
        Clip(better, 0, length[better]),
        Clip(worse, 0, length[worse]),
        0.0 if tie else margin,
        {PEOPLE: margin},
        tries[better].group,
        tie,
        1 - margin,
        ", ".join(sorted(a.annotator for a in said)),
    )


def _turned(p: Preference) -> Preference:
    terms = {name: -value for name, value in p.terms.items()}
    return replace(p, chosen=p.rejected, rejected=p.chosen, terms=terms)


def _distance(p: Preference, tries: Mapping[str, Try]) -> float:
    """Root mean square difference of two clips, in ranges of the actions."""
    from robostack.prefer.candidates import in_ranges  # here: whoever labels need not wait for it

    steps = min(p.chosen.stop, p.rejected.stop)
    one, two = (tries[clip.episode] for clip in (p.chosen, p.rejected))
    apart = in_ranges(one.actions[:steps], one.spec) - in_ranges(two.actions[:steps], two.spec)
    return float(np.sqrt(np.square(apart).mean()))
