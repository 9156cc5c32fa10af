"""A failure is worth what its likeness to successes says, and never as much as one."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import make_episode

from robostack.learn.rl.self_reference import SelfReference


def tinted(seed, tint, success, steps=6, **changes):
    """An episode whose pictures end more or less bright."""
    base = make_episode(seed, steps=steps)
    bright = (np.linspace(0, tint, steps + 1)[:, None, None, None] * 255).astype(np.uint8)
    noise = np.random.default_rng(seed).integers(0, 20, base.images["top"].shape, dtype=np.uint8)
    images = {"top": np.clip(noise + bright, 0, 255).astype(np.uint8)}
    states = np.full_like(base.states, tint)
    whole = dict(images=images, states=states, success=success, terminated=success)
    return replace(base, **whole | changes)


@pytest.fixture
def reference(vla):
    found = SelfReference(vla, bank=16, partial=0.6)
    for k in range(8):
        found.see(tinted(k, 0.9, True))
        found.see(tinted(50 + k, 0.1 + 0.05 * (k % 2), False))
    return found


def test_every_success_outranks_every_failure(reference):
    episodes = [tinted(100 + k, k / 9, success=k % 3 == 0) for k in range(10)]
    worth = reference.worth(episodes)
    good = np.array([bool(e.success) for e in episodes])
    assert (worth[good] == 1).all() and worth[~good].max() < 0.601


def test_a_failure_that_ends_like_a_success_is_worth_more_than_one_that_does_not(reference):
    near, far = reference.worth([tinted(200, 0.9, False), tinted(201, 0.1, False)])
    assert near > far + 0.1


def test_the_scale_is_absolute_not_that_of_the_batch(reference):
    """A lone failure, or the best of bad ones, is not worth more for being alone or the best."""
    bad = [tinted(300 + k, 0.1, False) for k in range(4)]
    together = reference.worth(bad)
    alone = [reference.worth([episode])[0] for episode in bad]
    assert np.allclose(together, alone) and together.max() < 0.3


def test_without_successes_or_failures_to_compare_with_a_failure_is_worth_nothing(vla):
    empty = SelfReference(vla, bank=16, partial=0.6)
    assert not empty.ready and empty.worth([tinted(0, 0.9, False)]) == 0
    empty.see(tinted(1, 0.9, True))
    assert empty.worth([tinted(0, 0.9, False)]) == 0 and empty.worth([tinted(2, 0.9, True)]) == 1


def test_another_task_s_successes_are_no_reference(reference):
    other = tinted(400, 0.9, False, task="open the drawer")
    assert reference.worth([other]) == 0


def test_no_more_than_the_bank_is_remembered(vla):
    small = SelfReference(vla, bank=3, partial=0.6)
    for k in range(10):
        small.see(tinted(k, 0.5, True))
    assert len(small._kept["lift the red cube"][True]) == 3
    none = SelfReference(vla, bank=0, partial=0.6)
    none.see(tinted(0, 0.5, True))
    assert not none.ready


@pytest.mark.parametrize("asked", [False, True])
def test_what_was_remembered_of_short_tries_is_seen_at_the_times_of_a_longer_one(vla, asked):
    """Whether the longer one came to be remembered or is only asked about."""
    short = [tinted(k, 0.9, True) for k in range(3)] + [tinted(5 + k, 0.1, False) for k in range(3)]
    long = tinted(9, 0.5, False, steps=24)
    first, last = (SelfReference(vla, bank=4, partial=0.6) for _ in range(2))
    for reference, episodes in ((first, [long, *short]), (last, short)):
        for episode in episodes:
            reference.see(episode)
    last.worth(short)  # were looked at at their own times
    if asked:
        for reference in (first, last):
            assert reference.worth([long]) > 0
    else:
        last.see(long)
        last.worth([long])
    first.worth([long])
    kept = [r._kept["lift the red cube"][True] for r in (first, last)]
    assert all(np.array_equal(a.looks, b.looks) for a, b in zip(*kept)) and len(kept[1]) == 3


def test_how_long_a_try_was_does_not_tell(vla):
    """The same pictures at the same pace, but one ended early: it stays as it ended."""
    reference = SelfReference(vla, bank=4, partial=0.6)
    long = tinted(0, 0.9, True, steps=12)
    reference.see(long)
    still = {"top": np.concatenate([long.images["top"], long.images["top"][-1:].repeat(4, 0)])}
    longer = replace(
        make_episode(0, steps=16),
        images=still,
        states=np.concatenate([long.states, long.states[-1:].repeat(4, 0)]),
    )
    reference.see(replace(longer, success=True))
    looks = [reference.embed(e) for e in (long, longer)]
    assert np.allclose(*looks)
