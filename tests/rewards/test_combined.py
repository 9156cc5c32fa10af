"""A combined reward: its members stay where they are, its weights come from outcomes."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from fakes import SPEC, make_episode
from scipy.optimize import minimize

from robostack.data.store import Store
from robostack.evaluate import auc
from robostack.learn.reward import RewardConfig, make
from robostack.learn.run import Run
from robostack.protocols import ChunkReward, Explains, Reward, Scores
from robostack.rewards import load as rewards
from robostack.rewards import saved
from robostack.rewards.combined import Combined, standard
from robostack.rewards.load import load_reward
from robostack.rewards.saved import CARD, RewardError, SavedReward
from robostack.rewards.weigh import LEAST, CombinedConfig, by_hand, fit, logistic
from robostack.stages import train_reward
from robostack.testing import check_reward
from robostack.types import SpecMismatch


class Column(SavedReward):
    """A column of the state as the potential, scaled by a number of its own."""

    name = "column"

    def __init__(self, column, scale=1.0, spec=SPEC):
        self.column, self.scale, self.spec = column, np.float32(scale), spec

    def score(self, episode):
        return np.clip(self.scale * episode.states[:, self.column], 0, 1).astype(np.float32)

    def settings(self):
        return {"column": self.column}

    def arrays(self):
        return {"scale": np.array([self.scale], np.float32)}

    @classmethod
    def restore(cls, spec, settings, arrays, parts):
        return cls(settings["column"], arrays["scale"][0], spec)


class Doubting(Column):
    """The same, sure where the third column says so."""

    name = "doubting"

    def explain(self, episode):
        return Scores(self.score(episode), np.clip(episode.states[:, 2], 0, 1))


class Ranking(Column):
    """Ranks chunks by one number of their first action."""

    name = "ranking"

    def rank(self, observation, chunks):
        return self.scale * chunks[:, 0, self.column]


KINDS = {kind.name: kind for kind in (Column, Doubting, Ranking)}


@pytest.fixture(autouse=True)
def known(monkeypatch):
    for name, kind in KINDS.items():
        monkeypatch.setitem(rewards.KINDS, name, kind)


@pytest.fixture
def members():
    return {"first": Column(0), "second": Doubting(1, 0.5)}


@pytest.fixture
def combined(members, tmp_path):
    made = Combined(members, {"second": 3.0, "first": 1.0}, gate=0.5, pessimism=0.25)
    made.save(tmp_path / "both" / "reward")
    return made


def spoil(tmp_path, change):
    """The folder of the combined reward, its card changed."""
    card = tmp_path / "both" / "reward" / CARD
    raw = json.loads(card.read_text())
    change(raw["settings"])
    card.write_text(json.dumps(raw))
    return card.parent


def test_it_is_a_reward_that_explains_itself(combined, episode):
    check_reward(combined, episode)
    assert isinstance(combined, Reward) and isinstance(combined, Explains)
    made = combined.explain(episode)
    assert np.array_equal(made.potential, combined.score(episode))
    assert {n: t.tobytes() for n, t in made.terms.items()} == {
        name: member.score(episode).tobytes() for name, member in combined.members.items()
    }


def test_loaded_it_is_what_was_saved(combined, episode, tmp_path):
    again = load_reward(tmp_path / "both")  # the run that holds it
    assert again.fingerprint() == combined.fingerprint()
    assert np.array_equal(again.score(episode), combined.score(episode))
    assert again.settings() == combined.settings()


def test_its_folder_is_all_that_it_takes(combined, members, episode, tmp_path):
    assert members["first"].home is None  # the original is not the copy
    shutil.move(tmp_path / "both" / "reward", tmp_path / "elsewhere")
    again = load_reward(tmp_path / "elsewhere")
    assert again.fingerprint() == combined.fingerprint()
    assert np.array_equal(again.score(episode), combined.score(episode))


def test_a_member_that_has_changed_since_is_refused_by_name(combined, tmp_path):
    Doubting(1, 0.75).save(tmp_path / "both" / "reward" / "second")
    with pytest.raises(RewardError, match="member second has changed.*combine them again"):
        load_reward(tmp_path / "both")


def test_a_member_that_is_gone_is_named(combined, tmp_path):
    shutil.rmtree(tmp_path / "both" / "reward" / "first")
    with pytest.raises(RewardError, match="first holds no reward"):
        load_reward(tmp_path / "both")


@pytest.mark.parametrize("key", ["weights", "gate", "pessimism", "members"])
def test_a_damaged_card_is_one_clear_error(combined, tmp_path, key):
    with pytest.raises(RewardError, match="no combined reward that fits"):
        load_reward(spoil(tmp_path, lambda settings: settings.update({key: "x"})))
    with pytest.raises(RewardError, match="no combined reward that fits"):
        load_reward(spoil(tmp_path, lambda settings: settings.pop(key)))


def test_combinations_combine(combined, members, episode, tmp_path):
    made = Combined({"both": combined, "alone": members["first"]}, {"both": 1.0, "alone": 1.0})
    made.save(tmp_path / "three")
    assert np.array_equal(load_reward(tmp_path / "three").score(episode), made.score(episode))


def test_a_member_whose_name_is_no_folder_is_refused():
    with pytest.raises(ValueError, match="cannot be folders"):
        Combined({"../up": Column(0)}, {"../up": 1.0})


def test_the_fingerprint_changes_with_all_that_changes_scores_and_nothing_else(combined, members):
    weights = {"first": 1.0, "second": 3.0}
    other = [
        Combined(members, {"first": 1.0, "second": 2.0}, 0.5, 0.25),
        Combined(members, weights, 0.4, 0.25),
        Combined(members, weights, 0.5, 0.2),
        Combined(members | {"second": Doubting(1, 0.6)}, weights, 0.5, 0.25),
    ]
    prints = {made.fingerprint() for made in other}
    assert len(prints) == 4 and combined.fingerprint() not in prints
    assert Combined(members, weights, 0.5, 0.25).fingerprint() == combined.fingerprint()


@pytest.mark.parametrize("changes", [{"gate": -0.1}, {"gate": 1.1}, {"pessimism": -1.0}])
def test_a_gate_or_pessimism_that_cannot_be_is_refused(members, changes):
    with pytest.raises(ValueError, match="expected a confidence"):
        Combined(members, {"first": 1.0}, **changes)


def test_members_of_different_robots_do_not_combine():
    other = Column(0, spec=replace(SPEC, control_hz=20.0))
    with pytest.raises(SpecMismatch, match="control_hz"):
        Combined({"a": Column(0), "b": other}, {"a": 1.0, "b": 1.0})


# ranking ----------------------------------------------------------------------------------------

CHUNKS = np.random.default_rng(0).uniform(-1, 1, (6, 4, 3)).astype(np.float32)


def ranking(pessimism=0.0, **weights):
    made = {"a": Ranking(0), "b": Ranking(1, 50.0), "silent": Column(2)}
    return Combined({n: made[n] for n in weights}, weights, pessimism=pessimism)


def test_it_ranks_only_if_a_member_that_counts_does():
    assert isinstance(ranking(a=1.0, silent=1.0), ChunkReward)
    assert not isinstance(ranking(silent=1.0), ChunkReward)
    assert not isinstance(ranking(a=0.0, silent=1.0), ChunkReward)


def test_one_ranker_orders_as_it_would_alone(episode):
    made = ranking(a=0.3, silent=0.7).rank(episode.observation(0), CHUNKS)
    assert made.shape == (6,) and made.dtype == np.float32
    assert np.array_equal(made.argsort(), CHUNKS[:, 0, 0].argsort())
    assert made.mean() == pytest.approx(0, abs=1e-6) and made.std() == pytest.approx(1, abs=1e-6)


def test_the_units_of_a_ranker_do_not_matter(episode):
    seen = episode.observation(0)
    made = ranking(a=1.0, b=1.0).rank(seen, CHUNKS)
    assert np.allclose(made, (standard(CHUNKS[:, 0, 0]) + standard(CHUNKS[:, 0, 1])) / 2, atol=1e-6)


def test_candidates_about_which_rankers_disagree_fall(episode):
    seen = episode.observation(0)
    calm, wary = (ranking(kappa, a=1.0, b=1.0).rank(seen, CHUNKS) for kappa in (0.0, 1.0))
    apart = np.abs(standard(CHUNKS[:, 0, 0]) - standard(CHUNKS[:, 0, 1])) / 2
    assert np.allclose(calm - wary, apart, atol=1e-5)


@pytest.mark.parametrize("count", [1, 6])
def test_candidates_that_are_alike_are_ranked_alike(episode, count):
    alike = np.repeat(CHUNKS[:1], count, 0)
    assert not ranking(0.5, a=1.0, b=1.0).rank(episode.observation(0), alike).any()


# the weights ------------------------------------------------------------------------------------


def tried(count=40, seed=0):
    """Column 0 tells the outcome, with noise; column 1 is noise; column 2 tells the reverse."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(count):
        success = bool(k % 2)
        end = 0.3 + 0.4 * success + 0.15 * rng.normal()
        states = np.stack([np.linspace(0, end, 6), np.full(6, rng.random()), np.full(6, 1 - end)])
        changes = dict(states=states.T.astype(np.float32), success=success, terminated=success)
        found.append(make_episode(k, **changes))
    return found


