"""Several views and several things: what is asked for is seen by the second camera alone."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import SQUARE_SPEC, make_episode
from taught import LARGE, teach

from robostack.rewards.progress import ProgressConfig, ProgressEstimator

SPEC = replace(SQUARE_SPEC, cameras={"far": (32, 32), "wrist": (32, 32)})
COLOURS = {"red": (250, 40, 40), "blue": (40, 40, 250)}
HELD_OUT = range(100, 106)


def two_squares(seed, asked="red", moved="red", steps=16):
    """A red and a blue square before the wrist camera, of which one goes to the right edge. The
    other camera sees one that wanders, whatever is done."""
    rng = np.random.default_rng([seed, 7])
    x = np.sort(rng.uniform(0, 1, steps + 1))
    x[0], x[-1] = rng.uniform(0, 0.2), 1.0
    frames = rng.integers(0, 30, (2, steps + 1, 32, 32, 3), dtype=np.uint8)
    top = rng.permutation([3, 19])  # rows of red and blue
    stay = rng.uniform(0, 0.4)
    for name, row in zip(COLOURS, top):
        for frame, place in zip(frames[1], x if name == moved else np.full(len(x), stay)):
            column = round(24 * place)
            frame[row : row + 8, column : column + 8] = COLOURS[name]
    for frame, column in zip(frames[0], rng.integers(0, 24, steps + 1)):
        frame[10:18, column : column + 8] = 250
    won = asked == moved
    return make_episode(
        seed,
        steps,
        spec=SPEC,
        task=f"push the {asked} square to the right",
        images={"far": frames[0], "wrist": frames[1]},
        states=(0.01 * rng.normal(size=steps + 1))[:, None].astype(np.float32),
        actions=np.tile(np.array([0, 0, -1], np.float32), (steps, 1)),
        success=won,
        terminated=won,
        keypoints={},
        group="",
    )


def order(values):
    rank = np.argsort(np.argsort(values))
    return np.corrcoef(rank, np.arange(len(values)))[0, 1]


def without(episode, camera):
    """What is left where a camera shows nothing that happens: its first frame, and noise."""
    frames = episode.images[camera]
    noise = np.random.default_rng(0).integers(0, 30, frames.shape, dtype=np.uint8)
    return replace(episode, images={**episode.images, camera: noise})


@pytest.fixture(scope="module")
def sighted():
    pairs = [(a, m) for a in COLOURS for m in COLOURS]
    cases = [two_squares(s, *pairs[s % 4]) for s in range(32)]
    config = ProgressConfig(episodes=8, frames=4)
    return teach(ProgressEstimator, config, steps=300, episodes=cases, eye=LARGE)


@pytest.mark.slow
@pytest.mark.parametrize("colour", COLOURS)
def test_what_only_the_second_camera_sees_is_progress(sighted, colour):
    episodes = [two_squares(s, colour, colour) for s in HELD_OUT]
    seen = [order(sighted.score(e)) for e in episodes]
    blind = [order(sighted.score(without(e, "wrist"))) for e in episodes]
    other = [order(sighted.score(without(e, "far"))) for e in episodes]
    assert np.mean(seen) > 0.9 and np.mean(other) > 0.8
    assert np.mean(blind) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("colour", COLOURS)
def test_the_right_thing_done_to_the_wrong_object_is_none(sighted, colour):
    other = {"red": "blue", "blue": "red"}[colour]
    for seed in HELD_OUT:
        right = sighted.score(two_squares(seed, colour, colour))
        wrong = sighted.score(two_squares(seed, colour, other))
        assert right[-1] > wrong[-1] + 0.3 and wrong[-1] < 0.6
