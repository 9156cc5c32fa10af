"""The stores that an exam is held on, and which of their episodes."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from robostack.data.store import Store, open_store
from robostack.exam.sheet import TRY, ExamConfig, ExamError
from robostack.exam.trials import SHIFTS, close


@dataclass
class Paper:
    """One store of an exam and the episodes of it that are asked about."""

    store: Store
    name: str  # as it is reported
    task: str
    shift: str
    config: ExamConfig
    ids: list[str] = field(default_factory=list)
    controls: set[str] = field(default_factory=set)
    facts: dict[str, dict] = field(default_factory=dict)  # id -> attributes
    contents: dict[str, str] = field(default_factory=dict)  # id -> digest, of those in `ids`

    def __post_init__(self) -> None:
        """Choose the episodes that are asked about, and the successes put to the controls."""
        self.store.require_episodes()
        config = self.config
        self.facts = {i: self.store.attributes(i) for i in self.store.ids()}
        count: dict[str, int] = defaultdict(int)
        for episode_id, facts in self.facts.items():
            label = facts.get("label", "")
            key = label or str(facts["success"])
            if label == TRY or not config.episodes or count[key] < config.episodes:
                self.ids.append(episode_id)
                count[key] += 1
            straight = facts["success"] and label in ("success", "")
            asked = straight and not self.shift and self.ids[-1:] == [episode_id]
            if asked and len(self.controls) < config.controls:
                self.controls.add(episode_id)
        self.contents = {episode_id: self.store.digest(episode_id) for episode_id in self.ids}

    def about(self) -> dict:
        """What was asked about, and a digest of it all."""
        content = hashlib.sha256(json.dumps(self.contents, sort_keys=True).encode())
        return {
            "name": self.name,
            "task": self.task,
            "shift": self.shift,
            "episodes": len(self.ids),
            "digest": content.hexdigest()[:16],
        }

    def digest(self, words: list[str]) -> str:
        """Of all that an answer depends on, beside the reward."""
        config = self.config
        asked = [self.contents, sorted(self.controls), words]
        about = [asked, config.seed, config.horizon, config.repeats]
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def papers(data: list[Path], config: ExamConfig) -> list[Paper]:
    """The stores of an exam, in order. Raises ExamError or StoreError where one is not right."""
    found = []
    for folder in map(Path, data):
        try:
            summary = json.loads((folder / "summary.json").read_text())
        except (OSError, json.JSONDecodeError):
            summary = {}
        entries = summary.get("stores") if isinstance(summary, dict) else None
        if entries is None:
            found.append(Paper(open_store(folder), folder.resolve().name, "", "", config))
            continue
        for entry in entries:
            if not isinstance(entry, dict) or not {"path", "task", "shift"} <= set(entry):
                raise ExamError(f"{folder}/summary.json: a store needs path, task and shift")
            if entry["shift"] not in ("", *SHIFTS):
                raise ExamError(
                    f"{folder}/summary.json: unknown shift {entry['shift']!r}"
                    f"{close(entry['shift'], SHIFTS)}"
                )
            if entry.get("episodes") == {}:  # of its own saying
                continue
            store = open_store(folder / entry["path"])
            found.append(Paper(store, entry["path"], entry["task"], entry["shift"], config))
    for number, paper in enumerate(found):
        if paper.name in [p.name for p in found[:number]]:
            paper.name = str(paper.store.path)
    if not found:
        raise ExamError("no data to hold an exam on")
    return found


def starts(stores: list[Paper]) -> dict[str, list[int]]:
    """Seeds of the episodes that are asked about, by instruction."""
    found: dict[str, set[int]] = defaultdict(set)
    for paper in stores:
        for episode_id in paper.ids:
            facts = paper.facts[episode_id]
            found[facts["task"]].add(facts["seed"])
    return {task: sorted(seeds) for task, seeds in sorted(found.items())}


def other_instructions(stores: list[Paper], most: int) -> list[str]:
    """Instructions that are asked for in turn: all, or where there are more than `most`, the most
    frequent one of every task first."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for paper in stores:
        for facts in paper.facts.values():
            if paper.shift == "":
                counts[paper.task or facts["task"]][facts["task"]] += 1
    turns = [
        (place, -count, words)
        for table in counts.values()
        for place, (words, count) in enumerate(sorted(table.items(), key=lambda i: (-i[1], i[0])))
    ]
    return list(dict.fromkeys(words for _, _, words in sorted(turns)))[:most]
