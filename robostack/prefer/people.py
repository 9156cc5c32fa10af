"""What people say of two tries from one state: which pairs they are asked, a ledger of their
answers that nothing can take back, how far they agree, and the preferences that follow.

Everybody is asked the same pairs in the same order, each with sides of their own, so that whoever
has answered can be compared and a liking for one side cancels.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from robostack.prefer.compare import PreferConfig, summary
from robostack.prefer.saved import PreferenceError
from robostack.rollout import hash_seed
from robostack.types import Clip, Preference

ANSWERS = ("left", "right", "equal", "skip")
PEOPLE = "people"  # term of the preferences that follow


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
class Answer:
    """One press of a key."""

    id: str  # the browser's own: the same answer sent twice counts once
    annotator: str
    key: str  # of the question
    left: str  # episode
    right: str
    answer: str  # one of ANSWERS
    seconds: float  # since the pair was shown

    def __post_init__(self) -> None:
        if self.answer not in ANSWERS:
            raise ValueError(f"answer: expected one of {', '.join(ANSWERS)}, got {self.answer!r}")
        for name in ("id", "annotator", "key", "left", "right"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip() or len(value) > 200:
                raise ValueError(f"{name}: expected some text, got {value!r}")

    def vote(self) -> dict[str, float] | None:
        """Share of the vote of each episode; None where it was skipped."""
        if self.answer == "skip":
            return None
        left = {"left": 1.0, "right": 0.0, "equal": 0.5}[self.answer]
        return {self.left: left, self.right: 1 - left}


def questions(groups: dict[str, list[str]], pairs: int, seed: int) -> list[Question]:
    """Up to `pairs` pairs of each group of tries, in a drawn order."""
    rng = np.random.default_rng(seed)
    found = []
    for group, tries in sorted(groups.items()):
        able = list(combinations(sorted(tries), 2))
        chosen = rng.choice(len(able), min(pairs, len(able)), replace=False)
        found += [Question(group, *able[k]) for k in sorted(chosen)]
    return [found[k] for k in rng.permutation(len(found))]


class Ledger:
    """Answers, one a line, each on the disk before it is acknowledged.

    A line that a crash cut short is put aside; later answers of one annotator to one question
    replace earlier ones, which stay in the file.
    """

    def __init__(self, path: str | Path):
        self.path, self._lock = Path(path), threading.Lock()
        self.answers: list[Answer] = []
        if self.path.exists():
            self._read()
        self._ids = {answer.id for answer in self.answers}

    def _read(self) -> None:
        text = self.path.read_text()
        whole, _, torn = text.rpartition("\n")
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                self.answers.append(Answer(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise PreferenceError(
                    f"{self.path}, line {number}: not an answer ({error})"
                ) from None
        if torn:
            with self.path.open("r+b") as file:
                file.truncate(len(text.encode()) - len(torn.encode()))

    def add(self, answer: Answer) -> bool:
        """Whether it is new."""
        with self._lock:
            if answer.id in self._ids:
                return False
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(asdict(answer)) + "\n")
                file.flush()
                os.fsync(file.fileno())
            self.answers.append(answer)
            self._ids.add(answer.id)
            return True

    def latest(self) -> dict[tuple[str, str], Answer]:
        """By (annotator, question)."""
        with self._lock:
            return {(a.annotator, a.key): a for a in self.answers}


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
    answers: Iterable[Answer],
    groups: dict[str, str],
    lengths: dict[str, int],
    outcomes: dict[str, bool | None],
    config: PreferConfig,
) -> tuple[list[Preference], dict]:
    """Preferences by the majority of those who were asked, and a data card.

    `groups`, `lengths` and `outcomes` are of the store's episodes. The margin is the difference of
    the vote's shares, the uncertainty what is missing to a unanimous one; an even vote is a tie.
    Raises PreferenceError where an answer is about an episode that is not there, or where nothing
    was decided.
    """
    latest = list({(a.annotator, a.key): a for a in answers}.values())
    by: dict[str, list[Answer]] = defaultdict(list)
    for answer in latest:
        for episode in (answer.left, answer.right):
            if episode not in groups:
                raise PreferenceError(
                    f"{answer.annotator}'s answer to {answer.key} is about episode {episode}, "
                    "which the store does not have"
                )
        if answer.answer != "skip":
            by[answer.key].append(answer)
    found = [_majority(said, groups, lengths, config) for _, said in sorted(by.items())]
    if not [p for p in found if not p.tie]:
        raise PreferenceError(
            f"nobody prefers anything: {len(latest)} answers, {len(found)} of them ties"
        )
    clips = {clip: outcomes[clip.episode] for p in found for clip in (p.chosen, p.rejected)}
    card = {"comparisons": len(by), **summary(found, clips), **agreement(latest)}
    return found, card


def _majority(
    said: list[Answer], groups: dict[str, str], lengths: dict[str, int], config: PreferConfig
) -> Preference:
    votes = [a.vote() for a in said]
    first, second = sorted(votes[0])
    share = float(np.mean([vote[first] for vote in votes]))
    better, worse = (first, second) if share >= 0.5 else (second, first)
    margin, tie = abs(2 * share - 1), share == 0.5
    length = {e: config.end(lengths[e]) for e in (better, worse)}
    return Preference(
        Clip(better, 0, length[better]),
        Clip(worse, 0, length[worse]),
        0.0 if tie else margin,
        {PEOPLE: margin},
        groups[better],
        tie,
        1 - margin,
        ", ".join(sorted(a.annotator for a in said)),
    )
