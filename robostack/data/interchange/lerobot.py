"""A LeRobotDataset v3 as episodes: ours come back whole, others as far as the format reaches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robostack.data.interchange import layout, side_car
from robostack.data.interchange.report import BadEpisode, Convention, FormatError, Report
from robostack.data.interchange.video import read_video
from robostack.types import Episode, RobotSpec


class LeRobotSource:
    """Opened by its meta data alone; `read` takes one episode's rows and pictures.

    `state` names the features that make the state, one after the other. Raises FormatError for a
    folder that is no such dataset.
    """

    format = "LeRobotDataset v3"

    def __init__(
        self,
        folder: Path,
        report: Report,
        state: tuple[str, ...] = (layout.STATE,),
        conventions: dict[str, str] | None = None,
    ):
        self.folder, self._report = Path(folder), report
        self._info = _json(self.folder / layout.INFO)
        version = str(self._info.get("codebase_version"))
        if not version.startswith("v3."):
            raise FormatError(
                f"{folder}: codebase_version {version}, expected v3.x; LeRobot's own "
                "convert_dataset_v21_to_v30 brings older ones up to date"
            )
        self._features: dict[str, dict] = self._info["features"]
        self._state = state
        for key in (*state, layout.ACTION):
            if key not in self._features:
                have = sorted(k for k, f in self._features.items() if f["dtype"] == "float32")
                raise FormatError(f"{folder}: no feature {key!r}; it has {', '.join(have)}")
        self._cameras = {
            layout.camera_of(key): key
            for key, feature in self._features.items()
            if feature["dtype"] in ("video", "image")
        }
        self._tasks = _tasks(self.folder / layout.TASKS)
        self._episodes = self._read_episodes()
        self._kept: list[dict] = []
        self.spec = self._find_spec(conventions or {})
        self._tell()
        self._loaded: tuple[Path, pa.Table] | None = None

    def names(self) -> list[str]:
        return [f"episode {row['episode_index']}" for row in self._episodes]

    def _read_episodes(self) -> list[dict]:
        paths = sorted((self.folder / "meta/episodes").glob("*/*.parquet"))
        if not paths:
            raise FormatError(f"{self.folder}: no meta/episodes/*/*.parquet")
        rows = []
        for path in paths:
            try:
                names = [n for n in pq.read_schema(path).names if not n.startswith("stats/")]
                rows += pq.read_table(path, columns=names).to_pylist()
            except (pa.ArrowException, OSError) as error:
                raise FormatError(f"{path} is damaged ({error})") from None
        return sorted(rows, key=lambda row: row["episode_index"])

    def _find_spec(self, conventions: dict[str, str]) -> RobotSpec:
        ours = side_car.read(self.folder)
        if ours is not None:
            spec, self._kept = ours
            shapes = {
                camera: layout.picture_shape(self._features[key])[:2]
                for camera, key in self._cameras.items()
            }
            if shapes == spec.cameras and self._state == (layout.STATE,):
                if conventions:
                    raise FormatError(
                        f"{self.folder} says its conventions itself: {spec.conventions}"
                    )
                return spec
            self._kept = []
            self._report.note("robostack/spec.json is of other cameras or states and is not used")
        low, high = self._bounds()
        return RobotSpec(
            robot=str(self._info.get("robot_type") or "unknown"),
            state_names=tuple(n for key in self._state for n in self._names(key)),
            action_names=tuple(self._names(layout.ACTION)),
            action_low=low,
            action_high=high,
            cameras={
                camera: layout.picture_shape(self._features[key])[:2]
                for camera, key in self._cameras.items()
            },
            control_hz=float(self._info["fps"]),
            conventions=conventions,
        )

    def _names(self, key: str) -> list[str]:
        """Of a feature's dimensions: LeRobot allows a list, a dict of lists, or nothing."""
        names, count = self._features[key].get("names"), self._features[key]["shape"][0]
        while isinstance(names, dict):
            names = next(iter(names.values()))
        if not isinstance(names, list) or len(names) != count:
            stem = key.rsplit(".", 1)[-1]
            names = [f"{stem}{i}" for i in range(count)]
            self._report.note(
                f"{key}: its {count} dimensions have no names; called {names[0]}, ..."
            )
        return [str(n) for n in names]

    def _bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The format has no bounds of actions: the least and most that was asked for."""
        self._report.note("the format has no action bounds: they are the extremes of the data")
        try:
            stats = json.loads((self.folder / layout.STATS).read_text())[layout.ACTION]
            low, high = (np.atleast_1d(np.array(stats[k], np.float64)) for k in ("min", "max"))
        except (OSError, KeyError, json.JSONDecodeError):
            raise FormatError(
                f"{self.folder}: no {layout.STATS} with min and max of {layout.ACTION}"
            ) from None
        slack = np.maximum(1e-6, 1e-5 * (high - low))  # of float32; a still dimension needs some
        return tuple((low - slack).tolist()), tuple((high + slack).tolist())

    def _tell(self) -> None:
        if not self._kept:
            self._report.note(
                "the format has no observation after the last action: an episode of N rows becomes "
                "N observations and N - 1 actions"
            )
        used = {*self._state, layout.ACTION, *self._cameras.values(), *layout.OWN}
        used |= {"next.done", "next.success"}
        if left := sorted(self._features.keys() - used):
            self._report.note(f"not taken over: {', '.join(left)}")

    def conventions(self) -> list[Convention]:
        return []  # nothing can be tried without the robot

    def read(self, number: int) -> Episode:
        """The episode of `names()[number]`. Raises BadEpisode naming the field."""
        row = self._episodes[number]
        table, length = self._rows(row), row["length"]
        if table.num_rows != length:
            raise BadEpisode("length", f"{table.num_rows} rows, expected {length}")
        states = np.concatenate([_matrix(table, key) for key in self._state], 1)
        actions = _matrix(table, layout.ACTION)
        _require_finite(states=states, actions=actions)
        stamps = table.column("timestamp").to_numpy().astype(np.float64)
        self._require_times(stamps)
        images = {
            camera: self._pictures(camera, key, row, table, length)
            for camera, key in self._cameras.items()
        }
        rows = {"states": states, "images": images}
        kept = self._find_kept(row["episode_index"], side_car.checksum(states, actions))
        if kept is not None:
            return side_car.whole(kept, rows, actions, self.spec)
        if length < 2:
            raise BadEpisode("length", "one row: no action with an observation after it")
        success = self._success(table)
        return Episode(
            **rows,
            stamps=stamps,
            actions=actions[:-1],
            task=self._instruction(table),
            success=success,
            terminated=bool(success),
            source="demo",
            seed=int(row["episode_index"]),
            spec=self.spec,
        )

    def _find_kept(self, index: int, checksum: int) -> dict | None:
        """The side-car's row of an episode, which may have got another number since."""
        same = [row for row in self._kept if row["checksum"] == checksum]
        if self._kept and not same:
            self._report.note(
                f"episode {index} is not as it was exported: its last action and exact times are "
                "lost"
            )
        return next((row for row in same if row["episode_index"] == index), next(iter(same), None))

    def _rows(self, row: dict) -> pa.Table:
        """An episode's rows, of a file that stays loaded until another one is wanted."""
        where = {k: row[f"data/{k}"] for k in ("chunk_index", "file_index")}
        path = self.folder / self._info["data_path"].format(**where)
        if self._loaded is None or self._loaded[0] != path:
            try:
                self._loaded = path, pq.read_table(path)
            except (pa.ArrowException, OSError) as error:
                raise BadEpisode(f"{path.name}", f"cannot be read ({error})") from None
        table = self._loaded[1]
        return table.filter(pa.compute.equal(table.column("episode_index"), row["episode_index"]))

    def _require_times(self, stamps: np.ndarray) -> None:
        steps = np.diff(stamps)
        if (bad := np.flatnonzero(~(steps > 0))).size:
            raise BadEpisode("timestamp", f"time does not increase at row {bad[0] + 1}")
        if steps.size and abs(np.median(steps) * self.spec.control_hz - 1) > 0.05:
            raise BadEpisode(
                "timestamp",
                f"rows are {np.median(steps):.4g} s apart, fps={self.spec.control_hz:g} means "
                f"{1 / self.spec.control_hz:.4g} s",
            )

    def _pictures(self, camera: str, key: str, row: dict, table: pa.Table, n: int) -> np.ndarray:
        field, shape = f"images.{camera}", (*self.spec.cameras[camera], 3)
        if self._features[key]["dtype"] == "video":
            where = {k: row.get(f"videos/{key}/{k}") for k in ("chunk_index", "file_index")}
            if None in where.values():
                raise BadEpisode(field, "the episode has no video of this camera")
            path = self.folder / self._info["video_path"].format(video_key=key, **where)
            if not path.is_file():
                raise BadEpisode(field, f"{path.relative_to(self.folder)} is missing")
            start = row[f"videos/{key}/from_timestamp"]
            frames = read_video(path, start, n, self.spec.control_hz, field)
        elif key not in table.column_names:
            raise BadEpisode(field, f"no column {key}")
        else:
            frames = np.stack(list(_decoded(table.column(key), field)))
        if frames.shape[1:] != shape:
            raise BadEpisode(field, f"pictures {frames.shape[1:]}, expected {shape}")
        return frames

    def _success(self, table: pa.Table) -> bool | None:
        if "next.success" not in table.column_names:
            return None
        return any(bool(v) for v in table.column("next.success").to_pylist())

    def _instruction(self, table: pa.Table) -> str:
        numbers = table.column("task_index").unique().to_pylist()
        if len(numbers) > 1 or numbers[0] not in self._tasks:
            raise BadEpisode("task_index", f"{numbers}, expected one of {sorted(self._tasks)}")
        return self._tasks[numbers[0]]


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        raise FormatError(f"{path} cannot be read: not a LeRobotDataset") from None


