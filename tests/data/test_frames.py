"""Pictures read one by one are those of the whole, and damage is noticed where it is."""

import copy

import numpy as np
import pytest
import zarr
from fakes import SPEC, make_episode

from robostack.data.frames import Frames
from robostack.data.store import Store, StoreError


@pytest.fixture
def store(tmp_path):
    store = Store.create(tmp_path / "store", SPEC)
    for seed in range(5):
        store.append(make_episode(seed, steps=4 + seed))
    return store


def folders(store):
    return [store.path / "episodes" / i / "images.top" for i in store.ids()]


def frames_of(store):
    frames = Frames((16, 16, 3))
    for folder in folders(store):
        frames.add(folder)
    return frames


def everything(store):
    return np.concatenate([episode.images["top"] for _, episode in store.episodes()])


def test_any_picture_in_any_order_is_what_was_written(store):
    frames, wanted = frames_of(store), everything(store)
    assert len(frames) == len(wanted)
    rows = np.random.default_rng(0).integers(0, len(wanted), 200)
    assert np.array_equal(frames.read(rows), wanted[rows])


def test_fewer_files_may_be_open_than_there_are(store):
    frames, wanted = frames_of(store), everything(store)
    frames._most = 2
    rows = np.random.default_rng(1).permutation(len(wanted))
    assert np.array_equal(frames.read(rows), wanted[rows])
    assert len(frames._open) == 2


def test_another_process_opens_the_files_itself(store):
    frames, wanted = frames_of(store), everything(store)
    frames.read(np.arange(3))
    other = copy.deepcopy(frames)  # as what is sent to one
    assert not other._open
    frames.close()
    assert np.array_equal(other.read(np.arange(len(wanted))), wanted)


def test_a_flipped_bit_and_a_cut_file_are_errors_that_name_the_file(store):
    frames = frames_of(store)
    path = folders(store)[1] / "c/0/0/0/0"
    data = path.read_bytes()
    path.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    with pytest.raises(StoreError, match="000001.*checksum"):
        frames.read(np.array([5]))
    path.write_bytes(data[:200])
    frames.close()
    with pytest.raises(StoreError, match="000001"):
        frames.read(np.array([8]))
    with pytest.raises(StoreError, match="000001.*too few|000001.*damaged"):
        frames_of(store)


def test_another_layout_is_refused_with_the_way_out(store):
    group = zarr.open_group(store.path / "episodes" / "000000")
    group.create_array("images.top", data=make_episode(0).images["top"], overwrite=True)
    with pytest.raises(StoreError, match="reading.pictures=memory"):
        frames_of(store)
