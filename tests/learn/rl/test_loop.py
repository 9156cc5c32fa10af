"""Online learning on a line: new starts, kept rollouts, and interruptions that leave no trace."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fakes import LineEnv, make_episode, tiny_vla

from robostack.alarms import SPREAD, Alarms
from robostack.assist import AssistConfig
from robostack.data.store import Store
from robostack.learn import rl
from robostack.learn.learner import Learner
from robostack.learn.rl import turns
from robostack.learn.rl.replay import Replay
from robostack.learn.rl.turns import HISTORY
from robostack.learn.run import Run, finished
from robostack.policy.chunking import ChunkRunner
from robostack.policy.vla import VLA
from robostack.protocols import Scores
from robostack.rewards.shaping import shaped_rewards
from robostack.rollout import rollout

CONFIG = rl.RLConfig(
    iterations=3,
    episodes=2,
    updates=2,
    batch=4,
    draws=2,
    warmup=1,
    lr=1e-3,
    critic_updates=2,
    critic_batch=8,
    average=0.5,
)
DEMOS = [make_episode(seed, steps=6, success=True, terminated=True) for seed in (90, 91)]


def collect(folder, seeds, tries=1, led=None):
    runner = ChunkRunner(VLA.load(folder), execute=2, steps=2)
    for seed in seeds:
        yield rollout(LineEnv(horizon=6), runner, seed)


def score(episode):
    potential = np.clip(episode.states[:, 0], 0, 1)
    return Scores(potential, np.ones_like(potential))


def train(vla, run, collect=collect, config=CONFIG, **options):
    return rl.train(config, vla, rl.Outside(collect, score), DEMOS, run, **options)


def metrics(run):
    return [json.loads(row) for row in (run.path / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Policy and run of training that nothing interrupted."""
    run = Run(tmp_path_factory.mktemp("rl") / "whole", "test", {"lr": 1})
    return train(tiny_vla(), run), run


def test_every_start_is_new_and_every_rollout_is_kept(whole):
    _, run = whole
    store = Store(run.path / "store")
    seeds = [e.seed for _, e in store.episodes()]
    assert seeds == [CONFIG.first_seed + k for k in range(6)]
    assert [row["rollouts"] for row in metrics(run)] == [2, 4, 6]
    assert finished(run.path)["rollouts"] == 6 and (run.path / "policy").is_dir()


def test_what_is_saved_is_what_is_returned_and_the_start_stays(vla, whole, weights):
    trained, run = whole
    assert weights(trained) == weights(VLA.load(run.path / "policy")) != weights(vla)


@pytest.mark.parametrize("stop", [1, 4])
def test_resumed_updates_end_at_the_very_weights_of_uninterrupted_ones(
    vla, whole, stop, new_run, stop_before, weights
):
    go_on = stop_before(stop)
    with pytest.raises(KeyboardInterrupt):
        train(vla, new_run("cut"))
    go_on()
    assert weights(train(vla, new_run("cut"))) == weights(whole[0])


def test_help_is_withdrawn_as_rollouts_succeed_and_a_resumed_run_knows_how_far(vla, new_run):
    config = replace(CONFIG, iterations=4, assist=AssistConfig(share=0.4, easy=0.5, less=0.25))
    wanted, shares = [0.4, 0.3, 0.3, 0.2], []

    def helped(folder, seeds, tries, led):
        shares.append(led.share)
        for episode in collect(folder, seeds):
            won = (episode.seed - config.first_seed) // config.episodes != 1
            yield replace(episode, success=won, terminated=won, source="intervention")

    def cut(folder, seeds, tries, led):
        if len(shares) == 3:
            raise KeyboardInterrupt
        yield from helped(folder, seeds, tries, led)

    with pytest.raises(KeyboardInterrupt):
        train(vla, new_run("cut"), cut, config)
    run = new_run("cut")
    train(vla, run, helped, config)
    assert shares == pytest.approx(wanted)
    assert [row["assist"] for row in metrics(run)] == pytest.approx(wanted)


