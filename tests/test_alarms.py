"""Readings against closed forms, the stop rule by hand, and a toy on which a proxy is hacked."""

import json
import math

import numpy as np
import pytest

from robostack import alarms
from robostack.alarms import (
    CLAIM,
    TRIM,
    Alarms,
    Watch,
    confusion,
    discriminate,
    divergence,
    gap,
    hallucinated,
    limits,
    spread,
    unsureness,
    velocity_ratio,
)


def normal(rng, mean, deviation, episodes=20, steps=100, dims=1):
    return [rng.normal(mean, deviation, (steps, dims)) for _ in range(episodes)]


def below(z):
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def shifted(m):
    """chi^2 of N(m, 1) against N(0, 1), without the largest TRIM of the ratios exp(m x - m^2 / 2):
    exp(m^2) - 1 where nothing is left out. The ratio is log-normal, so what is left out is known.
    """
    cut = 2.326348  # of the standard normal, 1 - TRIM
    return math.exp(m**2) * below(cut - m) / (1 - TRIM) - 1


# divergence -------------------------------------------------------------------------------------


@pytest.mark.parametrize("m, off", [(0.5, 0.2), (1.0, 0.2)])
def test_the_divergence_of_shifted_normals_is_the_closed_form(m, off):
    found = [
        divergence(normal(rng, m, 1), normal(rng, 0, 1))
        for rng in map(np.random.default_rng, range(6))
    ]
    assert np.mean(found) == pytest.approx(shifted(m), rel=off)
    assert shifted(m) < math.exp(m**2) - 1  # trimming is a cautious mistake


def test_the_divergence_of_a_narrower_normal_is_seen_though_no_mean_moved():
    """1 / (s sqrt(2 - s^2)) - 1 for N(0, s^2) against N(0, 1); no linear discriminator sees it."""
    s = 0.5
    found = [
        divergence(normal(rng, 0, s), normal(rng, 0, 1))
        for rng in map(np.random.default_rng, range(4))
    ]
    assert np.mean(found) == pytest.approx(1 / (s * math.sqrt(2 - s**2)) - 1, rel=0.25)


@pytest.mark.parametrize("dims", [1, 20])
def test_the_same_policy_twice_is_not_told_apart_from_itself(dims):
    found = [
        divergence(normal(rng, 0, 1, 6, 40, dims), normal(rng, 0, 1, 6, 40, dims))
        for rng in map(np.random.default_rng, range(4))
    ]
    assert min(found) >= 0 and np.mean(found) < 0.25


def test_episodes_that_each_stay_at_their_own_place_are_not_taken_for_another_policy():
    """Rows of an episode resemble each other, which a discriminator could learn by heart."""

    def places(rng):
        return [rng.normal(0, 1, (1, 20)) + 0.2 * rng.normal(0, 1, (40, 20)) for _ in range(20)]

    found = [divergence(places(r), places(r)) for r in map(np.random.default_rng, range(4))]
    assert np.mean(found) < 0.5


def test_the_very_same_episodes_do_not_diverge_at_all():
    base = normal(np.random.default_rng(0), 0, 1, 6, 40, 5)
    assert divergence(base, base) == pytest.approx(0, abs=1e-6)


def test_a_discriminator_that_is_off_by_a_constant_is_put_right_by_the_base(monkeypatch):
    """Over what the base visits the density ratio has mean 1, whatever the logits' offset."""
    rng = np.random.default_rng(0)
    policy, base = normal(rng, 0.7, 1), normal(rng, 0, 1)
    wanted = divergence(policy, base)
    true = alarms.discriminate

    def off(positive, negative, ridge):
        weights = true(positive, negative, ridge)
        weights[-1] += 0.5  # of the feature that is always 1
        return weights

    scores = iter([0, 1, 1, 1, 1] * 2)  # the first ridge, which the unpatched one may not choose
    monkeypatch.setattr(alarms, "confusion", lambda *_: next(scores))
    plain = divergence(policy, base)
    scores = iter([0, 1, 1, 1, 1] * 2)
    monkeypatch.setattr(alarms, "discriminate", off)
    assert divergence(policy, base) == pytest.approx(plain, rel=1e-6)
    assert plain == pytest.approx(wanted, rel=0.3) and plain > 0.2


def test_what_a_discriminator_learned_by_heart_does_not_count(monkeypatch):
    """Few rows, many features, and a ridge that is far too small: on the rows that it learned from
    it would find differences that are not there."""
    monkeypatch.setattr(alarms, "RIDGES", (1e-6,))
    monkeypatch.setattr(alarms, "confusion", lambda w, *_: float(not w.any()))  # take what it says
    rng = np.random.default_rng(0)
    policy, base = (normal(rng, 0, 1, 4, 40, 30) for _ in range(2))
    assert divergence(policy, base) < 1  # learned and applied on the same rows it is beyond 1e15


