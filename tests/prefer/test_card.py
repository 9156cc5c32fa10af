"""The card of a preference set says what is in it."""

import re
from dataclasses import replace

import numpy as np
import pytest
from fakes import SPEC, make_episode

from robostack import preference_card, preferring
from robostack.data.store import Store, StoreError
from robostack.policy.checkpoint import fingerprint
from robostack.policy.vla import VLA, VLAConfig
from robostack.prefer import saved
from robostack.prefer.compare import PreferConfig
from robostack.rewards.keypoints import KeypointAffordance


class Longer:
    """Every further action gains a hundredth."""

    name = "longer"

    def score(self, episode):
        import numpy as np

        return np.linspace(0, len(episode) / 100, len(episode) + 1, dtype=np.float32)

    def fingerprint(self):
        return "longer"

    def rank(self, observation, chunks):
        return chunks.mean((1, 2))


@pytest.fixture
def store(tmp_path):
    store = Store.create(tmp_path / "store", SPEC)
    for seed in range(12):
        store.append(make_episode(seed, steps=5 + seed))
    reward = Longer()
    store.write_scores("longer", "longer", {i: reward.score(e) for i, e in store.episodes()})
    return store


def made(store, out, config, **more):
    return preferring.prefer(config, {"longer": Longer()}, store.path, out, 0, **more)


def test_the_page_stands_beside_the_set_and_tells_its_numbers(store, tmp_path):
    config = PreferConfig(weights={"longer": 1.0}, keep=0.5)
    card = made(store, tmp_path / "pairs.jsonl", config)
    text = (tmp_path / "pairs.html").read_text()
    assert card["preferences"] == 3 and "3 pairs, 0 of them ties, of 6 comparisons" in text
    assert "between 12 candidates at 6 states" in text and "the margin was small" in text
    assert "succeeded in 3 of 3" in text  # the longer of each is the odd seed, which succeeds
    assert re.search(r"longer</code><td>100%<td>1", text)
    assert text.count("<video") == 3


def test_what_was_left_out_and_what_had_no_say_is_told(tmp_path, capsys):
    store = Store.create(tmp_path / "store", SPEC)
    for seed in range(4):
        store.append(make_episode(seed, steps=5 + seed, success=True if seed else None))
    store.write_scores("longer", "longer", {i: Longer().score(e) for i, e in store.episodes()})
    made(store, tmp_path / "pairs.jsonl", PreferConfig(weights={"longer": 1.0, "outcome": 0.5}))
    told, text = capsys.readouterr().err, (tmp_path / "pairs.html").read_text()
    assert "warning: outcome (weight 0.5) has no say: within states it spreads by 0" in told
    assert "outcome is not known of 1, which are left out: episode 000000 of seed 0" in told
    assert "<code>outcome</code>, weight 0.5, has no say" in text
    assert "1 tries are left out" in text and "episode 000000 of seed 0 step 0" in text


def test_margins_are_held_against_what_the_simulator_knows(tmp_path):
    """Of 8 states the tries of four come as far as each other, whatever their margin."""
    store, scores = Store.create(tmp_path / "store", SPEC), {}
    for seed in range(16):
        state, better = divmod(seed, 2)
        told = 0.3 if state < 4 else 0.3 + 0.5 * better
        truth = np.linspace(0, told, 7).astype(np.float32)
        episode = make_episode(seed, steps=6, group=f"seed {state} step 0", success=False)
        name = store.append(replace(episode, truth=truth))
        scores[name] = np.linspace(0, better * (0.1 + 0.1 * state), 7).astype(np.float32)
    store.write_scores("longer", "longer", scores)
    card = made(store, tmp_path / "pairs.jsonl", PreferConfig(weights={"longer": 1.0}, apart=0))
    assert [(part["pairs"], part["ahead"], part["behind"]) for part in card["truth"]] == [
        (2, 0, 0),
        (2, 0, 0),
        (2, 2, 0),
        (2, 2, 0),
    ]
    margins = [margin for part in card["truth"] for margin in part["margin"]]
    assert margins == sorted(margins)
    assert saved.load(tmp_path / "pairs.jsonl").card["truth"] == card["truth"]
    page = (tmp_path / "pairs.html").read_text()
    assert "chosen came further<th>less far" in page and "<td>100%<td>0%" in page


def test_nothing_is_held_against_a_truth_that_nobody_knows(store, tmp_path):
    config = PreferConfig(weights={"longer": 1.0})
    assert made(store, tmp_path / "pairs.jsonl", config)["truth"] == []
    assert "less far" not in (tmp_path / "pairs.html").read_text()


def test_clips_show_what_is_compared_and_no_more(store):
    episode, clip = make_episode(0, steps=9), saved.Clip("000000", 2, 6)
    cut = preference_card._cut(episode, clip)
    assert len(cut) == 4 and (cut.states == episode.states[2:7]).all()


