"""`score` judges what is new or has changed, and writes down nothing that is no score."""

import json
import shutil

import numpy as np
import pytest
from fakes import SPEC, make_episode, swap

from robostack.data.store import Store
from robostack.rewards.saved import RewardError
from robostack.score import score


class First:
    """The first value of the state, and how often it was asked."""

    name = "first"

    def __init__(self):
        self.asked = 0

    def fingerprint(self):
        return "first"

    def score(self, episode):
        self.asked += 1
        return np.clip(np.abs(episode.states[:, 0]), 0, 1).astype(np.float32)


@pytest.fixture
def store(tmp_path):
    store = Store.create(tmp_path / "store", SPEC)
    for seed in range(3):
        store.append(make_episode(seed))
    return store


def test_only_an_episode_that_changed_under_its_id_is_judged_again(store):
    reward = First()
    assert score({"first": reward}, store.path) == {"first": 3}
    assert score({"first": reward}, store.path) == {} and reward.asked == 3
    pictures = {"top": 255 - make_episode(1).images["top"]}  # the same in all but what is seen
    swap(store, "000001", make_episode(1, images=pictures))
    assert set(store.read_scores("first", "first")) == {"000000", "000002"}
    assert score({"first": reward}, store.path) == {"first": 1} and reward.asked == 4
    swap(store, "000002", make_episode(2, success=True, label="success"))
    assert score({"first": reward}, store.path) == {"first": 1}
    other = store.read(store.ids()[2])
    assert np.array_equal(store.read_scores("first", "first")["000002"], reward.score(other))


def test_a_side_car_that_knows_no_digests_is_written_anew(store):
    old = {i: np.zeros(6, np.float32) for i in store.ids()}
    (store.path / "scores").mkdir()
    np.savez(store.path / "scores" / "first.npz", fingerprint=np.array("first"), **old)
    assert store.read_scores("first").keys() == old.keys()
    assert store.read_scores("first", "first") == {}
    assert score({"first": First()}, store.path) == {"first": 3}


def test_the_digest_is_of_the_bytes_and_of_nothing_else(store, tmp_path):
    before = [store.digest(i) for i in store.ids()]
    copy = tmp_path / "copy"
    shutil.copytree(store.path, copy)
    assert [Store(copy).digest(i) for i in store.ids()] == before and len(set(before)) == 3
    about = copy / "episodes" / "000000" / "zarr.json"
    raw = json.loads(about.read_text())
    raw["attributes"]["success"] = not raw["attributes"]["success"]
    about.write_text(json.dumps(raw, indent=2))
    assert [Store(copy).digest(i) == d for i, d in zip(store.ids(), before)] == [False, True, True]


@pytest.mark.parametrize(
    "answer, why",
    [
        (lambda n: np.full(n, np.nan, np.float32), "first: score: not finite at observation 0"),
        (lambda n: np.linspace(0, 1.5, n), "expected values in .0, 1., got 0 to 1.5"),
        (lambda n: np.zeros(n - 1, np.float32), r"expected f32\[6\], got \(5,\)"),
        (lambda n: 0.5, "expected f32"),
    ],
)
def test_what_is_no_score_is_refused_and_what_was_written_stays(store, answer, why):
    reward = First()
    score({"first": reward}, store.path)
    kept = (store.path / "scores" / "first.npz").read_bytes()
    store.append(make_episode(3))
    reward.score = lambda episode: answer(len(episode) + 1)
    with pytest.raises(RewardError, match=f"episode 000003: .*{why}"):
        score({"first": reward}, store.path)
    assert (store.path / "scores" / "first.npz").read_bytes() == kept
