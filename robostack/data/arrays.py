"""Arrays of an episode on disk: one layout of Zarr v3, read and written without zarr-python, which
takes milliseconds for each of an episode's ten arrays.

A field is one file: a blosc chunk and its checksum, or for pictures a shard, a chunk a frame and
an index behind them. zarr-python reads it like any other array, and reads whatever else it wrote.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import google_crc32c
import numpy as np
from numcodecs import blosc

ABSENT = 2**64 - 1  # offset of a frame that is not there
RESIDUE = 0x48674BC7  # CRC-32C of anything followed by its own CRC-32C
PLAIN = ("bytes", "blosc", "crc32c")
LITTLE = {"endian": "little"}


class Damaged(ValueError):
    """Bytes that are not what was written."""


def read_array(folder: Path) -> np.ndarray | None:
    """The array in `folder`, or None if it is laid out in another way. Raises Damaged, or OSError
    where a file is missing."""
    about = json.loads((folder / "zarr.json").read_text())
    if not _whole(about):
        return None
    shape, dtype, chunk = about["shape"], _dtype(about), _chunk(folder, about)
    if _plain(about["codecs"]):
        return _decoded(chunk.read_bytes(), dtype).reshape(shape)
    if not _framewise(about):
        return None
    return _shard(chunk.read_bytes(), shape, dtype)


def read_index(folder: Path) -> tuple[Path, np.ndarray, tuple[int, ...]] | None:
    """Of a framewise array: its file, where each frame lies in it, u64[T, 2] (offset, length), and
    a frame's shape; `decode_frame` is for what stands there. None if it is laid out in another way.
    Raises Damaged, or OSError where a file is missing."""
    about = json.loads((folder / "zarr.json").read_text())
    if not _whole(about) or not _framewise(about) or _dtype(about).itemsize != 1:
        return None
    chunk, shape = _chunk(folder, about), about["shape"]
    size = 16 * shape[0] + 4
    with chunk.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        if end < size:
            raise Damaged(f"{end} bytes, too few for the index of {shape[0]} frames")
        file.seek(end - size)
        index = _index(file.read())
    if (index[:, 0] == ABSENT).any() or (index.sum(1) > end).any():
        raise Damaged("a frame is missing")
    return chunk, index, tuple(shape[1:])


def decode_frame(data: bytes, out: np.ndarray) -> None:
    """What stands in a file for a frame, decoded into contiguous `out`. Raises Damaged."""
    if len(data) < 20 or google_crc32c.value(data) != RESIDUE:  # no copy without the checksum
        raise Damaged("its checksum is wrong")
    if int.from_bytes(data[4:8], "little") != out.nbytes:  # blosc would leave the rest as it was
        raise Damaged(f"not a frame of {out.nbytes} bytes")
    try:
        blosc.decompress(data, out)  # which knows where it ends
    except RuntimeError as error:
        raise Damaged(str(error)) from None


def _whole(about: dict) -> bool:
    """One chunk, in a file of the usual name."""
    grid, key = about["chunk_grid"], about["chunk_key_encoding"]
    return (
        about["zarr_format"] == 3
        and grid["name"] == "regular"
        and grid["configuration"]["chunk_shape"] == about["shape"]
        and key == {"name": "default", "configuration": {"separator": "/"}}
    )


def _dtype(about: dict) -> np.dtype:
    return np.dtype(about["data_type"]).newbyteorder("<")


def _chunk(folder: Path, about: dict) -> Path:
    return folder.joinpath("c", *["0"] * len(about["shape"]))


def _framewise(about: dict) -> bool:
    """A shard with a chunk for each frame, and their index behind them."""
    codecs = about["codecs"]
    if [c["name"] for c in codecs] != ["sharding_indexed"]:
        return False
    shard = codecs[0]["configuration"]
    checked = [c["name"] for c in shard["index_codecs"]] == ["bytes", "crc32c"]
    frames = shard["chunk_shape"] == [1, *about["shape"][1:]]
    return frames and checked and shard["index_location"] == "end" and _plain(shard["codecs"])


def _plain(codecs: list[dict]) -> bool:
    endian = codecs[0].get("configuration", {}).get("endian", "little")
    return tuple(c["name"] for c in codecs) == PLAIN and endian == "little"


def _shard(data: bytes, shape: list[int], dtype: np.dtype) -> np.ndarray:
    """Frames one after the other, and behind them where each lies."""
    size = 16 * shape[0]
    if len(data) < size + 4:
        raise Damaged(f"{len(data)} bytes, too few for the index of {shape[0]} frames")
    index = _index(data[-size - 4 :])
    frames = np.empty(shape, dtype)
    for frame, (offset, length) in zip(frames, index.tolist()):
        if offset == ABSENT:  # the writer keeps black frames, too
            raise Damaged("a frame is missing")
        frame[...] = _decoded(data[offset : offset + length], dtype).reshape(frame.shape)
    return frames


def _index(data: bytes) -> np.ndarray:
    return np.frombuffer(_checked(data), "<u8").reshape(-1, 2)


def _decoded(data: bytes, dtype: np.dtype) -> np.ndarray:
    try:
        return np.frombuffer(bytearray(blosc.decompress(_checked(data))), dtype)  # writable
    except RuntimeError as error:
        raise Damaged(str(error)) from None


def _checked(data: bytes) -> bytes:
    """What stands before its checksum, if that is right."""
    body, wanted = data[:-4], int.from_bytes(data[-4:], "little")
    if len(data) < 4 or google_crc32c.value(body) != wanted:
        raise Damaged("its checksum is wrong")
    return body


def write_array(folder: Path, data: np.ndarray, framewise: bool = False) -> None:
    """A new array in `folder`; with `framewise` each data[i] can be read alone."""
    data = np.ascontiguousarray(data).reshape(data.shape)
    size = data.dtype.itemsize
    codecs = [
        {"name": "bytes"} if size == 1 else {"name": "bytes", "configuration": LITTLE},
        {
            "name": "blosc",
            "configuration": {
                "typesize": size,
                "cname": "lz4",
                "clevel": 1,
                "shuffle": "noshuffle",
                "blocksize": 0,
            },
        },
        {"name": "crc32c"},
    ]
    content = _encoded(data)
    if framewise:
        shard = {
            "chunk_shape": [1, *data.shape[1:]],
            "codecs": codecs,
            "index_codecs": [{"name": "bytes", "configuration": LITTLE}, {"name": "crc32c"}],
            "index_location": "end",
        }
        codecs = [{"name": "sharding_indexed", "configuration": shard}]
        frames = [_encoded(frame) for frame in data]
        lengths = np.array([len(f) for f in frames], "<u8")
        index = np.stack([np.cumsum(lengths) - lengths, lengths], 1).astype("<u8")
        content = b"".join([*frames, _signed(index.tobytes())])
    about = {
        "shape": list(data.shape),
        "data_type": data.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(data.shape)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": data.dtype.type(0).item(),
        "codecs": codecs,
        "attributes": {},
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }
    chunk = folder.joinpath("c", *["0"] * data.ndim)
    chunk.parent.mkdir(parents=True)
    chunk.write_bytes(content)
    (folder / "zarr.json").write_text(json.dumps(about, indent=2))


def _encoded(data: np.ndarray) -> bytes:
    data = data.astype(data.dtype.newbyteorder("<"), copy=False)
    return _signed(blosc.compress(data, b"lz4", 1, blosc.NOSHUFFLE, 0))


def _signed(data: bytes) -> bytes:
    return data + google_crc32c.value(data).to_bytes(4, "little")
