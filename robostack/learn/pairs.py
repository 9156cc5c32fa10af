"""Preferences as training data: the windows that a pair is made of, and both sides' flow errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from robostack.augment import AugmentConfig, augment
from robostack.data.chunks import Batch, ChunkData
from robostack.policy import flow
from robostack.policy.backbone import Prefix
from robostack.policy.vla import VLA
from robostack.types import Clip, Episode, Preference, RobotSpec


class PairError(ValueError):
    """A pair that nothing can be learned from; the message names it."""


@dataclass
class PairLesson:
    """Some pairs, a few windows of each side, and the noises and times that all of them share.

    `rejected` has no images where both sides begin at the same observations: these are then encoded
    once. With W windows and D draws the rows of a batch are pair-major, f32[B * W * D, ...].
    """

    chosen: Batch  # B * W windows
    rejected: Batch
    label: Tensor  # f32[B], how likely it is that chosen is the better one
    windows: int
    draws: int
    noise: Tensor  # f32[B * W * D, H, A]
    time: Tensor  # f32[B * W * D]

    def __len__(self) -> int:
        return len(self.label)

    def part(self, rows: slice) -> PairLesson:
        """Some of its pairs."""
        seen = slice(rows.start * self.windows, rows.stop * self.windows)
        drawn = slice(seen.start * self.draws, seen.stop * self.draws)
        return replace(
            self,
            chosen=self.chosen.part(seen),
            rejected=self.rejected.part(seen),
            label=self.label[rows],
            noise=self.noise[drawn],
            time=self.time[drawn],
        )

    def augment(self, config: AugmentConfig, random: np.random.Generator) -> PairLesson:
        chosen = augment(self.chosen, config, random)
        rejected = augment(self.rejected, config, random) if self.rejected.images else self.rejected
        return replace(self, chosen=chosen, rejected=rejected)


class PairData:
    """Pairs over the episodes that they refer to.

    A lesson looks at some of the windows of a clip, of a chunk each, which begin anywhere in it: of
    those alone at which the policy was asked, a few hundred pairs are soon known by heart. Raises
    PairError naming a pair whose two sides are the same actions, or one the beginning of the other.
    """

    def __init__(
        self,
        spec: RobotSpec,
        horizon: int,
        pairs: Sequence[Preference],
        tries: dict[str, Episode],
    ):
        if not pairs:
            raise PairError("there are no pairs to learn from")
        self.data, self._index = ChunkData(spec, horizon), {}
        for name in sorted({clip.episode for p in pairs for clip in (p.chosen, p.rejected)}):
            if name not in tries:
                pair = next(p for p in pairs if name in (p.chosen.episode, p.rejected.episode))
                raise PairError(f"the pair of {pair.group} needs episode {name}, which is missing")
            spec.require_same(tries[name].spec, "the policy", f"episode {name} of the pairs")
            self._index[name] = self.data.add(tries[name])
        self.chosen = [self._rows(p, p.chosen) for p in pairs]
        self.rejected = [self._rows(p, p.rejected) for p in pairs]
        self._clips = [(p.chosen, p.rejected) for p in pairs]
        for pair in pairs:
            self._require_different(pair)
        states = self.data.column("state")
        self.shared = all(
            len(a) == len(b) == 1 and np.array_equal(states[a], states[b])
            for a, b in zip(self.chosen, self.rejected)
        )

    def __len__(self) -> int:
        return len(self.chosen)

    def _rows(self, pair: Preference, clip: Clip) -> np.ndarray:
        length = len(self.data.episodes[self._index[clip.episode]])
        if clip.stop > length:
            raise PairError(
                f"the pair of {pair.group} needs actions {clip.start} to {clip.stop} of episode "
                f"{clip.episode}, which has {length}"
            )
        width = clip.chunk and len(clip.chunk[0])
        if width and width != self.data.spec.action_dim:
            raise PairError(
                f"the pair of {pair.group}: the chunk of episode {clip.episode} has {width} "
                f"numbers an action, the policy's actions {self.data.spec.action_dim}"
            )
        starts = np.arange(clip.start, max(clip.stop - self.data.horizon, clip.start) + 1)
        if clip.chunk is not None:
            starts = starts[:1]
        return np.array([self.data.row(self._index[clip.episode], t) for t in starts])

    def _require_different(self, pair: Preference) -> None:
        chosen, rejected = self._done(pair.chosen), self._done(pair.rejected)
        steps = min(len(chosen), len(rejected))
        if np.allclose(chosen[:steps], rejected[:steps], atol=1e-6):
            raise PairError(
                f"the pair of {pair.group}: chosen (episode {pair.chosen.episode}) and rejected "
                f"(episode {pair.rejected.episode}) are the same actions, so neither can be better"
            )

    def _done(self, clip: Clip) -> np.ndarray:
        """Actions f32[T, A] of a clip."""
        if clip.chunk is not None:
            return np.array(clip.chunk, np.float32)
        return self.data.episodes[self._index[clip.episode]].actions[clip.start : clip.stop]

    def lesson(
        self,
        vla: VLA,
        pick: np.ndarray,
        label: np.ndarray,
        windows: int,
        draws: int,
        random: np.random.Generator,
        generator: torch.Generator,
    ) -> PairLesson:
        """Pairs `pick` i64[B] with labels f32[B], on the device of the policy."""
        device = vla.normalize_action.low.device
        count = max(len(self.chosen[p]) for p in pick), max(len(self.rejected[p]) for p in pick)
        windows = min(windows, max(count))
        sides = [
            self._side(side, which, pick, windows, random)
            for which, side in enumerate((self.chosen, self.rejected))
        ]
        if self.shared:
            sides[1] = replace(sides[1], images={})
        total = len(pick) * windows
        time = flow.stratified_time(draws, total, generator).T.reshape(-1).to(device)
        return PairLesson(
            *(side.to(device) for side in sides),
            torch.from_numpy(np.asarray(label, np.float32)).to(device),
            windows,
            draws,
            vla.noise(total * draws, generator),
            time,
        )

    def _side(
        self, side: list, which: int, pick: np.ndarray, windows: int, random: np.random.Generator
    ) -> Batch:
        rows = np.concatenate([spread(side[p], windows, random) for p in pick])
        batch, horizon = self.data.batch(rows), self.data.horizon
        for i, p in enumerate(pick):
            clip, mine = self._clips[p][which], slice(i * windows, (i + 1) * windows)
            done = self._done(clip)[:horizon]
            if clip.chunk is not None:
                chunk = np.concatenate([done, np.repeat(done[-1:], horizon - len(done), 0)])
                batch.chunk[mine] = torch.from_numpy(chunk)
                batch.valid[mine] = True
            # what came after a clip shorter than a chunk was not judged; others end within theirs
            batch.valid[mine, len(done) :] = False
        return batch


def spread(rows: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """`count` of i64[N] rows, one from each of as many equal stretches."""
    if len(rows) == 1:
        return np.repeat(rows, count)
    place = (np.arange(count) + random.random(count)) / count
    return rows[(place * len(rows)).astype(int)]


@dataclass
class Flows:
    """Of one side: velocities, their targets and the mean squared error of each pair."""

    velocity: Tensor  # f32[B, R, H, A], R = windows * draws
    target: Tensor
    weight: Tensor  # f32[B, R, H, 1], of each action's squared error, sums to 1 over R, H
    error: Tensor  # f32[B], mean over dims, valid actions, draws and windows


def encode(vla: VLA, lesson: PairLesson) -> tuple[Prefix, Prefix]:
    """Of both sides; where they look at the same, of one for both. An insulated backbone learns
    from neither, as it does not from cloning."""

    def look(side: Batch) -> Prefix:
        prefix = vla.encode(side)
        return prefix.detach() if vla.config.insulate else prefix

    chosen = look(lesson.chosen)
    return chosen, look(lesson.rejected) if lesson.rejected.images else chosen


def flows(vla: VLA, lesson: PairLesson, prefixes: tuple[Prefix, Prefix]) -> tuple[Flows, Flows]:
    """Chosen and rejected at the same noises and times."""
    found = []
    for batch, prefix in zip((lesson.chosen, lesson.rejected), prefixes):
        seen, drawn = prefix.repeat(lesson.draws), batch.repeat(lesson.draws)
        action = vla.normalize_action(drawn.chunk)
        x = flow.interpolate(action, lesson.noise, lesson.time)
        velocity = vla.velocity(seen, drawn.state, x, lesson.time)
        wanted = flow.target(action, lesson.noise)
        rows = (len(lesson), lesson.windows * lesson.draws)
        weight = drawn.valid.to(velocity.dtype)
        weight = weight / weight.sum(1, keepdim=True).clamp(min=1) / rows[1]
        velocity, wanted = velocity.unflatten(0, rows), wanted.unflatten(0, rows)
        weight = weight.unflatten(0, rows)[..., None]
        squared = (velocity - wanted).square().mean(-1, keepdim=True)
        found.append(Flows(velocity, wanted, weight, (weight * squared).sum((1, 2, 3))))
    return found[0], found[1]
