"""What goes in comes out, whole or not at all."""

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from fakes import SPEC, make_episode, require_equal

from robostack.data.store import Store, StoreError
from robostack.types import SpecMismatch


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "store", SPEC)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"success": None, "group": "", "keypoints": {}},
        {"source": "demo", "task": "Würfel heben"},
        {"images": {"top": np.zeros((6, 16, 16, 3), np.uint8)}},  # zarr leaves zeros out
        {"actions": np.zeros((5, 3), np.float32), "states": np.zeros((6, 3), np.float32)},
    ],
)
def test_every_field_survives_exactly(store, changes):
    before = make_episode(2**40, **changes)
    require_equal(Store(store.path).read(store.append(before)), before)


def test_plain_zarr_reads_an_episode(store, episode):
    store.append(episode)
    group = zarr.open_group(store.path / "episodes" / "000000", mode="r")
    assert np.array_equal(group["images.top"][...], episode.images["top"])
    assert np.array_equal(group["actions"][...], episode.actions)
    assert group["images.top"].chunks == (1, 16, 16, 3)  # a step can be read alone
    assert group.attrs["task"] == episode.task and group.attrs["steps"] == 5


def test_plain_zarr_opens_the_whole_store(store, episode):
    store.append(episode)
    group = zarr.open_group(store.path, mode="r")
    assert np.array_equal(group["episodes/000000/states"][...], episode.states)


def test_ids_count_up_and_episodes_come_oldest_first(store):
    assert [store.append(make_episode(s)) for s in (5, 3, 4)] == ["000000", "000001", "000002"]
    assert [(i, e.seed) for i, e in store.episodes()] == [
        ("000000", 5),
        ("000001", 3),
        ("000002", 4),
    ]


def test_attributes_tell_what_read_tells_without_the_arrays(store):
    episode = make_episode(3, steps=9)
    known = store.attributes(store.append(episode))
    assert known["steps"] == 9 and known["seed"] == 3 and known["group"] == episode.group


def test_two_writers_in_turn_never_collide(store):
    other = Store(store.path)
    ids = [writer.append(make_episode(s)) for s, writer in enumerate((store, other) * 3)]
    assert len(set(ids)) == 6
    assert [e.seed for _, e in other.episodes()] == list(range(6))


def test_a_number_that_another_writer_has_just_taken_is_skipped(store, monkeypatch):
    store.append(make_episode(0))
    with monkeypatch.context() as patch:
        patch.setattr(store, "ids", lambda: [])  # what it saw a moment ago
        assert store.append(make_episode(1)) == "000001"
    assert [e.seed for _, e in store.episodes()] == [0, 1]


def test_an_empty_store_is_empty_and_says_so(store):
    assert len(store) == 0 and store.ids() == [] and list(store.episodes()) == []
    with pytest.raises(StoreError, match="no episode"):
        store.require_episodes()
    store.append(make_episode(0))
    store.require_episodes()


def test_an_unknown_id_is_refused(store):
    with pytest.raises(StoreError, match="'000007'"):
        store.read("000007")


def test_creating_an_existing_store_opens_it(store, episode):
    store.append(episode)
    assert Store.create(store.path, SPEC).ids() == ["000000"]


def test_another_robot_is_refused_on_create_and_on_append(store):
    other = replace(SPEC, control_hz=20.0)
    with pytest.raises(SpecMismatch, match="control_hz"):
        Store.create(store.path, other)
    with pytest.raises(SpecMismatch, match="control_hz"):
        store.append(make_episode(0, spec=other))
    assert len(store) == 0


def test_a_folder_that_is_no_store_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match="not an episode store"):
        Store(tmp_path)
    with pytest.raises(StoreError, match="not empty"):
        Store.create(tmp_path, SPEC)
    with pytest.raises(StoreError, match="not an episode store"):
        Store(tmp_path / "absent")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_store_of_another_format_is_refused(store):
    card = store.path / "zarr.json"
    card.write_text(card.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(StoreError, match="format 99, expected 1"):
        Store(store.path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("late", [False, True], ids=["at the first field", "at the images"])
def test_a_full_disk_keeps_earlier_episodes_and_leaves_nothing_behind(
    store, monkeypatch, code, late
):
    store.append(make_episode(0))
    write = Path.write_bytes

    def full(self, data):
        if late and "images.top" not in str(self):
            return write(self, data)
        raise OSError(code, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(StoreError, match="no space left"):
            store.append(make_episode(1))
    assert store.ids() == ["000000"] and list((store.path / "partial").iterdir()) == []
    require_equal(store.read("000000"), make_episode(0))
    assert store.append(make_episode(1)) == "000001"


def test_another_error_of_the_disk_is_not_called_a_full_one(store, monkeypatch):
    def broken(*_, **__):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(Path, "write_bytes", broken)
    with pytest.raises(OSError, match="broken"):
        store.append(make_episode(0))
