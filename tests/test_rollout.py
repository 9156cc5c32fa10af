"""Rollouts record what happened; branches share their start and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import LIFT, DrawnPolicy, LineEnv

from robostack.protocols import Env, Policy, Snapshots
from robostack.rollout import branches, hash_seed, rollout
from robostack.sim.arena import BranchConfig


def same(a, b):
    return np.array_equal(a.actions, b.actions) and np.array_equal(a.states, b.states)


def test_the_fakes_are_what_the_protocols_ask_for():
    assert isinstance(LineEnv(), Env) and isinstance(LineEnv(), Snapshots)
    assert isinstance(DrawnPolicy(), Policy)


def test_an_episode_holds_what_was_seen_and_done_in_order():
    episode = rollout(LineEnv(), DrawnPolicy(), seed=3)
    x = episode.states[:, 0]
    assert np.allclose(np.diff(x), episode.actions[:, 0] / 10, atol=1e-6)
    assert np.allclose(episode.stamps, np.arange(len(episode) + 1) / 10)
    assert np.array_equal(episode.keypoints["object"][:, 0], x)
    columns = episode.images["top"][:, 0, :, 0].argmax(1)
    assert np.array_equal(columns, np.clip(15 * x, 0, 15).astype(int))
    assert (episode.task, episode.seed, episode.source) == (LIFT, 3, "rollout")


def test_it_ends_with_success_at_the_time_limit_or_after_max_steps():
    done = rollout(LineEnv(), DrawnPolicy(), 0)
    assert done.success and done.terminated and done.states[-1, 0] >= 1 > done.states[-2, 0]
    cut = rollout(LineEnv(horizon=3), DrawnPolicy(), 0)
    assert len(cut) == 3 and not cut.terminated and cut.success is False
    assert len(rollout(LineEnv(), DrawnPolicy(), 0, max_steps=5)) == 5


def test_the_rest_of_a_chunk_is_dropped_once_the_try_is_over():
    assert len(rollout(LineEnv(horizon=3), DrawnPolicy(), 0)) % 2 == 1


def test_the_seeds_fix_a_rollout_and_each_has_its_own_part():
    a, b = (rollout(LineEnv(), DrawnPolicy(), 1, policy_seed=2) for _ in range(2))
    other_start = rollout(LineEnv(), DrawnPolicy(), 5, policy_seed=2)
    other_draws = rollout(LineEnv(), DrawnPolicy(), 1, policy_seed=3)
    assert same(a, b)
    assert a.states[0, 0] != other_start.states[0, 0]
    assert np.array_equal(a.actions[:4], other_start.actions[:4])
    assert a.states[0, 0] == other_draws.states[0, 0]
    assert not np.array_equal(a.actions[:4], other_draws.actions[:4])


def branch(env=None, **changes):
    options = dict(tries=3, every=4, span=5, points=3) | changes
    return branches(env or LineEnv(), DrawnPolicy(low=-1.0), 7, **options)


def by_group(episodes):
    groups = {}
    for episode in episodes:
        groups.setdefault(episode.group, []).append(episode)
    return groups


def test_branches_share_their_start_state_and_differ_later():
    groups = by_group(branch())
    assert list(groups) == [f"seed 7 step {t}" for t in (0, 4, 8)]
    for tries in groups.values():
        assert len({e.states[0].tobytes() for e in tries}) == 1
        assert len({e.images["top"][0].tobytes() for e in tries}) == 1
        assert len({e.actions.tobytes() for e in tries}) == 3
        assert all(1 <= len(e) <= 5 and e.seed == 7 for e in tries)
    starts = {tries[0].states[0].tobytes() for tries in groups.values()}
    assert len(starts) == 3


def test_the_first_branch_begins_where_reset_does_and_points_lie_every_so_many_steps():
    starts = [tries[0].states[0] for tries in by_group(branch()).values()]
    assert starts[0][0] == np.float32(LineEnv().reset(7).observation.state[0])
    assert [s[1] for s in starts] == [0, 4, 8]  # the environment's step count


def test_branching_is_a_function_of_the_seed():
    assert all(same(a, b) for a, b in zip(branch(), branch(), strict=True))


def test_more_tries_do_not_change_the_first_ones():
    few, many = by_group(branch(points=1)), by_group(branch(points=1, tries=5))
    for group, tries in few.items():
        assert all(same(a, b) for a, b in zip(tries, many[group]))


def test_branching_stops_when_the_trunk_succeeds():
    steady = branches(LineEnv(), DrawnPolicy(0.9), 0, tries=2, every=4, span=2, points=9)
    assert max(e.states[0, 0] for e in steady) < 1 and len(by_group(steady)) <= 3


class Steady(DrawnPolicy):
    def act(self, observation):
        return np.full((2, 3), 0.2, np.float32)


def test_pulled_tries_differ_from_the_first_by_one_draw_a_chunk():
    """The policy itself would do the same each time; the fingers are never pulled."""
    options = dict(tries=4, every=4, span=8, points=1, spread=0.3)
    first, *others = branches(LineEnv(), Steady(), 0, **options)
    assert (first.actions == np.float32(0.2)).all()
    pulls = np.stack([e.actions for e in others])[..., :2]
    assert all((e.actions[:, 2] == np.float32(0.2)).all() for e in others)
    assert np.array_equal(pulls[:, ::2], pulls[:, 1::2])  # chunks are of two actions
    assert len(np.unique(pulls)) == pulls.size // 2
    assert all(same(a, b) for a, b in zip(branches(LineEnv(), Steady(), 0, **options)[1:], others))


class Reversed:
    """Goes back where it was told to go on, from where `env` is."""

    def __init__(self, env):
        self.env, self.spec, self.began = env, env.spec, []

    def begin(self, step):
        self.began.append(float(step.observation.state[0]))
        return step

    def step(self, action):
        return replace(self.env.step(-action), executed=-action)


def test_tries_that_are_led_begin_with_the_others_and_change_none_of_them():
    options = dict(tries=4, every=4, span=8, points=2, spread=0.3)
    alone, env = branches(LineEnv(), Steady(), 0, **options), LineEnv()
    leader = Reversed(env)
    found = branches(env, Steady(), 0, **options, led=2, leader=leader)
    assert [e.source for e in found] == ["rollout", "led", "led", "rollout"] * 2
    assert all(same(a, b) for k, (a, b) in enumerate(zip(alone, found)) if k % 4 in (0, 3))
    for k, episode in enumerate(found):
        assert np.array_equal(episode.states[0], alone[k].states[0])
        if k % 4 in (1, 2):  # nothing pulled aside, and recorded is what was done
            assert (episode.actions == np.float32(-0.2)).all()
    assert leader.began == [float(found[k].states[0, 0]) for k in (1, 2, 5, 6)]


def test_not_all_tries_can_be_led():
    assert BranchConfig(tries=2, led=1).share == 0.5
    for wrong in ({"led": 6}, {"led": -1}, {"share": 0.0}, {"share": 1.5}):
        with pytest.raises(ValueError, match="expected fewer that are led than tries"):
            BranchConfig(**wrong)


@pytest.mark.parametrize("horizon", [7, 8, 9])
def test_no_branch_begins_at_or_beyond_the_time_limit(horizon):
    starts = [e.states[0, 1] for e in branch(LineEnv(horizon), points=5)]
    assert max(starts) < horizon


def test_an_environment_without_snapshots_cannot_branch():
    class Real:
        spec = LineEnv().spec
        reset = step = close = None

    with pytest.raises(TypeError, match="Real has no snapshots"):
        branch(Real())


def test_hashed_seeds_do_not_collide_where_sums_would():
    seeds = [hash_seed(a, b) for a in range(30) for b in range(30)]
    assert len(set(seeds)) == 900
    assert hash_seed(1, 2) == hash_seed(1, 2) and all(0 <= s < 2**32 for s in seeds)