def test_finished_rollouts_are_never_collected_again(vla, whole, new_run, weights):
    asked = []

    def interrupted(folder, seeds, tries, led):
        for seed, episode in zip(seeds, collect(folder, seeds)):
            asked.append(seed)
            if len(asked) == 4:
                raise KeyboardInterrupt
            yield episode

    with pytest.raises(KeyboardInterrupt):
        train(vla, new_run("cut"), interrupted)
    trained = train(vla, new_run("cut"), interrupted)
    assert sorted(set(asked)) == [CONFIG.first_seed + k for k in range(6)]
    assert len(asked) == 7  # the one that was cut, and no other, twice
    assert weights(trained) == weights(whole[0])


def test_a_run_cut_between_an_iteration_and_its_checkpoint_logs_it_once(
    vla, whole, new_run, monkeypatch
):
    true, count = Learner.save, iter(range(1))

    def save(self, run):
        if next(count, None) is None:
            raise KeyboardInterrupt
        true(self, run)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "save", save)
        with pytest.raises(KeyboardInterrupt):
            train(vla, new_run("cut"))
    run = new_run("cut")
    train(vla, run)
    assert metrics(run) == metrics(whole[1])


@pytest.mark.parametrize("where", [(turns.shutil, "copytree"), (Run, "finish")])
def test_a_run_cut_between_its_last_update_and_its_end_can_be_finished(
    vla, whole, new_run, weights, monkeypatch, where
):
    def cut(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*where, cut)
        with pytest.raises(KeyboardInterrupt):
            train(vla, new_run("cut"))
    run = new_run("cut")
    assert weights(train(vla, run)) == weights(whole[0])
    ends = [finished(r.path) | {"seconds": 0} for r in (run, whole[1])]
    assert ends[0] == ends[1] and ends[0]["rollout_success"] == metrics(run)[-1]["rollout_success"]


def claiming(episode):
    """From iteration to iteration surer that all is done, whatever happened."""
    sure = 0.96 if episode.seed >= CONFIG.first_seed + 2 else 0.5
    potential = np.full(len(episode) + 1, sure, np.float32)
    parted = {SPREAD: np.full_like(potential, 0.2)}  # by the members of an ensemble
    return Scores(potential, np.full_like(potential, 0.9), parted)


@pytest.mark.parametrize("stop", [False, True])
def test_an_alarm_is_told_and_ends_training_only_if_asked_with_the_policy_before_it(
    vla, new_run, weights, capfd, stop
):
    def fails(folder, seeds, tries, led):
        runner = ChunkRunner(VLA.load(folder), execute=2, steps=2)
        yield from (rollout(LineEnv(horizon=3), runner, seed) for seed in seeds)

    config = replace(CONFIG, alarms=Alarms(stop=stop, divergence=np.inf, velocity=np.inf))
    run = new_run("watched")
    trained = rl.train(config, vla, rl.Outside(fails, claiming), DEMOS, run)
    assert "warning: train rl, iteration 2: hallucinated is 1, above 0.3" in capfd.readouterr().err
    history = json.loads((run.path / HISTORY).read_text())
    assert [readings["hallucinated"] for _, readings in history] == [0, 1] + [1] * (not stop)
    assert all(r["unsureness"] == pytest.approx(0.1) for _, r in history)
    assert all(r["spread"] == pytest.approx(0.2) for _, r in history)
    assert all("divergence" in r and "gap" not in r for _, r in history)  # no truth on the line
    assert history[0][1]["velocity"] == 1 and history[1][1]["velocity"] != 1
    assert ("stopped" in finished(run.path)) == stop
    rows = metrics(run)
    assert [row["rollouts"] for row in rows] == [2, 4] + [6] * (not stop)
    assert rows[1]["alarm_hallucinated"] == 1 and (rows[1].get("updates") == 0) == stop
    if stop:  # the first iteration's rollouts, which raised no alarm, were those of the start
        assert weights(trained) == weights(VLA.load(run.path / "policy")) == weights(vla)
        assert finished(run.path)["stopped"]["iteration"] == 2


