"""A policy in use: legal actions, reproducible draws, and no silent nonsense."""

import math

import numpy as np
import pytest
import torch
from fakes import LineEnv, make_episode

from robostack.policy import flow, rtc
from robostack.policy.chunking import ChunkRunner, observation_batch
from robostack.protocols import Policy
from robostack.rollout import rollout


@pytest.fixture
def seen():
    return make_episode(3).observation(1)


def test_it_is_a_policy_and_hands_out_the_first_actions_of_a_chunk(vla, seen):
    runner = ChunkRunner(vla, execute=3)
    assert isinstance(runner, Policy)
    actions = runner.act(seen)
    runner.reset(0)
    assert actions.shape == (3, 3) and actions.dtype == np.float32
    assert np.array_equal(runner.propose(seen, 1)[0, :3], actions)


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_the_seed_of_reset_fixes_everything_that_is_drawn(vla, seen, level):
    runner = ChunkRunner(vla, 4, level=level)
    runs = []
    for seed in (5, 5, 6):
        runner.reset(seed)
        runs.append(np.concatenate([runner.act(seen), runner.act(seen)]))
    assert np.array_equal(runs[0], runs[1]) and not np.array_equal(runs[0], runs[2])
    assert not np.array_equal(runs[0][:4], runs[0][4:])  # within a try the draws go on


def test_actions_stay_within_the_spec(vla, seen):
    with torch.no_grad():
        vla.expert.action_out.bias += torch.tensor([50.0, -50.0, 0.0])
    chunks = ChunkRunner(vla, 4).propose(seen, 3)
    assert np.array_equal(chunks[:, :, 0], np.full((3, 4), -1)) and (chunks[:, :, 1] == 1).all()
    assert np.abs(chunks[:, :, 2]).max() <= 1


def test_proposals_are_many_and_differ(vla, seen):
    chunks = ChunkRunner(vla, 4).propose(seen, 5)
    assert chunks.shape == (5, 4, 3)
    assert len({chunk.tobytes() for chunk in chunks}) == 5


def test_temperature_scales_the_noise_that_chunks_begin_with(vla, seen):
    def chunks(temperature):
        return ChunkRunner(vla, 4, temperature=temperature).propose(seen, 4)

    scaled = chunks(0.5)
    assert np.ptp(chunks(0.0), axis=0).max() == 0
    assert 0 < np.ptp(scaled, axis=0).max() < np.ptp(chunks(1.0), axis=0).max()
    whole = vla.noise
    vla.noise = lambda count, generator: 0.5 * whole(count, generator)
    assert np.array_equal(chunks(1.0), scaled)
    for wrong in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="temperature=.*expected 0"):
            chunks(wrong)


def test_of_a_gaussian_temperature_leaves_the_mean_and_scales_the_spread(vla):
    """The velocity from N(0, 1) to N(m, s^2) is known, and linear in x: so are Euler's steps."""
    mean, spread = 0.3, 0.2

    def velocity(x, time):  # of noise - data, given x
        std = ((1 - time) ** 2 * spread**2 + time**2).sqrt()[:, None, None]
        slope = (time - (1 - time) * spread**2)[:, None, None] / std**2
        return slope * (x - (1 - time)[:, None, None] * mean) - mean

    noise = vla.noise(500, torch.Generator().manual_seed(0))
    hot, cool = (flow.integrate(velocity, t * noise, 50) for t in (1.0, 0.5))
    assert torch.allclose(cool - mean, 0.5 * (hot - mean), atol=1e-5)
    assert abs(float(hot.std()) / spread - 1) < 0.1 and abs(float(hot.mean()) - mean) < 0.02


def test_more_noise_in_the_sampler_spreads_the_proposals_from_one_starting_noise(vla, seen):
    """The same starting noise: the ODE then has one answer, the SDE several."""
    vla.noise = lambda count, generator: torch.ones(count, 4, 3)
    assert np.ptp(ChunkRunner(vla, 4).propose(seen, 4), axis=0).max() < 1e-5
    assert np.ptp(ChunkRunner(vla, 4, level=0.7).propose(seen, 4), axis=0).max(1).min() > 1e-3


@pytest.mark.parametrize("execute", [0, 5])
def test_executing_more_or_less_than_a_chunk_is_refused(vla, execute):
    with pytest.raises(ValueError, match="execute: expected 1 to 4"):
        ChunkRunner(vla, execute)


