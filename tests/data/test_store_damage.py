"""Damage is found when an episode is read, and a killed writer leaves none."""

import subprocess
import sys

import numpy as np
import pytest
from fakes import SPEC, make_episode

from robostack.data.store import Store, StoreError

IMAGES, STATES = "images.top/c/0/0/0/0", "states/c/0/0"

# one import, then a fork for every kill: starting Python nine times would take most of the time
WRITER = """
import os, signal, sys, time
import numpy as np
from fakes import make_episode
from robostack.data.store import Store

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

path, random = sys.argv[1], np.random.default_rng(7)
for attempt in range(9):
    child = os.fork()
    if child == 0:
        if attempt == 0:
            os.rename = die  # the last moment before an episode would be there
        store, seed = Store(path), 0
        while True:
            store.append(make_episode(seed))
            seed += 1
    if attempt:
        time.sleep(random.uniform(0.05, 0.4))
        os.kill(child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    print(len(Store(path)))
"""


@pytest.fixture
def store(tmp_path):
    store = Store.create(tmp_path / "store", SPEC)
    store.append(make_episode(0))
    return store


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_only_whole_episodes(tmp_path):
    store = Store.create(tmp_path / "store", SPEC)
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(store.path)],
        capture_output=True,
        text=True,
        cwd=__file__.rsplit("/", 2)[0],
    )
    assert done.returncode == 0, done.stderr
    counts = [int(line) for line in done.stdout.split()]
    assert counts[0] == 0 and any((store.path / "partial").iterdir())  # it died inside a write
    assert counts == sorted(counts) and counts[-1] > 8  # no kill took back what was there
    for episode_id, episode in Store(store.path).episodes():
        same = make_episode(episode.seed)
        assert np.array_equal(episode.images["top"], same.images["top"]), episode_id
        assert np.array_equal(episode.actions, same.actions), episode_id
    assert store.append(make_episode(1)) == f"{counts[-1]:06d}"


@pytest.mark.parametrize(
    ("file", "at"), [(IMAGES, 0.02), (IMAGES, 0.5), (IMAGES, 0.999), (STATES, 0.5)]
)
def test_flipped_bytes_are_found_and_the_field_is_named(store, file, at):
    path = store.path / "episodes" / "000000" / file
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(StoreError, match=f"'{file.split('/')[0]}' is damaged"):
        store.read("000000")


@pytest.mark.parametrize("file", [IMAGES, STATES])
@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_a_cut_off_file_is_found_and_the_field_is_named(store, file, keep):
    path = store.path / "episodes" / "000000" / file
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(StoreError, match=file.split("/")[0]):
        store.read("000000")


@pytest.mark.parametrize("file", [IMAGES, STATES, "actions/zarr.json"])
def test_a_lost_file_is_found_and_the_field_is_named(store, file):
    # zarr itself reads a lost chunk as zeros: a black image, an action of nothing
    (store.path / "episodes" / "000000" / file).unlink()
    with pytest.raises(StoreError, match=file.split("/")[0]):
        store.read("000000")


def test_one_damaged_episode_leaves_the_others_readable(store):
    store.append(make_episode(1))
    (store.path / "episodes" / "000000" / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match="000000"):
        store.read("000000")
    with pytest.raises(StoreError, match="000000"):
        store.attributes("000000")
    assert store.read("000001").seed == 1