ALL = {"good": Column(0), "noise": Column(1), "reverse": Column(2)}


def test_the_fit_finds_the_member_that_tells_outcomes_and_drops_the_one_that_misleads():
    made, report = fit(CombinedConfig(last=1), tried(), ALL)
    assert made.weights["reverse"] == 0 and made.weights["good"] > 3 * made.weights["noise"]
    assert sum(made.weights.values()) == pytest.approx(1) and made.weights == report["weights"]
    assert report["auc"] > 0.9 > 0.7 > report["auc_equal"]
    assert report["auc_member"]["good"] > 0.9 and report["auc_member"]["reverse"] < 0.1
    assert (report["episodes"], report["successes"], report["folds"]) == (40, 20, 5)


def test_the_fit_is_a_function_of_its_data():
    first, second = (fit(CombinedConfig(), tried(), ALL) for _ in range(2))
    assert first[1] == second[1] and first[0].fingerprint() == second[0].fingerprint()


WIDE = replace(SPEC, state_names=tuple(f"n{k}" for k in range(12)))


def noise(count=30):
    """Outcomes by a coin, and twelve members of noise, which can always be fitted to them."""
    rng = np.random.default_rng(0)
    found = [
        make_episode(k, spec=WIDE, states=rng.random((6, 12)).astype(np.float32), success=k % 2 > 0)
        for k in range(count)
    ]
    return found, {name: Column(k, spec=WIDE) for k, name in enumerate(WIDE.state_names)}


