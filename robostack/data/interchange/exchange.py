"""Import and export as one call each, whatever the format: what can be taken over is, what cannot
is named, and what the numbers say about conventions is found out."""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from robostack.data.interchange.conventions import Trace, check_conventions
from robostack.data.interchange.report import BadEpisode, Convention, FormatError, Problem, Report
from robostack.data.store import Store
from robostack.types import Episode, RobotSpec, ShapeError

Progress = Callable[[Iterable, str, int], Iterator]
CHECKED = 20  # episodes, at most, that conventions are read from


@dataclass(frozen=True)
class ImportConfig:
    """What a foreign data set does not say itself."""

    format: Literal["auto", "lerobot", "robomimic", "bag"] = "auto"
    state: tuple[str, ...] = ()  # features that make the state; (): the format's usual ones
    conventions: dict[str, str] = field(default_factory=dict)  # e.g. gripper: "+1 closes"
    hz: float = 0.0  # control rate, where the data do not say
    mask: str = ""  # of robomimic: only these demonstrations
    strict: bool = False  # import nothing where numbers contradict a declared convention


@dataclass(frozen=True)
class ExportConfig:
    """In which format, and how pictures are kept."""

    format: Literal["lerobot", "robomimic"] = "lerobot"
    codec: Literal["h264", "av1", "lossless", "png"] = "h264"  # of lerobot
    crf: int = -1  # rate factor: less is better and larger; -1: the codec's usual one
    least_psnr: float = 30.0  # [dB] of the worst picture; a worse one is an error
    successes: bool = False  # only episodes that succeeded

    def __post_init__(self) -> None:
        if not -1 <= self.crf <= 63 or not self.least_psnr >= 0:
            raise ValueError(f"crf={self.crf}, least_psnr={self.least_psnr}: expected -1 to 63, 0+")


class Source(Protocol):
    """A foreign data set, one episode at a time."""

    format: str
    spec: RobotSpec

    def names(self) -> list[str]: ...

    def read(self, number: int) -> Episode:
        """Raises BadEpisode naming the field."""

    def conventions(self) -> list[Convention]:
        """What it found out itself while it read, by other means than statistics."""


def detect(path: Path) -> str:
    """The format of a file or folder, by its looks. Raises FormatError."""
    if (path / "meta" / "info.json").is_file():
        return "lerobot"
    if path.suffix in (".hdf5", ".h5"):
        return "robomimic"
    if (path / "metadata.yaml").is_file() or any(path.glob("*/metadata.yaml")):
        return "bag"
    raise FormatError(
        f"{path}: expected a LeRobotDataset (meta/info.json), robomimic's .hdf5, or ROS 2 bags "
        "(metadata.yaml in it or one folder below)"
    )


def open_source(path: Path, kind: str, config: ImportConfig, report: Report) -> Source:
    """A data set of a format that needs no robot and no simulator."""
    if kind == "lerobot":
        from robostack.data.interchange.lerobot import LeRobotSource

        state = {"state": config.state} if config.state else {}
        return LeRobotSource(path, report, conventions=config.conventions, **state)
    from robostack.data.interchange.robomimic import RobomimicSource

    return RobomimicSource(path, report, config.state, config.conventions, config.hz, config.mask)


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
            raise FormatError(f"no episode of {report.source} can be imported:\n{_listed(report)}")
        report.conventions = [*source.conventions(), *check_conventions(first)]
        wrong = [c for c in report.conventions if c.contradicted]
        if wrong and config.strict:
            raise FormatError(f"strict=true: {'; '.join(map(str, wrong))}")
        (partial / "import.json").write_text(json.dumps(report.to_dict(), indent=1))
    return report


def _taken(source: Source, number: int, name: str, report: Report) -> Episode | None:
    try:
        return source.read(number)
    except BadEpisode as error:
        report.left_out.append(Problem(name, error.field, error.what))
    except (ShapeError, ValueError) as error:
        field_name, _, what = str(error).partition(":")
        report.left_out.append(Problem(name, field_name, what.strip()))
    return None


def _listed(report: Report) -> str:
    return "\n".join(f"  {problem}" for problem in report.left_out[:10])


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
    report = Report("", config.format)
    if out.exists():
        raise FormatError(f"{out} exists; name another --out")
    with needed():
        if config.format == "robomimic":
            from robostack.data.interchange.robomimic import export

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
