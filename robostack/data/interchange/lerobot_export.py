"""A store as a LeRobotDataset v3, and beside it what that has no place for (side_car.py)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robostack.data.interchange import layout, side_car
from robostack.data.interchange.report import FormatError, Report
from robostack.data.interchange.statistics import Statistics, merged
from robostack.data.interchange.video import Codec, VideoWriter, psnr, read_video
from robostack.types import Episode, RobotSpec


class Exporter:
    """Writes episodes one after the other; `finish` makes the folder a dataset."""

    def __init__(self, folder: Path, spec: RobotSpec, codec: Codec | str, crf: int):
        self.folder, self.spec, self.codec, self.crf = folder, spec, codec, crf
        self._video = codec != "png"
        self._rate = spec.control_hz
        self._tasks: dict[str, int] = {}
        self._rows: list[dict] = []  # of meta/episodes
        self._kept: list[dict] = []  # of the side-car
        self._statistics: list[dict[str, Statistics]] = []
        self._videos: dict[str, tuple[int, VideoWriter]] = {}  # camera -> number of its file
        self._data: list[pa.Table] = []
        self._files = self._frames = 0

    def add(self, episode: Episode) -> None:
        index, steps = len(self._rows), len(episode)
        task = self._tasks.setdefault(episode.task, len(self._tasks))
        places = {}
        for camera, frames in episode.images.items():
            if self._video:
                places |= self._film(camera, frames[:-1])
        table = self._table(index, task, episode)
        if self._data and sum(t.nbytes for t in [*self._data, table]) > layout.DATA_MB * 2**20:
            self._flush()
        self._data.append(table)
        self._statistics.append(self._measured(table, episode))
        chunk, file = divmod(self._files, layout.FILES)
        self._rows.append(
            {
                "episode_index": index,
                "tasks": [episode.task],
                "length": steps,
                "data/chunk_index": chunk,
                "data/file_index": file,
                "dataset_from_index": self._frames,
                "dataset_to_index": self._frames + steps,
                **places,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
            }
        )
        self._kept.append(side_car.row_of(index, episode))
        self._frames += steps

    def _film(self, camera: str, frames: np.ndarray) -> dict:
        """Append pictures to a camera's video; returns where they lie."""
        number, writer = self._videos.get(camera, (-1, None))
        if writer is None or writer.bytes > layout.VIDEO_MB * 2**20:
            if writer is not None:
                writer.close()
            number += 1
            path = self.folder / self._video_path(camera, number)
            writer = VideoWriter(path, self._rate, frames.shape[1:], self.codec, self.crf)
            self._videos[camera] = number, writer
        first = writer.frames
        writer.write(frames)
        key = f"videos/{layout.IMAGES}{camera}/"
        chunk, file = divmod(number, layout.FILES)
        return {
            f"{key}chunk_index": chunk,
            f"{key}file_index": file,
            f"{key}from_timestamp": first / self._rate,
            f"{key}to_timestamp": writer.frames / self._rate,
        }

    def _video_path(self, camera: str, number: int) -> str:
        chunk, file = divmod(number, layout.FILES)
        key = layout.IMAGES + camera
        return layout.VIDEO.format(video_key=key, chunk_index=chunk, file_index=file)

    def _table(self, index: int, task: int, episode: Episode) -> pa.Table:
        steps = len(episode)
        columns = {
            layout.STATE: _vectors(episode.states[:-1]),
            layout.ACTION: _vectors(episode.actions),
            "timestamp": pa.array((np.arange(steps) / self._rate).astype(np.float32)),
            "frame_index": pa.array(np.arange(steps)),
            "episode_index": pa.array(np.full(steps, index)),
            "index": pa.array(self._frames + np.arange(steps)),
            "task_index": pa.array(np.full(steps, task)),
            "next.done": pa.array(np.arange(steps) == steps - 1),
        }
        if not self._video:
            for camera, frames in episode.images.items():
                pictures = [{"bytes": side_car.encode_png(f), "path": None} for f in frames[:-1]]
                kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
                columns[layout.IMAGES + camera] = pa.array(pictures, kind)
        return pa.table(columns)

    def _measured(self, table: pa.Table, episode: Episode) -> dict[str, Statistics]:
        arrays = {layout.STATE: episode.states[:-1], layout.ACTION: episode.actions}
        for name in (*layout.OWN, "next.done"):
            arrays[name] = table.column(name).to_numpy(zero_copy_only=False)[:, None]
        found = {name: Statistics.of_rows(rows) for name, rows in arrays.items()}
        for camera, frames in episode.images.items():
            found[layout.IMAGES + camera] = Statistics.of_pictures(frames[:-1])
        return found

    def _flush(self) -> None:
        chunk, file = divmod(self._files, layout.FILES)
        path = self.folder / layout.DATA.format(chunk_index=chunk, file_index=file)
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(path, self._data[0].schema) as writer:
            for table in self._data:  # a row group an episode
                writer.write_table(table)
        self._data, self._files = [], self._files + 1

    def finish(self) -> None:
        self._flush()
        for _, writer in self._videos.values():
            writer.close()
        rows = [
            row
            | {
                f"stats/{name}/{key}": value
                for name, s in each.items()
                for key, value in s.to_dict().items()
            }
            for row, each in zip(self._rows, self._statistics)
        ]
        path = self.folder / layout.EPISODES.format(chunk_index=0, file_index=0)
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), path)
        pq.write_table(_task_table(self._tasks), self.folder / layout.TASKS)
        names = self._statistics[0]
        stats = {n: merged([each[n] for each in self._statistics]).to_dict() for n in names}
        (self.folder / layout.STATS).write_text(json.dumps(stats, indent=1))
        side_car.write(self.folder, self.spec, self._kept, str(self.codec))
        info = json.dumps(self._info(), indent=4)
        (self.folder / layout.INFO).write_text(info)  # last: it makes the folder a dataset

    def _info(self) -> dict:
        rate = int(self._rate) if self._rate == int(self._rate) else self._rate
        vector = {"dtype": "float32"}
        features = {
            layout.STATE: vector
            | {"shape": [self.spec.state_dim], "names": list(self.spec.state_names)},
            layout.ACTION: vector
            | {"shape": [self.spec.action_dim], "names": list(self.spec.action_names)},
        }
        for camera, (height, width) in self.spec.cameras.items():
            features[layout.IMAGES + camera] = {
                "dtype": "video" if self._video else "image",
                "shape": [height, width, 3],
                "names": ["height", "width", "channels"],
                **({"info": self._video_info(height, width, rate)} if self._video else {}),
            }
        features["next.done"] = {"dtype": "bool", "shape": [1], "names": None}
        features |= {n: {"dtype": d, "shape": [1], "names": None} for n, d in layout.OWN.items()}
        return {
            "codebase_version": layout.VERSION,
            "robot_type": self.spec.robot,
            "total_episodes": len(self._rows),
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": layout.FILES,
            "data_files_size_in_mb": layout.DATA_MB,
            "video_files_size_in_mb": layout.VIDEO_MB,
            "fps": rate,
            "splits": {"train": f"0:{len(self._rows)}"},
            "data_path": layout.DATA,
            "video_path": layout.VIDEO if self._video else None,
            "features": features,
        }

    def _video_info(self, height: int, width: int, rate: float) -> dict:
        return {
            "video.height": height,
            "video.width": width,
            "video.codec": "av1" if self.codec == "av1" else "h264",
            "video.pix_fmt": "gbrp" if self.codec == "lossless" else "yuv420p",
            "video.is_depth_map": False,
            "video.fps": rate,
            "video.channels": 3,
            "has_audio": False,
        }

    def check(self, index: int, episode: Episode, report: Report) -> None:
        """Read an episode's pictures back from the finished files and note the worst of them."""
        for camera, frames in episode.images.items():
            worst = float("inf")
            if self._video:
                key = f"videos/{layout.IMAGES}{camera}/"
                row = self._rows[index]
                number = row[f"{key}chunk_index"] * layout.FILES + row[f"{key}file_index"]
                path = self.folder / self._video_path(camera, number)
                start = row[f"{key}from_timestamp"]
                back = read_video(path, start, len(episode), self._rate, f"images.{camera}")
                worst = psnr(frames[:-1], back)
            report.psnr[camera] = min(worst, report.psnr.get(camera, float("inf")))


