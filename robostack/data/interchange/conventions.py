"""What the numbers themselves say about conventions: which way the gripper closes, whether actions
are targets or changes, in which frame, in which units. Statistics, each with its own evidence.

They are what costs success when they are assumed and wrong, and what no format states.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robostack.data.interchange.report import Convention
from robostack.types import Episode, RobotSpec

LAGS = 4  # control steps, at most, until a motion follows what was asked
ENOUGH = 20  # steps below which nothing is said
SQUINT = 20  # [degrees] by which frames may seem to be turned, and are not
AXES = ("x", "y", "z")


@dataclass(frozen=True)
class Trace:
    """An episode without its pictures, which may be too many to keep."""

    spec: RobotSpec
    states: np.ndarray  # f32[T+1, S]
    actions: np.ndarray  # f32[T, A]

    def __len__(self) -> int:
        return len(self.actions)


def check_conventions(episodes: Sequence[Episode | Trace]) -> list[Convention]:
    """All checks that the names and numbers of episodes of one robot allow."""
    found = [check(episodes[0].spec, episodes) for check in CHECKS.values()]
    return [convention for convention in found if convention is not None]


def unchecked(found: Sequence[Convention]) -> list[str]:
    """Conventions that were not looked at: no state or action is named for them."""
    names = {convention.name for convention in found}
    return [name for name in CHECKS if name not in names]


def _find(names: Sequence[str], *parts: str) -> int | None:
    """The only name that holds one of `parts`."""
    hits = [i for i, name in enumerate(names) if any(p in name.lower() for p in parts)]
    return hits[0] if len(hits) == 1 else None


def _gripper(spec: RobotSpec, episodes: Sequence[Episode | Trace]) -> Convention | None:
    """Does a larger gripper action go with a smaller opening? Told by the opening's motion after
    each change of the action, one vote a change."""
    action = _find(spec.action_names, "gripper", "grasp")
    state = _find(spec.state_names, "opening", "gripper.pos", "gripper_pos", "gripper_width")
    state = _find(spec.state_names, "gripper") if state is None else state
    declared = spec.conventions.get("gripper", "")
    if action is None or state is None:
        return None
    votes = []
    for episode in episodes:
        asked, opening = episode.actions[:, action], episode.states[:, state]
        middle = (asked.max() + asked.min()) / 2
        side = np.sign(asked - middle)
        for t in np.flatnonzero(np.diff(side)) + 1:  # a change of mind
            later = min(t + 2 * LAGS, len(opening) - 1)
            moved = opening[later] - opening[t]
            if abs(moved) > 0.05 * max(np.ptp(opening), 1e-6):
                votes.append(np.sign(moved) * side[t])
    if not votes:
        return Convention("gripper", declared, "", 0.0, "it never moved after being asked to")
    opens = float(np.mean(np.array(votes) > 0))
    share, most = max(opens, 1 - opens), "+1 opens" if opens > 0.5 else "+1 closes"
    evidence = f"{spec.state_names[state]} followed {len(votes)} changes, {share:.0%} of them so"
    sure = _majority(len(votes), round(share * len(votes)))
    return Convention("gripper", declared, most, sure, evidence)


def _majority(votes: int, right: int) -> float:
    """How likely it is that most would vote so, after `right` of `votes` did (Bayes, uniform)."""
    n = votes + 1
    return sum(math.comb(n, i) for i in range(right + 1)) / 2**n


def _pairs(spec: RobotSpec) -> list[tuple[int, int]]:
    """Actions and the states that they move, by name: dx with gripper_x, joint1 with joint1."""
    pairs = []
    for i, name in enumerate(spec.action_names):
        short = name.lower()
        stem = short[1:] if short[:1] == "d" and short[1:] in AXES else short
        for j, state in enumerate(spec.state_names):
            other = state.lower()
            same = other == short or other.rsplit("_", 1)[-1] == stem and stem in AXES
            if same and "grip" not in short:
                pairs.append((i, j))
                break
    return pairs


def _meaning(spec: RobotSpec, episodes: Sequence[Episode | Trace]) -> Convention | None:
    """Is an action where to go, or how far? Motion is explained by the distance to a target, or by
    the action alone; what holds must do nearly as well as the other in every dimension."""
    pairs = _pairs(spec)
    if not pairs:
        return None
    absolute, delta, used = [], [], []
    for i, j in pairs:
        asked, now, later = _columns(episodes, i, j)
        if len(asked) < ENOUGH or np.std(asked) < 1e-9 or np.std(later - now) < 1e-12:
            continue
        used.append(i)
        absolute.append(_explained(asked - now, later - now))
        delta.append(_explained(asked, later - now))
    declared = spec.conventions.get("action", "")
    if not absolute:
        what = f"nothing moved for {ENOUGH} steps or more"
        return Convention("action", declared, "", 0.0, what)
    a, d = np.array(absolute), np.array(delta)
    best = np.maximum(a, d)
    told = best >= 0.1
    if not told.any():
        evidence = f"neither targets ({a.max():.0%}) nor changes ({d.max():.0%}) explain the motion"
        return Convention("action", declared, "", 0.0, evidence)
    worst = {n: (s[told] / best[told]).min() for n, s in (("absolute", a), ("delta", d))}
    clear = int(np.argmax(np.where(told, np.abs(a - d), -1)))  # the dimension that tells most
    evidence = (
        f"motion of {spec.action_names[used[clear]]} is explained to {a[clear]:.0%} by targets, "
        f"to {d[clear]:.0%} by changes"
    )
    found = max(worst, key=worst.get)
    return Convention("action", declared, found, 1 - min(worst.values()) / worst[found], evidence)


def _columns(episodes: Sequence[Episode | Trace], i: int, j: int) -> tuple[np.ndarray, ...]:
    """Of all steps: action i, state j now and LAGS steps later."""
    rows = [
        (e.actions[: len(e) - LAGS + 1, i], e.states[: len(e) - LAGS + 1, j], e.states[LAGS:, j])
        for e in episodes
        if len(e) > LAGS
    ]
    if not rows:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    return tuple(np.concatenate(column).astype(np.float64) for column in zip(*rows))


def _explained(cause: np.ndarray, effect: np.ndarray) -> float:
    """Share of `effect` that a positive multiple of `cause` explains. Without a constant: a target
    far from where everything happens is none."""
    slope = max(0.0, float(cause @ effect) / max(float(cause @ cause), 1e-12))
    return 1 - float(np.square(effect - slope * cause).sum() / np.square(effect).sum())


def _vectors(spec: RobotSpec) -> tuple[list[int], list[int]] | None:
    """The actions and states that are a hand's x, y and z."""
    pairs = {spec.state_names[j].lower().rsplit("_", 1)[-1]: (i, j) for i, j in _pairs(spec)}
    if not all(axis in pairs for axis in AXES):
        return None
    return [pairs[a][0] for a in AXES], [pairs[a][1] for a in AXES]


