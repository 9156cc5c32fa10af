"""What the command line does with stores of episodes: look, check, rearrange, exchange."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from robostack import judging
from robostack.data.audit import AuditConfig, audit_all
from robostack.data.interchange.exchange import ImportConfig, Source
from robostack.data.interchange.report import FormatError, Report
from robostack.data.store import Store, StoreError, find_stores, open_store
from robostack.judging import FAILED, OK
from robostack.sim.env import EnvConfig
from robostack.types import Episode


@dataclass(frozen=True)
class ValidateConfig(AuditConfig):
    """From when on something is suspicious, and how bad it must be to fail."""

    severity: str = "error"  # exit 1 from here on: error, warning or note
    shown: int = 100  # findings, at most

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


SEVERITIES = ("error", "warning", "note")


def _stores(paths: list[Path]) -> list[Store]:
    stores = [open_store(each) for path in paths for each in find_stores(path)]
    for store in stores:
        store.require_episodes()
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

    found = contact_sheet.write(_store(args.data), args.out, config, _progress)
    return {"page": str(args.out), **found}


def play(config, args) -> dict:
    from robostack.data.curate import require_ids

    store = _store(args.data)
    if len(args.ids) > 1:
        raise ValueError(f"--episode {', '.join(args.ids)}: one is played at a time")
    episode_id = min(require_ids(store, args.ids))
    if args.out.suffix == ".rrd":
        from robostack.data.interchange.exchange import needed

        with needed("rerun-sdk"):
            from robostack.data.interchange import rerun
        rerun.export(store.read(episode_id), args.out)
        return {"recording": str(args.out), "look": f"rerun {args.out}"}
    from robostack import episode_page

    episode_page.write(store, episode_id, args.out, config)
    return {"page": str(args.out)}


def validate(config, args) -> int:
    bad, counts, shown = False, Counter(), 0
    for store in _stores(args.stores):
        for name, found in _audited(store, config):
            for finding in found:
                counts[finding.severity] += 1
                bad |= SEVERITIES.index(finding.severity) <= SEVERITIES.index(config.severity)
                shown += 1
                if shown <= config.shown:
                    print(f"{store.path}/{name}: {finding}")
        counts["episodes"] += len(store)
    if shown > config.shown:
        print(f"... and {shown - config.shown} more; shown={shown} lists all")
    print(json.dumps({name: counts[name] for name in ("episodes", *SEVERITIES)}))
    return FAILED if bad else OK


def _audited(store: Store, config: AuditConfig) -> Iterator[tuple[str, list]]:
    """Findings by episode; one that cannot be read has that as its only finding."""
    from robostack.data.audit import Finding

    damaged = []

    def readable() -> Iterator[tuple[str, Episode]]:
        ids = store.ids()
        for episode_id in _progress(ids, f"validate {store.path.name}", len(ids)):
            try:
                yield episode_id, store.read(episode_id)
            except (StoreError, ValueError) as error:
                what = str(error).splitlines()[0]
                damaged.append((episode_id, [Finding("file", "error", "file", 0, 1, what)]))

    for episode_id, _, found in audit_all(readable(), config, store.spec):
        yield episode_id, found
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

    judge = _judge(args, config.threshold) if args.reward else None
    return curate.relabel(_store(args.data), args.out, config, _progress, args.ids, judge)


def _judge(args, threshold: float) -> Callable[[Episode], bool]:
    """Success as one reward sees it: its potential at the end."""
    from robostack.rewards.combine import judged

    if len(args.reward) > 1:
        raise ValueError(f"--reward {', '.join(args.reward)}: expected one that judges success")
    named = judging.rewards(args)
    judging.trust(args).require(named)
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
    from robostack.data.interchange import exchange

    kind = exchange.detect(path) if config.format == "auto" else config.format
    if config.replay:
        from robostack.replaying import ReplaySource

        return ReplaySource(path, report, config.env)
    if kind == "bag":
        from robostack.bag_source import BagSource

        return BagSource(path, config.robot)
    return exchange.open_source(path, kind, config, report)


def send(config, args) -> dict:
    """Export; the report is what is printed."""
    from robostack.data.interchange import exchange

    store = _store(args.data)
    ids = [i for i in store.ids() if not config.successes or store.attributes(i)["success"]]
    if not ids:
        raise StoreError(f"successes=true: {store.path} holds none")

    class Episodes:  # gone through more than once, and never all in memory
        def __iter__(self) -> Iterator[Episode]:
            return (store.read(episode_id) for episode_id in ids)

    report = exchange.send(Episodes(), len(ids), store.spec, args.out, config, _progress)
    report.source = str(store.path)
    return {"out": str(args.out), **report.to_dict()}
