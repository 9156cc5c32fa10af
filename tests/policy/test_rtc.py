"""Real-time chunking against closed forms: linear fields, whose Jacobian is known."""

import math

import numpy as np
import pytest
import torch
from fakes import make_episode

from robostack.policy import flow, rtc
from robostack.policy.chunking import ChunkRunner, observation_batch

H, A = 6, 2
g = torch.Generator().manual_seed(0)
MATRIX = 0.3 * torch.randn(H * A, H * A, generator=g)
OFFSET = torch.randn(H * A, generator=g)
X, TARGET = torch.randn(3, H, A, generator=g), torch.randn(1, H, A, generator=g)
TIME = torch.tensor([0.9, 0.5, 0.2])


def linear(x, time):
    return (x.flatten(1) @ MATRIX.T + OFFSET).reshape(x.shape)


def constant(x, time):
    return OFFSET.reshape(1, H, A).expand_as(x) + 0 * x


def test_the_soft_mask_is_that_of_the_paper_by_hand():
    weights = rtc.soft_mask(8, 2, 5)
    share = [3 / 4, 2 / 4, 1 / 4]
    falling = [c * (math.exp(c) - 1) / (math.e - 1) for c in share]
    assert weights.tolist() == pytest.approx([1, 1, *falling, 0, 0, 0])


@pytest.mark.parametrize(("delay", "overlap"), [(0, 0), (0, 6), (3, 3), (6, 6), (2, 5)])
def test_the_soft_mask_never_rises_and_lies_between_zero_and_one(delay, overlap):
    weights = rtc.soft_mask(6, delay, overlap)
    assert (weights.diff() <= 0).all() and (weights[:delay] == 1).all()
    assert (weights[overlap:] == 0).all() and (weights[delay:] < 1).all()


@pytest.mark.parametrize(("delay", "overlap"), [(-1, 3), (4, 3), (2, 9)])
def test_a_mask_that_cannot_be_is_refused(delay, overlap):
    with pytest.raises(ValueError, match="expected 0 <= delay <= overlap <= 6"):
        rtc.soft_mask(6, delay, overlap)


def test_the_gain_is_the_papers_in_its_own_time_and_bounded_at_both_ends():
    t = torch.linspace(0.05, 0.95, 19)  # theirs: 0 is noise
    r2 = (1 - t) ** 2 / (t**2 + (1 - t) ** 2)
    assert torch.allclose(rtc.gain(1 - t, 1e9), (1 - t) / t / r2, rtol=1e-4)
    assert rtc.gain(torch.tensor([0.0, 1.0]), 5.0).tolist() == [5, 5]
    assert rtc.gain(torch.tensor([0.5]), 5.0).item() == pytest.approx(2.0)


@pytest.mark.parametrize("beta", [1.0, 5.0, 100.0])
def test_guidance_is_the_true_vector_jacobian_product(beta):
    weights = rtc.soft_mask(H, 2, 5)
    found = rtc.Guided(TARGET, weights, beta, "true")(linear)(X, TIME)
    for i, tau in enumerate(TIME.tolist()):
        jacobian = torch.eye(H * A) - tau * MATRIX
        v = linear(X[i : i + 1], None)
        off = weights[:, None] * (TARGET - (X[i : i + 1] - tau * v))
        strength = min(beta, (tau**2 + (1 - tau) ** 2) / (tau * (1 - tau)))
        wanted = v - strength * (jacobian.T @ off.flatten()).reshape(1, H, A)
        assert torch.allclose(found[i : i + 1], wanted, atol=1e-4)


def test_the_identity_mode_is_the_formula_without_the_jacobian():
    weights = rtc.soft_mask(H, 2, 5)
    v = linear(X, TIME)
    off = weights[:, None] * (TARGET - (X - TIME[:, None, None] * v))
    wanted = v - rtc.gain(TIME, 5.0)[:, None, None] * off
    found = rtc.Guided(TARGET, weights, 5.0, "identity")(linear)(X, TIME)
    assert torch.allclose(found, wanted, atol=1e-5)


