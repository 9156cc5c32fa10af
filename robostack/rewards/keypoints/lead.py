"""What a program would have the hand do now: where to go, and whether the fingers hold.

A program says what counts, not how it is done, but its routes and what must hold tell much of it:
the hand goes along the route of the present stage, by pure pursuit of a place a little further
than the nearest one; on a stage without one it comes over what it shall hold, or raises what is
to be higher. The fingers are open on the way to a thing, shut while it must be held, and open where
it is let go. How the hand is turned no program says; where two more points tell at which places the
fingers best touch a thing (`CONTACTS`), the hand comes over their middle and turns to them. When it
closes around a thing nobody says. Where nobody else acts who would know, it goes down over the
thing and closes where it comes no further.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robostack.rewards.keypoints.constraints import Above, Apart, Held, Released
from robostack.rewards.keypoints.program import Leg, Program
from robostack.rewards.keypoints.tracks import WINDOW, Tracks
from robostack.types import CONTACTS

AHEAD = 0.05  # [m] further than the nearest place of a route
SPARE = 0.02  # [m] higher than what must stay that high
HAND = "gripper"
OPEN, SHUT = -1.0, 1.0
OVER, SETTLED = 0.01, 0.003  # [m] aside of a thing, and by which a hand rises or sinks that rests
TURNED = 0.2  # [rad] from how it should be, up to which a hand goes down around a thing


@dataclass(frozen=True)
class Lead:
    """What is not finite nobody has an opinion of."""

    way: np.ndarray  # f64[3] [m], by which the hand should be elsewhere
    fingers: float = np.nan  # OPEN or SHUT
    turn: float = np.nan  # [rad] about the vertical


FREE = Lead(np.full(3, np.nan))


def lead(program: Program, tracks: Tracks, alone: int = 0) -> Lead:
    """At the last observation. `alone` says for how many steps nobody else has moved the hand.
    Raises KeypointError where the tracks lack a point."""
    leg = program.present(tracks)
    if leg is None:
        return FREE
    if leg.stage.route is None:
        return _without_route(leg, tracks, alone)
    letting_go = [c for c in leg.stage.goal if isinstance(c, (Released, Apart))]
    if letting_go and _arrived(leg, tracks, letting_go):
        return Lead(FREE.way, OPEN)
    way = leg.ahead(len(tracks) - 1, AHEAD)
    for each in leg.stage.keep:
        if isinstance(each, Above):
            way[2] = max(way[2], each.value(tracks)[-1] + SPARE)
    if letting_go or _held(leg.stage.keep):
        return Lead(way, SHUT)
    comes = leg.stage.route.mover == HAND
    return Lead(way, OPEN, _turn(tracks)[-1] if comes else np.nan)


def _arrived(leg: Leg, tracks: Tracks, letting_go: list) -> bool:
    """Whether, at any time since the stage began, nothing was left but to let go: fingers that
    have begun to open go on, though what they held moves a little."""
    others = [c.value(tracks)[leg.begun :] for c in leg.stage.goal if c not in letting_go]
    return bool((np.max(others, axis=0) <= 0).any()) if others else True


def _without_route(leg: Leg, tracks: Tracks, alone: int) -> Lead:
    way, turn, stage = FREE.way.copy(), np.nan, leg.stage
    for each in stage.goal:
        if isinstance(each, Held) and alone:
            return _grasp(each, tracks, alone)
        if isinstance(each, Held):
            way[:2] = (_taken(each, tracks) - tracks[each.gripper])[-1, :2]
            turn = _turn(tracks)[-1]
        elif isinstance(each, Above):
            way[2] = max(each.value(tracks)[-1], 0) + AHEAD
    return Lead(way, SHUT if _held(stage.keep) else np.nan, turn)


def _grasp(held: Held, tracks: Tracks, alone: int) -> Lead:
    """Down around a thing, shut where the hand rests; up again with what closed around nothing."""
    hand, turn = tracks[held.gripper], _turn(tracks)
    way = _taken(held, tracks) - hand
    aside = np.linalg.norm(way[:, :2], axis=1) > OVER
    ready = ~(aside | (np.abs(np.nan_to_num(turn)) > TURNED))  # to go down
    way, turn = way[-1], turn[-1]
    if tracks.opening is not None and tracks.opening[-1] < held.shut:
        return Lead(np.array([*way[:2], AHEAD]), OPEN, turn)
    if not ready[-1]:
        return Lead(np.array([*way[:2], 0.0]), OPEN, turn)
    tried = alone > WINDOW and ready[-WINDOW:].mean() > 0.5  # not only now, after having waited
    rests = tried and np.ptp(hand[-WINDOW:, 2]) < SETTLED
    return Lead(way, SHUT if rests else OPEN, turn)


def _taken(held: Held, tracks: Tracks) -> np.ndarray:
    """Where the hand takes a thing f64[T+1, 3]: between the contacts, or else in the middle."""
    known = tracks.points.keys() >= set(CONTACTS)
    return np.mean([tracks[name] for name in (CONTACTS if known else (held.a,))], axis=0)


def _turn(tracks: Tracks) -> np.ndarray:
    """By how much the line between the fingers has to turn to lie along that between the contacts,
    f64[T+1] [rad] from -pi/2 to pi/2; not a number where either is unknown."""
    if tracks.across is None or not tracks.points.keys() >= set(CONTACTS):
        return np.full(len(tracks), np.nan)
    first, second = (tracks[name] for name in CONTACTS)
    wanted, has = second - first, tracks.across.astype(np.float64)
    angle = np.arctan2(wanted[:, 1], wanted[:, 0]) - np.arctan2(has[:, 1], has[:, 0])
    return (angle + np.pi / 2) % np.pi - np.pi / 2


def _held(constraints: tuple) -> bool:
    return any(isinstance(c, Held) for c in constraints)
