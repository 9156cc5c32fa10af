"""Import and export as one call each, whatever the format: what can be taken over is, what cannot
is named, and what the numbers say about conventions is found out."""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from robostack.data.interchange.conventions import CHECKS, Trace, check_conventions, unchecked
from robostack.data.interchange.formats import (
    ExportConfig,
    ImportConfig,
    export_format,
    require_used,
)
from robostack.data.interchange.report import BadEpisode, Convention, FormatError, Problem, Report
from robostack.data.store import Store
from robostack.types import Episode, RobotSpec

Progress = Callable[[Iterable, str, int], Iterator]
CHECKED = 20  # episodes, at most, that conventions are read from
# what reading other people's files may raise, where they are not what they should be
UNREADABLE = (
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(OSError, RuntimeError),
)


class Source(Protocol):
    """A foreign data set, one episode at a time."""

    format: str
    spec: RobotSpec

    def names(self) -> list[str]: ...

    def read(self, number: int) -> Episode:
        """Raises BadEpisode naming the field."""

    def conventions(self) -> list[Convention]:
        """What it found out itself while it read, by other means than statistics."""


def open_source(path: Path, kind: str, config: ImportConfig, report: Report) -> Source:
    """A data set of a format that needs no robot and no simulator. Raises FormatError."""
    require_used(config, kind)
    given = dict(conventions=config.conventions, cameras=config.cameras)
    if config.state:
        given["state"] = config.state
    if kind == "lerobot":
        from robostack.data.interchange.lerobot import LeRobotSource

        return LeRobotSource(path, report, **given)
    from robostack.data.interchange.robomimic import RobomimicSource

    return RobomimicSource(path, report, hz=config.hz, mask=config.mask, **given)


@contextlib.contextmanager
def needed(package: str = "robostack[data]") -> Iterator[None]:
    """Turns the absence of a module into advice which package has it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise FormatError(
            f"this needs {error.name}, which is not installed: pip install '{package}'"
        ) from None


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder that is there whole or not at all. Raises FormatError where there is something."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FormatError(f"{path} exists; name another --out")
    partial = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def bring(
    source: Source, report: Report, out: Path, config: ImportConfig, progress: Progress
) -> Report:
    """Import all episodes into a new store at `out`, with import.json in it. Raises FormatError
    where nothing can be read, or `config.strict` and a convention is contradicted."""
    report.format = source.format
    with new_folder(out) as partial:
        store, first = Store.create(partial, source.spec), []
        names = source.names()
        for number, name in enumerate(progress(names, "import", len(names))):
            episode = _taken(source, number, name, report)
            if episode is None:
                continue
            store.append(episode)
            report.episodes += 1
            if len(first) < CHECKED:
                first.append(Trace(episode.spec, episode.states, episode.actions))
        if not first:
            listed = _listed(report, source.spec.cameras)
            raise FormatError(f"no episode of {report.source} can be imported:\n{listed}")
        _look_at_conventions(source, first, config, report)
        (partial / "import.json").write_text(json.dumps(report.to_dict(), indent=1))
    return report


def _look_at_conventions(
    source: Source, first: list[Trace], config: ImportConfig, report: Report
) -> None:
    found = check_conventions(first)
    report.conventions = [*source.conventions(), *found]
    if names := unchecked(found):
        report.note(f"not checked, as no state or action is named for it: {', '.join(names)}")
    if names := sorted(config.conventions.keys() - CHECKS.keys()):
        report.note(f"declared, and there is no check of it: {', '.join(names)}")
    wrong = [c for c in report.conventions if c.contradicted]
    if wrong and config.strict:
        raise FormatError(f"strict=true: {'; '.join(map(str, wrong))}")


def _taken(source: Source, number: int, name: str, report: Report) -> Episode | None:
    """None where the episode is not as it should be, which is put down in the report."""
    try:
        episode = source.read(number)
        _require_times(episode.stamps)
        return episode
    except BadEpisode as error:
        problem = Problem(name, error.field, error.what)
    except UNREADABLE as error:
        field_name, colon, what = str(error).partition(": ")
        if colon and field_name.startswith("Episode."):  # it says itself which field it means
            problem = Problem(name, field_name.removeprefix("Episode."), what)
        else:
            what = f"cannot be read ({type(error).__name__}: {error})"
            problem = Problem(name, "episode", what)
    report.left_out.append(problem)
    return None


def _require_times(stamps: np.ndarray) -> None:
    """Times that increase, all of them numbers."""
    if (bad := np.flatnonzero(~np.isfinite(stamps))).size:
        raise BadEpisode("stamps", f"{stamps[bad[0]]} in row {bad[0]}")
    if (bad := np.flatnonzero(~(np.diff(stamps) > 0))).size:
        raise BadEpisode("stamps", f"time does not increase at row {bad[0] + 1}")


def _listed(report: Report, cameras: Collection[str]) -> str:
    rows = [f"  {problem}" for problem in report.left_out[:10]]
    lacking = {p.field.removeprefix("images.") for p in report.left_out} & {*cameras}
    if len(lacking) == 1 and (others := [name for name in cameras if name not in lacking]):
        rows.append(f"  cameras=[{','.join(others)}] leaves out camera {lacking.pop()}")
    return "\n".join(rows)


def send(
    episodes: Iterable[Episode],
    count: int,
    spec: RobotSpec,
    out: Path,
    config: ExportConfig,
    progress: Progress,
) -> Report:
    """Export episodes to a new folder or file `out`. `episodes` are gone through twice where
    pictures lose something, which is measured. Raises FormatError where they lose too much."""
    kind = export_format(out, config)
    require_used(config, f"export to {kind}")
    report = Report("", kind)
    if out.exists():
        raise FormatError(f"{out} exists; name another --out")
    with needed():
        if kind == "robomimic":
            from robostack.data.interchange.robomimic_export import export

            export(progress(episodes, "export", count), spec, out, report)
            return report
        _send_lerobot(episodes, count, spec, out, config, progress, report)
    return report


def _send_lerobot(episodes, count, spec, out, config, progress, report) -> None:
    from robostack.data.interchange.lerobot_export import export
    from robostack.data.interchange.video import CRF

    crf = CRF.get(config.codec, 0) if config.crf < 0 else config.crf
    with new_folder(out) as partial:
        told = progress(episodes, "export", count)
        exporter = export(told, spec, partial, config.codec, crf, report)
        for index, episode in enumerate(progress(episodes, "read back", count)):
            exporter.check(index, episode, report)
        if worst := {c: p for c, p in report.psnr.items() if p < config.least_psnr}:
            camera, found = min(worst.items(), key=lambda item: item[1])
            raise FormatError(
                f"camera {camera}: the worst picture came back with {found:.1f} dB PSNR, "
                f"least_psnr={config.least_psnr:g}; use a lower crf than {crf}, codec=lossless or "
                "codec=png"
            )
