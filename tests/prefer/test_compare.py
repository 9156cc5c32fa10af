"""From hand-made groups of tries to preferences that can be worked out on paper."""

import numpy as np
import pytest

from robostack.prefer.compare import Candidate, PreferConfig, build
from robostack.prefer.terms import OUTCOME
from robostack.types import Clip


def candidate(name, gains, success=False, chunk=None):
    """Chunks of different tries differ, unless one is given."""
    own = np.random.default_rng(list(name.encode())).random((8, 2), np.float32)
    return Candidate(Clip(name, 0, 8), gains, success, own if chunk is None else chunk)


def group(name, *values, term="progress"):
    """Tries 0, 1, 2, ... with these gains of one term; success above a gain of 1."""
    return {name: [candidate(f"{name}{i}", {term: v}, v > 1) for i, v in enumerate(values)]}


def config(**changes):
    return PreferConfig(**{"weights": {"progress": 1.0}, "keep": 1.0, "pairs": 1} | changes)


def refs(preferences):
    return [(p.chosen.episode, p.rejected.episode) for p in preferences]


def test_the_best_is_chosen_over_the_worst():
    found, _ = build(group("g", 0.3, 0.9, 0.1, 0.5), config(), seed=0)
    assert refs(found) == [("g1", "g2")]
    assert found[0].chosen.start == found[0].rejected.start == 0 and found[0].group == "g"


def test_a_second_pair_is_the_second_best_over_the_second_worst_and_no_try_is_used_twice():
    found, _ = build(group("g", 0.3, 0.9, 0.1, 0.5), config(pairs=9), seed=0)
    assert refs(found) == [("g1", "g2"), ("g3", "g0")]
    odd, _ = build(group("g", 0.3, 0.9, 0.1), config(pairs=9), seed=0)
    assert refs(odd) == [("g1", "g2")]


def test_tries_of_different_groups_are_never_compared():
    found, _ = build(group("a", 0.0, 0.1) | group("b", 5.0, 6.0), config(), seed=0)
    assert sorted(refs(found)) == [("a1", "a0"), ("b1", "b0")]


def test_the_margin_is_in_spreads_within_groups_and_the_terms_in_their_own_units():
    groups = group("a", 0.0, 2.0) | group("b", 10.0, 12.0)  # within each: mean -1 and +1
    found, card = build(groups, config(weights={"progress": 3.0}), seed=0)
    assert card["term_spread"] == {"progress": 1.0}
    assert [p.margin for p in found] == [6.0, 6.0]
    assert all(p.terms == {"progress": 2.0} for p in found)


def test_the_unit_of_a_term_does_not_matter():
    tries = [(0.1, 5.0), (0.9, 1.0), (0.4, 2.5), (0.6, 9.0)]

    def built(scale):
        groups = {
            "g": [candidate(f"g{i}", {"a": a * scale, "b": b}) for i, (a, b) in enumerate(tries)]
        }
        return build(groups, config(weights={"a": 1.0, "b": 0.5}, pairs=2), 0)[0]

    assert refs(built(1.0)) == refs(built(1000.0))
    assert [p.margin for p in built(1.0)] == pytest.approx([p.margin for p in built(1000.0)])


def test_weights_decide_between_terms_that_disagree_and_zero_leaves_one_out():
    tries = {
        "g": [
            candidate("x", {"a": 1.0, "b": 0.0}),
            candidate("y", {"a": 0.0, "b": 1.0}),
        ]
    }
    assert refs(build(tries, config(weights={"a": 2.0, "b": 1.0}), 0)[0]) == [("x", "y")]
    assert refs(build(tries, config(weights={"a": 1.0, "b": 2.0}), 0)[0]) == [("y", "x")]
    only_b = build(tries, config(weights={"a": 0.0, "b": 1.0}), 0)[0]
    assert refs(only_b) == [("y", "x")] and only_b[0].terms == {"b": 1.0}


@pytest.mark.parametrize(("keep", "count"), [(1.0, 8), (0.5, 4), (0.25, 2), (0.0, 1)])
def test_the_comparisons_of_largest_margin_are_kept(keep, count):
    groups = {}
    for i in range(8):
        groups |= group(f"g{i}", 0.0, 1.0 + i)
    found, card = build(groups, config(keep=keep), seed=0)
    assert [p.group for p in found] == [f"g{7 - k}" for k in range(count)]
    assert card["preferences"] == count and card["comparisons"] == 8


