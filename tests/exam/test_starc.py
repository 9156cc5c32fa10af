"""STARC on a tabular problem, where everything can be said exactly."""

import numpy as np
import pytest

from robostack.exam.starc import distance, distance_statistic, features, levelled

STATES, ACTIONS, GAMMA = 7, 3, 0.9
NEXT = np.random.default_rng(0).integers(0, STATES, (STATES, ACTIONS))
NOW, AFTER = np.repeat(np.arange(STATES), ACTIONS), NEXT.ravel()
END = 6  # terminal
ENDED = AFTER == END
INNER = NOW != END


def canonical(rewards, gamma=GAMMA):
    """Of rewards a transition out of a state that is not terminal."""
    one_hot = np.eye(STATES)[:, [END, *range(END)]]  # column 0 is not penalised; no ridge anyway
    now, after = one_hot[NOW[INNER]], one_hot[AFTER[INNER]]
    return levelled(rewards, now, after, ENDED[INNER], gamma, ridge=0.0)


def drawn(count):
    return np.random.default_rng(1).normal(size=(count, INNER.sum()))


def shaping(seed):
    phi = np.random.default_rng(seed).normal(size=STATES)
    phi[END] = 0.0
    return GAMMA * phi[AFTER[INNER]] - phi[NOW[INNER]]


def test_levelling_takes_away_the_values_of_the_policy_that_made_the_transitions():
    (reward,) = drawn(1)
    value = np.zeros(STATES)
    for _ in range(600):
        q = reward + GAMMA * value[AFTER[INNER]] * ~ENDED[INNER]
        value[:END] = [q[NOW[INNER] == s].mean() for s in range(END)]
    expected = reward + GAMMA * value[AFTER[INNER]] * ~ENDED[INNER] - value[NOW[INNER]]
    assert np.allclose(canonical(reward), expected)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_scale_and_shaping_make_no_difference(scale):
    (reward,) = drawn(1)
    same = canonical(scale * reward + shaping(5))
    assert distance(canonical(reward), same) == pytest.approx(0, abs=1e-6)


def test_shaping_with_a_potential_at_the_terminal_makes_a_difference():
    (reward,) = drawn(1)
    assert distance(canonical(reward), canonical(reward + 3.0 * ENDED[INNER])) > 0.05


def test_the_negated_reward_is_1_away_and_no_reward_is_further():
    first, second = (canonical(r) for r in drawn(2))
    assert distance(first, -first) == pytest.approx(1)
    assert 0 < distance(first, second) < 1


def test_it_is_symmetric_and_obeys_the_triangle():
    rewards = [canonical(r) for r in drawn(6)]
    for a in rewards:
        for b in rewards:
            assert distance(a, b) == pytest.approx(distance(b, a))
            for c in rewards:
                assert distance(a, c) <= distance(a, b) + distance(b, c) + 1e-9


def test_a_reward_of_shaping_alone_asks_for_nothing():
    nothing, something = canonical(shaping(3)), canonical(drawn(1)[0])
    assert not nothing.any()
    assert distance(nothing, nothing) == 0 and distance(nothing, something) == 0.5


def test_as_a_statistic_it_is_the_distance_of_all_episodes_together():
    first, second = (canonical(r) for r in drawn(2))
    parts = [np.split(x, 3) for x in (first, second)]
    found = distance_statistic(*parts)(np.ones((1, 3)))
    assert found[0] == pytest.approx(distance(first, second))


def test_on_a_line_of_features_a_shaped_reward_is_close_and_its_negation_is_far():
    """Continuous places: the least-squares values are not exact, but they are close."""
    rng = np.random.default_rng(0)
    x = np.clip(np.cumsum(rng.normal(0, 0.1, (40, 31)), 1), -1, 1)
    places, last = x.reshape(-1, 1), np.arange(1, 41) * 31 - 1
    now = np.delete(np.arange(places.size), last)
    seen = features(places)
    reward = (places[now + 1, 0] > 0.3).astype(float)
    phi = np.sin(2 * places[:, 0])
    shaped = 2 * reward + 0.95 * phi[now + 1] - phi[now]
    ended = np.zeros(len(now), bool)
    first, same, opposite = (
        levelled(r, seen[now], seen[now + 1], ended, 0.95) for r in (reward, shaped, -reward)
    )
    assert distance(first, same) < 0.05 and distance(first, opposite) > 0.99


def test_features_stand_a_coordinate_that_never_changes():
    seen = features(np.c_[np.ones(50), np.arange(50.0)])
    assert np.isfinite(seen).all() and (seen[:, 0] == 1).all()
