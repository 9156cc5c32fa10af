"""Where pictures are read from changes no bit of what is learned."""

import os

import numpy as np
import pytest
import torch
from fakes import LIFT, SPEC, STACK, make_episode, tiny_size

from robostack import stages
from robostack.data import reading
from robostack.data.chunks import ChunkData
from robostack.data.reading import Reading, StoredChunks, batches, read_windows
from robostack.data.store import Store, StoreError
from robostack.learn import bc
from robostack.learn.run import Run

DISK = Reading("disk")


@pytest.fixture
def paths(tmp_path):
    found = []
    for name, seeds in (("a", (0, 1, 2)), ("b", (3, 4))):
        store = Store.create(tmp_path / name, SPEC)
        for seed in seeds:
            store.append(make_episode(seed, 3 + seed, task=(LIFT, STACK)[seed % 2]))
        found.append(store.path)
    return found


def require_same(one, other):
    assert one.tasks == other.tasks
    for name in ("state", "chunk", "valid"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    for name in one.images:
        assert torch.equal(one.images[name], other.images[name]), name


def test_windows_from_disk_are_those_from_memory(paths):
    memory, disk = (read_windows(paths, SPEC, 4, Reading(p)) for p in ("memory", "disk"))
    assert isinstance(memory, ChunkData) and isinstance(disk, StoredChunks)
    assert np.array_equal(memory.rows(), disk.rows())
    for name in ("state", "action", "left", "episode"):
        assert np.array_equal(memory.column(name), disk.column(name))
    rows = np.random.default_rng(0).choice(memory.rows(), 64)
    require_same(memory.batch(rows), disk.batch(rows))
    assert memory.row(3, 2) == disk.row(3, 2)


def test_they_go_to_disk_where_memory_is_short_and_a_line_says_so(paths, monkeypatch, capsys):
    size = reading.pictures_size(paths)
    assert size == sum(16 * 16 * 3 * (4 + seed) for seed in range(5))
    monkeypatch.setattr(reading, "free_memory", lambda: 3 * size)
    assert isinstance(read_windows(paths, SPEC, 4), ChunkData)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(reading, "free_memory", lambda: size)
    assert isinstance(read_windows(paths, SPEC, 4), StoredChunks)
    assert "pictures are read from disk" in capsys.readouterr().err


def test_the_free_memory_is_some_of_the_machines():
    assert 0 < reading.free_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_processes_that_read_ahead_give_the_same_batches_in_the_same_order(paths):
    data = read_windows(paths, SPEC, 4, DISK)
    draw = np.random.default_rng(0)
    picks = [draw.choice(data.rows(), 8) for _ in range(9)]
    ahead = list(batches(data, iter(picks), Reading("disk", processes=2)))
    assert len(ahead) == 9
    for batch, pick in zip(ahead, picks):
        require_same(batch, data.batch(pick))


def trained(paths, tmp_path, how):
    config = bc.BCConfig(policy=tiny_size(), steps=4, batch=4, draws=2, reading=how)
    data = read_windows(paths, SPEC, 4, how)
    return bc.train(config, SPEC, data, Run(tmp_path / str(how), "test", {}))


def test_training_from_disk_gives_the_very_same_policy(paths, tmp_path):
    memory, disk = (trained(paths, tmp_path, Reading(p)) for p in ("memory", "disk"))
    for (name, one), other in zip(memory.state_dict().items(), disk.state_dict().values()):
        assert torch.equal(one, other), name


def test_a_run_that_was_begun_from_disk_counts_with_pictures_in_memory(paths, tmp_path):
    def train(how):
        config = bc.BCConfig(policy=tiny_size(), steps=2, batch=2, reading=Reading(how))
        return stages.train_bc(config, paths, tmp_path / "run", existing="reuse")

    assert train("disk") == train("memory")  # the second time it is done already


def test_damage_is_named_before_training_or_when_the_picture_is_wanted(paths):
    (paths[0] / "episodes/000001/states/c/0/0").write_bytes(b"")
    with pytest.raises(StoreError, match="000001.*states"):
        read_windows(paths, SPEC, 4, DISK)


def test_a_store_that_zarr_alone_can_read_is_read_all_the_same(paths):
    import zarr

    wanted = Store(paths[0]).read("000000").states
    group = zarr.open_group(paths[0] / "episodes" / "000000")
    group.create_array("states", data=wanted, chunks=(2, 3), overwrite=True)
    assert np.array_equal(read_windows(paths, SPEC, 4, DISK).column("state")[:4], wanted)


@pytest.mark.parametrize("wrong", [{"processes": -1}, {"ahead": 0}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="reading"):
        Reading(**wrong)