def test_the_largest_ratios_are_left_out_by_their_share(monkeypatch):
    m, found = 1.0, []
    for trim in (TRIM, 0.0):
        monkeypatch.setattr(alarms, "TRIM", trim)
        rngs = map(np.random.default_rng, range(4))
        found.append(np.mean([divergence(normal(r, m, 1), normal(r, 0, 1)) for r in rngs]))
    kept = below(2.326348 - m) / (1 - TRIM)  # of the mean, by the closed form
    assert (1 + found[0]) / (1 + found[1]) == pytest.approx(kept, abs=0.04)
    assert kept < 0.93


def test_units_and_features_that_never_change_do_not_matter():
    rng = np.random.default_rng(0)
    policy, base = normal(rng, 0.7, 1, dims=2), normal(rng, 0, 1, dims=2)
    scaled = [[episode * [1000, 0.001] + [5, 7] for episode in side] for side in (policy, base)]
    assert divergence(*scaled) == pytest.approx(divergence(policy, base), rel=1e-6)
    assert np.isfinite(divergence(*[[e * [1, 0] for e in side] for side in (policy, base)]))


def test_it_grows_with_the_distance_and_stays_finite_where_nothing_overlaps():
    base = normal(np.random.default_rng(1), 0, 1, 8, 50)
    found = [
        divergence(normal(np.random.default_rng(2), m, 1, 8, 50), base) for m in (0, 0.5, 1, 9)
    ]
    assert (np.diff(found) > 0).all() and np.isfinite(found).all() and found[-1] > 10


def test_one_episode_cannot_be_split_into_halves():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="2 or more episodes"):
        divergence(normal(rng, 0, 1, 1), normal(rng, 0, 1, 4))


def test_the_discriminator_is_at_the_minimum_of_its_loss():
    rng = np.random.default_rng(3)
    x, y = rng.normal(0.5, 1, (60, 4)), rng.normal(0, 1, (90, 4))
    best = discriminate(x, y, 0.01)

    def loss(w):
        return confusion(w, x, y) + 0.005 * w @ w

    assert all(loss(best) < loss(best + 1e-3 * step) for step in rng.normal(size=(50, 4)))
    assert confusion(np.zeros(4), x, y) == pytest.approx(math.log(2))


# the other readings -----------------------------------------------------------------------------


def test_the_gap_counts_rises_in_deviations_of_the_base():
    proxy, truth = np.array([0.0, 0.4]), np.array([0.1, 0.3])  # means 0.2, deviations 0.2 and 0.1
    assert gap(proxy, truth, proxy, truth) == 0
    assert gap(proxy + 0.2, truth, proxy, truth) == pytest.approx(1)
    assert gap(proxy, truth - 0.1, proxy, truth) == pytest.approx(1)
    assert gap(proxy + 0.2, truth + 0.1, proxy, truth) == pytest.approx(0)
    assert gap(10 * proxy + 2, truth, 10 * proxy, truth) == pytest.approx(1)
    assert gap(np.full(3, 0.4), truth, np.full(2, 0.2), truth) == pytest.approx(0.2 / 0.05)


def test_hallucinations_by_hand():
    claim, no = CLAIM, CLAIM - 0.01
    potentials = [np.array([no, claim, claim]), np.array([no, claim, 1.0]), np.array([no] * 4)]
    done = [np.zeros(3, bool), np.array([False, False, True]), np.zeros(4, bool)]
    assert hallucinated(potentials, done) == (3 / 10, 1 / 3)
    honest = [np.where(d, 1.0, 0.5) for d in done]
    assert hallucinated(honest, done) == (0, 0)


def test_unsureness_is_what_lacks_of_confidence_over_all_observations():
    assert unsureness([np.ones(3), np.zeros(1)]) == 0.25


def test_the_spread_is_a_mean_over_all_observations():
    assert spread([np.zeros(3), np.ones(1)]) == 0.25
    assert Watch(Alarms()).update(0, {"spread": 0.6}) == ["spread is 0.6, above 0.5"]


def test_the_velocity_ratio_is_a_ratio_of_norms():
    v = np.random.default_rng(0).normal(size=(5, 4, 3))
    assert velocity_ratio(v, v) == pytest.approx(1)
    assert velocity_ratio(-2.5 * v, v) == pytest.approx(2.5)
    with pytest.raises(ValueError, match="same chunks"):
        velocity_ratio(v, v[:4])


# the watch --------------------------------------------------------------------------------------


def test_an_alarm_is_raised_above_its_limit_and_named():
    config = Alarms()
    for name, limit in limits(config).items():
        assert Watch(config).update(0, {name: limit}) == []
        [alarm] = Watch(config).update(0, {name: limit + 0.1})
        assert alarm.startswith(f"{name} is ") and f"above {limit:g}" in alarm


