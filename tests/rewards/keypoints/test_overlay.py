"""The film of a keypoint reward: points where they are, bars as long as their terms."""

import numpy as np
import pytest

from robostack.protocols import Scores
from robostack.rewards.keypoints.overlay import (
    BAR,
    COLOURS,
    DONE,
    PANEL,
    SIDE,
    STRIP,
    film,
    stage_name,
    term_table,
)

STEPS = 11


def scores():
    ramp = np.linspace(0, 1, STEPS, dtype=np.float32)
    terms = {"reach": np.minimum(2 * ramp, 1), "lift": np.maximum(2 * ramp - 1, 0)}
    return Scores(ramp, np.full(STEPS, 0.5, np.float32), terms)


def shot(height=64, width=64, **pixels):
    frames = np.zeros((STEPS, height, width, 3), np.uint8)
    tracks = {n: np.broadcast_to(np.float32(p), (STEPS, 2)) for n, p in pixels.items()}
    return film(frames, tracks, scores(), "lift the red cube and put it into the box")


def where(picture, colour):
    """Rows and columns of the pixels of exactly this colour."""
    return np.argwhere((picture == colour).all(-1))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 85), (300, 400), (301, 300)])
def test_pages_are_even_whatever_the_frames_and_the_picture_is_not_made_smaller(height, width):
    pages = shot(height, width, object=(3, 4))
    assert pages.dtype == np.uint8 and len(pages) == STEPS
    assert pages.shape[1] % 2 == 0 and pages.shape[2] % 2 == 0
    inner = pages.shape[1] - STRIP, pages.shape[2] - PANEL
    assert min(inner) >= SIDE and inner[0] >= height - 1 and inner[1] >= width - 1
    assert inner[1] / inner[0] == pytest.approx(width / height, rel=0.02)


@pytest.mark.parametrize("pixel", [(20, 30), (40.5, 10.25)])
def test_a_point_is_drawn_where_it_is(pixel):
    picture = shot(object=pixel)[3, :SIDE, :SIDE]
    ring = where(picture[:, : int(4 * pixel[0] + 10)], COLOURS[0])  # left of the name
    middle = (ring.min(0) + ring.max(0)) / 2
    assert np.allclose(middle[::-1], 4 * (np.array(pixel) + 0.5), atol=1.5)


def test_a_point_outside_the_picture_is_not_drawn_and_hurts_nothing():
    for far in ((1e9, -1e9), (-500, 20)):
        assert len(where(shot(object=far)[0, :SIDE, :SIDE], COLOURS[0])) == 0


def test_a_point_leaves_a_trail_of_where_it_was():
    moving = {"object": np.linspace((10, 50), (50, 50), STEPS).astype(np.float32)}
    pages = film(np.zeros((STEPS, 64, 64, 3), np.uint8), moving, scores(), "go")
    rows, columns = np.nonzero(pages[-1, :SIDE, : 4 * 50 - 10].any(-1))
    assert abs(np.median(rows) - 4 * 50.5) <= 1
    assert np.array_equal(np.unique(columns), np.arange(4 * 10.5, 4 * 50 - 10))


def test_bars_are_as_long_as_their_terms_and_green_when_finished():
    pages, first = shot(), slice(106, 118)
    full = np.ptp(where(pages[-1, first, SIDE:], DONE)[:, 1]) + 1
    for t in range(1, STEPS // 2):
        bar = where(pages[t, first, SIDE:], BAR)
        assert (np.ptp(bar[:, 1]) + 1) / full == pytest.approx(scores().terms["reach"][t], abs=0.02)
    assert len(where(pages[0, first, SIDE:], BAR)) == 0


def test_many_stages_fit_into_the_panel():
    ramp = np.ones(1, np.float32)
    many = Scores(ramp, ramp, {f"stage {i}": ramp for i in range(9)})
    page = film(np.zeros((1, 64, 64, 3), np.uint8), {}, many, "go")[0]
    full = where(page[:SIDE, SIDE + 100 : SIDE + 101], DONE)[:, 0]
    assert 1 + (np.diff(full) > 1).sum() == 9


def test_the_curve_shows_what_has_happened_at_its_height():
    pages = shot()
    ends = []
    for page in pages:
        blue = where(page[SIDE:], BAR)
        ends.append(blue[blue[:, 1].argmax()] - [0, 4])  # the dot's radius
    rows, columns = np.array(ends).T
    assert (np.diff(columns) > 0).all() and (np.diff(rows) < 0).all()
    assert rows[0] - rows[-1] == pytest.approx(STRIP - 16, abs=2)


def test_the_stage_is_the_first_term_that_is_not_finished():
    names = [stage_name(scores(), t) for t in range(STEPS)]
    assert names == ["reach"] * 5 + ["lift"] * 5 + ["done"]


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"lengths \[3, 11\]"):
        film(np.zeros((3, 64, 64, 3), np.uint8), {}, scores(), "go")
    with pytest.raises(ValueError, match=r"lengths \[2, 11\]"):
        film(np.zeros((STEPS, 64, 64, 3), np.uint8), {"a": np.zeros((2, 2))}, scores(), "go")


def test_the_table_has_a_row_every_few_steps_and_one_of_the_last():
    header, rows = term_table(scores(), every=4)
    assert header == ["step", "potential", "confidence", "reach", "lift"]
    assert [row[0] for row in rows] == ["0", "4", "8", "10"]
    assert rows[1] == ["4", "0.40", "0.50", "0.80", "0.00"]
    assert all(len(row) == len(header) for row in rows)
