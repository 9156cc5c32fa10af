"""From hand-made groups of tries to preferences that can be worked out on paper."""

import numpy as np
import pytest
from fakes import make_episode

from robostack import prefer
from robostack.prefer import OUTCOME, Candidate, PreferConfig, build


def group(name, *values, term="progress"):
    """Tries a, b, c, ... with these gains of one term; success above a gain of 1."""
    return {name: [Candidate(f"{name}{i}", {term: v}, v > 1) for i, v in enumerate(values)]}


def config(**changes):
    return PreferConfig(**{"weights": {"progress": 1.0}, "keep": 1.0, "pairs": 1} | changes)


def refs(preferences):
    return [(p.chosen[0], p.rejected[0]) for p in preferences]


def test_the_best_is_chosen_over_the_worst():
    found, _ = build(group("g", 0.3, 0.9, 0.1, 0.5), config(), seed=0)
    assert refs(found) == [("g1", "g2")]
    assert found[0].chosen[1] == found[0].rejected[1] == 0 and found[0].group == "g"


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
            "g": [
                Candidate(f"g{i}", {"a": a * scale, "b": b}, False)
                for i, (a, b) in enumerate(tries)
            ]
        }
        return build(groups, config(weights={"a": 1.0, "b": 0.5}, pairs=2), 0)[0]

    assert refs(built(1.0)) == refs(built(1000.0))
    assert [p.margin for p in built(1.0)] == pytest.approx([p.margin for p in built(1000.0)])


def test_weights_decide_between_terms_that_disagree_and_zero_leaves_one_out():
    tries = {
        "g": [
            Candidate("x", {"a": 1.0, "b": 0.0}, False),
            Candidate("y", {"a": 0.0, "b": 1.0}, False),
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
    gain = {c.episode: c.gains["progress"] for tries in many().values() for c in tries}
    for p in build(many(), config(shuffle=True), seed=0)[0]:
        assert p.terms["progress"] == gain[p.chosen[0]] - gain[p.rejected[0]]


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


@pytest.mark.parametrize("success", [True, False, None])
def test_a_gain_is_the_end_minus_the_start_and_the_outcome_is_one_of_them(success):
    potentials = {"progress": np.array([0.25, 0.1, 1.0], np.float32)}
    found = prefer.gains(make_episode(0, 2, success=success), potentials)
    assert found == {"progress": 0.75, OUTCOME: float(success is True)}


EPISODES = {f"{i:06d}": make_episode(i, steps=2 + i) for i in range(4)}
SCORES = {"progress": {i: np.linspace(0, 1, 3) for i in [*EPISODES, "000004"]}}


def test_candidates_are_grouped_by_start_and_tries_of_no_group_are_left_out():
    episodes = EPISODES | {"000004": make_episode(4, group="")}
    found = prefer.group_candidates(episodes, SCORES, {}, horizon=4)
    assert {name: [c.episode for c in tries] for name, tries in found.items()} == {
        "seed 0 step 0": ["000000", "000001"],
        "seed 1 step 0": ["000002", "000003"],
    }
    assert found["seed 0 step 0"][1] == Candidate("000001", {"progress": 1.0, OUTCOME: 1.0}, True)


def test_a_chunk_reward_ranks_the_first_actions_of_the_tries_together():
    class Third:
        name = "third"

        def rank(self, observation, chunks):
            assert chunks.shape == (2, 3, 3)  # both tries, three actions, of three dimensions
            return chunks[:, 2, 0]

    found = prefer.group_candidates(EPISODES, {}, {"third": Third()}, horizon=3)
    for tries in found.values():
        for candidate in tries:
            actions = EPISODES[candidate.episode].actions
            # a try of two actions stays at its last one
            assert candidate.gains["third.rank"] == actions[min(2, len(actions) - 1), 0]


def test_a_preference_set_survives_saving_exactly(tmp_path):
    found, card = build(many(20), config(), seed=3)
    prefer.save(tmp_path / "pairs" / "set.jsonl", found, card, "runs/tries")
    assert prefer.load(tmp_path / "pairs" / "set.jsonl") == (found, card, "runs/tries")


def test_a_missing_preference_set_is_refused_and_how_to_make_one_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="robostack prefer"):
        prefer.load(tmp_path / "absent.jsonl")


@pytest.mark.parametrize("text", ['{"step": 1}\n', "", "not json\n", '{"card": {}, "sto'])
def test_a_file_that_is_no_preference_set_is_refused_by_name(tmp_path, text):
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(ValueError, match="metrics.jsonl"):
        prefer.load(tmp_path / "metrics.jsonl")