def _frame(spec: RobotSpec, episodes: Sequence[Episode | Trace]) -> Convention | None:
    """Is a commanded translation in the frame of the measured position? The rotation between what
    was asked and what happened (Kabsch 1976) should be none. Its error is that of a slope: what the
    rotation leaves unexplained, over as many steps as are independent."""
    found = _vectors(spec)
    if found is None:
        return None
    asked, moved = (
        np.stack([_columns(episodes, i, j)[k] for i, j in zip(*found)], 1) for k in (0, 2)
    )
    moved = moved - np.stack([_columns(episodes, i, j)[1] for i, j in zip(*found)], 1)
    declared = spec.conventions.get("frame", "")
    if len(asked) < ENOUGH:
        return Convention("frame", declared, "", 0.0, f"{len(asked)} steps are too few")
    if _meaning(spec, episodes).found == "absolute":
        return Convention("frame", declared, "", 0.0, "actions are targets, not translations")
    asked, moved = asked - asked.mean(0), moved - moved.mean(0)
    u, strengths, v = np.linalg.svd(moved.T @ asked)
    flip = np.array([1, 1, np.sign(np.linalg.det(u @ v))])
    angle = math.degrees(math.acos(np.clip((np.trace((u * flip) @ v) - 1) / 2, -1, 1)))
    whole = max(float(np.square(asked).sum() * np.square(moved).sum()), 1e-12)
    share = float((strengths * flip).sum() ** 2 / whole)
    error = math.degrees(math.sqrt((1 - share) / max(share, 1e-9) * LAGS / len(asked)))
    sure = float(np.clip(1 - (strengths[0] / max(strengths[2], 1e-12)) / 100, 0, 1))
    evidence = f"asked and measured translations are turned by {angle:.0f} degrees"
    measured = "that of the measured position"
    if error > SQUINT or 0 <= angle - SQUINT < 2 * error:
        what = f"{evidence}, give or take {error:.0f}"
        return Convention("frame", declared, "", 0.0, what)
    if angle < SQUINT:
        return Convention("frame", "", measured, sure, evidence)
    found = f"another, {angle:.0f} degrees off"
    return Convention("frame", declared, found, sure, evidence, usual=measured)


