"""What a program would have the hand do, where it can be told by hand."""

import numpy as np
import pytest

from robostack.rewards.keypoints.affordance import rehearsal
from robostack.rewards.keypoints.builtin import HOVER, PROGRAMS
from robostack.rewards.keypoints.lead import AHEAD, OPEN, SHUT, SPARE, lead
from robostack.rewards.keypoints.tracks import KeypointError, Tracks, further
from robostack.types import CONTACTS

LIFT, STACK, CAN = (PROGRAMS[name] for name in ("Lift", "Stack", "PickPlaceCan"))
CUBE, GREEN, TABLE = (0.1, 0.0, 0.02), (0.0, 0.2, 0.02), (0.0, 0.0, 0.0)


def tracks(*hand, opening=0.08, cube=CUBE, held_from=None):
    """The hand comes along `hand`; from an observation on the cube hangs in it."""
    hand = np.array(hand, np.float32)
    steps = len(hand)
    still = {"object": cube, "target": GREEN, "support": (0, 0, 0.02)}
    points = {n: np.tile(np.float32(p), (steps, 1)) for n, p in still.items()}
    points["gripper"] = hand
    wide = np.full(steps, opening, np.float32)
    if held_from is not None:
        points["object"][held_from:] = hand[held_from:]
        wide[held_from:] = 0.04
    return Tracks(points, 20.0, wide)


def test_the_place_further_along_is_found_round_corners_and_not_beyond_the_end():
    corners = np.array([[0, 0, 1.0], [1, 0, 1], [1, 0, 0]])
    assert np.allclose(further(np.array([0.5, 0.3, 1.0]), corners, 0.2), [0.7, 0, 1])
    assert np.allclose(further(np.array([0.9, 0, 1.2]), corners, 0.3), [1, 0, 0.8])
    assert np.allclose(further(np.array([1.1, 0, 0.1]), corners, 9), [1, 0, 0])


def test_far_away_the_hand_goes_towards_the_place_above_with_open_fingers():
    told = lead(LIFT, tracks((-0.1, 0, 0.12), (-0.1, 0, 0.12)))
    assert np.allclose(told.way, [AHEAD, 0, 0]) and told.fingers == OPEN  # at the height of HOVER
    assert HOVER == 0.1


def test_beside_the_way_down_it_comes_back_to_it_and_goes_on():
    path = [(-0.1, 0, 0.12), (0.1, 0, 0.12), (0.13, 0.02, 0.09)]
    assert np.allclose(lead(LIFT, tracks(*path)).way, [-0.03, -0.02, -AHEAD])


def test_at_the_cube_it_comes_over_it_and_leaves_height_and_fingers_to_the_policy():
    told = lead(LIFT, tracks((0.1, 0, 0.12), (0.11, 0.01, 0.03)))
    assert np.allclose(told.way[:2], [-0.01, -0.01])
    assert np.isnan(told.way[2]) and np.isnan(told.fingers)


def test_alone_it_goes_down_over_the_cube_and_closes_where_it_rests():
    beside = tracks((0.1, 0, 0.12), (0.11, 0.01, 0.03))
    told = lead(LIFT, beside, alone=1)
    assert np.allclose(told.way, [-0.01, -0.01, 0]) and told.fingers == OPEN  # not yet over it
    over = [(0.1, 0, 0.12), *[(0.1, 0, 0.035)] * 5]
    told = lead(LIFT, tracks(*over), alone=5)
    assert np.allclose(told.way, [0, 0, -0.015]) and told.fingers == OPEN  # it has but begun
    assert lead(LIFT, tracks(*over), alone=6).fingers == SHUT
    sinking = [(0.1, 0, 0.12), *((0.1, 0, 0.04 - 0.002 * k) for k in range(5))]
    assert lead(LIFT, tracks(*sinking), alone=6).fingers == OPEN
    told = lead(LIFT, tracks(*over, opening=0.0), alone=6)  # closed around nothing
    assert told.way[2] == AHEAD and told.fingers == OPEN


def gripped(at, path, yaw=0.0, **how):
    """The same with contacts at `at` rad about the cube, 5 mm beside it, and so turned a hand."""
    seen = tracks(*path, **how)
    steps = len(seen)
    side, middle = np.array([np.cos(at), np.sin(at), 0]), np.array(CUBE) + [0.005, 0, 0]
    for name, sign in zip(CONTACTS, (-1, 1)):
        seen.points[name] = np.tile(np.float32(middle + sign * 0.02 * side), (steps, 1))
    across = np.tile(np.float32([np.cos(yaw), np.sin(yaw), 0]), (steps, 1))
    return Tracks(seen.points, seen.hz, seen.opening, across)


@pytest.mark.parametrize(
    "at, yaw, turn", [(0.3, 0, 0.3), (0.3, 0.5, -0.2), (0.1, 0.1 + np.pi, 0), (0, 1.5, -1.5)]
)
def test_on_its_way_and_there_the_hand_turns_to_the_contacts_the_nearer_way(at, yaw, turn):
    for path in ([(-0.1, 0, 0.12)] * 2, [(0.1, 0, 0.12), (0.11, 0.01, 0.03)]):
        told = lead(LIFT, gripped(at, path, yaw))
        assert told.turn == pytest.approx(turn, abs=1e-6)
    assert np.allclose(told.way[:2], [-0.005, -0.01])  # over their middle


