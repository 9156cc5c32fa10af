"""Ours and zarr-python read the same of what either wrote, and damage is noticed."""

import numpy as np
import pytest
import zarr
from fakes import SPEC, make_episode
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec

from robostack.data.arrays import Damaged, read_array, write_array
from robostack.data.store import Store

OURS = (BloscCodec(cname="lz4", clevel=1, shuffle="noshuffle"), Crc32cCodec())


@pytest.fixture
def folder(tmp_path):
    store = Store.create(tmp_path / "store", SPEC)
    images = make_episode(0).images["top"]
    images[1] = 0  # black frames are kept, too
    store.append(make_episode(0, images={"top": images}, truth=np.linspace(0, 1, 6, dtype="f4")))
    return store.path / "episodes" / "000000"


def test_every_field_of_an_episode_is_what_zarr_reads(folder):
    group = zarr.open_group(folder, mode="r")
    fields = [path.parent.name for path in folder.glob("*/zarr.json")]
    assert len(fields) == 6
    for field in fields:
        found, wanted = read_array(folder / field), group[field][...]
        assert found.dtype == wanted.dtype and np.array_equal(found, wanted)
        assert found.flags.writeable


def test_what_zarr_wrote_otherwise_is_left_to_zarr(tmp_path):
    group = zarr.create_group(tmp_path / "g")
    data = np.arange(24.0).reshape(6, 4)
    group.create_array("two", data=data, chunks=(3, 4), compressors=OURS)
    group.create_array("gzip", data=data, chunks=(6, 4), compressors=GzipCodec())
    group.create_array("raw", data=data, chunks=(6, 4), compressors=None)
    group.create_array("shards", data=data, chunks=(3, 4), shards=(6, 4), compressors=OURS)
    for name in ("two", "gzip", "raw", "shards"):
        assert read_array(tmp_path / "g" / name) is None


def test_an_episode_of_another_layout_is_read_all_the_same(folder):
    store = Store(folder.parents[1])
    whole = store.read("000000")
    group = zarr.open_group(folder)
    group.create_array("states", data=whole.states, chunks=(2, 3), overwrite=True)
    assert np.array_equal(store.read("000000").states, whole.states)


@pytest.mark.parametrize("field", ["actions", "images.top"])
def test_every_flipped_byte_is_noticed(folder, field):
    (path,) = [p for p in (folder / field / "c").rglob("*") if p.is_file()]
    data = path.read_bytes()
    for position in range(0, len(data), max(1, len(data) // 50)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(Damaged):
            read_array(folder / field)
    path.write_bytes(data)
    assert read_array(folder / field) is not None


def test_a_file_that_was_cut_is_noticed(folder):
    (path,) = [p for p in (folder / "images.top" / "c").rglob("*") if p.is_file()]
    data = path.read_bytes()
    for length in (0, 3, 50, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(Damaged):
            read_array(folder / "images.top")


@pytest.mark.parametrize("kind", ["uint8", "float32", "float64", "int64", "bool"])
@pytest.mark.parametrize("shape", [(5,), (3, 4), (4, 8, 8, 3)])
@pytest.mark.parametrize("framewise", [False, True])
def test_zarr_reads_what_is_written_and_so_do_we(tmp_path, kind, shape, framewise):
    framewise = framewise and len(shape) > 1
    data = (np.random.default_rng(0).random(shape) * 200).astype(kind)
    data[1] = 0
    zarr.create_group(tmp_path / "g")
    write_array(tmp_path / "g" / "a", data, framewise)
    array = zarr.open_group(tmp_path / "g", mode="r")["a"]
    assert array.dtype == data.dtype and np.array_equal(array[...], data)
    assert array.chunks == ((1, *shape[1:]) if framewise else shape)
    ours = read_array(tmp_path / "g" / "a")
    assert ours.dtype == data.dtype and np.array_equal(ours, data)


@pytest.mark.parametrize("framewise", [False, True])
def test_what_zarr_writes_in_this_layout_is_read_without_it(tmp_path, framewise):
    data = np.random.default_rng(0).random((4, 6, 3), np.float32)
    group = zarr.create_group(tmp_path / "g")
    shape = dict(chunks=(1, 6, 3), shards=data.shape) if framewise else dict(chunks=data.shape)
    group.create_array(
        "a", data=data, compressors=OURS, config={"write_empty_chunks": True}, **shape
    )
    assert np.array_equal(read_array(tmp_path / "g" / "a"), data)


def test_one_frame_can_be_read_alone(folder):
    frames = zarr.open_group(folder, mode="r")["images.top"]
    assert np.array_equal(frames[3], make_episode(0).images["top"][3])
