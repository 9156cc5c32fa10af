"""A reward says when a try is done, the runner obeys, and evaluation tells if that was right."""

import json
from collections import deque

import numpy as np
import pytest
from fakes import SPEC, DrawnPolicy, LineEnv, make_episode, tiny_size

from robostack import stages
from robostack.batch import Batch, BatchConfig, contestants
from robostack.data.store import Store
from robostack.evaluate import stops
from robostack.ledger import read_rows
from robostack.policy.vla import VLA
from robostack.protocols import Stops, Watcher
from robostack.rewards.load import KINDS
from robostack.rewards.saved import SavedReward
from robostack.rollout import STOPPED, over, rollout
from robostack.sim.arena import EXPERT, Arena, BranchConfig, Trial, play
from robostack.sim.env import EnvConfig, ScriptedExpert, make_env
from robostack.sim.worker import RunnerConfig, Unplayable, Worker

BLIND = EnvConfig(task="Lift", render="none", horizon=60)
HEIGHT = 2  # of robosuite's state: the gripper's [m]
LOW, LONG = 0.89, 21  # it is below this for as many frames, and the cube is lifted


class Above(SavedReward):
    """Done when a number of the state was above a level (below it, with sign=-1) in all of the
    last `last` frames."""

    name = "above"

    def __init__(self, column=0, level=0.5, sign=1, last=1, spec=SPEC):
        self.column, self.level, self.sign, self.last = column, level, sign, last
        self.spec = spec

    def there(self, states):
        return self.sign * (states[..., self.column] - self.level) > 0

    def score(self, episode):
        return self.there(episode.states).astype(np.float32)

    def settings(self):
        return {k: getattr(self, k) for k in ("column", "level", "sign", "last")}

    @classmethod
    def restore(cls, spec, settings, arrays, parts):
        return cls(**settings, spec=spec)

    def watch(self):
        return AboveWatch(self)


class AboveWatch:
    def __init__(self, judge):
        self.judge, self.seen, self.told = judge, deque(maxlen=judge.last), 0

    def see(self, observation):
        self.told += 1
        self.seen.append(self.judge.there(observation.state))
        return sum(self.seen) == self.judge.last


class Silent(Above):
    """A reward like most: it only scores."""

    name = "silent"
    watch = None


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(KINDS, "above", Above)
    monkeypatch.setitem(KINDS, "silent", Silent)


# rollout ----------------------------------------------------------------------------------------


def test_the_judge_is_what_the_protocol_asks_for():
    assert isinstance(Above(), Stops) and isinstance(Above().watch(), Watcher)


def test_a_try_ends_where_its_watcher_says_so_and_the_verdict_stays_the_environments():
    free = rollout(LineEnv(), DrawnPolicy(), 0)
    episode = rollout(LineEnv(), DrawnPolicy(), 0, stop=Above(level=0.5).watch())
    first = int(np.argmax(free.states[:, 0] > 0.5))
    assert len(episode) == first and np.array_equal(episode.states, free.states[: first + 1])
    assert np.array_equal(episode.actions, free.actions[:first])  # the rest of a chunk is dropped
    assert (episode.label, episode.success, episode.terminated) == (STOPPED, False, False)


@pytest.mark.parametrize("level", np.linspace(0.25, 0.9, 8))
def test_it_may_stop_in_the_middle_of_a_chunk(level):
    episode = rollout(LineEnv(), DrawnPolicy(), 0, stop=Above(level=level).watch())
    assert episode.states[-1, 0] > level >= episode.states[-2, 0]


def test_a_watcher_that_never_says_so_changes_nothing():
    free = rollout(LineEnv(), DrawnPolicy(), 0)
    episode = rollout(LineEnv(), DrawnPolicy(), 0, stop=Above(level=9.0).watch())
    assert np.array_equal(episode.states, free.states) and episode.label == free.label == ""
    assert episode.terminated and episode.success


def test_every_observation_is_told_once_and_the_first_stops_nothing():
    watcher = Above(level=-1.0).watch()  # done from the beginning
    episode = rollout(LineEnv(), DrawnPolicy(), 0, stop=watcher)
    assert len(episode) == 1 and watcher.told == 2 and episode.label == STOPPED
    watcher = Above(level=9.0).watch()
    assert watcher.told == 0
    assert len(rollout(LineEnv(), DrawnPolicy(), 0, stop=watcher)) + 1 == watcher.told


def test_several_frames_in_agreement_come_later_than_one():
    one, three = (
        rollout(LineEnv(), DrawnPolicy(), 0, stop=Above(level=0.4, last=m).watch()) for m in (1, 3)
    )
    assert len(three) == len(one) + 2


def test_a_stop_of_its_own_accord_is_an_end_and_a_time_limit_is_none():
    assert over(rollout(LineEnv(), DrawnPolicy(), 0, stop=Above().watch()))
    assert over(rollout(LineEnv(), DrawnPolicy(), 0))  # success
    assert not over(rollout(LineEnv(horizon=3), DrawnPolicy(), 0))
    assert not over(make_episode(0, terminated=False, label="near miss"))


