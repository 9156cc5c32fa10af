"""What is compared: tries that began at one state, and chunks proposed at a demonstrated one."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import SPEC, make_episode

from robostack.prefer import candidates
from robostack.prefer.compare import PreferConfig, build
from robostack.prefer.terms import OUTCOME
from robostack.preferring import unheard
from robostack.types import Clip

CONFIG = PreferConfig(weights={"progress": 1.0}, horizon=4)
EPISODES = {f"{i:06d}": make_episode(i, steps=2 + i) for i in range(4)}
SCORES = {"progress": {i: np.linspace(0, 1, 3) for i in [*EPISODES, "000004"]}}


@pytest.mark.parametrize("success", [True, False, None])
def test_a_gain_is_the_end_minus_the_start_and_the_outcome_is_one_of_them(success):
    potentials = {"progress": np.array([0.25, 0.1, 1.0], np.float32)}
    found = candidates.gains(make_episode(0, 2, success=success), potentials)
    outcome = np.nan if success is None else float(success)
    assert found == pytest.approx({"progress": 0.75, OUTCOME: outcome}, nan_ok=True)


def test_an_unknown_outcome_is_no_failure():
    known = make_episode(0, 4, success=True, group="g")
    other = make_episode(1, 4, success=None, group="g")
    failed = make_episode(2, 4, success=False, group="g")
    config = PreferConfig(horizon=4)
    found = candidates.of_tries({"a": known, "b": other, "c": failed}.items(), {}, {}, config)
    pairs, card = build(found, config, 0)
    assert [(p.chosen.episode, p.rejected.episode) for p in pairs] == [("a", "c")]
    assert card["unknown"] == {OUTCOME: ["episode b of g"]} and card["tries"] == 2
    del found["g"][2]
    with pytest.raises(ValueError, match="outcome of 1, episode b of g first"):
        build(found, config, 0)


def test_candidates_are_grouped_by_start_and_tries_of_no_group_are_left_out():
    episodes = EPISODES | {"000004": make_episode(4, group="")}
    found = candidates.of_tries(episodes.items(), SCORES, {}, CONFIG)
    assert {name: [c.clip.episode for c in tries] for name, tries in found.items()} == {
        "seed 0 step 0": ["000000", "000001"],
        "seed 1 step 0": ["000002", "000003"],
    }
    second = found["seed 0 step 0"][1]
    assert second.gains == {"progress": 1.0, OUTCOME: 1.0} and second.success is True


def test_tries_of_merged_stores_share_a_state_only_if_it_is_the_same_one():
    here, there = make_episode(0, 4), make_episode(1, 4)

    def tries(group, begin, **changes):
        """Two of each of two stores, that call their states by one name."""
        found = {}
        for k, start in enumerate((here, there)):
            for n in range(2):
                other = make_episode(10 + 2 * k + n, 4)
                states = np.concatenate([start.states[:1], other.states[1:]])
                same = dict(states=states, stamps=begin + other.stamps, group=group)
                found[f"{k}{n}"] = replace(other, **same, **(changes if k else {}))
        return candidates.of_tries(found.items(), {}, {}, CONFIG)

    def ids(found):
        return {name: [c.clip.episode for c in tries] for name, tries in found.items()}

    apart = {"seed 0 step 8": ["00", "01"], "seed 0 step 8 (2)": ["10", "11"]}
    assert ids(tries("seed 0 step 8", 0.8)) == apart
    # after a reset: an arm that is put back by hand
    assert ids(tries("g", 0.0)) == {"g": ["00", "01", "10", "11"]}
    assert ids(tries("g", 0.0, task="another")) == {"g": ["00", "01"], "g (2)": ["10", "11"]}


@pytest.mark.parametrize(("clip", "stops"), [(0, [2, 3, 4, 4]), (-1, [2, 3, 4, 5]), (1, [1] * 4)])
def test_the_first_chunk_or_all_or_some_of_a_try_is_learned_from(clip, stops):
    config = PreferConfig(weights={"progress": 1.0}, horizon=4, clip=clip)
    found = candidates.of_tries(EPISODES.items(), SCORES, {}, config)
    assert [c.clip for tries in found.values() for c in tries] == [
        Clip(name, 0, stop) for name, stop in zip(EPISODES, stops)
    ]


def test_a_chunk_reward_ranks_the_first_actions_of_the_tries_together():
    class Third:
        name = "third"

        def rank(self, observation, chunks):
            assert chunks.shape == (2, 3, 3)  # both tries, three actions, of three dimensions
            return chunks[:, 2, 0]

    config = PreferConfig(weights={"third.rank": 1.0}, horizon=3)
    found = candidates.of_tries(EPISODES.items(), {}, {"third": Third()}, config)
    for tries in found.values():
        for candidate in tries:
            actions = EPISODES[candidate.clip.episode].actions
            # a try of two actions stays at its last one
            assert candidate.gains["third.rank"] == actions[min(2, len(actions) - 1), 0]


def near_the_demonstrated(observation, count):
    """Chunks ever farther from what was demonstrated at this state, which they know by its x."""
    for episode in EPISODES.values():
        match = np.flatnonzero((episode.states == observation.state).all(1))
        if len(match):
            own = candidates.windows(episode.actions, 4)[match[0]]
            return np.stack([own + 0.1 * (k + 1) for k in range(count)])
    raise AssertionError("a state that was not demonstrated")


def test_at_demonstrated_states_the_demonstrated_chunk_wins_by_its_own_term():
    config = PreferConfig(weights={"demonstrated": 1.0}, horizon=4, pairs=1, keep=1.0)
    found = candidates.of_demonstrations(
        EPISODES.items(), near_the_demonstrated, {}, config, states=2, candidates=4, seed=0
    )
    assert len(found) == 8 and all(len(tries) == 4 for tries in found.values())
    pairs, card = build(found, config, seed=0)
    assert card["decided_by_success"] == 0  # nothing was executed
    for pair in pairs:
        assert pair.chosen.chunk is None and pair.rejected.chunk is not None
        assert (pair.chosen.episode, pair.chosen.start) == (
            pair.rejected.episode,
            pair.rejected.start,
        )
        # the farthest of the three, 0.3 of actions that range from -1 to 1
        assert pair.terms["demonstrated"] == pytest.approx(0.15, abs=1e-6)


def test_the_states_are_drawn_by_the_seed_alone():
    def states(seed):
        return list(
            candidates.of_demonstrations(
                EPISODES.items(), near_the_demonstrated, {}, CONFIG, 2, 3, seed
            )
        )

    assert states(0) == states(0) != states(1)


def test_a_term_may_be_a_chunk_rewards_opinion_of_proposals():
    class Large:
        def rank(self, observation, chunks):
            return chunks.mean((1, 2))

    config = PreferConfig(weights={"large.rank": 1.0}, horizon=4, pairs=1, keep=1.0)
    found = candidates.of_demonstrations(
        EPISODES.items(), near_the_demonstrated, {"large": Large()}, config, 1, 4, 0
    )
    for pair in build(found, config, seed=0)[0]:
        assert pair.chosen.chunk is not None and pair.rejected.chunk is None


def test_actions_are_measured_in_what_they_may_range_over():
    low, high = np.full((2, 3), SPEC.action_low), np.full((2, 3), SPEC.action_high)
    assert (candidates.in_ranges(low, SPEC) == 0).all()
    assert (candidates.in_ranges(high, SPEC) == 1).all()


def test_tries_that_begin_alike_and_part_later_are_no_duplicates_where_all_of_them_is_learned():
    first = make_episode(0, steps=12)
    later = np.concatenate([first.actions[:4], -first.actions[4:]])
    tries = {"a": first, "b": make_episode(1, steps=12, actions=later)}
    scores = {"progress": {"a": np.array([0, 1.0]), "b": np.array([0, 0.0])}}

    def built(clip):
        config = PreferConfig(weights={"progress": 1.0}, horizon=4, keep=1.0, clip=clip)
        return build(candidates.of_tries(tries.items(), scores, {}, config), config, seed=0)

    assert len(built(-1)[0]) == 1
    with pytest.raises(ValueError, match="apart"):
        built(0)


@pytest.mark.parametrize(
    ("weights", "source", "silent"),
    [
        ({"outcome": 1.0}, "tries", ["deviation", "world_model"]),
        ({"deviation.rank": 1.0}, "tries", []),
        ({"world_model.rank": 1.0, "deviation.rank": 0.0}, "demonstrations", ["deviation"]),
        ({"deviation.rank": 1.0}, "people", ["deviation", "world_model"]),
    ],
)
def test_who_has_a_say_is_who_is_weighed_and_the_eye_of_the_deviation(weights, source, silent):
    rewards = {"deviation": None, "world_model": None}
    assert unheard(PreferConfig(weights=weights, source=source), rewards) == silent