def _tasks(path: Path) -> dict[int, str]:
    """Instructions by number. The column's name differs: it is the index of a pandas table."""
    try:
        table = pq.read_table(path)
        (name,) = (
            f.name
            for f in table.schema
            if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)
        )
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FormatError(f"{path} cannot be read ({error})") from None
    return dict(zip(table.column("task_index").to_pylist(), table.column(name).to_pylist()))


def _matrix(table: pa.Table, key: str) -> np.ndarray:
    """f32[N, D] of a column of vectors, or of numbers."""
    if key not in table.column_names:
        raise BadEpisode(key, "no such column")
    rows = table.column(key).to_pylist()
    found = np.array(rows, np.float64)
    if found.ndim > 2 or found.size != sum(map(np.size, rows)):
        raise BadEpisode(key, "its rows are no vectors of one length")
    return found.reshape(len(rows), -1).astype(np.float32)


def _require_finite(**arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            row, column = np.argwhere(~np.isfinite(array))[0]
            raise BadEpisode(name, f"{array[row, column]} in row {row}, dimension {column}")


def _decoded(column: pa.ChunkedArray, field: str) -> Iterator[np.ndarray]:
    for number, value in enumerate(column.to_pylist()):
        try:
            yield side_car.decode_png(value["bytes"])
        except (TypeError, KeyError, ValueError):
            raise BadEpisode(field, f"row {number} holds no picture") from None