def test_both_modes_agree_where_the_field_ignores_the_sample_and_differ_where_it_does_not():
    weights = rtc.soft_mask(H, 2, 5)
    for field, same in ((constant, True), (linear, False)):
        true, identity = (
            rtc.Guided(TARGET, weights, 5.0, kind)(field)(X, TIME) for kind in ("true", "identity")
        )
        assert torch.allclose(true, identity, atol=1e-5) == same


@pytest.mark.parametrize("kind", ["true", "identity"])
def test_no_guidance_is_no_change(kind):
    weights = rtc.soft_mask(H, 2, 5)
    assert torch.equal(rtc.Guided(TARGET, weights, 0.0, kind)(linear)(X, TIME), linear(X, TIME))
    off = rtc.Guided(TARGET, torch.zeros(H), 5.0, kind)(linear)(X, TIME)
    assert torch.equal(off, linear(X, TIME))


@pytest.mark.parametrize("kind", ["true", "identity"])
def test_a_guided_chunk_begins_near_the_old_one_and_ends_where_it_would_have(kind):
    """The velocity of a Gaussian with mean 0: without guidance nothing draws it to the target."""
    deviation = 0.5

    def gaussian(x, time):
        t = time.reshape(-1, 1, 1)
        return (t - (1 - t) * deviation**2) / ((1 - t) ** 2 * deviation**2 + t**2) * x

    target, noise = torch.full((1, H, A), 0.8), torch.randn(400, H, A, generator=g)
    guide = rtc.Guided(target, rtc.soft_mask(H, 2, 4), 5.0, kind)
    free, held = (flow.integrate(f, noise, 20) for f in (gaussian, guide(gaussian)))
    off = [(x - target).abs().mean((0, 2)) for x in (free, held)]
    assert (off[1][:2] < 0.3 * off[0][:2]).all() and off[1][2] < off[0][2]
    assert torch.equal(held[:, 4:], free[:, 4:])  # dims are independent in this field


def test_guidance_works_for_callers_that_want_no_gradient():
    with torch.no_grad():
        found = rtc.Guided(TARGET, rtc.soft_mask(H, 2, 5), 5.0, "true")(linear)(X, TIME)
    assert not found.requires_grad and not torch.equal(found, linear(X, TIME))


def test_the_true_gradient_is_refused_where_autograd_is_off_for_good_and_identity_is_not():
    weights = rtc.soft_mask(H, 2, 5)
    true, identity = (rtc.Guided(TARGET, weights, 5.0, k)(linear) for k in ("true", "identity"))
    with torch.inference_mode():
        with pytest.raises(RuntimeError, match="sample under torch.no_grad"):
            true(X, TIME)
        found = identity(X, TIME)
    assert torch.equal(found, identity(X, TIME))


@pytest.mark.parametrize("kind", ["true", "identity"])
def test_steps_may_have_times_of_their_own(kind):
    weights = rtc.soft_mask(H, 2, 5)
    field = rtc.Guided(TARGET, weights, 5.0, kind)(linear)
    each = TIME[:, None].repeat(1, H)
    assert torch.allclose(field(X, each), field(X, TIME), atol=1e-6)
    assert field(X[:1], each[:1]).shape == (1, H, A)


def test_guidance_bends_the_field_of_a_real_policy_by_its_own_jacobian(vla, seen):
    batch = observation_batch(seen, (4, 3))
    with torch.no_grad():
        prefix = vla.encode(batch)
    x, target = (torch.randn(*shape, generator=g) for shape in ((1, 4, 3), (4, 3)))
    tau, weights = torch.tensor([0.6]), rtc.soft_mask(4, 1, 3)

    def field(x, time):
        return vla.velocity(prefix, batch.state, x, time)

    def clean(x):
        return (x - 0.6 * field(x, tau)).flatten()

    jacobian = torch.autograd.functional.jacobian(clean, x).reshape(12, 12)
    pull = jacobian.T @ (weights[:, None] * (target - clean(x).reshape(4, 3))).flatten()
    wanted = field(x, tau) - rtc.gain(tau, 5.0) * pull.reshape(1, 4, 3)
    true, identity = (
        rtc.Guided(target, weights, 5.0, kind)(field)(x, tau) for kind in ("true", "identity")
    )
    assert torch.allclose(true, wanted, atol=1e-5)
    assert not torch.allclose(identity, wanted, atol=1e-2)