def _vectors(rows: np.ndarray) -> pa.Array:
    if rows.shape[1] == 1:  # LeRobot keeps these as plain numbers
        return pa.array(rows[:, 0])
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])


def _task_table(tasks: dict[str, int]) -> pa.Table:
    """Instructions and their numbers; pandas shall take the instruction as its index, by which
    LeRobot looks them up."""
    kinds = [("task_index", "int64", "int64"), ("task", "unicode", "object")]
    columns = [
        {"name": n, "field_name": n, "pandas_type": p, "numpy_type": k, "metadata": None}
        for n, p, k in kinds
    ]
    about = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": columns,
        "pandas_version": "2.2.0",
    }
    table = pa.table({"task_index": pa.array(tasks.values(), pa.int64()), "task": list(tasks)})
    return table.replace_schema_metadata({"pandas": json.dumps(about)})


def require_writable(spec: RobotSpec, codec: Codec | str) -> None:
    """Raise FormatError for what the format cannot hold."""
    from robostack.data.interchange.video import size_fits

    for name, size in spec.cameras.items():
        if codec != "png" and not size_fits(codec, size):
            raise FormatError(
                f"camera {name}: {size[0]} x {size[1]} pixels; codec={codec} needs even numbers: "
                "use codec=lossless or codec=png"
            )
        if "/" in name:
            raise FormatError(f"camera {name!r}: LeRobot allows no '/' in names")


def export(
    episodes: Iterable[Episode], spec: RobotSpec, folder: Path, codec: str, crf: int, report: Report
) -> Exporter:
    """Write all episodes; the caller may then `check` some of them."""
    require_writable(spec, codec)
    exporter = Exporter(folder, spec, codec, crf)
    for episode in episodes:
        gap = np.abs(
            episode.stamps - episode.stamps[0] - np.arange(len(episode) + 1) / spec.control_hz
        ).max()
        if gap > 0.1 / spec.control_hz:
            report.note(
                f"times are up to {gap:.3g} s off an even grid: LeRobot's timestamps are the grid, "
                "robostack/episodes.parquet has the real ones"
            )
        exporter.add(episode)
        report.episodes += 1
    exporter.finish()
    return exporter