def _angles(spec: RobotSpec, episodes: Sequence[Episode | Trace]) -> Convention | None:
    """Degrees or radians, of joints, by their size."""
    joints = [
        j
        for j, name in enumerate(spec.state_names)
        if any(p in name.lower() for p in ("joint", ".pos", "shoulder", "elbow", "wrist", "qpos"))
        and "grip" not in name.lower()
    ]
    if not joints:
        return None
    largest = max(float(np.abs(e.states[:, joints]).max()) for e in episodes)
    evidence = f"the largest of {len(joints)} joint states is {largest:.3g}"
    declared = spec.conventions.get("angles", "")
    if largest > 2 * math.pi + 1:
        evidence += ", or a per cent of the range"
        return Convention("angles", declared, "degrees", 0.99, evidence, usual="radians")
    if largest < 0.5:
        return Convention("angles", declared, "", 0.0, evidence)
    return Convention("angles", declared, "radians", min(0.95, 0.6 + largest / 10), evidence)


def _lengths(spec: RobotSpec, episodes: Sequence[Episode | Trace]) -> Convention | None:
    """Metres or millimetres, of positions, by their size."""
    places = [
        j
        for j, name in enumerate(spec.state_names)
        if name.lower().rsplit("_", 1)[-1] in AXES and "joint" not in name.lower()
    ]
    if not places:
        return None
    largest = max(float(np.abs(e.states[:, places]).max()) for e in episodes)
    found = "metres" if largest < 5 else "millimetres" if largest > 50 else ""
    evidence = f"the largest of {len(places)} coordinates is {largest:.3g}"
    declared, sure = spec.conventions.get("lengths", ""), 0.95 if found else 0.0
    return Convention("lengths", declared, found, sure, evidence, usual="metres")


def _quaternion(spec: RobotSpec, episodes: Sequence[Episode | Trace]) -> Convention | None:
    """Whether what is called a quaternion has length 1, and where its scalar stands by name."""
    parts = [
        j for j, n in enumerate(spec.state_names) if n.lower().endswith(("qw", "qx", "qy", "qz"))
    ]
    if len(parts) != 4:
        return None
    order = "".join(spec.state_names[j].lower()[-1] for j in parts)
    norm = np.concatenate([np.linalg.norm(e.states[:, parts], axis=1) for e in episodes])
    unit = float((np.abs(norm - 1) < 1e-2).mean())
    declared, evidence = spec.conventions.get("quaternion", ""), f"of length 1 in {unit:.0%} of all"
    return Convention("quaternion", declared, order, unit, evidence, usual="wxyz")


CHECKS = {  # a key of a spec's conventions -> what looks at it; None where nothing is named for it
    "gripper": _gripper,
    "action": _meaning,
    "frame": _frame,
    "angles": _angles,
    "lengths": _lengths,
    "quaternion": _quaternion,
}