def test_a_try_cannot_have_a_label_and_a_watcher():
    with pytest.raises(ValueError, match="gets its label from that"):
        rollout(LineEnv(), DrawnPolicy(), 0, label="hover", stop=Above().watch())


def test_stops_are_counted_by_hand():
    found = stops([True, True, False, False, True], [True, False, True, False, True])
    assert found == {"stopped_and_succeeded": 2, "stopped_wrongly": 1, "never_stopped": 2}
    assert sum(found.values()) == 5


# simulation -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def env():
    env = make_env(BLIND)
    yield env
    env.close()


@pytest.fixture
def worker(env):
    return Worker(BLIND, env)


@pytest.fixture
def judge(env, tmp_path):
    """Saves a judge that wants the gripper low for so many frames; returns its folder."""

    def save(frames, kind=Above):
        kind(HEIGHT, LOW, -1, frames, env.spec).save(tmp_path / f"{frames}")
        return str(tmp_path / f"{frames}")

    return save


def trial(stop="", env=BLIND):
    return Trial(EXPERT, env, RunnerConfig(stop=stop), 0.0, 0, False)


def test_without_an_end_success_is_told_and_the_try_goes_on(env):
    env.ends = True
    short = rollout(env, ScriptedExpert(env), 0)
    env.ends = False
    whole = rollout(env, ScriptedExpert(env), 0)
    assert short.terminated and len(short) < len(whole) == BLIND.horizon
    assert not whole.terminated and np.array_equal(whole.states[: len(short) + 1], short.states)
    env.reset(0)
    steps = [env.step(action) for action in whole.actions]
    assert [s.success for s in steps[: len(short)]] == [False] * (len(short) - 1) + [True]
    assert not any(s.terminated for s in steps) and [s.truncated for s in steps].index(True) == 59


def test_a_judge_that_waits_for_success_stops_and_is_right(worker, judge):
    alone, judged = play(worker, trial()), play(worker, trial(judge(LONG)))
    assert alone.success and alone.stopped is None
    assert judged.success and judged.stopped and alone.steps < judged.steps < BLIND.horizon
    assert play(worker, trial()).steps == alone.steps  # the simulator ends tries again


def test_a_judge_that_is_too_early_stops_wrongly_and_one_that_is_blind_never(worker, judge):
    early, blind = play(worker, trial(judge(3))), play(worker, trial(judge(500)))
    assert (early.stopped, early.success) == (True, False)
    assert blind.stopped is False and blind.steps == BLIND.horizon


def test_a_reward_that_cannot_stop_or_is_not_there_is_one_clear_error(worker, judge, tmp_path):
    with pytest.raises(Unplayable, match="kind silent cannot stop a try"):
        play(worker, trial(judge(1, Silent)))
    with pytest.raises(Unplayable, match="holds no reward"):
        play(worker, trial(str(tmp_path / "nothing")))
    Above().save(tmp_path / "other")  # of another robot
    with pytest.raises(Unplayable, match="do not fit together"):
        play(worker, trial(str(tmp_path / "other")))


def test_an_evaluation_counts_stops_where_there_is_a_judge_and_only_there(
    tmp_path, judge, monkeypatch
):
    from robostack import batch
    from robostack.pool import Pool

    monkeypatch.setattr(batch, "open_pool", lambda make, *_, **__: Pool(make, 1))

    def evaluate(name, stop):
        config = BatchConfig(episodes=3, env=BLIND, runner=RunnerConfig(stop=stop), videos=0)
        Batch(config, contestants(["expert", "random"]), tmp_path / name, 1).play()
        found = json.loads((tmp_path / name / "results.json").read_text())
        return found["cells"], read_rows(tmp_path / name)

    cells, rows = evaluate("judged", judge(LONG))
    assert cells[0]["stops"] == {
        "stopped_and_succeeded": 3,
        "stopped_wrongly": 0,
        "never_stopped": 0,
    }
    assert sum(cells[1]["stops"].values()) == 3 and all("stopped" in row for row in rows)
    cells, rows = evaluate("free", "")
    assert not any("stops" in cell for cell in cells) and not any("stopped" in row for row in rows)


def test_tries_that_branch_have_no_judge():
    with Arena(BLIND, 1) as arena, pytest.raises(ValueError, match="runner.stop"):
        next(arena.branches("policy", RunnerConfig(stop="x"), BranchConfig(), [0], ""))


def test_a_stage_tells_how_its_tries_ended_where_it_has_a_judge(tmp_path, env, judge):
    VLA(tiny_size(layers=1), env.spec).save(tmp_path / "policy")
    with Arena(BLIND, 1) as arena:
        for name, stop in (("judged", judge(1)), ("free", "")):
            runner = RunnerConfig(execute=4, steps=1, stop=stop)
            config = stages.EvaluateConfig(episodes=2, runner=runner)
            stages.evaluate(arena, config, tmp_path / "policy", tmp_path / name)
    judged, free = (
        json.loads((tmp_path / n / "summary.json").read_text()) for n in ("judged", "free")
    )
    assert sum(judged["stops"].values()) == 2 and "stops" not in free
    told = [e.label == STOPPED for _, e in Store(tmp_path / "judged" / "store").episodes()]
    assert judged["stops"]["never_stopped"] == told.count(False)
