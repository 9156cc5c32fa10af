"""Planning beside acting, on a clock that the test turns."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from fakes import SPEC, make_episode

from robostack.policy.chunking import ChunkRunner
from robostack.policy.realtime import AsyncRunner

SEEN = make_episode(3).observation(1)
H = 6


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Slow:
    """Plans chunks that tell which they are; each takes as long as the test says."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds, self.calls = clock, list(seconds), []
        self.may_finish = threading.Semaphore(0)

    def plan(self, observation, previous, delay):
        self.calls.append((observation.stamp, previous, delay))
        assert self.may_finish.acquire(timeout=10)
        self.clock.now += self.seconds.pop(0)
        return np.arange(H)[:, None].repeat(3, 1).astype(np.float32) + 10 * len(self.calls)


@pytest.fixture
def begin():
    opened = []

    def make(seconds, **options):
        clock = Clock()
        planner = Slow(clock, seconds)
        runner = AsyncRunner(planner, SPEC, clock=clock, **options)  # 10 Hz: steps of 0.1 s
        opened.append((planner, runner))
        return clock, planner, runner

    yield make
    for planner, runner in opened:
        planner.may_finish.release(10)
        runner.close()


def look(clock, planner, runner):
    """Offer what is seen now and let its chunk be finished."""
    runner.offer(replace(SEEN, stamp=clock.now))
    planner.may_finish.release()
    assert runner.settle(10)


def test_steps_whose_time_has_passed_are_dropped(begin):
    clock, planner, runner = begin([0.25])
    assert runner.take(0.0) is None
    look(clock, planner, runner)
    assert runner.take(clock.now)[0] == 12  # 0.25 s after the look it is row 2's time
    stats = runner.statistics()
    assert (stats.chunks, stats.dropped, stats.underruns, stats.delay) == (1, 2, 1, 3)
    assert stats.latency_ms == pytest.approx(250)


def test_every_row_is_handed_out_in_its_own_time_and_then_there_is_none(begin):
    clock, planner, runner = begin([0.0])
    look(clock, planner, runner)
    assert [runner.take(0.1 * k)[0] for k in range(H)] == [10 + k for k in range(H)]
    assert runner.take(0.1 * H) is None and runner.statistics().underruns == 1


def test_the_planner_is_told_what_will_be_done_and_how_late_it_will_be(begin):
    clock, planner, runner = begin([0.15, 0.05, 0.05])
    look(clock, planner, runner)
    clock.now = 0.3
    look(clock, planner, runner)
    stamp, previous, delay = planner.calls[1]
    assert stamp == 0.3 and delay == 2  # 0.15 s are two steps of 0.1
    assert previous[:, 0].tolist() == [13, 14, 15]
    clock.now = 0.45
    look(clock, planner, runner)
    assert planner.calls[2][2] == 2  # the largest of the recent ones, not the last


def test_the_delay_told_is_never_longer_than_what_is_left_to_do(begin):
    clock, planner, runner = begin([0.35, 0.0])
    look(clock, planner, runner)
    clock.now = 0.4
    look(clock, planner, runner)
    _, previous, delay = planner.calls[1]
    assert runner.statistics().delay == 4 and len(previous) == delay == 2


def test_once_the_old_chunk_has_ended_a_new_one_begins_from_nothing(begin):
    clock, planner, runner = begin([0.2, 0.0])
    look(clock, planner, runner)
    clock.now = 0.1 * H
    look(clock, planner, runner)
    assert planner.calls[1] == (clock.now, None, 0)


def test_a_chunk_that_arrives_after_its_end_is_dropped_as_a_whole(begin):
    clock, planner, runner = begin([2.0])
    look(clock, planner, runner)
    assert runner.take(clock.now) is None
    stats = runner.statistics()
    assert (stats.dropped, stats.underruns, stats.delay) == (H, 1, 20)


def test_there_is_no_action_for_a_time_before_the_look(begin):
    clock, planner, runner = begin([0.0])
    clock.now = 1.0
    look(clock, planner, runner)
    assert runner.take(0.85) is None and runner.take(1.0)[0] == 10


def test_a_slow_chunk_is_forgotten_after_a_while(begin):
    clock, planner, runner = begin([0.35, 0.0, 0.0, 0.0], memory=2)
    delays = []
    for _ in range(4):
        look(clock, planner, runner)
        delays.append(runner.statistics().delay)
        clock.now += 0.1
    assert delays == [4, 4, 0, 0]


def test_a_new_chunk_is_begun_only_once_enough_rows_are_due(begin):
    clock, planner, runner = begin([0.0, 0.0], execute=3)
    look(clock, planner, runner)
    clock.now = 0.2
    runner.offer(replace(SEEN, stamp=clock.now))
    assert runner.settle(10) and len(planner.calls) == 1
    clock.now = 0.3
    look(clock, planner, runner)
    assert len(planner.calls) == 2


