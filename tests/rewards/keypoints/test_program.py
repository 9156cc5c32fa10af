"""Constraints where they can be worked out by hand, and programs on played and on random points."""

import json
from dataclasses import replace

import numpy as np
import pytest

from robostack.rewards.keypoints.affordance import rehearsal
from robostack.rewards.keypoints.builtin import PROGRAMS
from robostack.rewards.keypoints.constraints import KINDS, Held, Near, Over, Path, Released, plain
from robostack.rewards.keypoints.constraints import read_constraint as read
from robostack.rewards.keypoints.program import PATIENCE, SLACK, UNFINISHED, Program, Route, Stage
from robostack.rewards.keypoints.tracks import KeypointError, Tracks, Waypoint, project

NAMES = {"gripper", "object", "target", "support"}
ALL = pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)


def tracks(opening=None, hz=20.0, **points):
    """Points given once a step, or once for all."""
    steps = max(len(p) if np.ndim(p) == 2 else 1 for p in points.values())
    wide = {n: np.broadcast_to(np.float32(p), (steps, 3)).copy() for n, p in points.items()}
    return Tracks(wide, hz, None if opening is None else np.float32(opening))


def value(kind, a=(0, 0, 0), b=(0, 0, 0), **numbers):
    constraint = read({"kind": kind, "a": "a", "b": "b", **numbers}, "test")
    return float(constraint.value(tracks(a=a, b=b))[0])


@pytest.mark.parametrize(
    ("kind", "numbers", "a", "signed"),
    [
        ("near", {"within": 0.05}, (0.03, 0.04, 0), 0.0),
        ("near", {"within": 0.05}, (0, 0, 0.07), 0.02),
        ("near", {"within": 0.05}, (0, 0, 0), -0.05),
        ("apart", {"distance": 0.05}, (0.03, 0.04, 0), 0.0),
        ("apart", {"distance": 0.05}, (0, 0, 0.07), -0.02),
        ("over", {"within": 0.05}, (0.03, 0.04, 9), 0.0),
        ("over", {"within": 0.05}, (0.08, 0, -9), 0.03),
        ("above", {"height": 0.05}, (9, 9, 0.05), 0.0),
        ("above", {"height": 0.05}, (0, 0, -0.05), 0.1),
        ("level", {"within": 0.01}, (9, 9, -0.01), 0.0),
        ("level", {"within": 0.01}, (0, 0, 0.03), 0.02),
    ],
)
def test_a_constraint_is_signed_and_in_metres(kind, numbers, a, signed):
    assert value(kind, a, **numbers) == pytest.approx(signed, abs=1e-6)


def test_still_compares_with_the_observation_before_whatever_the_rate():
    for hz in (5.0, 20.0):
        moving = tracks(hz=hz, a=[(0, 0, 0), (0.3 / hz, 0, 0), (0.3 / hz, 0, 0)])
        still = read({"kind": "still", "a": "a", "speed": 0.1}, "test").value(moving)
        assert np.allclose(still * hz, [-0.1, 0.2, -0.1], atol=1e-6)


RISING = [(0, 0, 0.01 * t) for t in range(8)]
STAYING = [(0, 0, 0)] * 8
GRIPPED = [0.04] * 8


@pytest.mark.parametrize(
    ("object_", "opening", "held"),
    [
        (RISING, GRIPPED, True),
        (STAYING, GRIPPED, False),  # the gripper leaves it behind
        ([(0, 0.2, 0.01 * t) for t in range(8)], GRIPPED, False),  # something else rises
        (RISING, [0.08] * 8, False),  # open
        (RISING, [0.0] * 8, False),  # shut
        (RISING, np.linspace(0.069, 0.04, 8), False),  # still closing
        (RISING, np.linspace(0.04, 0.06, 8), False),  # letting go
        (RISING, None, True),  # nobody knows the opening
    ],
)
def test_held_is_closed_and_moving_along(object_, opening, held):
    seen = tracks(opening, object=object_, gripper=RISING)
    assert (Held("object").value(seen)[-1] <= 0) == held


def test_what_is_held_is_not_released_and_what_the_fingers_leave_is():
    opening = np.float32([0.04] * 6 + [0.041, 0.043, 0.047, 0.053])
    seen = tracks(opening, object=[(0, 0, 0)] * 10, gripper=(0, 0, 0))
    released = Released("object").value(seen) <= 0
    assert released.tolist() == [False] * 7 + [True] * 3
    assert not ((Held("object").value(seen) <= 0) & (Released("object").value(seen) < 0)).any()


