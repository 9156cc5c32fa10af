"""New stores hold what they should, and the old ones stay as they were."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import LIFT, SPEC, STACK, make_episode, require_equal

from robostack.data.curate import (
    MergeConfig,
    RelabelConfig,
    SplitConfig,
    TrimConfig,
    cut,
    merge,
    relabel,
    require_ids,
    split,
    trim,
)
from robostack.data.store import Store, StoreError
from robostack.data.summary import summary
from robostack.types import SpecMismatch


def through(items, label, total):
    return iter(items)


def make(path, episodes, spec=SPEC):
    store = Store.create(path, spec)
    for episode in episodes:
        store.append(episode)
    return store


def read(path):
    return [episode for _, episode in Store(path).episodes()]


def files(store):
    return {p: p.read_bytes() for p in store.path.rglob("*") if p.is_file()}


@pytest.fixture
def store(tmp_path):
    return make(
        tmp_path / "a", [make_episode(s, 6 + s, task=(LIFT, STACK)[s % 3 == 0]) for s in range(8)]
    )


def test_merging_keeps_every_bit_in_order(store, tmp_path):
    other = make(tmp_path / "b", [make_episode(20), make_episode(21)])
    before = files(store), files(other)
    told = merge([store, other], tmp_path / "out", MergeConfig(), through)
    assert told["episodes"] == 10 and told["dropped"] == []
    for one, two in zip(read(tmp_path / "out"), read(store.path) + read(other.path)):
        require_equal(one, two)
    assert (files(store), files(other)) == before


def test_what_is_there_twice_is_refused_dropped_or_kept_as_asked(store, tmp_path):
    other = make(
        tmp_path / "b", [make_episode(20), replace(make_episode(3, 9), task="other words")]
    )
    with pytest.raises(StoreError, match="b/000001 is the same as .*a/000003.*duplicates=drop"):
        merge([store, other], tmp_path / "out", MergeConfig(), through)
    assert not (tmp_path / "out").exists()
    told = merge([store, other], tmp_path / "drop", MergeConfig("drop"), through)
    assert told["episodes"] == 9 and told["dropped"] == [f"{other.path}/000001"]
    assert merge([store, other], tmp_path / "keep", MergeConfig("keep"), through)["episodes"] == 10


def test_a_store_beside_itself_is_there_twice(store, tmp_path):
    with pytest.raises(StoreError, match="a/000000 is the same as .*a/000000"):
        merge([store, store], tmp_path / "out", MergeConfig(), through)
    told = merge([store, store], tmp_path / "drop", MergeConfig("drop"), through)
    assert told["episodes"] == len(told["dropped"]) == 8
    assert merge([store, store], tmp_path / "keep", MergeConfig("keep"), through)["episodes"] == 16


def test_what_cannot_be_read_may_be_left_out(store, tmp_path):
    (store.path / "episodes/000002/zarr.json").write_text("{")
    (store.path / "episodes/000005/actions/c/0/0").write_bytes(b"damaged")
    for only, kept in (("all", [0, 1, 3, 4, 6, 7]), ("successes", [1, 3, 7])):
        with pytest.raises(StoreError, match="000002.*damaged=skip"):
            merge([store], tmp_path / "out", MergeConfig(only=only), through)
        told = merge([store], tmp_path / only, MergeConfig(only=only, damaged="skip"), through)
        assert [e.seed for e in read(tmp_path / only)] == kept
        assert ["000002" in told["damaged"][0], "000005" in told["damaged"][1]] == [True, True]


def test_only_successes_or_failures_can_be_merged(store, tmp_path):
    for only, wanted in (("successes", True), ("failures", False)):
        merge([store], tmp_path / only, MergeConfig(only=only), through)
        assert {e.success for e in read(tmp_path / only)} == {wanted}


def test_another_robot_is_not_merged(store, tmp_path):
    spec = replace(SPEC, control_hz=20.0)
    other = make(tmp_path / "b", [make_episode(9, spec=spec)], spec)
    with pytest.raises(SpecMismatch, match="control_hz"):
        merge([store, other], tmp_path / "out", MergeConfig(), through)


def test_nothing_is_written_into_what_is_there_and_nothing_is_left_of_what_failed(store, tmp_path):
    with pytest.raises(StoreError, match="not empty"):
        merge([store], store.path, MergeConfig("keep"), through)
    (store.path / "episodes/000005/actions/c/0/0").write_bytes(b"damaged")
    with pytest.raises(StoreError, match="actions"):
        merge([store], tmp_path / "out", MergeConfig(), through)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_split_deals_out_all_episodes_and_keeps_groups_together(store, tmp_path):
    config = SplitConfig({"train": 0.5, "test": 0.5})
    split(store, tmp_path / "one", config, 0, through)
    split(store, tmp_path / "again", config, 0, through)
    parts = {n: read(tmp_path / "one" / n) for n in ("train", "test")}
    groups = {n: {e.group for e in part} for n, part in parts.items()}
    assert not groups["train"] & groups["test"] and len(groups["train"]) == 2
    assert sorted(e.seed for part in parts.values() for e in part) == list(range(8))
    assert [e.seed for e in read(tmp_path / "again/train")] == [e.seed for e in parts["train"]]


def test_a_split_by_task_or_outcome_makes_a_store_of_each(store, tmp_path):
    told = split(store, tmp_path / "tasks", SplitConfig(by="task"), 0, through)
    assert {Path(each["store"]).name for each in told.values()} == set(told)
    for name in told:
        assert {e.task for e in read(tmp_path / "tasks" / name)} == {
            task for task in (LIFT, STACK) if task.replace(" ", "-") == name
        }
    split(store, tmp_path / "ends", SplitConfig(by="success"), 0, through)
    assert {e.success for e in read(tmp_path / "ends/failure")} == {False}


def test_a_part_that_would_be_empty_is_an_error_before_anything_is_written(store, tmp_path):
    with pytest.raises(StoreError, match="b would be empty: 8 episodes in 4 groups"):
        split(store, tmp_path / "out", SplitConfig({"a": 1, "b": 0.01}), 0, through)
    assert not (tmp_path / "out").exists()


def test_a_cut_is_the_same_steps_of_every_field_at_the_same_times():
    whole = make_episode(1, 9, truth=np.linspace(0, 1, 10, dtype="f4"))
    part = cut(whole, 2, 6)
    assert len(part) == 4 and not part.terminated and part.success
    assert np.array_equal(part.actions, whole.actions[2:6])
    for t in range(5):
        one, other = part.observation(t), whole.observation(t + 2)
        assert np.array_equal(one.state, other.state) and one.stamp == other.stamp
        assert np.array_equal(one.images["top"], other.images["top"])
    assert np.array_equal(part.keypoints["object"], whole.keypoints["object"][2:7])
    assert np.array_equal(part.truth, whole.truth[2:7])
    require_equal(cut(whole, 0, 9), whole)
    with pytest.raises(ValueError, match="start < stop <= 9"):
        cut(whole, 3, 10)


def test_trimming_by_numbers_trims_those_that_are_named(store, tmp_path):
    told = trim(store, tmp_path / "out", TrimConfig(start=2, stop=-1), through, ["000001", "4"])
    lengths = [len(e) for e in read(tmp_path / "out")]
    assert lengths == [6, 4, 8, 9, 7, 11, 12, 13] and told["cut"] == 6
    with pytest.raises(StoreError, match="000000 has 6 steps"):
        trim(store, tmp_path / "two", TrimConfig(start=7), through)
    with pytest.raises(ValueError, match="nothing to cut"):
        trim(store, tmp_path / "two", TrimConfig(), through)


def test_trimming_by_itself_cuts_idle_ends(tmp_path):
    episode = make_episode(1, 40)
    states, actions = episode.states.copy(), episode.actions.copy()
    states[30:], actions[30:] = states[30], 0
    store = make(tmp_path / "a", [replace(episode, states=states, actions=actions)])
    proposed = trim(store, None, TrimConfig(auto=True), through)
    assert proposed == {"episodes": 1, "steps": 32, "cut": 8, "kept": {"000000": [0, 32]}}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]
    told = trim(store, tmp_path / "out", TrimConfig(auto=True), through)
    assert told == {"store": str(tmp_path / "out"), **proposed}
    assert len(read(tmp_path / "out")[0]) == 32


def test_what_is_said_anew_is_said_and_the_rest_stays(store, tmp_path):
    config = RelabelConfig(task="pick it up", success="unknown")
    told = relabel(store, tmp_path / "out", config, through, ["2", "3"])
    assert told["changed"] == {"task": 2, "success": 2}
    for number, (one, other) in enumerate(zip(read(tmp_path / "out"), read(store.path))):
        if number in (2, 3):
            assert one.task == "pick it up" and one.success is None
            one = replace(one, task=other.task, success=other.success)
        require_equal(one, other)


def test_a_detector_may_say_what_succeeded(store, tmp_path):
    def long(episode):
        return len(episode) > 9

    relabel(store, tmp_path / "out", RelabelConfig(), through, succeeded=long)
    assert [e.success for e in read(tmp_path / "out")] == [False] * 4 + [True] * 4
    with pytest.raises(ValueError, match="said twice"):
        relabel(store, tmp_path / "x", RelabelConfig(success="yes"), through, succeeded=long)
    with pytest.raises(ValueError, match="nothing to say"):
        relabel(store, tmp_path / "x", RelabelConfig(), through)


def test_ids_may_lack_their_zeros_but_must_be_there(store):
    assert require_ids(store, ["3", "000003"]) == {"000003"}
    assert require_ids(store, []) == set(store.ids())
    with pytest.raises(StoreError, match="no episode 000008; it has 000000 to 000007"):
        require_ids(store, ["8"])


def test_a_summary_counts_what_is_there(store):
    told = summary(store)
    lengths = [len(e) for e in read(store.path)]
    assert told["episodes"] == 8 and told["steps"] == sum(lengths)
    assert told["tasks"][STACK] == {"episodes": 3, "successes": 1, "unknown": 0}
    rows = np.concatenate([e.actions for e in read(store.path)])
    assert told["actions"]["dx"]["max"] == pytest.approx(rows[:, 0].max(), abs=1e-5)
    assert told["states"]["opening"]["median"] == pytest.approx(
        np.median(np.concatenate([e.states for e in read(store.path)])[:, 2]), abs=1e-5
    )
