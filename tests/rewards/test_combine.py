"""Several rewards as one: a mean within bounds, that lets go of the unsure and fears dissent."""

import numpy as np
import pytest
from fakes import make_episode

from robostack.alarms import SPREAD
from robostack.protocols import Scores
from robostack.rewards.combine import combine, explained, gated
from robostack.rewards.saved import RewardError


def scores(potential, confidence=1.0):
    potential = np.asarray(potential, np.float32)
    return Scores(potential, np.broadcast_to(np.float32(confidence), potential.shape))


def drawn(seed, count=2, steps=7):
    rng = np.random.default_rng(seed)
    return {
        f"m{k}": scores(rng.random(steps), rng.random(steps).astype(np.float32))
        for k in range(count)
    }


def test_combining_is_a_weighted_mean_that_stays_in_range():
    a, b, unused = (drawn(0, 3)[f"m{k}"].potential for k in range(3))
    three = {"a": scores(a), "b": scores(b), "c": scores(unused)}
    mixed = combine(three, {"a": 3.0, "b": 1.0}).potential
    assert np.allclose(mixed, 0.75 * a + 0.25 * b) and mixed.dtype == np.float32
    assert (mixed >= np.minimum(a, b)).all() and (mixed <= np.maximum(a, b)).all()
    assert np.allclose(combine(three, {"a": 30.0, "b": 10.0}).potential, mixed)
    assert np.array_equal(combine(three, {"a": 3.0, "b": 1.0, "c": 0.0}).potential, mixed)


@pytest.mark.parametrize("weights", [{"z": 1.0}, {"a": -1.0}, {"a": 0.0}, {"a": np.nan}, {}])
def test_weights_that_make_no_mean_are_refused(weights):
    with pytest.raises(ValueError, match="no potential for|weights"):
        combine({"a": scores(np.zeros(3))}, weights)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("gate", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("pessimism", [0.0, 1.0, 30.0])
def test_whatever_the_members_say_the_potential_and_its_confidence_are_in_0_to_1(
    seed, gate, pessimism
):
    made = combine(drawn(seed, 3), {"m0": 1.0, "m1": 0.1, "m2": 5.0}, gate, pessimism)
    for array in (made.potential, made.confidence):
        assert array.dtype == np.float32 and array.min() >= 0 and array.max() <= 1
    assert set(made.terms) == {"m0", "m1", "m2"}


def test_how_far_an_ensemble_parts_is_heard_through_a_combination_that_counts_it():
    told = drawn(0, 3)
    for name, doubt in (("m0", 0.2), ("m1", 0.9), ("m2", 1.0)):
        spread = np.linspace(0, doubt, 7, dtype=np.float32)
        told[name] = Scores(told[name].potential, told[name].confidence, {SPREAD: spread})
    heard = combine(told, {"m0": 1.0, "m1": 1.0, "m2": 0.0}).terms[SPREAD]
    assert np.array_equal(heard, told["m1"].terms[SPREAD])


def test_members_that_agree_are_believed_however_pessimistic_one_is():
    phi = np.linspace(0, 1, 5)
    made = combine({"a": scores(phi), "b": scores(phi)}, {"a": 1.0, "b": 2.0}, pessimism=9.0)
    assert np.allclose(made.potential, phi, atol=1e-6) and np.allclose(made.confidence, 1)


def test_pessimism_subtracts_the_deviation_between_the_members():
    two = {"a": scores([0.9, 0.5]), "b": scores([0.5, 0.5])}
    made = combine(two, {"a": 1.0, "b": 1.0}, pessimism=0.5)
    assert np.allclose(made.potential, [0.7 - 0.5 * 0.2, 0.5])
    assert np.allclose(made.confidence, [1 - 2 * 0.2, 1])


def test_more_pessimism_never_raises_a_potential():
    levels = [
        combine(drawn(3), {"m0": 1.0, "m1": 1.0}, 0.5, kappa).potential for kappa in (0, 0.5, 1, 2)
    ]
    assert (np.diff(levels, axis=0) <= 0).all()


def test_a_member_alone_is_feared_for_what_it_lacks_of_confidence():
    made = combine({"a": scores([0.8, 0.8], np.array([1.0, 0.6]))}, {"a": 1.0}, pessimism=0.5)
    assert np.allclose(made.potential, [0.8, 0.6])


def test_below_the_gate_a_member_counts_by_its_confidence():
    two = {"a": scores([1.0, 1.0], np.array([0.25, 0.9])), "b": scores([0.0, 0.0])}
    made = combine(two, {"a": 1.0, "b": 1.0}, gate=0.5)
    assert np.allclose(made.potential, [0.25 / 1.25, 0.5])


def test_where_nobody_is_confident_all_count_by_their_weights_alone():
    two = {"a": scores([1.0], 0.0), "b": scores([0.0], 0.1)}
    assert combine(two, {"a": 3.0, "b": 1.0}, gate=0.5).potential == pytest.approx(0.75)


def test_shares_sum_up_to_one_and_without_a_gate_are_the_weights():
    rng = np.random.default_rng(0)
    weights, sure = rng.random(4), rng.random((4, 50))
    for gate in (0.0, 0.3, 0.7, 1.0):
        assert np.allclose(gated(weights, sure, gate).sum(0), 1)
    plain = gated(weights, sure, 0.0)
    assert np.allclose(plain, (weights / weights.sum())[:, None])


def test_a_reward_that_does_not_explain_itself_is_sure_of_everything():
    class Plain:
        name = "plain"

        def score(self, episode):
            return np.full(len(episode) + 1, 0.3, np.float32)

        def fingerprint(self):
            return "1"

    made = explained(Plain(), make_episode(0))
    assert (made.potential == np.float32(0.3)).all() and (made.confidence == 1).all()


@pytest.mark.parametrize(
    "changed, why",
    [
        ({"potential": np.full(6, np.nan)}, "potential: not finite at observation 0"),
        ({"potential": np.full(5, 0.5)}, "potential: expected f32"),
        ({"potential": np.full(6, 1.01)}, "potential: expected values in"),
        ({"confidence": np.full(6, -0.1)}, "confidence: expected values in"),
        ({"confidence": np.full(6, np.inf)}, "confidence: not finite"),
    ],
)
def test_what_is_no_potential_or_no_confidence_is_never_combined(changed, why):
    class Odd:
        name = "odd"

        def explain(self, episode):
            return Scores(**({"potential": np.full(6, 0.5), "confidence": np.ones(6)} | changed))

    with pytest.raises(RewardError, match=f"odd: {why}"):
        explained(Odd(), make_episode(0))
