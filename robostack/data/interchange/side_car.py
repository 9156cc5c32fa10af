"""What a LeRobotDataset has no place for, in two files of ours beside its own, which LeRobot leaves
alone: the spec, and of each episode the last observation, exact times, outcome and keypoints.

    robostack/spec.json         format, RobotSpec, how pictures were encoded
    robostack/episodes.parquet  a row an episode, known by a checksum of its states and actions
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robostack.data.interchange.report import BadEpisode, FormatError
from robostack.types import Episode, RobotSpec

FOLDER, FORMAT = "robostack", 1
DAMAGE = (OSError, LookupError, AttributeError, TypeError, ValueError, pa.ArrowException)
TOLD = ("task", "success", "terminated", "source", "seed", "group", "label")


def checksum(states: np.ndarray, actions: np.ndarray) -> int:
    """Of the rows f32[T, S] and f32[T, A] of an episode."""
    rows = [np.ascontiguousarray(array, "<f4").tobytes() for array in (states, actions)]
    return google_crc32c.value(rows[0] + rows[1])


def row_of(index: int, episode: Episode) -> dict:
    """What is kept of one episode; the last pictures as PNG, without loss."""
    about = {name: getattr(episode, name) for name in TOLD}
    return {
        "episode_index": index,
        "checksum": checksum(episode.states[:-1], episode.actions),
        "about": json.dumps(about | {"keypoints": sorted(episode.keypoints)}),
        "stamps": episode.stamps.tolist(),
        "last_state": episode.states[-1].astype(np.float64).tolist(),
        "last_images": [encode_png(episode.images[n][-1]) for n in sorted(episode.images)],
        "keypoints": [
            episode.keypoints[n].astype(np.float64).ravel().tolist()
            for n in sorted(episode.keypoints)
        ],
        "truth": None if episode.truth is None else episode.truth.astype(np.float64).tolist(),
    }


SCHEMA = pa.schema(
    [
        ("episode_index", pa.int64()),
        ("checksum", pa.int64()),
        ("about", pa.string()),
        ("stamps", pa.list_(pa.float64())),
        ("last_state", pa.list_(pa.float64())),
        ("last_images", pa.list_(pa.binary())),
        ("keypoints", pa.list_(pa.list_(pa.float64()))),
        ("truth", pa.list_(pa.float64())),
    ]
)


def write(folder: Path, spec: RobotSpec, rows: list[dict], codec: str) -> None:
    (folder / FOLDER).mkdir()
    about = {"format": FORMAT, "spec": json.loads(spec.to_json()), "codec": codec}
    (folder / FOLDER / "spec.json").write_text(json.dumps(about, indent=1))
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / FOLDER / "episodes.parquet")


def read(folder: Path) -> tuple[RobotSpec, list[dict]] | None:
    """The spec, and what is kept of each episode; None where there is none, or one of another
    version. Raises FormatError, as what the other half says would be lost, where only half of it
    can be read."""
    path = folder / FOLDER / "spec.json"
    if not path.is_file():
        return None
    try:
        about = json.loads(path.read_text())
        if about.get("format") != FORMAT:
            return None
        spec = RobotSpec.from_json(json.dumps(about["spec"]))
        path = path.with_name("episodes.parquet")
        rows = pq.read_table(path).cast(SCHEMA).to_pylist()
    except DAMAGE as error:
        what = f"is damaged ({error})" if path.is_file() else "is missing"
        raise FormatError(
            f"{path} {what}; without the folder {FOLDER}/ the set is read as anybody's, "
            "and an episode loses its last action"
        ) from None
    return spec, rows


def whole(
    row: dict, rows: dict, actions: np.ndarray, spec: RobotSpec, filmed: list[str]
) -> Episode:
    """An episode as it was before it was exported: of its T `rows` of states and images, its
    actions f32[T, A], and what is kept of it. `filmed` are the cameras that it had then."""
    try:
        kept = _kept(row, spec, filmed)
    except (LookupError, AttributeError, TypeError, ValueError) as error:
        what = f"the episode's row is damaged ({error})"
        raise BadEpisode(f"{FOLDER}/episodes.parquet", what) from None
    last, pictures = kept.pop("last_state"), kept.pop("last_images")
    images = rows["images"].items()
    return Episode(
        states=np.concatenate([rows["states"], last[None]]),
        images={name: np.concatenate([f, pictures[name][None]]) for name, f in images},
        actions=actions,
        spec=spec,
        **kept,
    )


def _kept(row: dict, spec: RobotSpec, filmed: list[str]) -> dict:
    """The fields of an episode that a row holds, and last_state f32[S] and last_images by camera
    u8[H, W, 3]."""
    about, stamps = json.loads(row["about"]), np.array(row["stamps"], np.float64)
    points = [np.array(p, np.float32).reshape(len(stamps), 3) for p in row["keypoints"]]
    names = about.pop("keypoints")
    coded = dict(zip(filmed, row["last_images"], strict=True))
    return about | {
        "stamps": stamps,
        "keypoints": dict(zip(names, points, strict=True)),
        "truth": None if row["truth"] is None else np.array(row["truth"], np.float32),
        "last_state": np.array(row["last_state"], np.float32).reshape(spec.state_dim),
        "last_images": {
            name: decode_png(coded[name]).reshape(*size, 3) for name, size in spec.cameras.items()
        },
    }


def encode_png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def decode_png(data: bytes) -> np.ndarray:
    """u8[H, W, 3] RGB. Raises ValueError where it is no picture."""
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if found is None:
        raise ValueError("not a picture")
    return np.ascontiguousarray(found[..., ::-1])
