"""Asking rewards about a store, and keeping what they said on disk."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from robostack.exam import questions
from robostack.exam.paper import Paper
from robostack.exam.sheet import TRY, Case, Sheet
from robostack.learn.run import progress
from robostack.protocols import Reward
from robostack.rewards.deviation import windows
from robostack.types import Episode, Observation

SAVE_EVERY = 30.0  # [s]


@dataclass
class Answers:
    """What one reward said of one store, on disk."""

    path: Path
    digest: str
    said: dict[str, np.ndarray] = field(default_factory=dict)  # "variant|id"
    refused: dict[str, str] = field(default_factory=dict)
    saved: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, path: Path, digest: str) -> Answers:
        """Earlier ones, unless they are stale or damaged."""
        try:
            with np.load(path, allow_pickle=False) as file:
                said = {key: file[key] for key in file.files}
            about = json.loads(str(said.pop("about")))
            if about["digest"] == digest:
                return cls(path, digest, said, about["refused"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            pass
        return cls(path, digest)

    def ask(self, key: str, question, *arguments) -> None:
        if key in self.said or key in self.refused:
            return
        try:
            self.said[key] = question(*arguments)
        except questions.Refusal as why:
            self.refused[key] = str(why)
        if time.monotonic() - self.saved > SAVE_EVERY:
            self.save()

    def copy_to(self, sheet: Sheet, cases: list[Case], store: str) -> None:
        """Onto a sheet, under the keys of its cases."""
        sheet.cases += cases
        for mine, its in ((self.said, sheet.said), (self.refused, sheet.refused)):
            for key, value in mine.items():
                variant, _, episode_id = key.rpartition("|")
                its[variant, f"{store}/{episode_id}"] = value

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        about = json.dumps({"digest": self.digest, "refused": self.refused})
        partial = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
        try:
            with partial.open("wb") as file:
                np.savez(file, about=np.array(about), **self.said)
            partial.replace(self.path)
        finally:
            partial.unlink(missing_ok=True)
        self.saved = time.monotonic()


@dataclass
class Group:
    """Tries that began in one state, as far as ranking them needs."""

    start: Observation
    ids: list[str] = field(default_factory=list)
    chunks: list[np.ndarray] = field(default_factory=list)  # f32[H, A] each

    def rank(self, answers: Answers, reward: Reward) -> None:
        keys = [f"{questions.RANK}|{i}" for i in self.ids]
        if all(key in answers.said or key in answers.refused for key in keys):
            return
        try:
            said = questions.ranking(reward, self.start, np.stack(self.chunks))
        except questions.Refusal as why:
            answers.refused |= dict.fromkeys(keys, str(why))
        else:
            answers.said |= {key: value[None] for key, value in zip(keys, said)}


def ask(
    rewards: dict[str, Reward],
    sheets: dict[str, Sheet],
    paper: Paper,
    out: Path,
    needs: set[str],
    look: Callable[[Case, Episode], None],
) -> None:
    """Put a store's episodes to every reward, one by one, and the answers onto their sheets.

    What is on disk under `out` is not asked again. `look` sees every episode in passing.
    """
    config, words = paper.config, next(iter(sheets.values())).instructions
    tag = hashlib.sha256(str(paper.store.path.resolve()).encode()).hexdigest()[:12]
    digest = paper.digest(words)
    answers = {
        name: Answers.of(out / "answers" / reward.fingerprint() / f"{tag}.npz", digest)
        for name, reward in rewards.items()
    }
    groups: dict[str, Group] = {}
    cases = []
    for episode_id in progress(paper.ids, f"exam {paper.name}", len(paper.ids)):
        episode = paper.store.read(episode_id)
        case = Case.of(episode, episode_id, paper.name, paper.task, paper.shift)
        cases.append(case)
        look(case, episode)
        for variant, question, seen in _questions(case, episode, episode_id, paper, needs, words):
            for name, reward in rewards.items():
                answers[name].ask(f"{variant}|{episode_id}", question, reward, seen)
        if questions.RANK in needs and case.label == TRY and case.group and not case.shift:
            if case.group not in groups:
                groups[case.group] = Group(_start(episode))
            group = groups[case.group]
            group.ids.append(episode_id)
            group.chunks.append(windows(episode.actions, config.horizon)[0])
    for name, reward in rewards.items():
        for group in groups.values():
            group.rank(answers[name], reward)
        answers[name].save()
        answers[name].copy_to(sheets[name], cases, paper.name)


def _start(episode: Episode) -> Observation:
    """The first observation alone, which does not keep the others in memory."""
    seen = questions.blind(episode).observation(0)
    return replace(seen, images={name: frame.copy() for name, frame in seen.images.items()})


def _questions(
    case: Case,
    episode: Episode,
    episode_id: str,
    paper: Paper,
    needs: set[str],
    words: list[str],
):
    """(variant, function of reward and episode, episode) of all that is asked about an episode."""
    controlled = episode_id in paper.controls
    wanted = needs if controlled else needs & {questions.PLAIN}
    for variant, seen in questions.questions(episode, case.key, wanted, words, paper.config.seed):
        yield variant, questions.potential, seen
    seen = questions.blind(episode)
    if questions.STOPS in needs and case.outcome is not None and not case.shift:
        yield questions.STOPS, questions.stops, seen
    if controlled and episode_id == min(paper.controls):
        repeats = paper.config.repeats
        if questions.COST in needs:
            yield questions.COST, lambda r, e: questions.cost(r, e, repeats), seen
        if questions.LIVE in needs:
            yield questions.LIVE, questions.live, seen