def many(n=400):
    rng = np.random.default_rng(0)
    groups = {}
    for i in range(n):
        groups |= group(f"g{i:03d}", *rng.random(2))
    return groups


def test_the_shuffled_control_flips_about_half_and_the_seed_fixes_which():
    true = dict(refs(build(many(), config(), 0)[0]))
    shuffled = [refs(build(many(), config(shuffle=True), s)[0]) for s in (0, 0, 1)]
    flips = np.mean([true.get(chosen) != rejected for chosen, rejected in shuffled[0]])
    assert pytest.approx(flips, abs=0.1) == 0.5  # four standard errors
    assert shuffled[0] == shuffled[1] != shuffled[2]


def test_the_terms_of_a_flipped_preference_still_are_chosen_minus_rejected():
    gain = {c.clip.episode: c.gains["progress"] for tries in many().values() for c in tries}
    for p in build(many(), config(shuffle=True), seed=0)[0]:
        assert p.terms["progress"] == gain[p.chosen.episode] - gain[p.rejected.episode]


def test_the_order_of_groups_and_of_tries_changes_nothing():
    groups = many(20)
    backwards = {name: tries[::-1] for name, tries in reversed(groups.items())}
    assert build(groups, config(), 0) == build(backwards, config(), 0)


def test_the_card_counts_what_success_says_of_the_choices():
    groups = group("a", 0.0, 2.0) | group("b", 0.0, 3.0) | group("c", 0.1, 0.2)
    _, card = build(groups, config(), seed=0)
    assert card["decided_by_success"] == 2 and card["chosen_succeeded"] == 2
    assert card["term_agrees"] == {"progress": 1.0}
    assert card["groups"] == 3 and card["tries"] == 6


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({}, "same state"),
        (group("g", 0.4), "same state"),
        (group("g", 0.4, 0.4), "equally good"),
        (group("g", 0.1, 0.4, term="keypoints"), "'progress'; there are: keypoints"),
    ],
)
def test_groups_that_tell_nothing_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        build(groups, config(), seed=0)


def test_where_the_outcome_alone_decides_nothing_the_way_out_is_told():
    lost = group("g", 0.0, 0.0, term=OUTCOME)
    with pytest.raises(ValueError, match="in none did one succeed and another fail.*spread"):
        build(lost, PreferConfig(), seed=0)


def test_near_duplicates_are_dropped_and_counted():
    same = np.full((8, 2), 0.5, np.float32)
    near = {"n": [candidate("n0", {"progress": 0.0}, chunk=same),
                  candidate("n1", {"progress": 5.0}, chunk=same + 0.01)]}  # fmt: skip
    found, card = build(group("a", 0.0, 1.0) | near, config(apart=0.02), seed=0)
    assert refs(found) == [("a1", "a0")] and card["duplicates"] == 1
    found, card = build(group("a", 0.0, 1.0) | near, config(apart=0.005), seed=0)
    assert len(found) == 2 and card["duplicates"] == 0
    with pytest.raises(ValueError, match="apart=0.02"):
        build(near, config(apart=0.02), seed=0)


def test_what_terms_disagree_on_is_dropped_first():
    agreed = {"a": [candidate("a0", {"x": 0.0, "y": 0.0}), candidate("a1", {"x": 1.0, "y": 1.0})]}
    torn = {"b": [candidate("b0", {"x": 0.0, "y": 1.0}), candidate("b1", {"x": 5.0, "y": 0.0})]}
    terms = config(weights={"x": 1.0, "y": 1.0}, certain=0.5)
    found, card = build(agreed | torn, terms, seed=0)
    assert [p.group for p in found] == ["a"] and card["uncertain"] == 1
    both, _ = build(agreed | torn, config(weights={"x": 1.0, "y": 1.0}), seed=0)
    uncertainty = {p.group: p.uncertainty / p.margin for p in both}
    assert uncertainty["a"] < uncertainty["b"]


