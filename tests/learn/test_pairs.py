"""Pairs as batches: both sides share what they can, and of long clips some windows are seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import SPEC, make_episode

from robostack.learn import pairs
from robostack.learn.pairs import PairData, PairError
from robostack.learn.run import generator, rng
from robostack.policy import flow
from robostack.types import Clip, Preference, SpecMismatch

START = make_episode(0, steps=12)
TRIES = {f"{i}": make_episode(i, steps=8 + 2 * i) for i in range(6)}
# tries of one state, as branches are: the first observation is the same
SAME = {
    f"{i}": make_episode(i, steps=8, states=np.concatenate([START.states[:1], e.states[1:9]]))
    for i, e in TRIES.items()
    for i in [int(i)]
}


def pair(a="0", b="1", stops=(4, 4), chunk=None):
    return Preference(Clip(a, 0, stops[0], chunk), Clip(b, 0, stops[1]), 1.0, {}, "g")


def lesson(data, vla, windows=1, draws=3, seed=0):
    pick = np.arange(len(data))
    label = np.ones(len(data), np.float32)
    return data.lesson(vla, pick, label, windows, draws, rng(seed), generator(seed))


def errors(vla, lesson):
    return [f.error for f in pairs.flows(vla, lesson, pairs.encode(vla, lesson))]


def test_tries_of_one_state_are_encoded_once(vla):
    data = PairData(SPEC, 4, [pair()], SAME)
    seen = lesson(data, vla)
    assert data.shared and seen.rejected.images == {}
    first, second = pairs.encode(vla, seen)
    assert first is second
    assert torch.equal(seen.chosen.chunk[0], torch.from_numpy(SAME["0"].actions[:4]))
    assert torch.equal(seen.rejected.chunk[0], torch.from_numpy(SAME["1"].actions[:4]))


def test_tries_of_different_states_are_each_seen_in_their_own(vla):
    data = PairData(SPEC, 4, [pair()], TRIES)
    seen = lesson(data, vla)
    assert not data.shared
    assert torch.equal(
        seen.rejected.images["top"][0], torch.from_numpy(TRIES["1"].images["top"][0])
    )
    assert torch.equal(seen.rejected.state[0], torch.from_numpy(TRIES["1"].states[0]))


def test_errors_are_flow_losses_averaged_over_draws_at_shared_noise_and_time(vla):
    data = PairData(SPEC, 4, [pair(), pair("2", "3")], TRIES)
    seen = lesson(data, vla)
    noise, time = seen.noise.reshape(2, 3, 4, 3), seen.time.reshape(2, 3)
    for side, found in zip((seen.chosen, seen.rejected), errors(vla, seen)):
        single = [vla.flow_loss(side, noise[:, k], time[:, k]) for k in range(3)]
        assert torch.allclose(found, torch.stack(single).mean(0), atol=1e-5)


def test_a_chunk_that_was_never_executed_stands_at_its_observation(vla):
    chunk = ((0.5, 0.25, -0.5),) * 3
    proposed = Preference(Clip("0", 2, 6), Clip("0", 2, 6, chunk), 1.0, {}, "g")
    data = PairData(SPEC, 4, [proposed], TRIES)
    seen = lesson(data, vla)
    assert data.shared
    assert torch.equal(seen.chosen.chunk[0], torch.from_numpy(TRIES["0"].actions[2:6]))
    assert torch.allclose(seen.rejected.chunk[0], torch.tensor((0.5, 0.25, -0.5)))
    assert seen.rejected.valid[0].tolist() == [True, True, True, False]
    assert torch.equal(seen.chosen.state[0], torch.from_numpy(TRIES["0"].states[2]))


def test_windows_begin_anywhere_in_a_clip_and_end_within_it(vla):
    data = PairData(SPEC, 4, [pair("4", "5", stops=(16, 9))], TRIES)
    for side, name, last in ((data.chosen, "4", 12), (data.rejected, "5", 5)):
        states = data.data.column("state")[side[0]]
        assert np.array_equal(states, TRIES[name].states[: last + 1])
        _, valid = data.data.chunks(side[0])
        assert valid.all()
    seen = lesson(data, vla, windows=4)
    assert seen.noise.shape == (4 * 3, 4, 3) and len(seen) == 1
    assert all(f.shape == (1,) for f in errors(vla, seen))


def test_a_clip_as_long_as_a_chunk_or_shorter_has_one_window_at_its_beginning(vla):
    data = PairData(SPEC, 4, [pair("4", "5", stops=(4, 2))], TRIES)
    assert [len(data.chosen[0]), len(data.rejected[0])] == [1, 1]
    assert np.array_equal(data.data.column("state")[data.chosen[0]], TRIES["4"].states[:1])


def test_what_came_after_a_clip_shorter_than_a_chunk_is_not_learned_from(vla):
    data = PairData(SPEC, 4, [pair("4", "5", stops=(2, 4))], TRIES)
    seen = lesson(data, vla)
    assert seen.chosen.valid[0].tolist() == [True, True, False, False]
    assert seen.rejected.valid.all()
    chosen, rejected = pairs.flows(vla, seen, pairs.encode(vla, seen))
    assert (chosen.weight[:, :, 2:] == 0).all() and (rejected.weight > 0).all()


def test_chunks_beside_a_demonstration_are_compared_over_as_many_actions(vla):
    chunk = ((0.5, 0.25, -0.5),) * 2
    beside = Preference(Clip("0", 2, 4), Clip("0", 2, 4, chunk), 1.0, {}, "g")
    seen = lesson(PairData(SPEC, 4, [beside], TRIES), vla)
    assert torch.equal(seen.chosen.valid, seen.rejected.valid) and seen.chosen.valid.sum() == 2


def test_every_window_of_a_clip_is_looked_at_in_time():
    rows, random = np.arange(7), np.random.default_rng(0)
    seen = [pairs.spread(rows, 2, random) for _ in range(60)]
    assert {int(r) for each in seen for r in each} == set(range(7))
    assert all(a <= 3 <= b for a, b in seen)  # one of each half


@pytest.mark.parametrize("insulate", [False, True])
def test_an_insulated_backbone_learns_nothing_from_pairs(vla, insulate):
    vla.config = replace(vla.config, insulate=insulate)
    for tries in (TRIES, SAME):
        sum(errors(vla, lesson(PairData(SPEC, 4, [pair()], tries), vla))).sum().backward()
    reached = [p.grad is not None for p in vla.backbone.parameters()]
    assert any(reached) != insulate and any(p.grad is not None for p in vla.expert.parameters())


def test_how_often_a_clip_is_repeated_does_not_change_its_error(vla):
    """Errors are means: the same actions twice are no worse than once."""
    data = PairData(SPEC, 4, [pair()], TRIES)
    once = lesson(data, vla, windows=1, draws=2)
    assert once.windows == 1
    twice = pairs.PairLesson(
        *(
            type(b)(
                {n: i.repeat(2, 1, 1, 1) for n, i in b.images.items()},
                b.state.repeat(2, 1),
                b.tasks * 2,
                b.chunk.repeat(2, 1, 1),
                b.valid.repeat(2, 1),
            )
            for b in (once.chosen, once.rejected)
        ),
        once.label,
        2,
        2,
        once.noise.repeat(2, 1, 1),
        once.time.repeat(2),
    )
    for a, b in zip(errors(vla, once), errors(vla, twice)):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_part_of_a_lesson_is_that_of_its_pairs_alone(vla):
    data = PairData(SPEC, 4, [pair("4", "5", stops=(16, 16)), pair("2", "3")], TRIES)
    seen = lesson(data, vla, windows=2)
    for k in range(2):
        part = errors(vla, seen.part(slice(k, k + 1)))
        for whole, own in zip(errors(vla, seen), part):
            assert torch.allclose(whole[k : k + 1], own, atol=1e-6)


def test_times_are_spread_over_the_draws_of_each_window(vla):
    seen = lesson(PairData(SPEC, 4, [pair()] * 5, TRIES), vla, draws=8)
    quantiles = ((seen.time.reshape(5, 8) - 0.001) / 0.999) ** 1.5
    assert torch.equal((quantiles * 8).floor(), torch.arange(8.0).expand(5, 8))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ([], "no pairs"),
        ([pair("0", "9")], "pair of g needs episode 9, which is missing"),
        ([pair("0", "1", stops=(4, 99))], "pair of g needs actions 0 to 99 of episode 1.*has 10"),
        *(
            (
                [pair(chunk=tuple(map(tuple, TRIES["1"].actions[:steps].tolist())))],
                r"pair of g: chosen \(episode 0\) and rejected \(episode 1\) are the same actions",
            )
            for steps in (4, 3, 6)
        ),
        (
            [pair("0", "0", stops=(4, 8))],
            r"pair of g: chosen \(episode 0\) and rejected \(episode 0\) are the same actions",
        ),
        (
            [pair(chunk=((0.5,) * 2,) * 4)],
            "pair of g: the chunk of episode 0 has 2 numbers an action, the policy's actions 3",
        ),
    ],
)
def test_pairs_that_cannot_be_learned_from_are_named(wrong, told):
    with pytest.raises(PairError, match=told):
        PairData(SPEC, 4, wrong, TRIES)


def test_a_try_of_another_robot_is_refused_by_its_name():
    other = TRIES | {"1": make_episode(1, 8, spec=replace(SPEC, control_hz=7.0))}
    with pytest.raises(SpecMismatch, match="the policy and episode 1 of the pairs"):
        PairData(SPEC, 4, [pair()], other)


def test_flow_loss_and_flows_agree_on_what_lies_beyond_the_end(vla):
    data = PairData(SPEC, 4, [pair(stops=(2, 2))], {k: make_episode(int(k), 2) for k in "01"})
    seen = lesson(data, vla, draws=1)
    assert seen.chosen.valid[0].tolist() == [True, True, False, False]
    wanted = vla.flow_loss(seen.chosen, seen.noise, seen.time)
    assert torch.allclose(errors(vla, seen)[0], wanted, atol=1e-6)
    assert flow.target(seen.chosen.chunk, seen.noise).shape == (1, 4, 3)