def test_tries_of_a_robot_without_cameras_have_a_card_without_films(tmp_path):
    blind = replace(SPEC, cameras={})
    store = Store.create(tmp_path / "store", blind)
    for seed in range(2):
        store.append(make_episode(seed, spec=blind, images={}))
    assert made(store, tmp_path / "pairs.jsonl", PreferConfig())["preferences"] == 1
    text = (tmp_path / "pairs.html").read_text()
    assert "<video" not in text and "<svg" in text.split("Some of them")[1]


def test_a_policys_chunks_at_demonstrated_states_are_drawn_as_curves(store, tmp_path):
    VLA(VLAConfig(horizon=4), SPEC).save(tmp_path / "policy")
    config = PreferConfig(
        source="demonstrations",
        weights={"demonstrated": 1.0, "longer.rank": 0.5},
        states=1,
        candidates=3,
        horizon=4,
    )
    card = made(store, tmp_path / "chunks.jsonl", config, policy=tmp_path / "policy")
    assert card["groups"] == 12 and card["tries"] == 36
    assert card["policy"] == fingerprint(tmp_path / "policy")
    found = saved.load(tmp_path / "chunks.jsonl")
    assert {len(p.rejected.chunk or p.chosen.chunk) for p in found.pairs} == {4}
    text = (tmp_path / "chunks.html").read_text()
    assert "No pair differs in success" in text and "<svg" in text and "<video" not in text


@pytest.mark.parametrize(
    ("changes", "more", "told"),
    [
        ({"source": "demonstrations"}, {}, "source=demonstrations needs --policy"),
        ({}, {"policy": "x"}, "source=tries takes no --policy"),
        ({"weights": {"progress": 1.0}}, {}, "weights name progress; .* offer: outcome, longer"),
        ({"weights": {"demonstrated": 1.0}}, {}, "weights name demonstrated"),
    ],
)
def test_what_does_not_fit_together_is_refused(store, tmp_path, changes, more, told):
    config = PreferConfig(**{"weights": {"longer": 1.0}} | changes)
    with pytest.raises(ValueError, match=told):
        made(store, tmp_path / "p.jsonl", config, **more)
    assert not (tmp_path / "p.jsonl").exists()


def test_a_reward_that_only_scores_cannot_rank(store, tmp_path):
    config = PreferConfig(weights={"keypoints.rank": 1.0})
    with pytest.raises(ValueError, match="weights name keypoints.rank"):
        rewards = {"keypoints": KeypointAffordance()}
        preferring.prefer(config, rewards, store.path, tmp_path / "p.jsonl")


def test_episodes_that_came_after_scoring_are_noticed(store, tmp_path):
    store.append(make_episode(20))
    config = PreferConfig(weights={"longer": 1.0})
    with pytest.raises(StoreError, match="1 episodes that longer has not scored as they are now"):
        made(store, tmp_path / "p.jsonl", config)


def test_scores_by_an_earlier_version_of_a_reward_are_refused(store, tmp_path):
    class Changed(Longer):
        def fingerprint(self):
            return "shorter"

    with pytest.raises(StoreError, match="stale: written by longer longer, which is now shorter"):
        preferring.prefer(
            PreferConfig(weights={"longer": 1.0}),
            {"longer": Changed()},
            store.path,
            tmp_path / "p.jsonl",
        )


@pytest.fixture
def pair(tmp_path):
    """A store of one pair: films take their time."""
    store = Store.create(tmp_path / "pair", SPEC)
    for seed in range(2):
        store.append(make_episode(seed))
    return store


@pytest.mark.parametrize("name", ["keep-0.5", "x.html", "notes.txt"])
def test_a_name_of_another_kind_of_file_is_refused_and_nothing_is_written(pair, tmp_path, name):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=f"--out .*{name}: expected a name that ends in .jsonl"):
        preferring.prefer(PreferConfig(), {}, pair.path, tmp_path / name)
    assert sorted(tmp_path.iterdir()) == before


def test_every_set_has_a_card_of_its_own_that_overwrites_no_other_page(pair, tmp_path):
    for name in ("keep-0.5", "keep-0.25", "keep-0.5"):  # and is made anew
        preferring.prefer(PreferConfig(), {}, pair.path, tmp_path / f"{name}.jsonl")
    assert (tmp_path / "keep-0.25.html").exists() and (tmp_path / "keep-0.5.html").exists()
    for title in ("mine", "robostack: evaluation"):
        (tmp_path / "notes.html").write_text(f"<title>{title}</title>")
        with pytest.raises(ValueError, match="notes.html exists and is no page of robostack about"):
            preferring.prefer(PreferConfig(), {}, pair.path, tmp_path / "notes.jsonl")
        assert not (tmp_path / "notes.jsonl").exists()
        assert (tmp_path / "notes.html").read_text() == f"<title>{title}</title>"
