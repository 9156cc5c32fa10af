"""Intervals and tests against published and hand-computed values."""

import math

import numpy as np
import pytest

from robostack.evaluate import Evaluation, mcnemar, paired_bootstrap, wilson


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_agrees_with_published_values(successes, episodes, low, high):
    assert wilson(successes, episodes) == pytest.approx((low, high), abs=6e-5)


def test_wilson_mirrors_when_success_and_failure_change_places():
    for k in range(13):
        low, high = wilson(k, 12)
        assert wilson(12 - k, 12) == pytest.approx((1 - high, 1 - low))


def test_wilson_contains_the_rate_and_narrows_with_the_square_root_of_the_episodes():
    widths = []
    for n in (10, 40, 1000, 4000):
        low, high = wilson(n * 3 // 10, n)
        assert low < 0.3 < high
        widths.append(high - low)
    assert widths[2] / widths[3] == pytest.approx(2, rel=0.01)


def test_wilson_covers_the_truth_about_as_often_as_it_says():
    for p in (0.1, 0.5, 0.8):
        chances = [math.comb(50, k) * p**k * (1 - p) ** (50 - k) for k in range(51)]
        covered = sum(c for k, c in enumerate(chances) if wilson(k, 50)[0] <= p <= wilson(k, 50)[1])
        assert 0.93 < covered < 0.98


@pytest.mark.parametrize(("successes", "episodes"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_refused(successes, episodes):
    with pytest.raises(ValueError, match="expected"):
        wilson(successes, episodes)


def paired(gained, lost, both=3, neither=2):
    first = [0] * gained + [1] * lost + [1] * both + [0] * neither
    second = [1] * gained + [0] * lost + [1] * both + [0] * neither
    return np.array(first), np.array(second)


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),  # 2 / 2
        (5, 0, 2 / 2**5),
        (8, 2, 2 * (1 + 10 + 45) / 2**10),
        (6, 6, 1.0),  # capped: twice the tail is more than one
        (10, 3, 2 * (1 + 13 + 78 + 286) / 2**13),
    ],
)
def test_mcnemar_is_the_exact_two_sided_binomial_tail(gained, lost, p):
    assert mcnemar(*paired(gained, lost)) == pytest.approx(p)


def test_mcnemar_does_not_care_who_is_first_nor_for_seeds_on_which_both_agree():
    first, second = paired(7, 2)
    assert mcnemar(first, second) == mcnemar(second, first)
    assert mcnemar(first, second) == mcnemar(*paired(7, 2, both=80, neither=90))


def test_mcnemar_needs_the_same_seeds():
    with pytest.raises(ValueError, match="same seeds"):
        mcnemar(np.ones(3), np.ones(4))


def test_wilson_reaches_both_ends_exactly():
    for n in range(1, 200):
        assert wilson(0, n)[0] == 0.0 and wilson(n, n)[1] == 1.0


def test_two_that_always_agree_differ_by_nothing_at_all():
    same = np.array([0, 1, 1, 0, 1])
    assert paired_bootstrap(same, same) == (0.0, 0.0, 0.0)


def test_one_that_is_better_on_every_start_is_better_by_everything():
    assert paired_bootstrap(np.zeros(4), np.ones(4)) == (1.0, 1.0, 1.0)
    assert paired_bootstrap([True], [False]) == (-1.0, -1.0, -1.0)


def test_the_paired_interval_turns_round_with_its_arguments():
    first, second = paired(14, 6, both=30, neither=50)
    there, back = paired_bootstrap(first, second), paired_bootstrap(second, first)
    assert there[0] == -back[0] == 0.08
    assert there[1:] == pytest.approx((-back[2], -back[1]), abs=0.01)  # one of a hundred starts
    assert there == paired_bootstrap(first, second)


def test_the_paired_interval_is_the_normal_one_where_there_are_many_starts():
    gained, lost, n = 300, 200, 2000
    _, low, high = paired_bootstrap(*paired(gained, lost, both=1000, neither=500))
    mean = (gained - lost) / n
    half = 1.96 * math.sqrt(((gained + lost) / n - mean**2) / n)
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.002)


def test_the_paired_interval_covers_the_truth_about_as_often_as_it_says():
    draws, covered = np.random.default_rng(0), 0
    for _ in range(400):
        both = draws.random(60)  # 15 % gained, 5 % lost
        first, second = (both > 0.15) & (both < 0.5), (both < 0.45)
        covered += (
            paired_bootstrap(first, second, draws=1000)[1]
            <= 0.1
            <= paired_bootstrap(first, second, draws=1000)[2]
        )
    assert 0.90 < covered / 400 < 0.99


@pytest.mark.parametrize("second", [np.ones(4), np.ones(1), np.ones((3, 1)), 1.0])
def test_the_paired_interval_needs_the_same_seeds(second):
    with pytest.raises(ValueError, match="same seeds"):
        paired_bootstrap(np.ones(3), second)
    with pytest.raises(ValueError, match="same seeds"):
        paired_bootstrap(second, np.ones(3))


def test_the_paired_interval_of_nothing_is_refused():
    with pytest.raises(ValueError, match="same seeds"):
        paired_bootstrap([], [])


def test_the_summary_counts_by_hand():
    summary = Evaluation([7, 8, 9, 10], [True, False, True, True], [3, 9, 4, 4]).summary()
    assert summary["success_rate"] == 0.75 and summary["successes"] == 3
    assert summary["ci95"] == list(wilson(3, 4)) and summary["mean_steps"] == 5.0
    assert summary["seeds"] == [7, 10] and summary["outcomes"] == [1, 0, 1, 1]
