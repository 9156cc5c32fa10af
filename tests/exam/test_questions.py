"""Controls of an episode keep what they must and change what they say."""

import numpy as np
import pytest
from examinees import LEFT, RIGHT, Oracle, walk

from robostack.exam.questions import CONTROLS, Refusal, blind, control, potential, questions


@pytest.fixture
def success():
    return walk(0, "success")


def test_what_is_asked_shows_no_answer(success):
    for _, seen in questions(success, "k", {"plain", *CONTROLS, "asked "}, [LEFT, RIGHT], 0):
        assert seen.truth is None and seen.success is None
        assert (seen.label, seen.group, seen.seed, seen.terminated) == ("", "", 0, False)


def test_only_other_words_are_asked(success):
    asked = dict(questions(success, "k", {"asked "}, [LEFT, RIGHT], 0))
    assert set(asked) == {f"asked {RIGHT}"} and asked[f"asked {RIGHT}"].task == RIGHT


def test_reversing_twice_is_the_episode_and_shuffling_is_a_permutation(success):
    seen = blind(success)
    back = control(control(seen, "reversed", 0, "k"), "reversed", 0, "k")
    assert np.array_equal(back.states, seen.states)
    assert np.array_equal(back.images["top"], seen.images["top"])
    mixed = control(seen, "shuffled", 0, "k")
    assert not np.array_equal(mixed.states, seen.states)
    assert np.array_equal(np.sort(mixed.states, 0), np.sort(seen.states, 0))
    rows = [int(np.argmin(np.abs(seen.states[:, 2] - t))) for t in mixed.states[:, 2]]
    assert np.array_equal(mixed.images["top"], seen.images["top"][rows])
    padded = np.concatenate([seen.actions, seen.actions[-1:]])
    assert np.array_equal(mixed.actions, padded[rows][:-1])


def test_shuffling_depends_on_the_seed_and_the_episode(success):
    first, again, other, third = (
        control(blind(success), "shuffled", seed, key).states
        for seed, key in ((0, "a"), (0, "a"), (1, "a"), (0, "b"))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other) and not np.array_equal(first, third)


def test_frozen_is_one_observation_and_blank_shows_nothing(success):
    frozen, blank = (control(blind(success), n, 0, "k") for n in ("frozen", "blank"))
    assert (frozen.states == frozen.states[0]).all() and frozen.states.any()
    assert (frozen.images["top"] == frozen.images["top"][0]).all()
    assert not blank.states.any() and not blank.images["top"].any()
    assert np.array_equal(frozen.stamps, success.stamps)


@pytest.mark.parametrize(
    "answer, why",
    [
        (lambda n: np.full(n, np.nan), "not finite"),
        (lambda n: np.full(n, 1.5), "expected values in"),
        (lambda n: np.zeros(n - 1), "expected f32"),
        (lambda n: 0.5, "expected f32"),
    ],
)
def test_an_answer_that_is_no_potential_is_a_refusal(success, answer, why):
    class Odd(Oracle):
        def score(self, episode):
            return answer(len(episode) + 1)

    with pytest.raises(Refusal, match=why):
        potential(Odd(), blind(success))