def test_what_was_fitted_to_noise_does_not_look_good_on_held_out_seeds():
    episodes, members = noise()
    made, report = fit(CombinedConfig(last=1, ridge=1e-4, folds=1000), episodes, members)
    ends = np.array([made.score(e)[-1] for e in episodes])
    won = np.array([e.success for e in episodes])
    assert report["folds"] == 30
    assert auc(ends[won], ends[~won]) > 0.7 > 0.6 > report["auc"]


def test_tries_of_one_start_are_never_on_both_sides():
    """Else episodes that are there three times would be recognised when held out."""
    episodes, members = noise()
    config = CombinedConfig(last=1, ridge=1e-4, folds=7)
    few, many = (fit(config, times * episodes, members)[1] for times in (1, 3))
    assert many["episodes"] == 3 * few["episodes"]
    assert many["auc"] == pytest.approx(few["auc"], abs=0.01)
    assert many["auc_equal"] == pytest.approx(few["auc_equal"])


def test_the_weights_are_those_of_an_independent_optimiser():
    rng = np.random.default_rng(2)
    x = rng.random((50, 3))
    success = x @ [2.0, 0.5, -1.0] + 0.4 * rng.normal(size=50) > 0.8
    sign = np.where(success, 1.0, -1.0)

    def loss(p):
        return np.log1p(np.exp(-sign * (p[3] + x @ p[:3]))).mean() + 0.005 * (p[:3] ** 2).sum()

    bounds = [(0, None)] * 3 + [(None, None)]
    best = minimize(loss, np.zeros(4), bounds=bounds, options={"ftol": 1e-14, "gtol": 1e-10})
    found = logistic(x, success, 0.01)
    assert np.allclose(found, best.x[:3], atol=1e-4) and found[2] == 0 < found[0]


