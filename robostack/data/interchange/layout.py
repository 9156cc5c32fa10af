"""Where a LeRobotDataset v3 keeps what, as https://huggingface.co/docs/lerobot documents it.

meta/info.json            rate, features (dtype, shape, names), templates of the paths below
meta/tasks.parquet        instructions and their numbers
meta/stats.json           statistics of every feature
meta/episodes/**.parquet  a row an episode: length, tasks, its file and rows, place in the videos
data/**.parquet           a row a frame, many episodes in a file
videos/CAMERA/**.mp4      many episodes in a file

A row holds an observation and the action that was taken then. An episode of T actions has T rows;
the observation after the last action has no place there.
"""

from __future__ import annotations

VERSION = "v3.0"
INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
FILES = 1000  # a chunk (folder) at most
DATA_MB, VIDEO_MB = 100, 200  # a file at most, or little more

STATE, ACTION, IMAGES = "observation.state", "action", "observation.images."
OWN = {  # features of every dataset
    "timestamp": "float32",  # [s] since the episode began
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)


def camera_of(key: str) -> str:
    """observation.images.top -> top"""
    return key.removeprefix(IMAGES).removeprefix("observation.")


def picture_shape(feature: dict) -> tuple[int, int, int]:
    """(height, width, channels) of a camera's feature, which may be stated channels first."""
    shape, names = tuple(feature["shape"]), feature.get("names") or []
    first = str(names[0]).startswith("c") if names else shape[0] in (1, 3) and shape[2] > 3
    return (shape[1], shape[2], shape[0]) if first else shape
