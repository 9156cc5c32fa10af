"""Which formats there are: what tells them apart, and what can be said about each."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from robostack.data.interchange.report import FormatError

HDF5 = (".hdf5", ".h5")
BAGS = (".mcap", ".db3")
INSIDE = ("metadata.yaml", "*/metadata.yaml", *(f"*{end}" for end in BAGS))  # of a folder of them
TAKES = {  # format -> keys that it has a use for, besides ALWAYS
    "lerobot": ("state", "cameras", "conventions"),
    "robomimic": ("state", "cameras", "conventions", "hz", "mask"),
    "bag": ("robot",),
    "replay": ("replay", "env", "mask"),
    "export to lerobot": ("codec", "crf", "least_psnr"),
    "export to robomimic": (),
}
ALWAYS = ("format", "strict", "successes", "damaged")


@dataclass(frozen=True)
class ImportConfig:
    """What a foreign data set does not say itself."""

    format: Literal["auto", "lerobot", "robomimic", "bag"] = "auto"
    state: tuple[str, ...] = ()  # features that make the state; (): the format's usual ones
    cameras: tuple[str, ...] = ()  # that are taken over; (): all
    conventions: dict[str, str] = field(default_factory=dict)  # e.g. gripper: "+1 closes"
    hz: float = 0.0  # control rate, where the data do not say
    mask: str = ""  # of robomimic: only these demonstrations
    strict: bool = False  # import nothing where numbers contradict a declared convention

    def __post_init__(self) -> None:
        if not self.hz >= 0:
            raise ValueError(f"hz={self.hz}: expected a rate above 0 [Hz]")


@dataclass(frozen=True)
class ExportConfig:
    """In which format, and how pictures are kept."""

    format: Literal["auto", "lerobot", "robomimic"] = "auto"  # auto: as --out ends, .hdf5 or not
    codec: Literal["h264", "av1", "lossless", "png"] = "h264"  # of lerobot
    crf: int = -1  # rate factor: less is better and larger; -1: the codec's usual one
    least_psnr: float = 30.0  # [dB] of the worst picture; a worse one is an error
    successes: bool = False  # only episodes that succeeded

    def __post_init__(self) -> None:
        if not -1 <= self.crf <= 63 or not self.least_psnr >= 0:
            raise ValueError(f"crf={self.crf}, least_psnr={self.least_psnr}: expected -1 to 63, 0+")
        if self.crf >= 0 and self.codec in ("lossless", "png"):
            raise ValueError(f"crf={self.crf}: codec={self.codec} loses nothing and has no rate")


def detect(path: Path) -> str:
    """The format of a file or folder, by its looks. Raises FormatError."""
    if (path / "meta" / "info.json").is_file():
        return "lerobot"
    if path.suffix.lower() in HDF5:
        return "robomimic"
    if any((folder / "zarr.json").is_file() for folder in (path, path / "store")):
        raise FormatError(
            f"{path} is a store of robostack's own: it can be used as it is, and `robostack data "
            f"merge --data {path} --out NEW` copies it"
        )
    if path.suffix in BAGS or any(any(path.glob(name)) for name in INSIDE):
        return "bag"
    raise FormatError(
        f"{path}: expected a LeRobotDataset (meta/info.json), robomimic's .hdf5, or ROS 2 bags "
        f"({', '.join(BAGS)}, or a folder with metadata.yaml or such files, or one folder below)"
    )


def require_used(config: ImportConfig | ExportConfig, kind: str) -> None:
    """Raise FormatError naming keys that were given and that a key of TAKES has no use for."""
    usual, takes = type(config)(), TAKES[kind]
    given = {f.name: getattr(config, f.name) for f in fields(config)}
    odd = [n for n in given if n not in (*ALWAYS, *takes) and given[n] != getattr(usual, n)]
    if odd:
        raise FormatError(
            f"{', '.join(odd)}: of no use to {kind}, which takes {', '.join(takes) or 'no key'}"
        )


def export_format(out: Path, config: ExportConfig) -> str:
    """As it was asked for, or as `out` is called; import tells formats by their names as well."""
    named = "robomimic" if out.suffix.lower() in HDF5 else "lerobot"
    if config.format not in ("auto", named):
        wanted = "a file *.hdf5" if config.format == "robomimic" else "a folder, not *.hdf5"
        raise FormatError(f"--out {out}: format={config.format} is {wanted}")
    return named
