"""Every metric against its definition, written as loops."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from robostack.evaluate import auc
from robostack.exam import metrics as m


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def once(statistic, n):
    return float(statistic(np.ones((1, n)))[0])


def brute_order(values, classes, tasks):
    score, pairs = 0, 0
    for i, j in combinations(range(len(values)), 2):
        if tasks[i] == tasks[j] and classes[i] != classes[j]:
            score += np.sign(values[i] - values[j]) * np.sign(classes[i] - classes[j])
            pairs += 1
    return score / pairs


def test_ranks_of_ties_are_the_mean_of_theirs():
    assert np.array_equal(m.ranks(np.array([3.0, 1.0, 3.0, 2.0])), [2.5, 0, 2.5, 1])


def test_spearman_without_ties_is_the_textbook_formula(rng):
    a, b = rng.normal(size=(2, 9))
    d = a.argsort().argsort() - b.argsort().argsort()
    assert m.spearman(a, b) == pytest.approx(1 - 6 * (d**2).sum() / (9 * 80))


def test_spearman_sees_order_only(rng):
    a, b = rng.normal(size=(2, 20))
    assert m.spearman(np.exp(a), b**3) == pytest.approx(m.spearman(a, b))
    assert m.spearman(-a, b) == pytest.approx(-m.spearman(a, b))


def test_value_order_is_1_for_rising_minus_1_for_falling_and_0_for_constant():
    assert m.value_order(np.array([0, 0.1, 0.5, 0.6])) == pytest.approx(1)
    assert m.value_order(np.array([0.9, 0.5, 0.1])) == pytest.approx(-1)
    assert m.value_order(np.full(5, 0.3)) == 0


def test_toggling_is_0_on_a_line_and_2_between_0_and_1():
    assert m.toggling(np.linspace(0, 1, 9)) == pytest.approx(0)
    assert m.toggling(np.array([0.0, 1, 0, 1, 0])) == 2
    assert m.toggling(np.array([0.0, 1])) == 0


def test_order_of_classes_is_concordance_counted_pair_by_pair(rng):
    values = rng.integers(0, 6, 40) / 5  # with ties
    classes, tasks = rng.integers(0, 3, (2, 40))
    found = once(m.ordering(values, classes, tasks), 40)
    assert found == pytest.approx(brute_order(values, classes, tasks))


def test_a_perfect_order_of_three_classes_scores_1():
    classes = np.repeat([0, 1, 2], 4)
    values = classes + np.linspace(0, 0.5, 12)
    tasks = np.zeros(12, int)
    assert once(m.ordering(values, classes, tasks), 12) == 1
    assert once(m.ordering(-values, classes, tasks), 12) == -1
    assert once(m.ordering(0 * values, classes, tasks), 12) == 0


def test_tau_b_is_kendalls_of_one_task_and_pools_the_pairs_of_several(rng):
    values = rng.integers(0, 6, 40) / 5  # with ties
    classes, tasks = rng.integers(0, 3, (2, 40))
    alone = stats.kendalltau(values, classes, variant="b").statistic
    assert once(m.tau_b(values, classes, 0 * tasks), 40) == pytest.approx(alone)
    right = wrong = kinds = different = 0
    for i, j in combinations(range(40), 2):
        if tasks[i] == tasks[j]:
            sign = np.sign(values[i] - values[j]) * np.sign(classes[i] - classes[j])
            right, wrong = right + (sign > 0), wrong + (sign < 0)
            kinds += classes[i] != classes[j]
            different += values[i] != values[j]
    pooled = (right - wrong) / np.sqrt(kinds * different)
    assert once(m.tau_b(values, classes, tasks), 40) == pytest.approx(pooled)


def test_a_perfect_order_of_three_large_classes_has_a_tau_b_of_the_root_of_two_thirds():
    classes = np.repeat([0, 1, 2], 200)
    values = classes + np.linspace(0, 0.5, 600)
    found = once(m.tau_b(values, classes, 0 * classes), 600)
    assert found == pytest.approx(np.sqrt(2 / 3), abs=1e-3) and found >= np.sqrt(2 / 3)


def test_with_two_classes_it_is_twice_the_area_minus_one(rng):
    values, won = rng.integers(0, 5, 30), rng.random(30) < 0.4
    area = auc(values[won], values[~won])
    brute = np.mean([(p > q) + 0.5 * (p == q) for p in values[won] for q in values[~won]])
    assert area == pytest.approx(brute)
    assert once(m.area(values, won), 30) == pytest.approx(area)
    order = once(m.ordering(values, won.astype(int), np.zeros(30, int)), 30)
    assert order == pytest.approx(2 * area - 1)


def test_pairs_of_different_tasks_do_not_count():
    values, won, tasks = np.array([9, 8, 2, 1]), np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1])
    assert once(m.area(values, won, tasks), 4) == 1
    assert once(m.area(values, won), 4) == 0.75


def test_a_weight_is_as_many_copies(rng):
    values, won = rng.random(8), np.arange(8) % 2 == 0
    copies = rng.integers(1, 4, 8)
    weights = copies[None].astype(float)
    more, more_won = np.repeat(values, copies), np.repeat(won, copies)
    for make in (m.area, m.brier, m.calibration_error):
        repeated = once(make(more, more_won), len(more))
        assert make(values, won)(weights)[0] == pytest.approx(repeated), make
    for make in (m.accuracy, m.balanced_accuracy):
        repeated = once(make(more > 0.5, more_won), len(more))
        assert make(values > 0.5, won)(weights)[0] == pytest.approx(repeated), make


def test_brier_of_a_coin_is_a_quarter_and_of_the_truth_0():
    won = np.array([True, False, True])
    assert once(m.brier(np.full(3, 0.5), won), 3) == 0.25
    assert once(m.brier(won.astype(float), won), 3) == 0


def test_calibration_error_is_bin_by_bin(rng):
    said, won = rng.random(40), rng.random(40) < 0.5
    order = said.argsort()
    brute = np.mean([abs(said[b].mean() - won[b].mean()) for b in np.split(order, 10)])
    assert once(m.calibration_error(said, won), 40) == pytest.approx(brute)


def test_ratings_are_log_odds(rng):
    sure = [(np.array([d, 0.0]), np.array([1.0, 0.0])) for d in (0.3, 2.0)]
    expected = np.mean([1 - 1 / (1 + np.exp(-d)) for d in (0.3, 2.0)])
    assert once(m.ratings_error(sure, 0), 2) == pytest.approx(expected)
    rating = rng.normal(size=(1500, 2))
    truth = rating + rng.gumbel(size=rating.shape)  # the better one with odds exp(difference)
    right, proud, shy = (
        once(m.ratings_error([*zip(scale * rating, truth)], 0), 1500) for scale in (1, 3, 0)
    )
    assert right < 0.05 and proud > 0.1 and shy == 0  # who says nothing is right to be unsure
    assert once(m.ratings_error([*zip(-rating, truth)], 0), 1500) > 0.3


def test_a_constant_is_one_bin_whatever_the_order():
    won = np.array([1, 1, 1, 0, 0, 0, 0, 0], bool)
    for order in (slice(None), slice(None, None, -1)):
        assert once(m.calibration_error(np.full(8, 0.5), won[order]), 8) == pytest.approx(0.125)


def test_saying_always_the_same_has_balanced_accuracy_of_one_half():
    won = np.arange(10) < 8
    assert once(m.accuracy(np.ones(10, bool), won), 10) == 0.8
    assert once(m.balanced_accuracy(np.ones(10, bool), won), 10) == 0.5


def test_a_tie_at_the_top_is_drawn_from():
    truth = np.array([0.9, 0.1, 0.9, 0.0])
    assert m.top_hit(np.array([1, 0, 0, 0]), truth) == 1
    assert m.top_hit(np.array([1, 1, 0, 0]), truth) == 0.5
    assert m.top_hit(np.zeros(4), truth) == 0.5


def test_the_bootstrap_of_a_mean_is_its_standard_error(rng):
    values = rng.normal(size=400)
    value, low, high = m.bootstrap(m.mean_of(values), np.zeros(400, int), 4000, 0)
    half = 1.96 * values.std() / 20
    assert value == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((value - half, value + half), abs=0.01)


def test_the_bootstrap_is_seeded_and_keeps_its_strata(rng):
    values, strata = np.repeat([0.0, 1.0], 5), np.repeat([0, 1], 5)
    assert m.bootstrap(m.mean_of(values), strata, 50, 0) == (0.5, 0.5, 0.5)
    noisy = rng.normal(size=10)
    first, again, other = (m.bootstrap(m.mean_of(noisy), 0 * strata, 50, s) for s in (1, 1, 2))
    assert first == again and first != other


def test_what_has_nothing_to_count_is_no_number_and_does_not_crash():
    found = m.bootstrap(m.ratio(np.zeros(3), np.zeros(3)), np.zeros(3, int), 20, 0)
    assert np.isnan(found).all()