def test_where_contacts_or_fingers_are_unknown_and_where_a_thing_is_held_nobody_turns():
    there = [(0.1, 0, 0.12), (0.11, 0.01, 0.03)]
    assert np.isnan(lead(LIFT, tracks(*there)).turn)
    known = gripped(0.3, there)
    assert np.isnan(lead(LIFT, Tracks(known.points, 20.0, known.opening)).turn)
    assert np.isnan(lead(LIFT, gripped(0.3, HELD, held_from=2)).turn)


def test_alone_it_does_not_go_down_before_it_is_turned():
    over = [(0.1, 0, 0.12), *[(0.105, 0, 0.035)] * 5]
    told = lead(LIFT, gripped(0.3, over), alone=6)
    assert told.way[2] == 0 and told.fingers == OPEN and told.turn == pytest.approx(0.3)
    told = lead(LIFT, gripped(0.1, over), alone=6)
    assert told.way[2] < 0 and told.fingers == SHUT


def test_alone_it_does_not_close_where_it_only_waited_to_be_over_a_thing_and_turned():
    there, high = (0.1, 0, 0.03), (0.105, 0, 0.06)
    seen = gripped(0.3, [there, *[high] * 8], yaw=0.3)
    waited = np.concatenate([np.zeros(8), [0.3]])  # and then it is turned
    across = np.stack([np.cos(waited), np.sin(waited), 0 * waited], 1).astype(np.float32)
    turned = Tracks(seen.points, seen.hz, seen.opening, across)
    told = lead(LIFT, turned, alone=9)
    assert told.fingers == OPEN and told.way[2] < 0
    came = [(0.13 - 0.003 * k, 0, 0.06) for k in range(9)]  # over the cube for two observations
    assert lead(LIFT, tracks(there, *came), alone=9).fingers == OPEN
    assert lead(LIFT, seen, alone=9).fingers == SHUT  # it comes no further


HELD = [CUBE] * 9  # so long that a grip counts as steady


def test_what_is_held_is_raised_with_shut_fingers():
    told = lead(LIFT, tracks(*HELD, held_from=2))
    assert told.fingers == SHUT and told.way[2] > AHEAD and np.isnan(told.way[:2]).all()


def rising(*rest):
    return [*HELD, *((0.1, 0, 0.02 + 0.02 * k) for k in range(1, 6)), *rest]


def test_what_is_carried_goes_over_the_target_and_is_let_go_where_it_rests():
    over = [(0.1 - 0.02 * k, 0.04 * k, 0.12) for k in range(1, 6)]
    carried = lead(STACK, tracks(*rising(*over[:2]), held_from=2))
    assert carried.fingers == SHUT and carried.way[0] < 0 < carried.way[1]
    down = [(0, 0.2, 0.12 - 0.011 * k) for k in range(1, 6)]
    lowered = lead(STACK, tracks(*rising(*over, *down[:2]), held_from=2))
    assert lowered.fingers == SHUT and lowered.way[2] < 0
    there = lead(STACK, tracks(*rising(*over, *down), held_from=2))
    assert there.fingers == OPEN and np.isnan(there.way).all()


def test_on_its_way_what_is_carried_stays_as_high_as_it_must():
    """Over the can's route lies the wall between the bins, which the route itself does not see."""
    low = [(0.1 - 0.02 * k, 0.02 * k, 0.125) for k in range(1, 3)]
    told = lead(CAN, tracks(*rising((0.1, 0, 0.14), *low), held_from=2))
    assert told.way[1] > 0 and told.way[2] == pytest.approx(0.1 + SPARE - (0.125 - 0.02))


def test_fingers_that_have_begun_to_let_go_go_on_though_what_they_held_moves_a_little():
    over = [(0.1 - 0.02 * k, 0.04 * k, 0.12) for k in range(1, 6)]
    down = [(0, 0.2, 0.12 - 0.011 * k) for k in range(1, 6)]
    again = [(0, 0.2, 0.085)]  # too high to be at rest on the cube
    assert lead(STACK, tracks(*rising(*over, *down, *again), held_from=2)).fingers == OPEN
    assert lead(STACK, tracks(*rising(*over, *down[:3], *again), held_from=2)).fingers == SHUT


def test_once_all_is_done_nobody_leads():
    told = lead(LIFT, tracks(*rising(), held_from=2))
    assert np.isnan(told.way).all() and np.isnan(told.fingers)


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_of_any_play_it_says_something_and_nothing_that_comes_later_changes_it(program):
    whole = rehearsal(program.points)
    for t in range(8, len(whole), 11):
        part = Tracks({n: p[:t] for n, p in whole.points.items()}, whole.hz, whole.opening[:t])
        told = lead(program, part)
        assert np.isnan(told.way).all() or np.linalg.norm(np.nan_to_num(told.way)) < 1
        assert told.fingers in (OPEN, SHUT) or np.isnan(told.fingers)


def test_a_point_that_is_missing_is_named():
    seen = tracks(CUBE, CUBE)
    del seen.points["gripper"]
    with pytest.raises(KeypointError, match="no keypoint 'gripper'"):
        lead(CAN, seen)