def test_moving_a_member_by_a_constant_changes_no_weight():
    rng = np.random.default_rng(3)
    x, success = rng.random((40, 2)), rng.random(40) > 0.5
    x[success] += [0.3, 0.1]
    assert np.allclose(
        logistic(x, success, 0.01), logistic(x + [5.0, -2.0], success, 0.01), atol=1e-6
    )


@pytest.mark.parametrize(
    "episodes, why",
    [
        (tried(LEAST - 1), "20 or more episodes"),
        ([e for e in tried(60) if e.success], "30 successes and 0 failures"),
        ([replace(e, success=k < 2) for k, e in enumerate(tried())], "2 successes"),
        ([replace(e, success=None) for e in tried()], "0 successes and 0 failures"),
        ([replace(e, seed=4) for e in tried()], "all episodes start from seed 4"),
    ],
)
def test_too_little_to_learn_from_is_refused(episodes, why):
    with pytest.raises(RewardError, match=why):
        fit(CombinedConfig(), episodes, ALL)


def test_members_that_all_mislead_are_refused():
    with pytest.raises(RewardError, match="no member ends higher.*reverse"):
        fit(CombinedConfig(), tried(), {"reverse": Column(2)})
    with pytest.raises(RewardError, match="at least one member"):
        fit(CombinedConfig(), tried(), {})


@pytest.mark.parametrize("changes", [{"ridge": 0.0}, {"last": 0}, {"folds": 1}])
def test_a_fit_that_cannot_be_is_refused(changes):
    with pytest.raises(ValueError, match="expected above 0"):
        CombinedConfig(**changes)


@pytest.mark.parametrize("full", ["weights", "card"])
def test_a_reward_stays_what_it_was_until_another_is_written_over_it(tmp_path, monkeypatch, full):
    monkeypatch.setitem(rewards.KINDS, "column", Column)
    Column(0, 0.5).save(tmp_path)
    before = load_reward(tmp_path).fingerprint()

    def full_disk(*_, **__):
        raise OSError("no space left")

    def cut_off(arrays, path):
        path.write_bytes(b"half of it")
        full_disk()

    with monkeypatch.context() as now:
        if full == "weights":
            now.setattr(saved, "save_file", cut_off)
        else:
            now.setattr(saved.Path, "write_text", full_disk)
        with pytest.raises(OSError, match="no space"):
            Column(1, 0.25).save(tmp_path)
    assert load_reward(tmp_path).fingerprint() == before
    Column(1, 0.25).save(tmp_path)
    assert load_reward(tmp_path).fingerprint() == Column(1, 0.25).fingerprint() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == [CARD, saved.WEIGHTS]


def test_weights_by_hand_need_no_outcomes_and_name_every_member(tmp_path, members):
    config = CombinedConfig(weights={"first": 1.0, "second": 3.0}, gate=0.5, pessimism=0.25)
    learning = RewardConfig(kind="combined", combined=config)
    for name, member in members.items():
        member.save(tmp_path / name)
    named = [replaced(members["first"], "first"), replaced(members["second"], "second")]
    found = make(learning, [make_episode(0)], named, Run(tmp_path / "run", "train reward", {}))
    assert found.weights == {"first": 1.0, "second": 3.0} and found.learned_from == {}
    assert (found.gate, found.pessimism) == (0.5, 0.25)
    with pytest.raises(RewardError, match="name first, second; expected .* all of them: first$"):
        by_hand(config, {"first": members["first"]})
    with pytest.raises(ValueError, match="non-negative"):
        CombinedConfig(weights={"first": -1.0})


@pytest.mark.parametrize("whole", [LEAST, LEAST - 1])
def test_tries_count_only_where_whole_episodes_are_too_few(tmp_path, monkeypatch, whole):
    monkeypatch.setitem(rewards.KINDS, "column", Column)
    Column(0).save(tmp_path / "column")
    store = Store.create(tmp_path / "store", SPEC)
    episodes = tried()
    for episode in episodes[:whole]:
        store.append(episode)
    for episode in episodes[whole:]:  # half-way
        store.append(replace(episode, group="g", stamps=episode.stamps + 1))
    config, data = RewardConfig(kind="combined"), [tmp_path / "store"]
    found = train_reward(config, data, tmp_path / "run", members=[tmp_path / "column"])
    assert found["episodes"] == (whole if whole >= LEAST else len(episodes))


def replaced(member, name):
    member.name = name
    return member
