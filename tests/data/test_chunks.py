"""Windows are what a hand-written loop cuts out of the episodes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import LIFT, SPEC, STACK, make_episode

from robostack.data.chunks import ChunkData
from robostack.types import SpecMismatch

HORIZON = 4


@pytest.fixture
def episodes():
    return [make_episode(i, steps, task=(LIFT, STACK)[i % 2]) for i, steps in enumerate((6, 1, 9))]


@pytest.fixture
def data(episodes):
    return ChunkData(SPEC, HORIZON, episodes)


def test_every_window_is_what_a_loop_cuts_out(data, episodes):
    for i, episode in enumerate(episodes):
        for t in range(len(episode)):
            batch = data.batch(np.array([data.row(i, t)]))
            assert np.array_equal(batch.images["top"][0], episode.images["top"][t])
            assert np.array_equal(batch.state[0], episode.states[t])
            assert batch.tasks == [episode.task]
            for h in range(HORIZON):
                assert bool(batch.valid[0, h]) == (t + h < len(episode))
                wanted = episode.actions[min(t + h, len(episode) - 1)]
                assert np.array_equal(batch.chunk[0, h], wanted)


def test_a_batch_is_its_windows_one_below_the_other_in_the_order_asked_for(data):
    rows = data.rows()[[7, 0, 7, 3]]
    batch, singles = data.batch(rows), [data.batch(rows[i : i + 1]) for i in range(4)]
    assert len(batch) == 4
    for name in ("state", "chunk", "valid"):
        assert torch.equal(getattr(batch, name), torch.cat([getattr(s, name) for s in singles]))
    assert torch.equal(batch.images["top"], torch.cat([s.images["top"] for s in singles]))
    assert batch.tasks == [s.tasks[0] for s in singles]


def test_windows_begin_at_every_observation_but_the_last_of_an_episode(data, episodes):
    wanted = [data.row(i, t) for i, e in enumerate(episodes) for t in range(len(e))]
    assert data.rows().tolist() == wanted
    last = {data.row(i, len(e)) for i, e in enumerate(episodes)}
    assert not last & set(data.rows().tolist())


def test_a_window_has_at_least_one_valid_step_and_never_one_after_a_gap(data):
    valid = data.batch(data.rows()).valid
    assert valid[:, 0].all()
    assert not (valid[:, 1:] & ~valid[:, :-1]).any()


def test_growing_keeps_old_rows_intact():
    data = ChunkData(SPEC, HORIZON)
    data.add(make_episode(0, steps=50))
    before = data.batch(data.rows())
    for seed in range(1, 12):  # several times through the first 256 rows
        assert data.add(make_episode(seed, steps=50)) == seed
    after = data.batch(data.rows()[:50])
    assert len(data.rows()) == 600 and len(data.column("state")) == 12 * 51
    assert torch.equal(before.images["top"], after.images["top"])
    assert torch.equal(before.state, after.state) and torch.equal(before.chunk, after.chunk)


def test_it_does_not_matter_whether_episodes_come_at_once_or_one_by_one(episodes, data):
    other = ChunkData(SPEC, HORIZON)
    for episode in episodes:
        other.add(episode)
    for name in ("state", "action", "left", "episode", "image.top"):
        assert np.array_equal(data.column(name), other.column(name))


def test_repeat_puts_each_sample_so_many_times_in_a_row(data):
    batch = data.batch(data.rows()[[0, 6, 8]])
    twice = batch.repeat(2)
    order = [0, 0, 1, 1, 2, 2]
    for name in ("state", "chunk", "valid"):
        assert torch.equal(getattr(twice, name), getattr(batch, name)[order])
    assert twice.tasks == [batch.tasks[i] for i in order] and twice.images == {}


def test_an_episode_of_another_robot_is_refused(data):
    with pytest.raises(SpecMismatch, match="robot"):
        data.add(make_episode(0, spec=replace(SPEC, robot="other")))
