"""Where nobody has been is new, and where everybody has been is not."""

from dataclasses import replace

import numpy as np
from fakes import make_episode

from robostack.learn.rl.config import CuriosityConfig
from robostack.learn.rl.curiosity import Curiosity, whereabouts


def at(place, seed, **changes):
    """An episode whose object lies about so far from the gripper."""
    episode = make_episode(seed, steps=20)
    rng = np.random.default_rng(seed)
    hand = rng.normal(size=(21, 3)).astype(np.float32)
    away = (np.array([place, 0, 0]) + 0.02 * rng.normal(size=(21, 3))).astype(np.float32)
    return replace(episode, keypoints={"gripper": hand, "object": hand + away}, **changes)


def curious(base):
    return Curiosity(CuriosityConfig(weight=0.5), base, seed=0)


def test_what_counts_is_where_the_object_is_to_the_gripper():
    episode = at(0.3, 1)
    assert np.allclose(whereabouts(episode).mean(0), [0.3, 0, 0], atol=0.02)
    bare = replace(episode, keypoints={})
    assert np.array_equal(whereabouts(bare), bare.states)


def test_new_places_pay_more_until_they_have_been_seen():
    base = [at(x, k) for k, x in enumerate(np.linspace(0, 0.2, 8))]
    curiosity = curious(base)
    known, new = curiosity.novelty(at(0.1, 50)), curiosity.novelty(at(0.4, 51))
    assert known.shape == (20,) and new.mean() > 5 * known.mean()
    for k in range(5):
        curiosity.learn([at(0.4, 60 + j) for j in range(4)], k)
    assert curiosity.novelty(at(0.4, 51)).mean() < 0.2 * new.mean()


def test_novelty_is_a_function_of_the_seed_and_its_weight_ends_with_training():
    base = [at(0.1, k) for k in range(4)]
    first, second = curious(base), curious(base)
    assert np.array_equal(first.novelty(at(0.3, 9)), second.novelty(at(0.3, 9)))
    assert [first.weight(k, 5) for k in range(5)] == [0.5, 0.375, 0.25, 0.125, 0]
    assert first.weight(0, 1) == 0.5
