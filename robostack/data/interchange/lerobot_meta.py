"""The meta data of a LeRobotDataset v3: read whole, and refused by the file and key that lacks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robostack.data.interchange import layout
from robostack.data.interchange.report import FormatError

EPISODE = ("episode_index", "length", "data/chunk_index", "data/file_index")


@dataclass(frozen=True)
class Meta:
    """What `read` found in meta/."""

    folder: Path
    info: dict
    tasks: dict[int, str]  # instructions by number
    episodes: list[dict]  # a row each, in their order, without statistics

    @property
    def features(self) -> dict[str, dict]:
        return self.info["features"]

    @property
    def fps(self) -> float:
        return float(self.info["fps"])

    @property
    def cameras(self) -> dict[str, str]:
        """Name -> feature."""
        kinds = ("video", "image")
        found = [key for key, feature in self.features.items() if feature["dtype"] in kinds]
        return {layout.camera_of(key): key for key in found}

    def size(self, camera: str) -> tuple[int, int]:
        """(height, width) [px]"""
        return layout.picture_shape(self.features[self.cameras[camera]])[:2]

    def names(self, key: str) -> tuple[list[str], bool]:
        """Of a feature's dimensions, and whether it has them: LeRobot allows a list, a dict of
        lists, or nothing."""
        names, count = self.features[key].get("names"), self.features[key]["shape"][0]
        while isinstance(names, dict) and names:
            names = next(iter(names.values()))
        if isinstance(names, list) and len(names) == count:
            return [str(n) for n in names], True
        stem = key.rsplit(".", 1)[-1]
        return [f"{stem}{i}" for i in range(count)], False

    def bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The format has no bounds of actions: the least and most that was asked for."""
        try:
            stats = json.loads((self.folder / layout.STATS).read_text())[layout.ACTION]
            low, high = (np.atleast_1d(np.array(stats[k], np.float64)) for k in ("min", "max"))
        except (OSError, KeyError, TypeError, ValueError):
            raise FormatError(
                f"{self.folder}: no {layout.STATS} with min and max of {layout.ACTION}"
            ) from None
        slack = np.maximum(1e-6, 1e-5 * (high - low))  # of float32; a still dimension needs some
        return tuple((low - slack).tolist()), tuple((high + slack).tolist())


def read(folder: Path) -> Meta:
    """Raises FormatError naming the file, and what it lacks."""
    info = _info(folder / layout.INFO)
    return Meta(folder, info, _tasks(folder / layout.TASKS), _episodes(folder))


def _info(path: Path) -> dict:
    try:
        info = json.loads(path.read_text())
        version = str(info.get("codebase_version"))
    except (OSError, AttributeError, ValueError) as error:
        raise FormatError(f"{path} cannot be read: not a LeRobotDataset ({error})") from None
    if not version.startswith("v3."):
        raise FormatError(
            f"{path.parents[1]}: codebase_version {version}, expected v3.x; LeRobot's own "
            "convert_dataset_v21_to_v30 brings older ones up to date"
        )
    if not isinstance(info.get("fps"), (int, float)) or not info["fps"] > 0:
        raise FormatError(f"{path}: fps is {info.get('fps')}, expected a rate above 0 [Hz]")
    features = info.get("features")
    if not isinstance(features, dict):
        raise FormatError(f"{path}: no features, expected what a row holds, each with its shape")
    for key, feature in features.items():
        shape = feature.get("shape") if isinstance(feature, dict) else None
        if "dtype" not in (feature or ()) or not shape or not isinstance(shape, list):
            raise FormatError(f"{path}: feature {key!r} is {feature}, expected a dtype and a shape")
    paths = ["data_path"]
    if any(feature["dtype"] == "video" for feature in features.values()):
        paths.append("video_path")
    for key in paths:
        if not isinstance(info.get(key), str):
            raise FormatError(f"{path}: {key} is {info.get(key)}, expected where files lie")
    return info


def _table(path: Path, columns: list[str] | None = None) -> pa.Table:
    if not path.is_file():
        raise FormatError(f"{path} is missing")
    try:
        return pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{path} is damaged ({error})") from None


def _tasks(path: Path) -> dict[int, str]:
    """The column's name differs: it is the index of a pandas table."""
    table = _table(path)
    kinds = (pa.types.is_string, pa.types.is_large_string)
    texts = [f.name for f in table.schema if any(kind(f.type) for kind in kinds)]
    if "task_index" not in table.column_names or len(texts) != 1:
        raise FormatError(
            f"{path} has columns {', '.join(table.column_names)}; expected task_index and one of "
            "instructions"
        )
    return dict(zip(table.column("task_index").to_pylist(), table.column(texts[0]).to_pylist()))


def _episodes(folder: Path) -> list[dict]:
    paths = sorted((folder / "meta/episodes").glob("*/*.parquet"))
    if not paths:
        raise FormatError(f"{folder}: no meta/episodes/*/*.parquet")
    rows = []
    for path in paths:
        try:
            names = [n for n in pq.read_schema(path).names if not n.startswith("stats/")]
        except (pa.ArrowException, OSError) as error:
            raise FormatError(f"{path} is damaged ({error})") from None
        if lacking := [name for name in EPISODE if name not in names]:
            raise FormatError(f"{path} has no column {', '.join(lacking)}")
        rows += _table(path, names).to_pylist()
    return sorted(rows, key=lambda row: row["episode_index"])
