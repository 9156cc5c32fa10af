import numpy as np
import pytest

from robostack.real.messages import Chunk
from robostack.real.trajectory import Plan

PERIOD = 0.05
T = PERIOD * np.arange(16)


def plan(rows, now=100.0, motion=None, smooth=True, stamp=100.0, blend=0.1):
    rows = np.asarray(rows, np.float64).reshape(len(rows), -1)
    motion = np.zeros((3, rows.shape[1])) if motion is None else motion
    chunk = Chunk(stamp, T[: len(rows)], rows)
    return Plan(chunk, np.full(rows.shape[1], smooth), PERIOD, now, motion, blend)


def derivatives(of, t, h=1e-4):
    """Value and two derivatives by central differences."""
    before, at, after = (of.at(t + d)[0] for d in (-h, 0, h))
    return at, (after - before) / (2 * h), (after - 2 * at + before) / h**2


def test_it_begins_where_the_arm_is_commanded_to_be_in_position_velocity_and_acceleration():
    motion = np.array([[0.3], [-1.2], [4.0]])
    p = plan(np.sin(3 * T), now=100.21, motion=motion)
    h = 1e-5
    x = np.array([p.at(100.21 + k * h)[0] for k in range(4)])
    assert x[0] == pytest.approx(0.3, abs=1e-12)
    assert (x[1] - x[0]) / h == pytest.approx(-1.2, abs=1e-3)
    assert (x[2] - 2 * x[1] + x[0]) / h**2 == pytest.approx(4.0, abs=0.5)


def test_after_the_blend_it_runs_through_every_row_at_its_time():
    p = plan(np.sin(3 * T), now=100.02, motion=np.array([[5.0], [0], [0]]))
    for i in range(3, 16):
        assert p.at(100 + T[i])[0] == pytest.approx(np.sin(3 * T[i]), abs=1e-9)
    between = 100.4 + np.linspace(0, 0.2, 50)
    assert np.abs([p.at(t)[0] - np.sin(3 * (t - 100)) for t in between]).max() < 1e-3


def test_two_chunks_join_without_a_jump_of_the_second_derivative():
    first = plan(np.sin(3 * T))
    t = 100.37
    motion = np.array(derivatives(first, t))[:, None]
    second = plan(np.cos(2 * T) + 0.1, now=t, motion=motion, stamp=100.3)
    h = 1e-5
    path = [(first if k < 0 else second).at(t + k * h)[0] for k in range(-20, 21)]
    acceleration = np.diff(path, 2) / h**2
    assert np.abs(np.diff(acceleration)).max() < 0.3  # it changes by jerk times h, and no more


def test_it_comes_to_rest_one_period_after_the_last_row_and_then_there_is_none():
    p = plan(np.sin(3 * T))
    end = 100 + T[-1] + PERIOD
    assert p.end == pytest.approx(end)
    x = [p.at(end - k * 1e-4)[0] for k in (1, 2)]
    assert abs(x[0] - x[1]) / 1e-4 < 0.05 and x[0] == pytest.approx(np.sin(3 * T[-1]), abs=1e-4)
    assert p.at(end) is None and p.at(end + 1) is None


def test_rows_whose_time_has_passed_are_not_asked_for_and_counted():
    rows = np.arange(16.0)
    p = plan(rows, now=100.21, smooth=False)
    assert p.late(100.21) == 4
    assert p.at(100.21)[0] == 4.0
    assert [p.at(100 + t)[0] for t in T[5:]] == list(rows[5:])
    assert p.at(100 + T[9] - 1e-9)[0] == 9.0  # a rounded clock is not a period early
    assert p.at(100 + T[9] - 1e-3)[0] == 8.0


def test_only_smooth_columns_are_smooth():
    rows = np.stack([T > 0.32, T > 0.32], 1).astype(float)
    chunk = Chunk(100.0, T, rows)
    p = Plan(chunk, np.array([True, False]), PERIOD, 100.0, np.zeros((3, 2)), 0.1)
    for t in np.linspace(100, 100.7, 100):
        assert p.at(t)[1] in (0.0, 1.0)
    assert 0.05 < p.at(100.325)[0] < 0.95


@pytest.mark.parametrize("rows", [1, 2])
def test_a_short_chunk_is_a_chunk(rows):
    p = plan(np.ones(rows))
    assert p.at(100.0)[0] == 0.0  # where the arm is
    assert p.at(100 + rows * PERIOD - 1e-3)[0] <= 1 + 1e-9


def test_on_a_clock_of_this_century_rows_keep_their_times():
    p = plan(np.arange(16.0), now=1.8e9, stamp=1.8e9, smooth=False)
    assert [p.at(1.8e9 + t)[0] for t in T] == list(np.arange(16.0))