def test_the_old_chunk_goes_on_while_the_new_one_is_computed(begin):
    clock, planner, runner = begin([0.0, 0.0])
    look(clock, planner, runner)
    clock.now = 0.1
    runner.offer(replace(SEEN, stamp=0.1))
    assert not runner.settle(0.02)  # it is at work
    assert runner.take(0.1)[0] == 11 and runner.take(0.2)[0] == 12
    planner.may_finish.release()
    assert runner.settle(10)
    assert runner.take(0.2)[0] == 21  # row 1 of the new chunk, begun at 0.1


def test_what_goes_wrong_in_the_thread_is_raised_where_actions_are_taken(begin):
    clock, planner, runner = begin([])
    look(clock, planner, runner)  # pop from an empty list
    with pytest.raises(RuntimeError, match="the policy failed: pop from empty list"):
        runner.take(0.0)


@pytest.mark.parametrize("stamp", [0.3, 1e4])
def test_stamps_of_another_clock_are_refused_instead_of_holding_for_ever(begin, stamp):
    clock, _, runner = begin([])
    clock.now = 5000.0
    with pytest.raises(ValueError, match="are they of the same clock"):
        runner.offer(replace(SEEN, stamp=stamp))


class Broken:
    def __init__(self, chunk):
        self.chunk = chunk

    def plan(self, observation, previous, delay):
        return self.chunk


@pytest.mark.parametrize("chunk", [np.ones((H, 4)), np.ones(3), np.full((H, 3), np.nan)])
def test_chunks_that_are_none_never_reach_the_robot(chunk):
    runner = AsyncRunner(Broken(chunk), SPEC, clock=lambda: 0.0)
    runner.offer(replace(SEEN, stamp=0.0))
    assert runner.settle(10)
    with pytest.raises(RuntimeError, match=r"expected finite actions f32\[H, 3\]"):
        runner.take(0.0)
    runner.close()


def test_what_the_caller_does_to_an_action_does_not_change_the_plan(begin):
    clock, planner, runner = begin([0.0])
    look(clock, planner, runner)
    runner.take(0.0)[:] = 99
    assert runner.take(0.0)[0] == 10


def test_a_real_policy_runs_beside_its_caller(vla):
    clock = Clock()
    runner = AsyncRunner(ChunkRunner(vla, 4, rtc="guided"), SPEC, clock=clock)
    for step in range(5):
        clock.now = step / SPEC.control_hz
        runner.offer(replace(SEEN, stamp=clock.now))
        assert runner.settle(10)
        action = runner.take(clock.now)
        assert action.shape == (3,) and np.isfinite(action).all()
    runner.close()
    assert runner.statistics().chunks == 5


def test_a_policy_that_hangs_does_not_keep_its_runner_from_closing(begin):
    clock, planner, runner = begin([0.0])
    runner.offer(replace(SEEN, stamp=clock.now))
    while not planner.calls:
        time.sleep(0.001)
    assert not runner.close(timeout=0.02)
    planner.may_finish.release()
    assert runner.close()


def test_whole_chunks_are_told_as_they_come(begin):
    told = []
    clock, planner, runner = begin(
        [0.0, 0.0], tell=lambda stamp, chunk: told.append((stamp, chunk))
    )
    look(clock, planner, runner)
    told[0][1][:] = 0  # theirs
    assert told[0][0] == 0 and runner.take(0.0)[0] == 10
    clock.now = 0.2
    look(clock, planner, runner)
    assert [stamp for stamp, _ in told] == [0, 0.2]


def test_what_was_forgotten_is_neither_executed_nor_gone_on_from(begin):
    told = []
    clock, planner, runner = begin([0.0] * 3, tell=lambda stamp, chunk: told.append(stamp))
    look(clock, planner, runner)
    runner.offer(replace(SEEN, stamp=0.1))
    while len(planner.calls) < 2:  # it is being planned
        time.sleep(0.001)
    runner.forget()
    planner.may_finish.release()
    assert runner.settle(10)
    assert runner.take(0.1) is None and told == [0.0]
    clock.now = 0.2
    look(clock, planner, runner)
    stamp, previous, delay = planner.calls[2]
    assert (stamp, previous, delay) == (0.2, None, 0) and runner.take(0.2)[0] == 30


def test_whether_the_policy_failed_can_be_asked_without_taking(begin):
    clock, planner, runner = begin([], tell=None)  # pops from an empty list
    runner.check()
    look(clock, planner, runner)
    with pytest.raises(RuntimeError, match="the policy failed: pop from empty list"):
        runner.check()


def test_it_says_when_it_wants_an_observation(begin):
    clock, planner, runner = begin([0.0], execute=3)
    assert runner.wants(0.0)
    runner.offer(replace(SEEN, stamp=0.0))
    while not planner.calls:
        time.sleep(0.001)
    assert not runner.wants(0.0)  # it is at it
    planner.may_finish.release()
    assert runner.settle(10)
    assert [runner.wants(0.1 * k) for k in range(5)] == [False] * 3 + [True] * 2
