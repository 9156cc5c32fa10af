"""What the progress estimator is shown in training, and what is known of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from robostack.rewards.keyframes import find_events, label_progress
from robostack.rewards.learned import RewardData
from robostack.rewards.saved import RewardError

RIGHT, WRONG, FAILED = range(3)  # a success; one under an instruction that it ignores; a failure
BLURRED = 2  # observations before a success is done of which nobody knows if it was
LATE = 8  # observations before an end that one frame is drawn from: where done begins is fine work
CEILING = 0.85, 0.5  # of a failure's progress: until half of its time, and at its end
HELD_OUT, LEAST_HELD_OUT = 7, 4  # every seventh; at least so many of both outcomes
MIDWAY = (
    0.4  # share of starts that are no start: what is played may begin anywhere, even at its end
)
CLIP = 0.25  # share of successes of which a short stretch is shown, in small steps
NEAR = 8  # observations between the middle of it and its ends
OWN = 0.25  # share of anchors that are the episode's own: else they say what, not which pixels
OFTEN = 3  # successes of one instruction that are labelled by themselves
ALIKE = 8  # successes with a like instruction that serve as one another's anchors


@dataclass(frozen=True)
class Lesson:
    """B episodes, of each a start, a goal and K frames.

    All pairs of these are hops, so each lesson is its own rewinding. Some are of a short stretch,
    some of whose frames are there twice: changed each in its own way they are what a camera shows
    of a scene that stands still.
    """

    rows: np.ndarray  # i64[B, 2 + K] of the data
    tasks: list[str]  # B instructions, not always the ones that were followed
    kinds: np.ndarray  # i64[B], RIGHT, WRONG or FAILED
    progress: np.ndarray  # f32[B, 2 + K] in [0, 1], NaN where nobody knows
    most: np.ndarray  # f32[B, 2 + K] in [0, 1], what the progress of failures, and of successes
    # that undid something and have not yet done it once more, cannot exceed
    done: np.ndarray  # f32[B, 2 + K], 1 where the task is done, NaN where nobody knows


class Lessons:
    """Labels of the data, and draws from it. Raises RewardError where there is no success."""

    def __init__(self, data: RewardData, frames: int, wrong: float, failed: float):
        self.data, self.frames = data, frames
        self.shares = [1 - wrong - failed, wrong, failed]
        self.progress = np.full(len(data.states), np.nan, np.float32)
        self.most = np.ones(len(data.states), np.float32)  # what progress cannot exceed
        won = [i for i in data.require_successes("the progress estimator") if data.whole[i]]
        for group in _of_a_kind([data.tracks[i].task for i in won]):
            self._label([won[i] for i in group])
        known = np.isfinite(self.progress)
        self.labelled = [i for i in won if known[data.rows(i)].sum() > BLURRED]
        if not self.labelled:
            raise RewardError(
                f"none of the {len(won)} successes that begin at the beginning is longer than "
                f"{BLURRED} observations; nothing to learn progress from"
            )
        self.done = label_done(data)
        lost = ~data.success & (data.length > BLURRED)
        # a try from half-way, or one of several that was cut off before anybody could have been
        # done, is no failure, unless there is no other
        several = np.array([bool(track.group) for track in data.tracks])
        cut = several & (data.length <= data.arrived[won].min())
        real = lost & data.whole & ~cut
        self.lost = np.flatnonzero(real if real.any() else lost)
        self.held_out = self._hold_out()
        self._tasks = tuple(data.tracks[i].task for i in self.labelled)
        self._alike: dict[str, list[int]] = {}

    def _label(self, episodes: list[int]) -> None:
        data = self.data
        until = [slice(data.first[i], data.first[i] + data.arrived[i] + 1) for i in episodes]
        events = [find_events(data.spec, data.states[own], data.actions[own]) for own in until]
        labels, _ = label_progress(events, [_coarse(data.seen[own]) for own in until])
        for i, own, label in zip(episodes, until, labels):
            self.progress[own], self.most[own] = label.progress, label.most
            after = slice(own.stop, data.rows(i).stop)
            self.progress[after][data.done[after]] = 1.0

    def _hold_out(self) -> list[int]:
        """Set aside every so many-th success and failure, to calibrate by; none where data are
        few."""
        kept = [self.labelled[::HELD_OUT], list(self.lost[::HELD_OUT])]
        if min(map(len, kept)) < LEAST_HELD_OUT:
            return []
        held = [int(i) for own in kept for i in own]
        self.labelled = [i for i in self.labelled if i not in held]
        self.lost = np.setdiff1d(self.lost, held)
        return held

    def draw(self, count: int, random: np.random.Generator) -> Lesson:
        kinds = random.choice(3, count, p=self.shares)
        if not len(self.lost):
            kinds[kinds == FAILED] = RIGHT
        rows, tasks, progress, most, done = zip(*(self._one(kind, random) for kind in kinds))
        return Lesson(
            np.array(rows),
            list(tasks),
            kinds,
            np.array(progress, np.float32),
            np.array(most, np.float32),
            np.array(done, np.float32),
        )

    def _one(self, kind: int, random: np.random.Generator):
        data = self.data
        pool = self.lost if kind == FAILED else self.labelled
        episode = int(pool[random.integers(len(pool))])
        own, task = data.rows(episode), data.tracks[episode].task
        value = self.progress[own]
        fit = np.arange(len(value))
        if kind == RIGHT:
            fit = np.flatnonzero(np.isfinite(value) | (self.most[own] < 1))
        pick = self._pick(fit, len(value), kind, random)
        asked = data.other_task(task, random) if kind == WRONG else task
        (start, first), goal = self._start(episode, random), self._goal(episode, asked, random)
        rows = [start, goal, *(own.start + pick)]
        if kind == WRONG:
            first = 0.0
        progress = {RIGHT: value[pick], WRONG: 0 * pick, FAILED: np.full(len(pick), np.nan)}[kind]
        done = self.done[rows]
        if kind == WRONG:
            done[2:], done[1] = 0, np.nan  # the end of another task than was asked for, perhaps
        most = np.concatenate(
            [[1, 1], self.most[own][pick] if kind == RIGHT else np.ones(len(pick))]
        )
        if kind == FAILED:
            share = pick / (len(value) - 1)
            most[2:] = np.interp(share, [0.5, 1], CEILING)
        return rows, asked, [first, 1.0, *progress], most, done

    def _pick(
        self, fit: np.ndarray, length: int, kind: int, random: np.random.Generator
    ) -> np.ndarray:
        """Frames i64[K] out of those that are fit, in order: of all of the episode and one of its
        end, or of a short stretch."""
        if kind == RIGHT and random.random() < CLIP:
            near = fit[np.abs(fit - fit[random.integers(len(fit))]) <= NEAR]
            return np.sort(random.choice(near, self.frames))
        pick = np.sort(random.choice(fit, self.frames, replace=len(fit) < self.frames))
        late = fit[fit >= length - LATE]
        if len(late):
            pick[-1] = late[random.integers(len(late))]
        return pick

    def _start(self, episode: int, random: np.random.Generator) -> tuple[int, float]:
        """A row that hops are counted from, and its progress."""
        if not self.data.whole[episode] or random.random() > OWN:
            episode = self._like(self.data.tracks[episode].task, random)
        if random.random() > MIDWAY:
            return int(self.data.first[episode]), 0.0
        rows = np.arange(len(self.progress))[self.data.rows(episode)]
        known = rows[np.isfinite(self.progress[rows])]
        if not len(known):
            return int(self.data.first[episode]), 0.0
        row = int(known[random.integers(len(known))])
        return row, float(self.progress[row])

    def _goal(self, episode: int, asked: str, random: np.random.Generator) -> int:
        data = self.data
        own = data.success[episode] and data.tracks[episode].task == asked
        if not own or random.random() > OWN:
            episode = self._like(asked, random)
        return int(data.first[episode] + data.length[episode] - 1)

    def _like(self, task: str, random: np.random.Generator) -> int:
        """A labelled success with this or a like instruction."""
        if task not in self._alike:
            same = [i for i, other in enumerate(self._tasks) if other == task]
            self._alike[task] = same if len(same) >= ALIKE else nearest(task, self._tasks, ALIKE)
        found = self._alike[task]
        return self.labelled[found[random.integers(len(found))]]


def _coarse(seen: np.ndarray) -> np.ndarray:
    """What was seen, as f32[L, D] with a few hundred numbers: enough to tell scenes apart."""
    flat = seen.reshape(len(seen), -1).astype(np.float32)
    fold = max(flat.shape[1] // 384, 1)
    kept = flat.shape[1] // fold * fold
    return flat[:, :kept].reshape(len(seen), -1, fold).mean(2)


def label_done(data: RewardData) -> np.ndarray:
    """f32 of every row: 1 where a success is done; NaN shortly before it first is, and where it is
    not for a moment afterwards; else 0."""
    done = data.done.astype(np.float32)
    for i in np.flatnonzero(data.success):
        own, since = data.rows(i), max(data.arrived[i] - BLURRED, 0)
        done[own][since:] = np.where(data.done[own][since:], 1, np.nan)
    return done


def nearest(task: str, tasks: tuple[str, ...], count: int) -> list[int]:
    """Indices of the `count` instructions that share most words with `task`, the same one first."""
    words = _words(task)
    score = {other: len(words & _words(other)) / len(words | _words(other)) for other in set(tasks)}
    return sorted(range(len(tasks)), key=lambda i: (-score[tasks[i]], i))[:count]


def _words(task: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", task.lower()))


def _of_a_kind(tasks: list[str]) -> list[list[int]]:
    """Indices of the same instruction where it was given OFTEN, else of all that were not."""
    groups: dict[str, list[int]] = {}
    for i, task in enumerate(tasks):
        groups.setdefault(task, []).append(i)
    often = [group for group in groups.values() if len(group) >= OFTEN]
    rest = sorted(i for group in groups.values() if len(group) < OFTEN for i in group)
    return often + ([rest] if rest else [])


def spread_over(tasks: list[str], count: int) -> list[int]:
    """At most `count` indices that take turns over the different tasks."""
    turns: dict[str, int] = {}
    order = []
    for i, task in enumerate(tasks):
        turns[task] = turns.get(task, 0) + 1
        order.append((turns[task], i))
    return sorted(i for _, i in sorted(order)[:count])
