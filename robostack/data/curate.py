"""New stores out of old ones: merged, split, trimmed, relabelled. Episodes are never edited: what
comes out is another store, and the one that it came from stays as it was."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from robostack.data.audit import AuditConfig, fingerprint, trimmed
from robostack.data.store import Store, StoreError
from robostack.types import Episode

Progress = Callable[[Iterable, str, int], Iterator]


@dataclass(frozen=True)
class MergeConfig:
    """Which episodes of several stores go into one."""

    duplicates: Literal["refuse", "drop", "keep"] = "refuse"  # the same states and actions twice
    only: Literal["all", "successes", "failures"] = "all"
    damaged: Literal["refuse", "skip"] = "refuse"  # what cannot be read


@dataclass(frozen=True)
class SplitConfig:
    """How episodes are dealt out. Tries from one state (a group) always stay together."""

    parts: dict[str, float] = field(default_factory=lambda: {"train": 0.9, "test": 0.1})
    by: Literal["chance", "task", "success"] = "chance"  # the others: a store for each value

    def __post_init__(self) -> None:
        if not self.parts or min(self.parts.values()) <= 0:
            raise ValueError(f"parts={self.parts}: expected a share above 0 for each name")
        if bad := [n for n in self.parts if "/" in n or n.startswith(".")]:
            raise ValueError(f"parts: {', '.join(bad)} cannot be the names of folders")


@dataclass(frozen=True)
class TrimConfig:
    """Which steps of an episode stay."""

    auto: bool = False  # cut idle beginnings and ends
    start: int = 0  # first step that stays
    stop: int = 0  # first that does not; 0 the end, negative: counted from there
    margin: float = 0.2  # [s] of idleness that auto leaves
    audit: AuditConfig = field(default_factory=AuditConfig)

    def __post_init__(self) -> None:
        if self.auto and (self.start or self.stop):
            raise ValueError("auto=true finds start and stop itself; leave them out")
        if self.start < 0 or self.margin < 0:
            raise ValueError(f"start={self.start}, margin={self.margin}: expected 0 or more")


@dataclass(frozen=True)
class RelabelConfig:
    """What is said anew of episodes; what is left out stays."""

    task: str = ""  # instruction
    success: Literal["", "yes", "no", "unknown"] = ""
    label: str = ""  # what their maker says of them, e.g. "near miss"
    source: Literal["", "demo", "rollout", "intervention", "led"] = ""
    threshold: float = 0.5  # with --reward: succeeded where its last potential is above


def merge(stores: list[Store], out: Path, config: MergeConfig, progress: Progress) -> dict:
    """All episodes of several stores of one robot, in order. Raises SpecMismatch, StoreError."""
    for other in stores[1:]:
        stores[0].spec.require_same(other.spec, str(stores[0].path), str(other.path))
    chosen = [(store, i) for store in stores for i in store.ids()]
    seen: dict[str, str] = {}
    dropped, damaged = [], []

    def episodes() -> Iterator[Episode]:
        for store, episode_id in progress(chosen, "merge", len(chosen)):
            name = f"{store.path}/{episode_id}"
            try:
                if not _wanted(store, episode_id, config.only):
                    continue
                episode = store.read(episode_id)
            except StoreError as error:
                if config.damaged == "refuse":
                    raise StoreError(f"{error}; or damaged=skip leaves it out") from None
                damaged.append(str(error))
                continue
            mark = fingerprint(episode)
            first = seen.get(mark)
            seen.setdefault(mark, name)
            if first and config.duplicates == "refuse":
                raise StoreError(
                    f"{name} is the same as {first}; duplicates=drop leaves it out, "
                    "duplicates=keep takes it twice"
                )
            if first and config.duplicates == "drop":
                dropped.append(name)
                continue
            yield episode
        if not seen:
            raise StoreError(f"only={config.only}: no episode is left to merge")

    made = _write(out, stores[0], episodes())
    told = {"store": str(out), "episodes": len(made), "dropped": dropped}
    return told | ({"damaged": damaged} if damaged else {})


def _wanted(store: Store, episode_id: str, only: str) -> bool:
    return only == "all" or bool(store.attributes(episode_id)["success"]) == (only == "successes")


def _write(out: Path, like: Store, episodes: Iterable[Episode]) -> Store:
    """A new store; nothing of it is left where its episodes cannot be made."""
    if out.exists() and any(out.iterdir()):
        raise StoreError(f"{out} exists and is not empty; name another --out")
    partial = out.parent / f".{out.name}.partial"
    if partial.exists():
        raise StoreError(f"{partial} is left over from an interrupted run; remove it first")
    store = Store.create(partial, like.spec)
    try:
        for episode in episodes:
            store.append(episode)
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Store(out)


def split(store: Store, out: Path, config: SplitConfig, seed: int, progress: Progress) -> dict:
    """Stores out/NAME. Raises StoreError where one would be empty."""
    about = {i: store.attributes(i) for i in store.ids()}
    dealt = _dealt(about, config, seed)
    if empty := [name for name, ids in dealt.items() if not ids]:
        raise StoreError(
            f"{', '.join(empty)} would be empty: {len(about)} episodes in "
            f"{len({_together(i, a) for i, a in about.items()})} groups that stay together"
        )
    for name, ids in dealt.items():
        _write(out / name, store, (store.read(i) for i in progress(ids, name, len(ids))))
    return {name: {"store": str(out / name), "episodes": len(ids)} for name, ids in dealt.items()}


def _together(episode_id: str, about: dict) -> str:
    return about["group"] or episode_id


def _dealt(about: dict[str, dict], config: SplitConfig, seed: int) -> dict[str, list[str]]:
    if config.by != "chance":
        found: dict[str, list[str]] = {}
        for episode_id, each in about.items():
            words = {True: "success", False: "failure", None: "unknown"}
            value = each["task"] if config.by == "task" else words[each["success"]]
            found.setdefault(_folder(value), []).append(episode_id)
        return found
    groups = sorted({_together(i, a) for i, a in about.items()})
    order = np.random.default_rng(seed).permutation(len(groups))
    edges = np.cumsum(list(config.parts.values()))
    edges = np.round(edges / edges[-1] * len(groups)).astype(int)
    parts = np.split(order, edges[:-1])
    owner = {groups[g]: name for name, part in zip(config.parts, parts) for g in part}
    found = {name: [] for name in config.parts}
    for episode_id, each in about.items():
        found[owner[_together(episode_id, each)]].append(episode_id)
    return found


def _folder(text: str) -> str:
    """A name of a folder that tells what is in it."""
    return "".join(c if c.isalnum() else "-" for c in text).strip("-")[:60] or "none"


def cut(episode: Episode, start: int, stop: int) -> Episode:
    """Steps start..stop-1 as an episode of its own. Times stay those of the whole; without its end
    it is not terminated, whatever it came to later."""
    if not 0 <= start < stop <= len(episode):
        raise ValueError(
            f"steps {start} to {stop}: expected 0 <= start < stop <= {len(episode)}, the episode's"
        )
    rows = slice(start, stop + 1)
    return replace(
        episode,
        states=episode.states[rows],
        images={name: frames[rows] for name, frames in episode.images.items()},
        stamps=episode.stamps[rows],
        actions=episode.actions[start:stop],
        keypoints={name: points[rows] for name, points in episode.keypoints.items()},
        truth=None if episode.truth is None else episode.truth[rows],
        terminated=episode.terminated and stop == len(episode),
    )


def trim(
    store: Store,
    out: Path | None,
    config: TrimConfig,
    progress: Progress,
    ids: Sequence[str] = (),
) -> dict:
    """A store of the same episodes, those of `ids` shorter, or all; without `out`, only what would
    be cut. `kept` tells the first step that stays, and the first that does not, of each episode
    that is cut. Raises ValueError where nothing would be cut."""
    if not config.auto and not config.start and not config.stop:
        raise ValueError("nothing to cut: give auto=true, or start or stop, e.g. start=5 stop=-3")
    chosen, before, after = require_ids(store, ids), 0, 0
    kept: dict[str, list[int]] = {}

    def episodes() -> Iterator[Episode]:
        nonlocal before, after
        for episode_id in progress(store.ids(), "trim", len(store)):
            episode = store.read(episode_id)
            before += len(episode)
            rows = _kept(episode_id, episode, config) if episode_id in chosen else None
            if rows not in (None, (0, len(episode))):
                kept[episode_id], episode = list(rows), cut(episode, *rows)
            after += len(episode)
            yield episode

    count = sum(1 for _ in episodes()) if out is None else len(_write(out, store, episodes()))
    told = {"episodes": count, "steps": after, "cut": before - after, "kept": kept}
    return ({} if out is None else {"store": str(out)}) | told


def _kept(episode_id: str, episode: Episode, config: TrimConfig) -> tuple[int, int]:
    if config.auto:
        return trimmed(episode, config.audit, config.margin)
    stop = config.stop if config.stop > 0 else len(episode) + config.stop
    if not config.start < stop <= len(episode):
        raise StoreError(
            f"episode {episode_id} has {len(episode)} steps; start={config.start} "
            f"stop={config.stop} leaves none of them, or asks for more"
        )
    return config.start, stop


def require_ids(store: Store, named: Sequence[str]) -> set[str]:
    """Ids that were named, all of them if none; leading zeros may be left out. Raises StoreError
    for one that is not there."""
    wanted, have = {str(name).zfill(6) for name in named}, store.ids()
    if unknown := wanted - set(have):
        raise StoreError(
            f"{store.path} has no episode {', '.join(sorted(unknown))}; it has {have[0]} to "
            f"{have[-1]}"
        )
    return wanted or set(have)


def relabel(
    store: Store,
    out: Path,
    config: RelabelConfig,
    progress: Progress,
    ids: Sequence[str] = (),
    succeeded: Callable[[Episode], bool] | None = None,
) -> dict:
    """A store of the same episodes; of those of `ids`, or of all, something else is said.
    `succeeded` decides about success where it is given. Raises ValueError where nothing is said."""
    outcome = {"yes": True, "no": False, "unknown": None}
    said = {n: getattr(config, n) for n in ("task", "label", "source") if getattr(config, n)}
    if config.success:
        said["success"] = outcome[config.success]
    if not said and succeeded is None:
        raise ValueError("nothing to say: give task, success, label, source, or --reward")
    if config.success and succeeded is not None:
        raise ValueError("success is said twice: by success= and by --reward")
    chosen, changed = require_ids(store, ids), Counter()

    def episodes() -> Iterator[Episode]:
        for episode_id in progress(store.ids(), "relabel", len(store)):
            episode = store.read(episode_id)
            if episode_id in chosen:
                new = said if succeeded is None else said | {"success": succeeded(episode)}
                changed.update(n for n, v in new.items() if v != getattr(episode, n))
                episode = replace(episode, **new)
            yield episode

    made = _write(out, store, episodes())
    return {"store": str(out), "episodes": len(made), "changed": dict(changed)}