def test_fingers_of_another_size_hold_other_things():
    seen = tracks([0.1], object=(0, 0, 0), gripper=(0, 0, 0))
    assert Held("object").value(seen)[-1] == pytest.approx(0.03)
    assert Held("object", wide=0.2).value(seen)[-1] < 0


def test_a_path_is_kept_within_its_distance_from_the_nearest_segment():
    corner = Path("a", (Waypoint("b"), Waypoint("b", 0.1), Waypoint("c", 0.1)), within=0.02)
    points = [(0.03, 0, 0.05), (0.05, 0.04, 0.1), (0, 0, -0.05), (0.1, 0, 0.1)]
    off = corner.value(tracks(a=points, b=(0, 0, 0), c=(0.1, 0, 0)))
    assert np.allclose(off, [0.01, 0.02, 0.03, -0.02], atol=1e-6)


def test_walking_along_a_polyline_leaves_what_has_not_been_walked():
    corners = np.array([(0, 0, 0), (3, 0, 0), (3, 4, 0)], float)
    for walked in np.linspace(0, 7, 15):
        here = (min(walked, 3), max(walked - 3, 0), 0)
        left, off = project(np.array(here), corners)
        assert off.min() == pytest.approx(0, abs=1e-9)
        assert left[off.argmin()] == pytest.approx(7 - walked)
        _, raised = project(np.array(here) + [0, 0, 2], corners)
        assert raised.min() == pytest.approx(2)


def test_a_polyline_without_length_is_its_point():
    left, off = project(np.array([0.0, 0, 2]), np.zeros((3, 3)))
    assert np.array_equal(left, [0, 0]) and np.array_equal(off, [2, 2])


# programs --------------------------------------------------------------------------------------
def wander(seed, names=NAMES, steps=200):
    """Smooth random walks, and fingers that open and close."""
    rng = np.random.default_rng(seed)
    speed = rng.normal(0, 0.01, (len(names), steps, 3))
    walks = np.cumsum(speed, axis=1) * [1, 1, 0.3] + rng.normal(0, 0.03, (len(names), 1, 3))
    points = {n: w.astype(np.float32) for n, w in zip(sorted(names), walks)}
    if seed % 2:  # the object sticks to the gripper, so that later stages are met as well
        points["object"] = points["gripper"] + np.float32(rng.normal(0, 0.003, (steps, 3)))
    opening = 0.04 + 0.04 * np.sign(np.sin(np.arange(steps) / rng.uniform(3, 20)))
    return Tracks(points, 20.0, np.clip(opening, 0.04, 0.08).astype(np.float32))


@ALL
@pytest.mark.parametrize("seed", range(4))
def test_stages_come_in_order_and_in_range_wherever_things_are(program, seed):
    progress = program.progress(wander(seed))
    assert progress.min() >= 0 and progress.max() <= 1
    assert not ((progress > UNFINISHED) & (progress < 1)).any()
    begun, finished = progress[:, 1:] > 0, progress[:, :-1] == 1
    assert finished[begun].all()


@pytest.mark.parametrize("name", [n for n in PROGRAMS if not n.startswith("metaworld/")])
def test_a_pick_and_place_goes_forward_only(name):
    """But for the millimetre by which the rehearsal shakes."""
    program = PROGRAMS[name]
    potential = program.progress(rehearsal(NAMES)) @ program.shares
    top = potential.argmax()
    assert potential[0] < 0.1 and potential[top] > 0.85 and top > len(potential) / 2
    assert np.diff(potential[: top + 1]).min() > -0.02


@ALL
def test_what_comes_later_changes_nothing(program):
    whole = wander(1)
    for steps in (1, 50, 133):
        points = {n: p[:steps] for n, p in whole.points.items()}
        cut = Tracks(points, whole.hz, whole.opening[:steps])
        assert np.array_equal(program.progress(cut), program.progress(whole)[:steps])


@ALL
def test_it_survives_json(program):
    text = json.dumps(program.to_json())
    assert Program.from_json(json.loads(text), NAMES) == program


def test_every_kind_of_constraint_survives_json():
    numbers = {"within": 0.1, "distance": 0.1, "height": -0.1, "speed": 0.1, "slip": 0.1}
    numbers |= {"shut": 0.01, "wide": 0.1}
    way = [{"point": "b", "up": 0.1}, {"point": "c", "up": 0.0}]
    known = {"a": "a", "b": "b", "gripper": "g", "waypoints": way, **numbers}
    for name, kind in KINDS.items():
        raw = {"kind": name} | {f: known[f] for f in kind.__dataclass_fields__}
        assert plain(read(json.loads(json.dumps(raw)), "test")) == raw


