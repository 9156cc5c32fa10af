"""Scores lie beside the episodes and are refused once they no longer fit the reward."""

import errno

import numpy as np
import pytest
from fakes import SPEC, make_episode

from robostack.data.store import Store, StoreError

SCORES = {"000000": np.linspace(0, 1, 6, dtype=np.float32)}


@pytest.fixture
def store(tmp_path):
    store = Store.create(tmp_path / "store", SPEC)
    store.append(make_episode(0))
    return store


def test_scores_survive_exactly(store):
    store.write_scores("progress", "v1", SCORES)
    found = Store(store.path).read_scores("progress", "v1")
    assert found.keys() == SCORES.keys()
    assert np.array_equal(found["000000"], SCORES["000000"])
    assert found["000000"].dtype == np.float32


def test_stale_scores_are_refused_and_both_versions_named(store):
    store.write_scores("progress", "v1", SCORES)
    with pytest.raises(StoreError, match="stale.*v1.*v2"):
        store.read_scores("progress", "v2")
    assert store.read_scores("progress").keys() == SCORES.keys()  # asked for whatever there is


def test_missing_scores_are_refused_and_the_others_listed(store):
    with pytest.raises(StoreError, match="'progress'.*none"):
        store.read_scores("progress")
    store.write_scores("keypoints", "v1", SCORES)
    with pytest.raises(StoreError, match="'progress'.*keypoints"):
        store.read_scores("progress")


def test_writing_again_replaces(store):
    store.write_scores("progress", "v1", SCORES)
    store.write_scores("progress", "v2", {"000000": np.zeros(6, np.float32)})
    assert not store.read_scores("progress", "v2")["000000"].any()


def test_scores_change_no_episode(store):
    before = {p: p.read_bytes() for p in (store.path / "episodes").rglob("*") if p.is_file()}
    store.write_scores("progress", "v1", SCORES)
    after = {p: p.read_bytes() for p in (store.path / "episodes").rglob("*") if p.is_file()}
    assert before == after and before


def test_a_full_disk_keeps_the_scores_that_were_there(store, monkeypatch):
    def full(file, **_):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "no space left")

    store.write_scores("progress", "v1", SCORES)
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(StoreError, match="no space left"):
        store.write_scores("progress", "v2", SCORES)
    assert np.array_equal(store.read_scores("progress", "v1")["000000"], SCORES["000000"])
    assert [p.name for p in (store.path / "scores").iterdir()] == ["progress.npz"]


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_a_cut_off_side_car_is_a_store_error_that_names_it(store, keep):
    store.write_scores("progress", "v1", SCORES)
    path = store.path / "scores" / "progress.npz"
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(StoreError, match="progress"):
        store.read_scores("progress", "v1")
