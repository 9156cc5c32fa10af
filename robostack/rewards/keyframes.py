"""Keyframes found by themselves, and the progress labels that follow from them.

Robo-Dopamine (arXiv 2512.23703) has people mark the ends of sub-tasks and gives every sub-task the
same share of progress, so that a slow approach is not worth more than a grasp. Here the marks are
what can be read off any arm: the fingers change their mind, the hand comes to rest. Tasks that show
neither are cut where features change most (Unsupervised Perceptual Rewards, arXiv 1612.06699).

A success that shows other events than most did something else on the way, say dropped the object
and came back. Its beginning, up to where it left the usual way, and its end, from where it was back
on it, are labelled; what lies between is not, because nobody knows how far along that was. But what
was then done once more had been undone: no further than that.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from robostack.types import RobotSpec

SETTLE = 3  # steps [control] for which the fingers must stay as they are
APART = 4  # steps between two keyframes, at least
REST = 0.25  # of the median speed: below, the hand is at rest
AGREE = 0.8  # of the successes must rest as often for a rest to count
SLOW = 1.4  # times the usual pace: something held the episode up
SEGMENTS = 4  # where nothing else tells them


@dataclass(frozen=True)
class Events:
    """Steps of an episode at which something happened."""

    fingers: tuple[tuple[int, str], ...]  # (step, "close" or "open")
    rests: tuple[int, ...]
    length: int  # observations

    @property
    def signature(self) -> tuple[str, ...]:
        return tuple(kind for _, kind in self.fingers)


def find_events(spec: RobotSpec, states: np.ndarray, actions: np.ndarray) -> Events:
    """Of observations f32[L, S] and the actions f32[L, A] that followed them; the last one's does
    not count."""
    return Events(_fingers(spec, actions[:-1]), _rests(spec, states), len(states))


def _fingers(spec: RobotSpec, actions: np.ndarray) -> tuple[tuple[int, str], ...]:
    """Lasting changes of the commanded fingers, all hands of the robot taken in turn."""
    found = []
    closes = "+1 opens" not in spec.conventions.get("gripper", "")
    for dim, name in enumerate(spec.action_names):
        if not name.endswith("gripper"):
            continue
        middle = (spec.action_low[dim] + spec.action_high[dim]) / 2
        closed = (actions[:, dim] > middle) == closes
        now = bool(closed[0])
        for t in range(1, len(closed)):
            ahead = closed[t : t + SETTLE]
            if bool(closed[t]) != now and (ahead == closed[t]).all() and len(ahead) == SETTLE:
                now = bool(closed[t])
                found.append((t, "close" if now else "open"))
    return tuple(sorted(found))


def _rests(spec: RobotSpec, states: np.ndarray) -> tuple[int, ...]:
    """Deep minima of the hand's smoothed speed, strongest first, none within APART of another or
    of either end."""
    axes = [i for i, n in enumerate(spec.state_names) if n.endswith(("_x", "_y", "_z"))]
    if len(states) < 3 * APART or not axes:
        return ()
    speed = np.linalg.norm(np.diff(states[:, axes], axis=0), axis=1)
    smooth = np.convolve(np.pad(speed, 2, mode="edge"), np.full(5, 0.2), "valid")
    limit, found = REST * np.median(smooth), []
    for t in np.argsort(smooth, kind="stable"):
        if smooth[t] >= limit:
            break
        inside = APART <= t < len(states) - APART
        if inside and all(abs(int(t) - other) >= APART for other in found):
            found.append(int(t))
    return tuple(sorted(found))


def segment_by_variance(features: np.ndarray, segments: int) -> np.ndarray:
    """Inner borders i64[segments - 1] of the cut of f32[L, D] into contiguous parts whose summed
    squared distance to their own mean is least; exact, by dynamic programming."""
    length = len(features)
    if not 1 <= segments <= length:
        raise ValueError(f"segments: expected 1 to {length} for as many frames, got {segments}")
    x = features.astype(np.float64) - features.mean(0)
    total = np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(x, 0)])
    square = np.concatenate([[0.0], np.cumsum((x**2).sum(1))])

    def cost(first: np.ndarray, last: int) -> np.ndarray:
        """Of parts [first, last)."""
        part = ((total[last] - total[first]) ** 2).sum(1)
        return square[last] - square[first] - part / (last - first)

    best = np.full((segments + 1, length + 1), np.inf)
    cut = np.zeros((segments + 1, length + 1), int)
    best[0, 0] = 0
    for k in range(1, segments + 1):
        for last in range(k, length + 1):
            first = np.arange(k - 1, last)
            value = best[k - 1, first] + cost(first, last)
            cut[k, last] = first[value.argmin()]
            best[k, last] = value.min()
    borders, last = [], length
    for k in range(segments, 1, -1):
        last = cut[k, last]
        borders.append(last)
    return np.array(borders[::-1], int)


@dataclass(frozen=True)
class Labels:
    """What is known of the progress of a success of L observations."""

    progress: np.ndarray  # f32[L] in [0, 1], NaN where it is unknown
    most: np.ndarray  # f32[L] in [0, 1], what it cannot exceed there; 1 where nothing is known


def label_progress(
    events: list[Events], features: list[np.ndarray]
) -> tuple[list[Labels], tuple[str, ...]]:
    """Labels of successes of one task, and the usual sequence of finger events.

    Every segment between keyframes is worth the same and passes evenly. `features` f32[L, D] of
    each are looked at only where fingers and rests tell nothing.
    """
    usual = Counter(e.signature for e in events).most_common(1)[0][0]
    plain = [i for i, e in enumerate(events) if e.signature == usual]
    marks = _marks(events, plain, features)
    labels = [
        Labels(np.full(e.length, np.nan, np.float32), np.ones(e.length, np.float32)) for e in events
    ]
    if not marks:  # all are too short to be cut
        return [
            Labels(np.linspace(0, 1, e.length, dtype=np.float32), own.most)
            for e, own in zip(events, labels)
        ], usual
    borders = {i: np.array([0, *inner, events[i].length - 1]) for i, inner in marks.items()}
    usually = np.median([np.diff(b) for b in borders.values()], axis=0)
    for i, own in borders.items():
        _label_evenly(labels[i].progress, own, usually)
    if usual:
        pace = _pace(events, labels, plain, usual)
        for i, e in enumerate(events):
            if i not in marks:
                _label_ends(labels[i], e, usual, pace)
    return labels, usual


def _marks(
    events: list[Events], plain: list[int], features: list[np.ndarray]
) -> dict[int, np.ndarray]:
    """Keyframes i64[K] between the ends of each of the episodes `plain`, whose fingers do the same:
    these and the rests that they share, or, where there is neither, cuts by variance."""
    rests = dict(zip(plain, _shared_rests([events[i] for i in plain])))
    if events[plain[0]].fingers or any(rests.values()):
        return {
            i: np.array(sorted([t for t, _ in events[i].fingers] + list(rests[i])), int)
            for i in plain
        }
    return {
        i: segment_by_variance(features[i], SEGMENTS) for i in plain if events[i].length > SEGMENTS
    }


def _label_evenly(label: np.ndarray, borders: np.ndarray, usually: np.ndarray) -> None:
    """Equal shares between the borders of an episode's segments. Of one that took much longer than
    usual, only what was done at the usual pace before its end is labelled, and its first step."""
    share = 1 / len(usually)
    for k, (first, last) in enumerate(zip(borders, borders[1:])):
        if last <= first:
            continue
        t = np.arange(first, last + 1)
        if last - first <= SLOW * usually[k] + 1:
            label[t] = share * (k + (t - first) / (last - first))
            continue
        late = share * (k + 1 - (last - t) / usually[k])
        label[t] = np.where(late >= share * k, late, np.nan)
        label[first] = share * k
    label[borders[-1]] = 1.0  # also where the last segment is empty


def _shared_rests(events: list[Events]) -> list[tuple[int, ...]]:
    """Of each episode, the rests between the same finger events that count: in spans where AGREE of
    the episodes rest equally often, and none less often. Of more than that, the first."""
    spans = [_by_span(e) for e in events]
    found: list[list[int]] = [[] for _ in events]
    for span in range(len(spans[0])):
        counts = [len(s[span]) for s in spans]
        count, how_many = Counter(counts).most_common(1)[0]
        agreed = how_many >= max(AGREE * len(events), 2)
        if count and agreed and min(counts) >= count:
            for own, s in zip(found, spans):
                own += s[span][:count]
    return [tuple(own) for own in found]


def _by_span(events: Events) -> list[list[int]]:
    """Rests between finger events, those that are apart from them."""
    borders = [0, *(t for t, _ in events.fingers), events.length - 1]
    return [
        [t for t in events.rests if first + APART <= t <= last - APART]
        for first, last in zip(borders, borders[1:])
    ]


def _pace(events, labels, plain, usual) -> list[tuple[float, float]]:
    """(progress at, median steps before) each finger event and the end, along the usual way."""
    found = []
    for k in range(len(usual) + 1):
        at, steps = [], []
        for i in plain:
            times = [0, *(t for t, _ in events[i].fingers), events[i].length - 1]
            at.append(labels[i].progress[times[k + 1]])
            steps.append(times[k + 1] - times[k])
        found.append((float(np.median(at)), float(max(np.median(steps), 1))))
    return found


def _label_ends(
    labels: Labels, events: Events, usual: tuple[str, ...], pace: list[tuple[float, float]]
) -> None:
    """The usual beginning of an unusual episode, and its usual end at the usual pace; between them,
    from where it left the usual way, at most what it went on from."""
    own, fingers, label = events.signature, events.fingers, labels.progress
    same, tail = _usual_parts(own, usual)
    before = 0
    for k in range(same):
        last, level = fingers[k][0], pace[k][0]
        floor = pace[k - 1][0] if k else 0.0
        label[before : last + 1] = np.linspace(floor, level, last + 1 - before)
        before = last
    if not tail:
        return
    last = events.length - 1
    for k in range(tail + 1):  # from the end backwards, a segment at a time
        level, steps = pace[len(usual) - k]
        floor = pace[len(usual) - k - 1][0] if k < len(usual) else 0.0
        first = fingers[len(own) - 1 - k][0] if k < tail else max(before + 1, last - int(steps))
        if k == tail:
            share = (last - np.arange(first, last + 1)) / steps
            label[first : last + 1] = np.maximum(level - share * (level - floor), floor)
        else:
            label[first : last + 1] = np.linspace(floor, level, last + 1 - first)
        last = first
    astray = slice(fingers[same][0] + SETTLE, last) if same < len(own) - tail else slice(0)
    labels.most[astray] = pace[len(usual) - tail][0]


def _usual_parts(own: tuple[str, ...], usual: tuple[str, ...]) -> tuple[int, int]:
    """How many events an unusual episode begins with as usual, and how many it ends with so.

    Fingers that opened and had to do so once more had let go of something, which is not usual.
    """
    same = 0
    while same < min(len(own), len(usual)) and own[same] == usual[same]:
        same += 1
    tail = 0
    while tail < min(len(own) - same, len(usual)) and own[-1 - tail] == usual[-1 - tail]:
        tail += 1
    if same and same + tail > len(usual) and own[same - 1] == "open":
        same -= 1
    return same, tail