def test_a_clamped_chunk_begins_with_the_old_actions_bit_for_bit():
    noise = torch.randn(3, H, A, generator=g)
    noise[:, :2] = TARGET[:, :2]
    seen = []

    def field(x, time):
        seen.append(time)
        return linear(x, time)

    chunk = flow.integrate(rtc.Clamped(2)(field), noise, 5)
    assert torch.equal(chunk[:, :2], TARGET[:, :2].expand(3, 2, A))
    assert not torch.equal(chunk[:, 2:], noise[:, 2:])
    for k, time in enumerate(seen):
        assert (time[:, :2] == 0).all() and torch.allclose(time[:, 2:], torch.tensor(1 - k / 5))


def test_clean_beginnings_are_drawn_evenly_and_leave_the_loss():
    valid = torch.ones(4000, H, dtype=torch.bool)
    time, used = rtc.clean_prefix(torch.full((4000,), 0.7), valid, 3, g)
    delay = (time == 0).sum(1)
    assert ((time == 0) == ~used).all() and ((time == 0) | (time == 0.7)).all()
    share = torch.bincount(delay, minlength=4) / 4000
    assert (share - 0.25).abs().max() < 4 * (0.25 * 0.75 / 4000) ** 0.5
    assert (time.diff(dim=1) >= 0).all()  # a beginning, never a gap


def test_a_sample_always_keeps_a_step_to_learn_from():
    valid = torch.zeros(200, H, dtype=torch.bool)
    valid[:, :2] = True
    _, used = rtc.clean_prefix(torch.full((200,), 0.7), valid, 5, g)
    assert used.any(1).all() and (used <= valid).all()
    with pytest.raises(ValueError, match="max_delay=6: expected 0 to 5"):
        rtc.clean_prefix(torch.ones(1), valid[:1], 6)


def test_clean_steps_stay_as_they_are_in_the_interpolant():
    action, noise = X, torch.randn(3, H, A, generator=g)
    time, used = rtc.clean_prefix(TIME, torch.ones(3, H, dtype=torch.bool), 4, g)
    mixed = flow.interpolate(action, noise, time)
    assert torch.equal(mixed[~used], action[~used])
    assert torch.allclose(mixed[used], flow.interpolate(action, noise, TIME)[used])


@pytest.fixture
def seen():
    return make_episode(3).observation(1)


@pytest.mark.parametrize("mode", ["guided", "identity", "clamped"])
def test_a_runner_holds_its_chunk_to_the_previous_one(vla, seen, mode):
    runner, free = (ChunkRunner(vla, 2, steps=10, rtc=kind) for kind in (mode, "none"))
    previous = np.full((3, 3), 0.5, np.float32)
    held, loose = runner.plan(seen, previous, 2), free.plan(seen, previous, 2)
    assert np.array_equal(ChunkRunner(vla, 2, steps=10).plan(seen), loose)  # none: no effect
    assert np.abs(held[:2] - 0.5).max() < 0.2 * np.abs(loose[:2] - 0.5).max()
    if mode == "clamped":
        assert np.array_equal(held[:2], previous[:2])
    runner.reset(0)
    assert np.array_equal(runner.plan(seen), loose)  # without a previous chunk all are one


