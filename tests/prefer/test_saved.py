"""Preference sets on disk are exact, hold no frames, and know when their episodes have changed."""

import json
from dataclasses import replace

import pytest
from fakes import SPEC, make_episode

from robostack.data.store import Store
from robostack.prefer import saved
from robostack.prefer.saved import PreferenceError, PreferenceSet
from robostack.types import Clip, Preference

PAIRS = [
    Preference(Clip("000001", 0, 4), Clip("000000", 0, 5), 1.5, {"progress": 0.5}, "seed 0 step 0"),
    Preference(
        Clip("000002", 1, 3),
        Clip("000002", 1, 3, ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))),
        0.25,
        {"demonstrated": 0.1},
        "episode 000002 step 1",
        uncertainty=0.5,
        annotator="ada",
    ),
    Preference(Clip("000000", 0, 1), Clip("000001", 0, 1), 0.0, {}, "seed 0 step 0", tie=True),
]


@pytest.fixture
def store(tmp_path):
    store = Store.create(tmp_path / "store", SPEC)
    for seed in range(3):
        store.append(make_episode(seed))
    return store


@pytest.fixture
def found(store):
    return PreferenceSet(
        PAIRS,
        {"preferences": 3},
        str(store.path),
        {i: saved.digest(e) for i, e in store.episodes()},
    )


def test_a_preference_set_survives_saving_exactly(found, tmp_path):
    saved.save(tmp_path / "pairs" / "set.jsonl", found)
    assert saved.load(tmp_path / "pairs" / "set.jsonl") == found


def test_the_episodes_of_a_set_are_those_that_were_compared(found):
    assert set(found.episodes()) == {"000000", "000001", "000002"}


def test_a_store_elsewhere_with_the_same_episodes_will_do(found, store, tmp_path):
    other = Store.create(tmp_path / "other", SPEC)
    for seed in range(3):
        other.append(make_episode(seed))
    assert set(found.episodes(other.path)) == set(found.episodes())


def test_a_missing_episode_is_refused_and_its_pair_named(found, tmp_path):
    other = Store.create(tmp_path / "other", SPEC)
    other.append(make_episode(0))
    with pytest.raises(PreferenceError, match="pair of seed 0 step 0 needs episode 000001"):
        found.episodes(other.path)


@pytest.mark.parametrize("change", ["actions", "states", "success", "task", "images"])
def test_an_episode_that_has_changed_is_refused_and_its_pair_named(found, tmp_path, change):
    other = Store.create(tmp_path / "other", SPEC)
    for seed in range(2):
        other.append(make_episode(seed))
    episode = make_episode(2)
    new = {
        "actions": episode.actions * 0.999,
        "states": episode.states + 1e-6,
        "success": not episode.success,
        "task": "another",
        "images": {"top": episode.images["top"] ^ 1},
    }
    other.append(replace(episode, **{change: new[change]}))
    with pytest.raises(PreferenceError, match="episode 000002 step 1.*another episode 000002"):
        found.episodes(other.path)


def test_a_missing_preference_set_is_refused_and_how_to_make_one_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="robostack prefer"):
        saved.load(tmp_path / "absent.jsonl")


@pytest.mark.parametrize("text", ['{"step": 1}\n', "", "not json\n", '{"card": {}, "sto'])
def test_a_file_that_is_no_preference_set_is_refused_by_name(tmp_path, text):
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(PreferenceError, match="metrics.jsonl"):
        saved.load(tmp_path / "metrics.jsonl")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("margin", float("nan"), "positive number, got nan"),
        ("margin", -1.0, "positive number"),
        ("margin", "3", "positive number, got '3'"),
        ("terms", {"progress": float("nan")}, "expected a number as progress, got nan"),
        ("uncertainty", float("inf"), "expected a number as uncertainty, got inf"),
        ("chosen", {"episode": "0", "start": 0, "stop": "5", "chunk": None}, "0 and '5'"),
        ("chosen", {"episode": "0", "start": 0, "stop": 1, "chunk": [[1.0], [1.0, 2.0]]}, "many"),
        ("chosen", {"episode": "0", "start": 0, "stop": 1, "chunk": []}, "one action or more"),
        ("rejected", None, ""),
        ("chosen", {"episode": "0", "start": 3, "stop": 3, "chunk": None}, "start < stop"),
        ("chosen", {"episode": "0", "start": 0, "stop": 1, "chunk": [[float("inf")]]}, "finite"),
    ],
)
def test_a_line_that_cannot_be_is_refused_by_its_number(found, tmp_path, key, value, told):
    path = tmp_path / "set.jsonl"
    saved.save(path, found)
    head, first, *rest = path.read_text().splitlines()
    row = json.loads(first) | {key: value}
    if value is None:
        del row[key]
    path.write_text("\n".join([head, json.dumps(row), *rest]))
    with pytest.raises(PreferenceError, match=f"line 2: .*{told}"):
        saved.load(path)


def test_a_set_of_an_older_format_is_refused_with_advice(tmp_path):
    (tmp_path / "old.jsonl").write_text('{"card": {}, "store": "x"}\n')
    with pytest.raises(PreferenceError, match="format None, expected 3; make it again"):
        saved.load(tmp_path / "old.jsonl")


def test_a_set_whose_digests_are_not_of_pictures_is_read_as_it_is(store, tmp_path):
    seen = dict(store.episodes())
    digests = {i: saved.digest(e, pictures=False) for i, e in seen.items()}
    # as the version before wrote it
    assert digests["000000"] == "3dc494ebf4e68d54" != saved.digest(seen["000000"])
    old = PreferenceSet(PAIRS, {"preferences": 3}, str(store.path), digests, saved.BLIND)
    saved.save(tmp_path / "old.jsonl", old)
    assert set(saved.load(tmp_path / "old.jsonl").episodes()) == set(seen)
    assert '"format": 2' in (tmp_path / "old.jsonl").read_text()


def test_a_set_without_digests_is_refused_with_advice(tmp_path):
    (tmp_path / "bare.jsonl").write_text('{"format": 3, "card": {}, "store": "x"}\n')
    with pytest.raises(PreferenceError, match="bare.jsonl: expected .* as `episodes`, got None"):
        saved.load(tmp_path / "bare.jsonl")
