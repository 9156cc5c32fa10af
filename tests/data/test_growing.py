"""Rows that are appended are all there, and at no time twice."""

import tracemalloc

import numpy as np
import pytest

from robostack.data.growing import Growing


def test_it_is_the_parts_one_below_the_other():
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 255, (n, 3, 2), dtype=np.uint8) for n in (2, 1, 0, 7, 40, 3)]
    rows = Growing()
    for part in parts:
        rows.append(part)
    assert np.array_equal(rows.whole(), np.concatenate(parts))
    with pytest.raises(ValueError, match="no rows"):
        rows.whole()


def test_of_many_parts_there_is_never_a_second_copy():
    part, count = np.zeros((10, 100, 100), np.uint8), 200
    tracemalloc.start()
    rows = Growing()
    for _ in range(count):
        rows.append(part)
    whole = rows.whole()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert whole.nbytes == count * part.nbytes and peak < 1.3 * whole.nbytes


def test_rows_of_another_kind_are_refused():
    rows = Growing()
    rows.append(np.zeros((2, 3), np.float32))
    for other in (np.zeros((2, 4), np.float32), np.zeros((2, 3))):
        with pytest.raises(ValueError, match=r"float32\[3\], got float"):
            rows.append(other)
