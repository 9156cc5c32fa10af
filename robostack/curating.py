"""What the command line does with stores of episodes: look, check, rearrange, exchange."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from robostack import judging
from robostack.data.audit import AuditConfig, Finding, audit_all, disagreement
from robostack.data.interchange.conventions import Trace, check_conventions
from robostack.data.interchange.exchange import CHECKED, Source
from robostack.data.interchange.formats import ExportConfig, ImportConfig
from robostack.data.interchange.report import FormatError, Problem, Report
from robostack.data.store import Store, StoreError, find_stores, open_store
from robostack.judging import FAILED, OK
from robostack.sim.env import EnvConfig
from robostack.types import Episode, SpecMismatch

if TYPE_CHECKING:
    from robostack.exam.results import Trust


@dataclass(frozen=True)
class ValidateConfig(AuditConfig):
    """From when on something is suspicious, and how bad it must be to fail."""

    severity: str = "error"  # exit 1 from here on: error, warning or note
    shown: int = 100  # findings, at most
    threshold: float = 0.5  # with --reward: succeeded where its last potential is above

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity={self.severity}: expected {', '.join(SEVERITIES)}")


@dataclass(frozen=True)
class ImportCommand(ImportConfig):
    """What is imported, and where it is replayed or which robot a bag is of."""

    replay: bool = False  # robosuite's states are shown again in the simulation of `env`
    env: EnvConfig = field(default_factory=EnvConfig)
    robot: str = ""  # file of the robot (configs/robot/*.yaml) that a ROS 2 bag is of


@dataclass(frozen=True)
class ExportCommand(ExportConfig):
    """In which format, and what becomes of what cannot be read."""

    damaged: Literal["refuse", "skip"] = "refuse"  # episodes that cannot be read


SEVERITIES = ("error", "warning", "note")


def _stores(paths: list[Path]) -> list[Store]:
    stores = [open_store(each) for path in paths for each in find_stores(path)]
    for store in stores:
        store.require_episodes()
    where = Counter(store.path.resolve() for store in stores)
    if twice := [str(path) for path, count in where.items() if count > 1]:
        raise StoreError(f"{', '.join(twice)} is given twice; its episodes are there once")
    return stores


def _store(path: Path) -> Store:
    stores = _stores([path])
    if len(stores) > 1:
        several = ", ".join(str(s.path) for s in stores)
        raise StoreError(f"{path} holds several stores; name one: {several}")
    return stores[0]


def _progress(items, label: str, total: int) -> Iterator:
    from robostack.learn.run import progress

    return progress(items, label, total)


def inspect(config, args) -> dict:
    from robostack import contact_sheet

    second = second_opinion(args.reward, config.threshold)
    found = contact_sheet.write(_store(args.data), args.out, config, _progress, second)
    return {"page": str(args.out), **found}


def play(config, args) -> dict:
    from robostack.data.curate import require_ids

    store = _store(args.data)
    if len(args.ids) > 1:
        raise ValueError(f"--episode {', '.join(args.ids)}: one is played at a time")
    episode_id = min(require_ids(store, args.ids))
    if args.out.suffix == ".rrd":
        from robostack.data.interchange.exchange import needed

        with needed("robostack[rerun]"):
            from robostack.data.interchange import rerun
        rerun.export(store.read(episode_id), args.out)
        return {"recording": str(args.out), "look": f"rerun {args.out}"}
    from robostack import episode_page

    episode_page.write(store, episode_id, args.out, config)
    return {"page": str(args.out)}


def validate(config, args) -> int:
    stores, second = _stores(args.stores), second_opinion(args.reward, config.threshold)
    bad, counts, shown = False, Counter(), 0
    for where, finding in _findings(stores, config, second):
        counts[finding.severity] += 1
        bad |= SEVERITIES.index(finding.severity) <= SEVERITIES.index(config.severity)
        shown += 1
        if shown <= config.shown:
            print(f"{where}: {finding}")
    counts["episodes"] = sum(len(store) for store in stores)
    if shown > config.shown:
        print(f"... and {shown - config.shown} more; shown={shown} lists all")
    print(json.dumps({name: counts[name] for name in ("episodes", *SEVERITIES)}))
    return FAILED if bad else OK


Second = Callable[[Episode], list[Finding]]  # another opinion of an episode


def _findings(
    stores: list[Store], config: AuditConfig, second: Second
) -> Iterator[tuple[str, Finding]]:
    """Where something is wrong, and what: with each episode, with all of a store, and with stores
    beside each other, which should be of one robot and hold nothing twice."""
    seen: dict[str, str] = {}
    for store in stores:
        if what := _drift(stores[0], store):
            yield str(store.path), Finding("spec", "error", "spec", 0, 1, what)
        first: list[Trace] = []
        for name, episode, found in _audited(store, config, seen):
            yield from ((name, finding) for finding in found)
            if episode is not None:
                yield from ((name, finding) for finding in second(episode))
                if len(first) < CHECKED:
                    first.append(Trace(store.spec, episode.states, episode.actions))
        for told in check_conventions(first) if first else ():
            if told.contradicted:
                what = f"conventions.{told.name}"
                yield str(store.path), Finding("spec", "warning", what, 0, 1, str(told))


def _drift(first: Store, store: Store) -> str:
    """In what a store is of another robot than the first one."""
    try:
        first.spec.require_same(store.spec, str(first.path), str(store.path))
    except SpecMismatch as error:
        return "; ".join(line.strip() for line in str(error).splitlines()[1:])
    return ""


def _audited(
    store: Store, config: AuditConfig, seen: dict[str, str]
) -> Iterator[tuple[str, Episode | None, list[Finding]]]:
    """Findings by episode; one that cannot be read has that as its only finding."""
    damaged = []

    def readable() -> Iterator[tuple[str, Episode]]:
        ids = store.ids()
        for episode_id in _progress(ids, f"validate {store.path.name}", len(ids)):
            name = f"{store.path}/{episode_id}"
            try:
                yield name, store.read(episode_id)
            except StoreError as error:
                what = str(error).splitlines()[0]
                damaged.append((name, None, [Finding("file", "error", "file", 0, 1, what)]))

    yield from audit_all(readable(), config, store.spec, seen)
    yield from damaged


def stats(config, args) -> dict:
    from robostack.data.summary import summary

    found = [summary(store) for store in _stores(args.stores)]
    return found[0] if len(found) == 1 else {"stores": found}


def merge(config, args) -> dict:
    from robostack.data import curate

    return curate.merge(_stores(args.stores), args.out, config, _progress)


def split(config, args) -> dict:
    from robostack.data import curate

    return curate.split(_store(args.data), args.out, config, args.seed, _progress)


def trim(config, args) -> dict:
    from robostack.data import curate

    return curate.trim(_store(args.data), args.out, config, _progress, args.ids)


def relabel(config, args) -> dict:
    from robostack.data import curate

    judge = None
    if args.reward:
        judge = _judge(args.reward, config.threshold, judging.trust(args))
    return curate.relabel(_store(args.data), args.out, config, _progress, args.ids, judge)


def second_opinion(names: list[str], threshold: float) -> Second:
    """What a detector sees otherwise than it is recorded; nothing where none is named."""
    if not names:
        return lambda episode: []
    judge = _judge(names, threshold)
    return lambda episode: disagreement(episode, judge(episode), names[0])


def _judge(
    names: list[str], threshold: float, trust: Trust | None = None
) -> Callable[[Episode], bool]:
    """Success as one reward sees it: its potential at the end. With `trust`, where somebody will
    learn from it."""
    from robostack import score
    from robostack.rewards.combine import judged

    if len(names) > 1:
        raise ValueError(f"--reward {', '.join(names)}: expected one that judges success")
    named = score.load_rewards(names, [])
    if trust is not None:
        trust.require(named)
    (reward,) = named.values()
    return lambda episode: bool(judged(reward, episode)[-1] > threshold)


def bring(config, args) -> int:
    """Import; the report goes to stderr, and into the store as import.json."""
    from robostack.data.interchange import exchange

    if args.source is None:
        raise FormatError("what? e.g. robostack data import lerobot/pusht --out runs/pusht")
    if not args.source.exists():
        raise FormatError(f"{args.source} does not exist")
    report = Report(str(args.source), "")
    with exchange.needed():
        source = _source(args.source, config, report)
    exchange.bring(source, report, args.out, config, _progress)
    print("\n".join(report.lines()), file=sys.stderr)
    print(json.dumps({"store": str(args.out), "episodes": report.episodes}))
    return OK if report.fine else FAILED


def _source(path: Path, config: ImportCommand, report: Report) -> Source:
    from robostack.data.interchange import exchange, formats

    kind = formats.detect(path) if config.format == "auto" else config.format
    if config.replay:
        from robostack.replaying import ReplaySource

        formats.require_used(config, "replay")
        return ReplaySource(path, report, config.env, config.mask)
    formats.require_used(config, kind)
    if kind == "bag":
        from robostack.bag_source import BagSource

        return BagSource(path, report, config.robot)
    return exchange.open_source(path, kind, config, report)


def send(config, args) -> dict:
    """Export; the report is what is printed."""
    from robostack.data.interchange import exchange

    store = _store(args.data)
    damaged = _damaged(store) if config.damaged == "skip" else {}
    ids = [i for i in store.ids() if i not in damaged]
    ids = [i for i in ids if not config.successes or store.attributes(i)["success"]]
    if not ids:
        raise StoreError(f"successes={config.successes}: {store.path} holds none to export")

    class Episodes:  # gone through more than once, and never all in memory
        def __iter__(self) -> Iterator[Episode]:
            return (store.read(episode_id) for episode_id in ids)

    try:
        report = exchange.send(Episodes(), len(ids), store.spec, args.out, config, _progress)
    except StoreError as error:
        raise StoreError(f"{error}; or damaged=skip leaves it out") from None
    report.source = str(store.path)
    report.left_out += [Problem(name, "file", what) for name, what in damaged.items()]
    return {"out": str(args.out), **report.to_dict()}


def _damaged(store: Store) -> dict[str, str]:
    """Why, of the episodes that cannot be read."""
    found = {}
    for episode_id in _progress(store.ids(), "read", len(store)):
        try:
            store.read(episode_id)
        except StoreError as error:
            found[episode_id] = str(error)
    return found
