import pytest
from fakes import SPEC, make_episode
from label_site import Site

from robostack.data.store import Store


@pytest.fixture
def store(tmp_path):
    """Four states with two tries each."""
    store = Store.create(tmp_path / "store", SPEC)
    for seed in range(8):
        store.append(make_episode(seed, steps=6))
    return store


@pytest.fixture
def other(tmp_path):
    """Another store, whose episodes have the same ids."""
    store = Store.create(tmp_path / "other", SPEC)
    for seed in range(50, 58):
        store.append(make_episode(seed, steps=6))
    return store


@pytest.fixture
def site(store, tmp_path):
    site = Site(store, tmp_path / "labels.jsonl")
    yield site
    site.stop()
