"""Scripted cases: their outcomes are what they say, and the same seed gives the same ones."""

import numpy as np
import pytest

from robostack.sim.cases import AFTER, KINDS, SUCCEED, CaseConfig, Cases, TryConfig, changed
from robostack.sim.env import EnvConfig, make_env


@pytest.fixture(scope="module", params=["Lift", "tabletop/pick"])
def played(request):
    env = make_env(EnvConfig(task=request.param, render="none"))
    yield env, Cases(env, CaseConfig()).play(7)
    env.close()


@pytest.mark.slow
def test_every_kind_came_out_as_it_is_called(played):
    env, episodes = played
    labels = {e.label for e in episodes}
    assert labels == set(KINDS) - ({"wrong object"} if env.config.task == "Lift" else set())
    for episode in episodes:
        if episode.label != "try":
            assert bool(episode.success) == (episode.label in SUCCEED), episode.label


def test_the_truth_is_one_at_success_and_below_elsewhere(played):
    for episode in played[1]:
        assert (episode.truth >= 0).all() and (episode.truth <= 1).all()
        assert (episode.truth[-1] == 1) == bool(episode.success)


def test_hovering_takes_all_the_time_there_is(played):
    env, episodes = played
    (hover,) = [e for e in episodes if e.label == "hover"]
    assert len(hover) == env.horizon
    still = np.linalg.norm(np.diff(hover.states[-20:, :3], axis=0), axis=1)
    assert still.max() < 0.01


def test_after_success_the_same_start_goes_on_and_stays_done(played):
    env, episodes = played
    (after,) = [e for e in episodes if e.label == "after success"]
    assert np.array_equal(after.states[0], episodes[0].states[0])
    arrived = int((after.truth >= 1).argmax())
    assert AFTER[0] <= len(after) - arrived <= AFTER[1] and not after.terminated
    assert env.ends  # the next one ends at success again


def test_tries_of_a_group_begin_in_the_very_same_state_and_differ_in_their_actions(played):
    tries = [e for e in played[1] if e.label == "try"]
    groups = {e.group for e in tries}
    assert len(groups) == TryConfig().points and len(tries) == len(groups) * TryConfig().tries
    for group in groups:
        own = [e for e in tries if e.group == group]
        assert all(np.array_equal(e.states[0], own[0].states[0]) for e in own)
        assert len({e.actions.tobytes() for e in own}) == len(own)


def test_the_first_try_of_a_group_does_what_the_success_did(played):
    _, episodes = played
    model, tries = episodes[0], [e for e in episodes if e.label == "try"]
    for first in tries[:: TryConfig().tries]:
        t = int(first.group.rsplit(" ", 1)[1])
        assert np.array_equal(first.states, model.states[t : t + len(first) + 1])


def test_the_same_seed_gives_the_same_cases(played):
    env, episodes = played
    again = Cases(env, CaseConfig(kinds=("success", "near miss"))).play(7)
    for episode, other in zip(episodes[:2], again):
        assert np.array_equal(episode.states, other.states) and episode.label == other.label


def test_something_else_than_was_asked_leaves_the_asked_thing_where_it_is(played):
    env, episodes = played
    for episode in episodes:
        if episode.label == "wrong object":
            asked = episode.keypoints["object"]
            assert np.linalg.norm(asked[-1] - asked[0]) < 0.05


def test_changed_chunks_begin_with_the_chunk_itself_and_keep_the_fingers_of_pulled_ones():
    random = np.random.default_rng(0)
    chunk = random.uniform(-1, 1, (8, 7)).astype(np.float32)
    moves = np.arange(7) < 6
    found = list(changed(chunk, moves, 8, random))
    assert len(found) == 8 and np.array_equal(found[0], chunk)
    assert np.array_equal(found[1][:, 6], -chunk[:, 6])
    assert all(np.array_equal(other[:, 6], chunk[:, 6]) for other in found[2:])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (dict(kinds=("triumph",)), "expected some of success"),
        (dict(kinds=()), "expected some of"),
        (dict(tries=TryConfig(tries=1)), "2 tries or more"),
    ],
)
def test_impossible_cases_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        CaseConfig(**wrong)