def test_a_single_term_is_never_uncertain():
    assert build(group("g", 0.0, 1.0), config(), seed=0)[0][0].uncertainty == 0


def test_small_margins_can_be_kept_as_ties_which_are_never_flipped():
    groups = group("a", 0.0, 4.0) | group("b", 0.0, 0.01)
    found, card = build(groups, config(tie=0.5), seed=0)
    assert [(p.group, p.tie) for p in found] == [("a", False), ("b", True)]
    assert found[1].margin == 0 and card["ties"] == 1 and card["preferences"] == 2


def test_tries_whose_scores_are_not_finite_are_left_out_and_named():
    groups = group("g", 0.0, float("nan"), 1.0) | group("h", float("inf"), 2.0)
    found, card = build(groups, config(), seed=0)
    assert refs(found) == [("g2", "g0")]
    assert card["unknown"] == {"progress": ["episode g1 of g", "episode h0 of h"]}
    assert card["groups"] == 1 and card["tries"] == 2
    with pytest.raises(ValueError, match="progress of 1, episode g1 of g first"):
        build(group("g", 0.0, float("nan")), config(), seed=0)
    heedless = config(weights={"other": 1.0, "progress": 0.0})
    told = {"g": [candidate(n, {"other": x, "progress": np.nan}) for n, x in (("a", 0), ("b", 1))]}
    assert len(build(told, heedless, seed=0)[0]) == 1  # of a term without weight nobody asks


def test_a_weighed_term_that_says_nothing_is_named():
    tries = {"g": [candidate(f"g{i}", {"a": i, "b": 2.5e-5 * i}) for i in range(4)]}
    found, card = build(tries, config(weights={"a": 1.0, "b": 5.0}), seed=0)
    assert card["silent"] == ["b"] and set(found[0].terms) == {"a"}
    with pytest.raises(ValueError, match="within states b by 2.8e-05 is no more than rounding"):
        build(tries, config(weights={"b": 1.0}), seed=0)


def test_a_rank_has_no_unit():
    values = (0.0, 1.0, 2.0, 5.0)

    def built(unit, offset=0.0):
        told = [candidate(f"g{i}", {"w.rank": offset + unit * v}) for i, v in enumerate(values)]
        return refs(build({"g": told}, config(weights={"w.rank": 1.0}, pairs=2), 0)[0])

    assert built(1.0) == built(1e-5) == built(1e-9) == [("g3", "g0"), ("g2", "g1")]
    with pytest.raises(ValueError, match="equally good"):
        built(1e-9, offset=1.0)  # rounding of what is the same for all


def even(n=40):
    """Comparisons of one margin."""
    return {k: v for i in range(n) for k, v in group(f"g{i:02d}", 0.0, 1.0, term=OUTCOME).items()}


def test_of_equal_margins_a_draw_decides_which_are_kept():
    kept = [{p.group for p in build(even(), PreferConfig(keep=0.5), s)[0]} for s in (0, 0, 1)]
    assert kept[0] == kept[1] != kept[2] and len(kept[0]) == 20
    assert all(min(k) < "g20" <= max(k) for k in kept)
    whole = [p.group for p in build(even(), PreferConfig(), 0)[0]]
    assert whole == sorted(whole)  # which says nothing of their order


def test_what_terms_agree_on_equally_is_drawn_too():
    groups = {}
    for i in range(40):
        told = [candidate(f"{i:02d}{k}", {"x": float(k), "y": float(k)}) for k in range(2)]
        groups[f"g{i:02d}"] = told
    terms = config(weights={"x": 1.0, "y": 1.0}, certain=0.5)
    kept = {p.group for p in build(groups, terms, 0)[0]}
    assert len(kept) == 20 and max(kept) >= "g20"


def test_a_single_term_cannot_be_asked_how_far_it_agrees():
    with pytest.raises(ValueError, match="certain=0.5: expected 1, as progress alone has a say"):
        build(group("g", 0.0, 1.0), config(certain=0.5), seed=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"keep": 1.5},
        {"certain": -0.1},
        {"pairs": 0},
        {"clip": -2},
        {"apart": -1.0},
        {"weights": {"progress": -1.0}},
        {"weights": {"progress": 0.0}},
        {"candidates": 1},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        config(**wrong)