MINIMAL = {
    "instructions": ["push *"],
    "stages": [{"name": "go", "goal": [{"kind": "near", "a": "x", "b": "y", "within": 0.1}]}],
}


def changed(path, new):
    """MINIMAL with the value at `path` replaced, or removed where it is `...`."""
    raw = json.loads(json.dumps(MINIMAL))
    inside = raw
    for key in path[:-1]:
        inside = inside[key]
    if new is ...:
        del inside[path[-1]]
    else:
        inside[path[-1]] = new
    return raw


GOAL = ("stages", 0, "goal", 0)


@pytest.mark.parametrize(
    ("path", "new", "says"),
    [
        ((*GOAL, "kind"), "touch", "kinds near, apart, over"),
        ((*GOAL, "kind"), ["near"], "kinds near, apart, over"),
        ((*GOAL, "colour"), "red", "unknown key 'colour'; the keys are: a, b, within"),
        ((*GOAL, "within"), ..., "'within' is missing; the keys are: a, b, within"),
        ((*GOAL, "within"), 0, "within: expected a number above 0, got 0"),
        ((*GOAL, "within"), "0.1", "within: expected a finite number, got '0.1'"),
        ((*GOAL, "within"), float("nan"), "within: expected a finite number, got nan"),
        ((*GOAL, "within"), True, "within: expected a finite number, got True"),
        ((*GOAL, "a"), 3, "a: expected a word, got 3"),
        (("stages", 0, "goal"), [], "stage 'go': expected at least one goal"),
        (("stages", 0, "goal"), {"kind": "near"}, "goal: expected a list"),
        (("stages", 0, "goal", 0), "near(x, y)", "expected a constraint"),
        (("stages", 0, "weight"), -1, r"stages\[0\] \(go\): weight: expected a number above 0"),
        (("stages", 0, "route"), {"mover": "x"}, "route: 'via' is missing"),
        (("stages", 0, "name"), "", "name: expected a word"),
        (("stages",), [], "stages: expected a list of 1 or more"),
        (("stages",), MINIMAL["stages"] * 2, "different names"),
        (("instructions",), "push *", "instructions: expected a list"),
        (("reward",), 1, "unknown key 'reward'; the keys are: instructions, stages"),
    ],
)
def test_a_program_that_is_none_is_refused_with_the_place_and_the_choices(path, new, says):
    with pytest.raises(KeypointError, match=says):
        Program.from_json(changed(path, new))


def test_a_point_that_does_not_exist_is_named_and_those_that_do():
    with pytest.raises(KeypointError, match="no keypoint 'x'; there are: gripper, y"):
        Program.from_json(MINIMAL, {"gripper", "y"})
    with pytest.raises(KeypointError, match="no keypoint 'x'; there are: y"):
        Program.from_json(MINIMAL).progress(tracks(y=(0, 0, 0)))


def test_points_that_are_not_finite_are_refused_with_the_step():
    with pytest.raises(KeypointError, match="'b' is not finite at step 1"):
        tracks(a=(0, 0, 0), b=[(0, 0, 0), (0, np.nan, 0)])
    with pytest.raises(KeypointError, match=r"'b': expected shape \[2, 3\], got \[3, 3\]"):
        Tracks({"a": np.zeros((2, 3)), "b": np.zeros((3, 3))}, 20.0)


# how stages are won and lost -------------------------------------------------------------------
def two_stages(**second):
    stages = (
        Stage("come", (Near("x", "y", 0.1),), scale=0.5),
        Stage("stay", (Near("x", "z", 0.1),), scale=0.5, **second),
    )
    return Program(("*",), stages)


def along(*x):
    return tracks(x=[(a, 0, 0) for a in x], y=(0, 0, 0), z=(1, 0, 0))


def test_progress_is_how_little_of_the_scale_is_missing():
    progress = two_stages().progress(along(0.7, 0.6, 0.35, 0.099))
    assert np.allclose(progress[:3, 0], UNFINISHED * np.array([0, 0, 0.5]), atol=1e-6)
    assert progress[3, 0] == 1


def test_a_kept_constraint_that_breaks_loses_the_stage_after_a_while():
    program = two_stages(keep=(Near("x", "y", 0.2),))
    progress = program.progress(along(0.0, *[0.3] * 5))
    assert (progress[:, 0] == 1).tolist() == [True] * PATIENCE + [False] * (6 - PATIENCE)


