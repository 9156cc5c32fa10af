"""The success detector on held-out squares."""

from dataclasses import replace

import numpy as np
from fakes import backwards, square_episode

HELD_OUT = range(100, 106)


def test_the_end_of_a_success_is_told_from_its_start_and_from_a_failure(success):
    won = np.stack([success.score(square_episode(s)) for s in HELD_OUT])
    lost = np.stack([success.score(square_episode(s, success=False)) for s in HELD_OUT])
    assert won[:, -1].min() > 0.8
    assert won[:, :8].max() < 0.2 and lost.max() < 0.2


def test_a_done_scene_is_no_success_of_another_task(success):
    for seed in HELD_OUT:
        other = replace(square_episode(seed), task="open the door")
        assert success.score(other)[-1] < 0.2


def test_an_observation_is_judged_alone(success):
    episode = square_episode(100)
    reversed_scores = success.score(backwards(episode))
    assert np.allclose(reversed_scores, success.score(episode)[::-1], atol=1e-5)