@pytest.mark.parametrize("mode", ["none", "guided", "clamped"])
def test_with_a_delay_the_first_actions_after_a_look_are_the_old_chunks(vla, mode):
    runner, looks = ChunkRunner(vla, 2, delay=1, rtc=mode), []
    true = runner.plan

    def plan(observation, previous=None, delay=0):
        chunk = true(observation, previous, delay)
        looks.append((None if previous is None else previous.copy(), delay, chunk.copy()))
        return chunk

    runner.plan = plan
    done = [runner.act(make_episode(3).observation(k)) for k in range(3)]
    assert looks[0][:2] == (None, 0) and np.array_equal(done[0], looks[0][2][:2])
    for k in (1, 2):
        previous, delay, chunk = looks[k]
        assert delay == 1 and len(previous) == 2  # what is left of 4 after 2
        assert np.array_equal(done[k], [previous[0], chunk[1]])
    assert np.array_equal(looks[1][0], looks[0][2][2:])


def test_delays_and_modes_that_cannot_be_are_refused(vla):
    with pytest.raises(ValueError, match="delay=2: expected 0 to 1"):
        ChunkRunner(vla, 3, delay=2)
    with pytest.raises(ValueError, match="rtc: expected one of none, guided, identity, clamped"):
        ChunkRunner(vla, 2, rtc="fast")
    with pytest.raises(ValueError, match="rtc=guided needs level=0"):
        ChunkRunner(vla, 2, rtc="guided", level=0.5)
    runner = ChunkRunner(vla, 2, rtc="guided")
    with pytest.raises(ValueError, match="needs the previous actions"):
        runner.plan(make_episode(3).observation(1), None, 1)
    with pytest.raises(ValueError, match=r"previous: expected f32\[M, 3\]"):
        runner.plan(make_episode(3).observation(1), np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match="previous: the actions are not finite"):
        runner.plan(make_episode(3).observation(1), np.full((2, 3), np.nan, np.float32))
    for beta in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="beta: expected a finite number of 0 or more"):
            ChunkRunner(vla, 2, rtc="guided", beta=beta)


def test_what_follows_a_clamped_beginning_depends_on_it_and_not_on_the_noise_there(vla, seen):
    """The network must see the beginning: putting it over the finished chunk would not do."""

    def rest(value, nudge=0.0):
        runner = ChunkRunner(vla, 2, steps=10, rtc="clamped")
        drawn = vla.noise(1, torch.Generator().manual_seed(5))
        drawn[:, :2] += nudge
        vla.noise = lambda count, generator: drawn
        chunk = runner.plan(seen, np.full((3, 3), value, np.float32), 2)
        del vla.noise
        return chunk[2:]

    assert np.abs(rest(0.5) - rest(-0.5)).max() > 1e-3
    assert np.array_equal(rest(0.5), rest(0.5, nudge=3.0))


def test_actions_beyond_the_bounds_are_not_carried_into_a_chunk(vla, seen):
    chunk = ChunkRunner(vla, 2, rtc="clamped").plan(seen, np.full((3, 3), 4.5, np.float32), 2)
    assert (chunk[:2] == 1).all()


def test_an_evaluation_with_chunking_that_would_have_no_effect_is_refused():
    from robostack.sim.worker import RunnerConfig

    assert RunnerConfig(delay=2, rtc="guided").delay == 2
    for delay, mode in ((-1, "none"), (0, "guided"), (0, "clamped")):
        with pytest.raises(ValueError, match=f"delay={delay} with rtc={mode}"):
            RunnerConfig(delay=delay, rtc=mode)


def test_the_best_of_several_candidates_is_the_one_that_scores_most(vla, seen):
    def score(observation, chunks):
        assert observation is seen
        return -np.abs(chunks - 0.3).sum((1, 2))

    several = ChunkRunner(vla, 2).propose(seen, 8)
    best = ChunkRunner(vla, 2, candidates=8, score=score).plan(seen)
    assert np.array_equal(best, several[score(seen, several).argmax()])
    first = ChunkRunner(vla, 2, candidates=8, score=lambda _, chunks: np.zeros(8)).plan(seen)
    assert np.array_equal(first, several[0])
    with pytest.raises(ValueError, match="candidates=8: expected 1, or more and a score"):
        ChunkRunner(vla, 2, candidates=8)
    with pytest.raises(ValueError, match="8 finite numbers"):
        ChunkRunner(vla, 2, candidates=8, score=lambda _, chunks: np.full(8, np.nan)).plan(seen)