def test_a_stage_does_not_toggle_at_its_border():
    program = two_stages(keep=(Near("x", "y", 0.1),))
    shaking = 0.1 + 0.9 * SLACK * np.resize([-1, 1], 40)
    assert (program.progress(along(*shaking))[:, 0] == 1).all()


def test_a_short_jump_of_a_point_loses_nothing():
    program = two_stages(keep=(Near("x", "y", 0.2),))
    jumps = np.resize([0.0] + [0.9 - 0.1] * (PATIENCE - 1), 40)
    assert (program.progress(along(*jumps))[:, 0] == 1).all()


def test_what_is_done_is_lost_at_once_when_it_is_undone():
    progress = two_stages().progress(along(0.0, 1.0, 1.0, 1.2))
    assert (progress[:, 1] == 1).tolist() == [False, True, True, False]


def test_what_is_found_done_is_done_until_it_is_undone():
    """But not where something does not hold that has to: that begins with the first stage."""
    done = two_stages().progress(along(1.0, 1.0, 1.2, 1.0))
    assert (done == 1).all(1).tolist() == [True, True, False, True]
    kept = two_stages(keep=(Near("x", "y", 0.5),)).progress(along(1.0, 1.0))
    assert not (kept == 1).any()
    late = two_stages().progress(along(0.8, 1.0))  # not found done, and never came to y
    assert not (late == 1).any()


def test_it_goes_back_to_the_last_stage_that_still_holds():
    program = Program(
        ("*",),
        (
            Stage("one", (Near("x", "y", 0.1),)),
            Stage("two", (Near("x", "y", 0.1),), keep=(Near("x", "y", 0.5),)),
            Stage("three", (Near("x", "z", 0.1),), keep=(Near("x", "y", 0.2),)),
        ),
    )
    for far, left in ((0.4, 1), (0.6, 0)):
        progress = program.progress(along(0.0, *[far] * PATIENCE))
        assert (progress[0] == 1).sum() == 2 and (progress[-1] == 1).sum() == left


def test_the_end_of_a_route_is_not_reached_by_being_beside_it():
    """There and back: the path ends a centimetre from where it began."""
    route = Route("x", (Waypoint("z"), Waypoint("y", 0.01)), least=0.1)
    program = Program(("*",), (Stage("go", (Near("x", "w", 0.01),), route=route),))
    x = np.concatenate([np.zeros(5), np.linspace(0, 1, 20), np.linspace(1, 0, 20)])
    points = replace(along(*x), points=along(*x).points | {"w": np.full((45, 3), 9, np.float32)})
    progress = program.progress(points)[:, 0]
    assert np.allclose(progress[:5], 0) and np.diff(progress).min() > -0.03
    assert progress[24] == pytest.approx(UNFINISHED / 2, abs=0.01)
    assert progress[-1] == pytest.approx(UNFINISHED, abs=0.01)


def test_a_route_counts_less_the_farther_off_it_one_is():
    route = Route("x", (Waypoint("z"),), least=0.1, sigma=0.1)
    program = Program(("*",), (Stage("go", (Over("x", "y", 1e-6),), route=route),))
    start, y = (0, 0, 0), (9, 9, 9)
    for off in (0.0, 0.1, 0.2):
        seen = tracks(x=[start, (0.5, off, 0)], y=y, z=(1, 0, 0))
        want = UNFINISHED * 0.5 * np.exp(-((off / 0.1) ** 2) / 2)
        assert program.progress(seen)[1, 0] == pytest.approx(want, rel=1e-4)


def test_a_route_that_begins_late_is_as_far_as_in_a_whole_one():
    route = Route("x", (Waypoint("z"),), least=1.0)
    program = Program(("*",), (Stage("go", (Near("x", "z", 1e-6),), route=route),))
    whole = program.progress(along(0.0, 0.25, 0.75, 0.9))[2:]
    assert np.allclose(program.progress(along(0.75, 0.9)), whole, atol=1e-6)


@pytest.mark.parametrize(
    ("like", "fit", "other"),
    [
        ("push the * block", "Push the big red block", "push the block"),
        ("Go[?]", "go?", "gob"),
        ("take [[]it]", "take [it]", "take i"),
        ("*", "", None),
    ],
)
def test_instructions_are_shell_patterns(like, fit, other):
    program = replace(two_stages(), instructions=("never", like))
    assert program.fits(fit) and (other is None or not program.fits(other))


def test_shares_are_weights_of_sum_one():
    program = two_stages(weight=3.0)
    assert np.allclose(program.shares, [0.25, 0.75])
