"""Keyframes and labels: exact cuts, equal shares, and silence where nobody knows."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from fakes import SPEC

from robostack.rewards.keyframes import find_events, label_progress, segment_by_variance

HAND = replace(SPEC, state_names=("hand_x", "hand_y", "hand_z"))


def acted(*fingers, length=None, states=None):
    """Events of an episode whose finger command is a list of (value, steps)."""
    command = np.concatenate([np.full(steps, value) for value, steps in fingers])
    actions = np.zeros((len(command) + 1, 3), np.float32)
    actions[:-1, 2] = command
    if states is None:
        states = np.cumsum(np.ones((len(actions), 3), np.float32), 0)
    return find_events(HAND, states, actions)


def plain(before=10, after=10):
    return acted((-1, before), (1, after))


def labelled(events, features=None):
    labels, usual = label_progress(events, features or [None] * len(events))
    return [label.progress for label in labels], usual


def test_lasting_changes_of_the_fingers_are_events_and_twitches_are_not():
    events = acted((-1, 5), (1, 1), (-1, 4), (1, 8), (-1, 6))
    assert events.fingers == ((10, "close"), (18, "open"))


def test_a_hand_that_opens_with_plus_one_is_understood():
    other = replace(HAND, conventions={"gripper": "+1 opens"})
    actions = np.zeros((13, 3), np.float32)
    actions[:6, 2], actions[6:, 2] = 1, -1
    assert find_events(other, np.zeros((13, 3), np.float32), actions).fingers == ((6, "close"),)


def test_a_pause_of_the_hand_is_a_rest():
    speed = np.ones(40)
    speed[18:23] = 0.01
    states = np.concatenate([[0], np.cumsum(speed)])[:, None] * np.ones((1, 3), np.float32)
    rests = acted((-1, 40), states=states.astype(np.float32)).rests
    assert len(rests) == 1 and 17 <= rests[0] <= 23


@pytest.mark.parametrize("segments", [1, 2, 3, 4])
def test_the_cut_by_variance_is_the_best_of_all_cuts(segments):
    features = np.random.default_rng(segments).normal(size=(9, 2)).cumsum(0)

    def cost(borders):
        parts = np.split(features, borders)
        return sum(((part - part.mean(0)) ** 2).sum() for part in parts)

    best = min(cost(c) for c in itertools.combinations(range(1, 9), segments - 1))
    assert cost(segment_by_variance(features, segments)) == pytest.approx(best)


def test_more_segments_than_frames_are_refused():
    with pytest.raises(ValueError, match="expected 1 to 3"):
        segment_by_variance(np.zeros((3, 1)), 4)


def test_each_side_of_a_grasp_is_worth_the_same_however_long_it_took():
    (quick, slow), usual = labelled([plain(10, 10), plain(12, 8)])
    assert usual == ("close",)
    assert quick[10] == pytest.approx(0.5) and slow[12] == pytest.approx(0.5)
    assert quick[0] == slow[0] == 0 and quick[-1] == slow[-1] == 1
    assert (np.diff(quick) > 0).all() and quick[5] == pytest.approx(0.25)


def test_of_a_phase_that_was_held_up_only_its_usual_end_is_labelled():
    events = [plain(10, 10) for _ in range(5)] + [plain(40, 10)]
    label = labelled(events)[0][-1]
    assert label[0] == 0 and np.isnan(label[1:29]).all()
    assert label[35] == pytest.approx(0.25) and label[40] == pytest.approx(0.5)


def test_after_a_drop_only_the_way_back_is_labelled_and_the_way_to_the_first_grasp():
    dropped = acted((-1, 10), (1, 12), (-1, 20), (1, 10))
    labels, usual = label_progress([plain() for _ in range(5)] + [dropped], [None] * 6)
    label, most = labels[-1].progress, labels[-1].most
    assert usual == ("close",)
    assert label[10] == pytest.approx(0.5) and np.isnan(label[11:30]).any()
    assert label[42] == pytest.approx(0.5) and label[-1] == 1
    assert label[37] < label[42]
    undone = np.flatnonzero(most < 1)  # lasting, from after the drop until it was back
    assert (
        undone[0] == 22 + 3 and np.isnan(label[undone]).all() and np.isfinite(label[undone[-1] + 1])
    )
    assert most[undone] == pytest.approx(0.5)  # it had to be grasped once more
    assert all((own.most == 1).all() for own in labels[:-1])


def test_fingers_that_let_go_on_the_way_have_not_put_down():
    """Usually: grasp, put down. This one dropped it, and the opening of a drop is no placing."""
    usually = [acted((-1, 10), (1, 10), (-1, 10)) for _ in range(5)]
    dropped = acted((-1, 10), (1, 6), (-1, 20), (1, 10), (-1, 10))
    labels, usual = label_progress([*usually, dropped], [None] * 6)
    assert usual == ("close", "open")
    label, most = labels[-1].progress, labels[-1].most
    assert label[10] == pytest.approx(1 / 3) and np.isnan(label[11:20]).all()
    assert most[20] == pytest.approx(1 / 3) and (most[:16] == 1).all()
    assert label[36] == pytest.approx(1 / 3) and label[46] == pytest.approx(2 / 3)


def test_without_events_an_even_motion_is_evenly_labelled():
    features = [np.linspace(0, 1, 41)[:, None] for _ in range(3)]
    still = acted((-1, 40))
    labels, usual = labelled([still] * 3, features)
    assert usual == ()
    assert np.abs(labels[0] - np.linspace(0, 1, 41)).max() < 0.05


def paused(at, *fingers):
    """Events of a hand that rests at a step."""
    speed = np.ones(sum(steps for _, steps in fingers))
    speed[at - 2 : at + 3] = 0.01
    way = np.concatenate([[0], np.cumsum(speed)])[:, None] * np.ones((1, 3))
    return acted(*fingers, states=way.astype(np.float32))


def test_a_rest_that_all_take_parts_a_phase_in_two():
    events = [paused(at, (-1, 30), (1, 10)) for at in (12, 14, 16)]
    labels, _ = labelled(events)
    for event, label in zip(events, labels):
        assert label[event.rests[0]] == pytest.approx(1 / 3)
        assert label[30] == pytest.approx(2 / 3) and label[-1] == 1


def test_a_rest_that_only_some_take_counts_for_none():
    rests = acted((-1, 30), (1, 10)).rests
    labels, _ = labelled([plain(30, 10)] * 3)
    assert rests == () and labels[0][30] == pytest.approx(0.5)


def test_a_rest_is_a_keyframe_also_where_the_fingers_do_nothing():
    """A push, say: half of the way is where it rests, not where half of the time is over."""
    events = [paused(at, (-1, 60)) for at in (14, 15, 15, 16, 15)]
    clock = [np.linspace(0, 1, 61)[:, None]] * 5  # pictures that change evenly
    labels, usual = labelled(events, clock)
    assert usual == ()
    for event, label in zip(events, labels):
        assert label[event.rests[0]] == pytest.approx(0.5) and label[0] == 0 and label[-1] == 1
