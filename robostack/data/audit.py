"""What is suspicious about an episode: pure functions of what was recorded, so that the same look
can be had while collecting, before training, and at other people's data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from robostack.types import Episode, RobotSpec, SpecMismatch

Severity = Literal["error", "warning", "note"]
CHECKS = {
    "stamps": "time that stands still, runs backwards or leaves a gap; another rate than told",
    "frozen camera": "the same picture again and again while the robot moves",
    "dropped frames": "pictures that repeat the one before while the robot moves, again and again",
    "blank camera": "pictures of one colour only",
    "frozen state": "the same state again and again while the pictures change",
    "saturation": "a motion at its bound for much of the episode, or an action beyond it",
    "idle": "nothing moves",
    "spec": "another robot than the store's",
    "task": "no instruction, or nobody said whether it succeeded",
    "duplicate": "the same states and actions as another episode",
    "success": "a detector sees it otherwise",
}

SEVERAL = 3  # repeated pictures, at least, before they are no accident


@dataclass(frozen=True)
class AuditConfig:
    """From when on something is suspicious."""

    frozen: float = 0.5  # [s] that a camera or the state stands still
    unseen: float = 0.1  # of a state's range that may go by under the same picture: small pictures
    # show small motions late
    dropped: float = 0.1  # of the pictures in full motion that repeat the one before
    idle: float = 0.5  # [s] without motion
    still: float = 0.002  # of a state's range in the episode; less in a step is no motion
    gap: float = 1.5  # control periods between two observations
    rate: float = 0.05  # of the control rate that the measured one may be off
    saturated: float = 0.5  # of an action's steps

    def __post_init__(self) -> None:
        if min(self._positive()) <= 0 or self.still < 0:
            raise ValueError(f"audit: expected positive limits, got {self}")

    def _positive(self) -> tuple[float, ...]:
        return self.frozen, self.dropped, self.idle, self.gap, self.rate, self.saturated


@dataclass(frozen=True)
class Finding:
    """Something that a person should look at, and where."""

    check: str  # a key of CHECKS
    severity: Severity
    field: str  # of the episode, e.g. "images.wrist" or "actions.gripper"
    start: int  # observations start..stop-1 are meant
    stop: int
    what: str  # in words

    def __str__(self) -> str:
        return f"{self.severity}: {self.field}: {self.what} (steps {self.start} to {self.stop - 1})"


def audit(
    episode: Episode, config: AuditConfig = AuditConfig(), spec: RobotSpec | None = None
) -> list[Finding]:
    """All findings of one episode, errors first; `spec` is what it should be of."""
    found = [
        *_stamps(episode, config),
        *_cameras(episode, config),
        *_state(episode, config),
        *_saturation(episode, config),
        *_idle(episode, config),
        *_told(episode, spec),
    ]
    order = ("error", "warning", "note")
    return sorted(found, key=lambda f: (order.index(f.severity), f.start))


def _stamps(episode: Episode, config: AuditConfig) -> Iterator[Finding]:
    steps, period = np.diff(episode.stamps), 1 / episode.spec.control_hz
    last = len(episode.stamps)
    for bad in np.flatnonzero(~(steps > 0))[:1]:
        what = f"time goes on by {steps[bad]:.4g} s at step {bad}; it should increase"
        yield Finding("stamps", "error", "stamps", int(bad), int(bad) + 2, what)
        return
    for start, stop in _runs(steps > config.gap * period):
        lost = int(np.round(steps[start:stop] / period - 1).sum())
        what = f"a gap of {steps[start:stop].max():.3g} s, about {lost} observations are missing"
        yield Finding("stamps", "warning", "stamps", start, stop + 1, what)
    measured = 1 / np.median(steps)
    if abs(measured / episode.spec.control_hz - 1) > config.rate:
        what = f"{measured:.4g} Hz, but the spec says {episode.spec.control_hz:.4g} Hz"
        yield Finding("stamps", "error", "stamps", 0, last, what)


def _cameras(episode: Episode, config: AuditConfig) -> Iterator[Finding]:
    long = _steps(config.frozen, episode)
    moved = _motion(episode)
    moving = moved > config.still
    for name, frames in episode.images.items():
        field = f"images.{name}"
        flat = frames.reshape(len(frames), -1)
        blank = flat.min(1) == flat.max(1)
        for start, stop in _runs(blank):
            what = f"{stop - start} pictures are of one colour"
            yield Finding("blank camera", "error", field, start, stop, what)
        same = np.array([np.array_equal(a, b) for a, b in zip(flat[1:], flat[:-1])]) & ~blank[1:]
        for start, stop in _runs(same):
            far = moved[start:stop].sum() > config.unseen
            lasts = stop - start >= long and moving[start:stop].mean() > 0.5
            if lasts or (far and stop - start > 1):
                what = f"the same picture for {(stop - start) / episode.spec.control_hz:.2g} s"
                severity = "error" if lasts and far else "warning"
                yield Finding("frozen camera", severity, field, start, stop + 1, what)
                same[start:stop] = False  # told
        yield from _dropped(field, same, moved, config)


def _dropped(
    field: str, same: np.ndarray, moved: np.ndarray, config: AuditConfig
) -> Iterator[Finding]:
    """Repeated pictures, where the robot moved at least as much as it mostly does when they
    change: a small motion may not be seen, such a one is."""
    if same.all():  # of one colour, or of nothing that moves
        return
    full = moved >= max(np.median(moved[~same]), config.still)
    lost, count = int((same & full).sum()), int(full.sum())
    if lost >= SEVERAL and lost > config.dropped * count:
        what = f"{lost} of {count} pictures in full motion repeat the one before"
        where = np.flatnonzero(same & full)
        yield Finding("dropped frames", "warning", field, int(where[0]), int(where[-1]) + 2, what)


def _state(episode: Episode, config: AuditConfig) -> Iterator[Finding]:
    still = (episode.states[1:] == episode.states[:-1]).all(1)
    for start, stop in _runs(still):
        changed = any(
            not np.array_equal(f[start], f[min(stop, len(f) - 1)]) for f in episode.images.values()
        )
        if stop - start >= _steps(config.frozen, episode) and changed:
            what = f"the same state for {(stop - start) / episode.spec.control_hz:.2g} s"
            yield Finding("frozen state", "error", "states", start, stop + 1, what)


def _saturation(episode: Episode, config: AuditConfig) -> Iterator[Finding]:
    spec = episode.spec
    for i, name in enumerate(spec.action_names):
        asked, low, high = episode.actions[:, i], spec.action_low[i], spec.action_high[i]
        slack = 1e-5 * (high - low)
        beyond = (asked < low - slack) | (asked > high + slack)
        if beyond.any():
            first = int(np.argmax(beyond))
            what = f"{asked[first]:.4g} is beyond the bounds [{low}, {high}], {beyond.sum()} times"
            yield Finding("saturation", "error", f"actions.{name}", first, first + 1, what)
        at = (asked <= low + slack) | (asked >= high - slack)
        if at.mean() > config.saturated and not (_switch(asked) or "gripper" in name):
            what = f"at its bound in {at.mean():.0%} of the steps"
            yield Finding("saturation", "warning", f"actions.{name}", 0, len(asked), what)


def _switch(asked: np.ndarray) -> bool:
    """Whether an action only ever says one of two things, as grippers do."""
    return len(np.unique(np.round(asked, 3))) <= 3


def _idle(episode: Episode, config: AuditConfig) -> Iterator[Finding]:
    for start, stop in idle(episode, config):
        where = "at the start" if start == 0 else "at the end" if stop == len(episode) else "midway"
        what = f"nothing moves for {(stop - start) / episode.spec.control_hz:.2g} s {where}"
        yield Finding("idle", "note", "states", start, stop, what)


def _told(episode: Episode, spec: RobotSpec | None) -> Iterator[Finding]:
    last = len(episode) + 1
    if not episode.task.strip():
        yield Finding("task", "warning", "task", 0, last, "no instruction")
    if episode.success is None:
        yield Finding("task", "note", "success", 0, last, "nobody said whether it succeeded")
    if spec is not None:
        try:
            spec.require_same(episode.spec, "the store", "the episode")
        except SpecMismatch as error:
            what = "; ".join(line.strip() for line in str(error).splitlines()[1:])
            yield Finding("spec", "error", "spec", 0, last, what)


def idle(episode: Episode, config: AuditConfig = AuditConfig()) -> list[tuple[int, int]]:
    """Steps start..stop-1 of the stretches in which neither the state nor what is asked of a
    switch (a gripper) changes."""
    asked = episode.actions
    switched = np.zeros(len(asked), bool)
    for column in asked.T:
        if _switch(column):
            switched[1:] |= column[1:] != column[:-1]
    quiet = (_motion(episode) <= config.still) & ~switched
    return [(a, b) for a, b in _runs(quiet) if b - a >= _steps(config.idle, episode)]


def trimmed(
    episode: Episode, config: AuditConfig = AuditConfig(), margin: float = 0.2
) -> tuple[int, int]:
    """Steps start..stop-1 that are left when an idle beginning and an idle end are cut, of which
    `margin` seconds stay. All steps where nothing ever moves: that is for a person to judge."""
    start, stop, keep = 0, len(episode), _steps(margin, episode)
    for a, b in idle(episode, config):
        if a == 0 and b < len(episode):
            start = max(b - keep, 0)
        if b == len(episode) and a > 0:
            stop = min(a + keep, len(episode))
    return start, stop


def _motion(episode: Episode) -> np.ndarray:
    """How far the state moves in each step, as a share of its range in the episode: the largest
    of all dimensions, f64[T]."""
    states = episode.states.astype(np.float64)
    span = np.ptp(states, axis=0)
    span[span < 1e-6] = np.inf
    return np.abs(np.diff(states, axis=0) / span).max(1, initial=0)


def _steps(seconds: float, episode: Episode) -> int:
    return max(1, round(seconds * episode.spec.control_hz))


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Where a mask is true: half-open stretches."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def fingerprint(episode: Episode) -> str:
    """The same for two recordings of the very same states and actions."""
    digest = hashlib.sha256()
    for array in (episode.states, episode.actions):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def disagreement(episode: Episode, succeeded: bool, who: str) -> list[Finding]:
    """What a detector, by the name of `who`, says of the outcome, where that is not what is
    recorded."""
    if succeeded == episode.success:
        return []
    verdict = f"{who} says that it {'succeeded' if succeeded else 'failed'}"
    last = len(episode) + 1
    if episode.success is None:
        return [Finding("success", "note", "success", 0, last, f"nobody said; {verdict}")]
    recorded = "a success" if episode.success else "a failure"
    what = f"recorded as {recorded}, but {verdict}"
    return [Finding("success", "warning", "success", 0, last, what)]


def audit_all(
    episodes: Iterable[tuple[str, Episode]],
    config: AuditConfig = AuditConfig(),
    spec: RobotSpec | None = None,
    seen: dict[str, str] | None = None,
) -> Iterator[tuple[str, Episode, list[Finding]]]:
    """Episodes by name and their findings, duplicates among them included. `seen` are the names of
    earlier ones by their fingerprints; these are added."""
    seen = {} if seen is None else seen
    for name, episode in episodes:
        found, mark = audit(episode, config, spec), fingerprint(episode)
        if mark in seen:
            what = f"the same states and actions as episode {seen[mark]}"
            found.insert(0, Finding("duplicate", "error", "states", 0, len(episode) + 1, what))
        seen.setdefault(mark, name)
        yield name, episode, found