def test_an_interrupted_run_that_stops_itself_stops_where_the_whole_one_does(
    vla, new_run, stop_before, weights, tmp_path
):
    """The gap rises from the second iteration on; three rises in a row are seen at the fourth."""

    def told(folder, seeds, tries, led):
        for episode in collect(folder, seeds):
            late = (episode.seed - CONFIG.first_seed) // CONFIG.episodes
            truth = np.linspace(0, 0.5 - 0.1 * late, len(episode) + 1).astype(np.float32)
            yield replace(episode, truth=truth)

    alarms = Alarms(stop=True, divergence=np.inf, velocity=np.inf, gap=np.inf, hallucinated=np.inf)
    config = replace(CONFIG, iterations=6, alarms=alarms)

    def flat(episode):
        potential = np.linspace(0, 0.5, len(episode) + 1).astype(np.float32)
        return Scores(potential, np.ones_like(potential))

    whole = rl.train(config, vla, rl.Outside(told, flat), DEMOS, new_run("whole"))
    go_on = stop_before(6)
    with pytest.raises(KeyboardInterrupt):
        rl.train(config, vla, rl.Outside(told, flat), DEMOS, new_run("cut"))
    go_on()
    again = rl.train(config, vla, rl.Outside(told, flat), DEMOS, new_run("cut"))
    ends = [finished(tmp_path / name)["stopped"] for name in ("whole", "cut")]
    assert ends[0] == ends[1] and ends[0]["iteration"] == 4
    assert weights(again) == weights(whole) != weights(vla)


def test_curiosity_pays_for_new_places_and_less_and_less(vla, new_run):
    config = replace(CONFIG, curiosity=rl.CuriosityConfig(weight=0.1), shaping=0.0)
    run = new_run("curious")
    train(vla, run, config=config)
    rows = metrics(run)
    assert [row["curiosity_weight"] for row in rows] == [0.1, 0.05, 0]
    assert rows[0]["curiosity"] > 0 and rows[2]["curiosity"] == 0


def test_novelty_is_paid_as_it_is_worth_now_whenever_it_was_seen():
    config = replace(CONFIG, curiosity=rl.CuriosityConfig(weight=0.1))
    replay, episode = Replay(DEMOS[0].spec, 4, config), DEMOS[0]
    replay.add(episode, score(episode), np.ones(len(episode), np.float32))
    bare, replay.curious = replay.rewards[0], 0.1
    assert np.allclose(replay.rewards[0], bare + 0.1)
    replay.curious = 0.0
    assert np.array_equal(replay.rewards[0], bare)


def rising(slope):
    def scored(episode):
        potential = np.linspace(0, slope, len(episode) + 1).astype(np.float32)
        return Scores(potential, np.ones_like(potential))

    return scored


def test_rewards_that_learn_more_judge_everything_again(vla, new_run, monkeypatch):
    """What was seen before is paid by what is known now, and no reward that has become steeper is
    taken for one that is hacked."""

    def true(folder, seeds, tries, led):
        for episode in collect(folder, seeds):
            yield replace(episode, truth=rising(0.4)(episode).potential)

    asked, replays, judge = [], [], Replay.judge_again

    def refresh(iteration):
        asked.append(iteration)
        return rising(0.6)

    def judged(self, score):
        judge(self, score)
        replays.append(self)

    monkeypatch.setattr(Replay, "judge_again", judged)
    world = replace(rl.Outside(true, rising(0.3)), refresh=refresh)
    config = replace(CONFIG, refresh=2)
    run = new_run("refreshed")
    rl.train(config, vla, world, DEMOS, run)
    assert asked == [2]
    episode, paid = replays[0].data.episodes[0], replays[0].rewards[0]
    wanted = shaped_rewards(rising(0.6)(episode).potential, True, True, replays[0].gamma)
    assert np.allclose(paid, wanted)
    gaps = [readings["gap"] for _, readings in json.loads((run.path / HISTORY).read_text())]
    assert gaps == pytest.approx([0, 0, 0], abs=1e-6)
    with pytest.raises(ValueError, match="refresh=2: expected 0, or rewards that can learn"):
        train(vla, new_run("cannot"), config=config)