def test_a_limit_of_infinity_and_a_reading_without_a_limit_raise_nothing():
    watch = Watch(Alarms(velocity=math.inf))
    assert watch.update(0, {"velocity": 1e9, "temperature": 1e9}) == []


def raised(gaps, rises=3):
    watch = Watch(Alarms(gap=math.inf, rises=rises))
    return [bool(watch.update(step, {"gap": value})) for step, value in enumerate(gaps)]


def test_a_gap_that_rises_three_times_in_a_row_raises_an_alarm():
    assert raised([0.0, 0.1, 0.2, 0.3, 0.4]) == [False] * 3 + [True, True]
    assert raised([0.0, 0.1, 0.2, 0.2, 0.3, 0.4]) == [False] * 6
    assert raised([0.0, 0.1, 0.0, 0.1, 0.2, 0.3]) == [False] * 5 + [True]
    assert raised([-3.0, -2.0, -1.0, -0.5]) == [False] * 4  # the truth is still ahead
    assert raised([0.0, 0.1], rises=1) == [False, True]


def test_an_evaluation_without_a_gap_neither_counts_nor_interrupts():
    watch = Watch(Alarms())
    readings = [{"gap": 0.1}, {"gap": 0.2}, {"velocity": 1.0}, {"gap": 0.3}, {"gap": 0.4}]
    told = [watch.update(step, r) for step, r in enumerate(readings)]
    assert [bool(t) for t in told] == [False] * 4 + [True]


@pytest.mark.parametrize("cut", range(5))
def test_a_watch_written_as_json_goes_on_as_if_nothing_had_happened(cut):
    readings = [{"gap": g, "velocity": v} for g, v in zip([0, 0.1, 0.2, 0.4, 0.5], [1, 1, 2, 1, 1])]
    whole, before = Watch(Alarms()), Watch(Alarms())
    told = [whole.update(step, r) for step, r in enumerate(readings)]
    for step in range(cut):
        before.update(step, readings[step])
    after = Watch(Alarms(), json.loads(json.dumps(before.history)))
    assert [after.update(s, readings[s]) for s in range(cut, 5)] == told[cut:]
    assert after.history == whole.history


def test_a_step_that_is_done_again_takes_the_place_of_itself_and_of_what_came_after():
    watch = Watch(Alarms())
    for step, value in enumerate([0.1, 0.2, 0.3]):
        watch.update(step, {"gap": value})
    assert watch.update(1, {"gap": 0.25}) == []
    assert watch.history == [[0, {"gap": 0.1}], [1, {"gap": 0.25}]]


@pytest.mark.parametrize("changes", [{"gap": 0.0}, {"velocity": -1.0}, {"rises": 0}])
def test_limits_that_cannot_be_are_refused(changes):
    with pytest.raises(ValueError, match="limits above 0"):
        Alarms(**changes)


# a proxy that is hacked -------------------------------------------------------------------------


def test_climbing_a_proxy_that_gives_way_raises_alarms_before_the_truth_is_below_the_base():
    """A policy N(m, 1) of one number x. The truth is highest at x = 1 and the proxy, which agrees
    with it where the base N(0, 1) is mostly, rises for ever. Its mean climbs the proxy."""
    rng = np.random.default_rng(0)

    def proxy(x):
        return 1 / (1 + np.exp(-x))

    def truth(x):
        return np.exp(-((x - 1) ** 2) / 4)

    def returns(f, episodes):
        return np.array([f(e).mean() for e in episodes])

    base, watch, first, below_base = normal(rng, 0, 1), Watch(Alarms()), None, None
    judged = [returns(f, base) for f in (proxy, truth)]
    for step in range(13):
        episodes = normal(rng, step / 3, 1)
        readings = {
            "gap": gap(returns(proxy, episodes), returns(truth, episodes), *judged),
            "divergence": divergence(episodes, base),
        }
        alarms = watch.update(step, readings)
        first = step if alarms and first is None else first
        lost = returns(truth, episodes).mean() < judged[1].mean()
        below_base = step if lost and step and below_base is None else below_base
    assert returns(proxy, episodes).mean() > judged[0].mean() + 0.3  # the proxy saw only progress
    assert readings["divergence"] > 100  # which alone would have told, too
    assert first is not None and below_base is not None and 2 <= first < below_base


def test_climbing_the_truth_itself_raises_no_alarm():
    rng = np.random.default_rng(1)
    base, watch = normal(rng, 0, 1), Watch(Alarms())
    before = np.array([e.mean() for e in base])
    for step in range(5):
        episodes = normal(rng, step / 4, 1)
        now = np.array([e.mean() for e in episodes])
        readings = {"gap": gap(now, now, before, before), "divergence": divergence(episodes, base)}
        assert watch.update(step, readings) == []
