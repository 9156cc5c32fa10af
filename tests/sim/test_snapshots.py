"""A restored snapshot continues as the original did, bit for bit, pictures included."""

import numpy as np
import pytest
from played import content, draw, play, same

from robostack.rollout import rollout
from robostack.sim.env import ScriptedExpert


@pytest.mark.parametrize("before", [0, 7])
@pytest.mark.parametrize("elsewhere", [None, 5, 6], ids=["same try", "reset", "other seed"])
def test_what_follows_a_restored_snapshot_is_what_followed_it_bit_for_bit(lift, before, elsewhere):
    actions = draw(8, seed=1)
    lift.reset(5)
    play(lift, draw(before))
    kept = lift.snapshot()
    here, after = content(lift.restore(kept)), play(lift, actions)
    if elsewhere is not None:
        lift.reset(elsewhere)
    assert same(content(lift.restore(kept)), here)
    assert same(play(lift, actions), after)


def test_several_tries_from_one_snapshot_are_equal_though_the_first_began_at_reset(lift):
    lift.reset(5)
    kept, tries = lift.snapshot(), []
    for _ in range(3):
        lift.restore(kept)
        tries.append(play(lift, draw(6)))
    assert same(tries[1], tries[2]) and same(tries[0], tries[1])


def test_a_grasped_cube_is_still_grasped_after_restoring(lift):
    """Contact, the fingers' ramp and the solver's warm start are part of a snapshot."""
    rollout(lift, ScriptedExpert(lift), 0, max_steps=26)
    kept, up = lift.snapshot(), np.float32([0, 0, 1, 0, 0, 0, 1])
    before = play(lift, [up] * 4)
    play(lift, draw(6))
    lift.restore(kept)
    assert same(play(lift, [up] * 4), before)
    assert lift.scene.body("cube_main")[0][2] > 0.83  # on the table it would be at 0.82


def test_restoring_changes_nothing_when_nothing_has_happened(lift):
    shown = content(lift.reset(2))
    assert same(content(lift.restore(lift.snapshot())), shown)