def test_the_policy_that_did_best_in_trials_is_kept(vla, new_run, weights):
    rates = iter([0.1, 0.2, 0.9, 0.4])  # of the start, and of each iteration's policy
    tried = []

    def check(folder):
        tried.append(weights(VLA.load(folder)))
        return next(rates)

    run = new_run("checked")
    trained = rl.train(CONFIG, vla, rl.Outside(collect, score, check), DEMOS, run)
    assert tried[0] == weights(vla)
    assert weights(trained) == tried[2] != tried[3]
    assert finished(run.path)["checks"] == [0.1, 0.2, 0.9, 0.4]
    assert finished(run.path)["best_iteration"] == 2
    assert [row["checked_success"] for row in metrics(run)] == [0.2, 0.9, 0.4]
    assert not (run.path / "rollout-policy").exists()


@pytest.mark.parametrize(
    "rates, best",
    [([0.1, 0.9, 0.95, 0.2], 1), ([0.3, 0.1, 0.95, 0.2], 0), ([0.3, 0.3, 0.95, 0.2], 1)],
)
def test_after_an_alarm_it_goes_back_to_the_best_that_raised_none(
    vla, new_run, weights, rates, best
):
    """The third iteration's rollouts raise one, so neither its policy nor what came of it counts,
    and the start does."""

    def late(episode):
        sure = 0.96 if episode.seed >= CONFIG.first_seed + 4 else 0.5
        return Scores(*np.full((2, len(episode) + 1), sure, np.float32))

    def fails(folder, seeds, tries, led):
        runner = ChunkRunner(VLA.load(folder), execute=2, steps=2)
        yield from (rollout(LineEnv(horizon=3), runner, seed) for seed in seeds)

    tried, told = [], iter(rates)

    def check(folder):
        tried.append(weights(VLA.load(folder)))
        return next(told)

    config = replace(CONFIG, alarms=Alarms(stop=True, divergence=np.inf, velocity=np.inf))
    run = new_run("alarmed")
    trained = rl.train(config, vla, rl.Outside(fails, late, check), DEMOS, run)
    summary = finished(run.path)
    assert summary["stopped"]["iteration"] == 3 and summary["checks"] == rates[:3]
    assert summary["best_iteration"] == best and weights(trained) == tried[best]


def test_each_iteration_says_how_far_it_has_come(vla, new_run, capfd):
    told, lost = [], [3]  # of whom some were lost before it began

    def losing(folder, seeds, tries, led):
        for episode in collect(folder, seeds):
            lost.append(lost[-1] + (episode.seed == CONFIG.first_seed + 2))
            yield episode

    def tell(summary):
        assert finished(run.path) is None  # whoever is killed here has not ended
        told.append(summary)

    outside = rl.Outside(losing, score, told=tell, lost=lambda: lost[-1])
    run = new_run("told")
    rl.train(CONFIG, vla, outside, DEMOS, run)
    lines = [line for line in capfd.readouterr().err.splitlines() if "succeeded" in line]
    assert len(lines) == 3 and told[:3] == [None] * 3
    assert told[3].keys() == finished(run.path).keys() and len(told) == 4
    assert lines[1].startswith("train rl: 4 of 6 rollouts, of the newest 2 ")
    assert [row["workers_lost"] for row in metrics(run)] == [0, 1, 0]


def test_every_iteration_s_policy_is_kept_if_asked(vla, new_run, weights):
    run = new_run("kept")
    trained = train(vla, run, config=replace(CONFIG, keep=True))
    kept = [VLA.load(f) for f in sorted((run.path / "rollout-policy").iterdir())]
    assert len(kept) == 4 and weights(kept[0]) == weights(vla)
    assert weights(kept[3]) == weights(trained)