def test_broken_weights_stop_the_robot_instead_of_moving_it(vla, seen):
    with torch.no_grad():
        vla.expert.action_out.bias[0] = torch.nan
    with pytest.raises(FloatingPointError, match="not finite"):
        ChunkRunner(vla, 4).act(seen)


def test_a_rollout_of_it_is_a_function_of_its_seeds(vla):
    runner = ChunkRunner(vla, 2)
    tries = [
        rollout(LineEnv(), runner, seed=1, policy_seed=s, max_steps=6).actions for s in (1, 1, 2)
    ]
    assert np.array_equal(tries[0], tries[1]) and not np.array_equal(tries[0], tries[2])


@pytest.mark.parametrize("mode", ["guided", "identity", "clamped"])
def test_the_units_of_actions_do_not_matter(vla, seen, mode):
    """Halving the robot's range halves what it was about to do, and with it the chunk."""

    def plan(scale):
        vla.normalize_action.low.fill_(-scale)
        vla.normalize_action.high.fill_(scale)
        runner = ChunkRunner(vla, 2, steps=10, rtc=mode)
        return runner.plan(seen, np.full((3, 3), 0.7 * scale, np.float32), 1)

    assert np.allclose(plan(1 / 8), plan(1 / 16) * 2, atol=1e-6)
    assert np.abs(plan(1 / 8)).max() < 1  # no bound has a part in this


def test_a_clamped_chunk_of_a_runner_is_free_of_the_rounding_of_units(vla, seen):
    vla.normalize_action.low.fill_(-0.37)
    vla.normalize_action.high.fill_(0.81)
    previous = np.random.default_rng(0).uniform(-1, 1, (3, 3)).astype(np.float32)
    rounded = vla.normalize_action.inverse(vla.normalize_action(torch.from_numpy(previous)))
    assert not np.array_equal(rounded.numpy(), previous)
    chunk = ChunkRunner(vla, 2, rtc="clamped").plan(seen, previous, 3)
    assert np.array_equal(chunk[:3], previous)


@pytest.mark.parametrize(("mode", "kind"), [("guided", "true"), ("identity", "identity")])
def test_a_runner_holds_to_nothing_where_the_old_chunk_has_ended(vla, seen, mode, kind):
    """Row 3 of the target is far off and must not matter; the weights are the paper's by hand."""
    falling = [c * (math.exp(c) - 1) / (math.e - 1) for c in (2 / 3, 1 / 3)]
    weights = torch.tensor([1, *falling, 0])
    target = torch.full((4, 3), 0.5)
    target[3] = 9
    batch = observation_batch(seen, (4, 3))
    noise = vla.noise(1, torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = vla.sample(batch, noise, 10, guide=rtc.Guided(target, weights, 5.0, kind))
    runner = ChunkRunner(vla, 2, steps=10, rtc=mode)
    found = runner.plan(seen, np.full((3, 3), 0.5, np.float32), 1)
    assert np.allclose(found, vla.spec.clip(wanted[0].numpy()), atol=1e-5)
    other = ChunkRunner(vla, 2, steps=10, rtc="identity" if kind == "true" else "guided")
    assert not np.allclose(found, other.plan(seen, np.full((3, 3), 0.5, np.float32), 1), atol=1e-4)


@pytest.mark.parametrize("mode", ["none", "guided", "clamped"])
def test_the_next_try_does_not_begin_with_the_last_ones_actions(vla, seen, mode):
    runner, fresh = (ChunkRunner(vla, 2, delay=1, rtc=mode) for _ in range(2))
    runner.act(seen)
    runner.act(seen)
    runner.reset(7)
    fresh.reset(7)
    assert np.array_equal(runner.act(seen), fresh.act(seen))


@pytest.mark.parametrize("keys", [{"delay": 1}, {"delay": 1, "rtc": "guided"}])
def test_lockstep_delays_are_refused_for_a_served_policy(keys):
    pytest.importorskip("websockets")
    from serving import serving

    from robostack.sim.worker import RunnerConfig, Worker

    worker = Worker()
    with serving(steps=5) as served:
        assert worker.policy(served.url, RunnerConfig(execute=2), LineEnv()).execute == 2
        with pytest.raises(ValueError, match="are for policies in a folder"):
            worker.policy(served.url, RunnerConfig(execute=2, **keys), LineEnv())
        worker.served[served.url].close()
