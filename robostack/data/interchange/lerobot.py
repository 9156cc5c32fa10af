"""A LeRobotDataset v3 as episodes: ours come back whole, others as far as the format reaches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robostack.data.interchange import layout, lerobot_meta, side_car
from robostack.data.interchange.report import (
    BadEpisode,
    Convention,
    FormatError,
    Report,
    require_cameras,
)
from robostack.data.interchange.video import read_video
from robostack.types import Episode, RobotSpec


class LeRobotSource:
    """Opened by its meta data alone; `read` takes one episode's rows and pictures.

    `state` names the features that make the state, one after the other, and `cameras` those that
    are taken over; (): all. Raises FormatError for a folder that is no such dataset.
    """

    format = "LeRobotDataset v3"

    def __init__(
        self,
        folder: Path,
        report: Report,
        state: tuple[str, ...] = (layout.STATE,),
        conventions: dict[str, str] | None = None,
        cameras: tuple[str, ...] = (),
    ):
        self.folder, self._report = Path(folder), report
        self._meta = lerobot_meta.read(self.folder)
        self._state = state
        for key in (*state, layout.ACTION):
            if key not in self._meta.features:
                have = sorted(k for k, f in self._meta.features.items() if f["dtype"] == "float32")
                raise FormatError(f"{folder}: no feature {key!r}; it has {', '.join(have)}")
        self._cameras = self._meta.cameras
        if cameras:
            require_cameras(folder, cameras, self._cameras)
            self._cameras = {name: self._cameras[name] for name in cameras}
        self._kept: list[dict] = []  # the side-car's rows
        self._filmed: list[str] = []  # the cameras whose last pictures they hold
        self.spec = self._find_spec(conventions or {})
        self._tell()
        self._loaded: tuple[Path, pa.Table] | None = None

    def names(self) -> list[str]:
        return [f"episode {row['episode_index']}" for row in self._meta.episodes]

    def _find_spec(self, conventions: dict[str, str]) -> RobotSpec:
        ours = side_car.read(self.folder)
        sizes = {camera: self._meta.size(camera) for camera in self._cameras}
        if ours is not None:
            spec, kept = ours
            some = {name: spec.cameras.get(name) for name in sizes}
            if sizes == some and self._state == (layout.STATE,):
                if conventions:
                    raise FormatError(
                        f"{self.folder} says its conventions itself: {spec.conventions}"
                    )
                self._kept, self._filmed = kept, sorted(spec.cameras)
                return dataclasses.replace(spec, cameras=sizes)
            self._report.note("robostack/spec.json is of other cameras or states and is not used")
        self._report.note("the format has no action bounds: they are the extremes of the data")
        low, high = self._meta.bounds()
        return RobotSpec(
            robot=str(self._meta.info.get("robot_type") or "unknown"),
            state_names=tuple(n for key in self._state for n in self._names(key)),
            action_names=tuple(self._names(layout.ACTION)),
            action_low=low,
            action_high=high,
            cameras=sizes,
            control_hz=self._meta.fps,
            conventions=conventions,
        )

    def _names(self, key: str) -> list[str]:
        names, told = self._meta.names(key)
        if not told:
            what = f"its {len(names)} dimensions have no names; called {names[0]}, ..."
            self._report.note(f"{key}: {what}")
        return names

    def _tell(self) -> None:
        if not self._kept:
            self._report.note(
                "the format has no observation after the last action: an episode of N rows becomes "
                "N observations and N - 1 actions"
            )
        used = {*self._state, layout.ACTION, *self._cameras.values(), *layout.OWN}
        used |= {"next.done", "next.success"}
        if left := sorted(self._meta.features.keys() - used):
            self._report.note(f"not taken over: {', '.join(left)}")
        told, there = self._meta.info.get("total_episodes"), len(self._meta.episodes)
        if told not in (None, there):
            self._report.note(f"{layout.INFO} tells of {told} episodes, meta/episodes of {there}")

    def conventions(self) -> list[Convention]:
        return []  # nothing can be tried without the robot

    def read(self, number: int) -> Episode:
        """The episode of `names()[number]`. Raises BadEpisode naming the field."""
        row = self._meta.episodes[number]
        table, length = self._rows(row), row["length"]
        if table.num_rows != length:
            raise BadEpisode("length", f"{table.num_rows} rows, expected {length}")
        if not length:
            raise BadEpisode("length", "no rows")
        states = np.concatenate([_matrix(table, key) for key in self._state], 1)
        actions = _matrix(table, layout.ACTION)
        _require_finite(states=states, actions=actions)
        _require_width("states", states, self.spec.state_dim)
        _require_width("actions", actions, self.spec.action_dim)
        stamps = _numbers(table, "timestamp").ravel()
        self._require_times(stamps)
        images = {
            camera: self._pictures(camera, key, row, table, length)
            for camera, key in self._cameras.items()
        }
        rows = {"states": states, "images": images}
        kept = self._find_kept(row["episode_index"], side_car.checksum(states, actions))
        if kept is not None:
            return side_car.whole(kept, rows, actions, self.spec, self._filmed)
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
        path = self.folder / self._meta.info["data_path"].format(**where)
        if not path.is_file():
            raise BadEpisode(str(path.relative_to(self.folder)), "is missing")
        if self._loaded is None or self._loaded[0] != path:
            try:
                self._loaded = path, pq.read_table(path)
            except (pa.ArrowException, OSError) as error:
                what = f"cannot be read ({error})"
                raise BadEpisode(str(path.relative_to(self.folder)), what) from None
        table = self._loaded[1]
        numbers = _column(table, "episode_index")
        return table.filter(pa.compute.equal(numbers, row["episode_index"]))

    def _require_times(self, stamps: np.ndarray) -> None:
        steps = np.diff(stamps)
        if (bad := np.flatnonzero(~(steps > 0))).size:
            raise BadEpisode("timestamp", f"time does not increase at row {bad[0] + 1}")
        if steps.size and abs(np.median(steps) * self._meta.fps - 1) > 0.05:
            raise BadEpisode(
                "timestamp",
                f"rows are {np.median(steps):.4g} s apart, fps={self._meta.fps:g} means "
                f"{1 / self._meta.fps:.4g} s",
            )

    def _pictures(self, camera: str, key: str, row: dict, table: pa.Table, n: int) -> np.ndarray:
        field, shape = f"images.{camera}", (*self.spec.cameras[camera], 3)
        if self._meta.features[key]["dtype"] == "video":
            where = {k: row.get(f"videos/{key}/{k}") for k in ("chunk_index", "file_index")}
            start = row.get(f"videos/{key}/from_timestamp")
            if None in (start, *where.values()):
                raise BadEpisode(field, "the episode has no video of this camera")
            path = self.folder / self._meta.info["video_path"].format(video_key=key, **where)
            if not path.is_file():
                raise BadEpisode(field, f"{path.relative_to(self.folder)} is missing")
            frames = read_video(path, start, n, self._meta.fps, field)
        elif key not in table.column_names:
            raise BadEpisode(field, f"no column {key}")
        else:
            frames = list(_decoded(table.column(key), field))
        if odd := {frame.shape for frame in frames} - {shape}:
            raise BadEpisode(field, f"pictures {odd.pop()}, expected {shape}")
        return np.stack(frames)

    def _success(self, table: pa.Table) -> bool | None:
        if "next.success" not in table.column_names:
            self._report.note("no next.success: nobody said which episodes succeeded")
            return None
        return any(bool(v) for v in table.column("next.success").to_pylist())

    def _instruction(self, table: pa.Table) -> str:
        numbers, tasks = _column(table, "task_index").unique().to_pylist(), self._meta.tasks
        if len(numbers) > 1 or numbers[0] not in tasks:
            raise BadEpisode("task_index", f"{numbers}, expected one of {sorted(tasks)}")
        return tasks[numbers[0]]


def _column(table: pa.Table, key: str) -> pa.ChunkedArray:
    if key not in table.column_names:
        raise BadEpisode(key, "no such column")
    return table.column(key)


def _matrix(table: pa.Table, key: str) -> np.ndarray:
    """f32[N, D] of a column of vectors, or of numbers."""
    return _numbers(table, key).astype(np.float32)


def _numbers(table: pa.Table, key: str) -> np.ndarray:
    """f64[N, D]; D is 1 where the rows are plain numbers."""
    rows = _column(table, key).to_pylist()
    try:
        found = np.array(rows, np.float64)
    except (TypeError, ValueError):  # rows of several lengths, or that are nothing
        raise BadEpisode(key, "its rows are no vectors of one length") from None
    if found.ndim > 2:
        raise BadEpisode(key, "its rows are no vectors")
    return found.reshape(len(rows), -1)


def _require_finite(**arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            row, column = np.argwhere(~np.isfinite(array))[0]
            raise BadEpisode(name, f"{array[row, column]} in row {row}, dimension {column}")


def _require_width(name: str, rows: np.ndarray, wanted: int) -> None:
    if rows.shape[1] != wanted:
        raise BadEpisode(name, f"{rows.shape[1]} numbers a row, the set's features say {wanted}")


def _decoded(column: pa.ChunkedArray, field: str) -> Iterator[np.ndarray]:
    for number, value in enumerate(column.to_pylist()):
        try:
            yield side_car.decode_png(value["bytes"])
        except (TypeError, KeyError, ValueError):
            raise BadEpisode(field, f"row {number} holds no picture") from None
