"""Progress estimator: how much of what was asked has this step gained or lost?

After the general reward model of Robo-Dopamine (arXiv 2512.23703): from a start, a goal, an
observation before and one after, all cameras of each, and the instruction, a distribution over
hops (robostack.rewards.hops). Its labels come from keyframes that are found by themselves
(robostack.rewards.keyframes). What that paper's model and its kin cannot see, because they only saw
successes, is learned from: pairs in the wrong order, stalled ones, failures, and instructions that
ask for something else (ReWiND, 2505.10911; Robometer, 2603.02115; RoboReward, 2601.00675).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robostack.protocols import Scores
from robostack.rewards.calibrate import platt
from robostack.rewards.eye import EyeConfig, Instruction
from robostack.rewards.following import LearnedFollower
from robostack.rewards.hops import Fusion, hop, land, triangle, two_hot
from robostack.rewards.learned import LearnedReward, RewardData
from robostack.rewards.lessons import WRONG, Lessons, nearest, spread_over
from robostack.types import Episode, RobotSpec

BINS = 51  # of a hop, from -1 to 1
DONE = 0.95  # from here on a task counts as complete (Robo-Dopamine)
SHARP = 3.0  # how fast a claim of success fades below even odds
HALFWAY = 0.5  # nobody is done who does not look half-way there
SURE = 0.9  # as far as the potential comes without the success head's word


@dataclass(frozen=True)
class ProgressConfig:
    """How hops are drawn and fused."""

    episodes: int = 12  # of a training step
    frames: int = 6  # of each, beside a start and a goal: all pairs of them are hops
    stride: int = 4  # control steps of the incremental estimate
    goals: int = 3  # ends of successes that an episode is compared with
    kept: int = 64  # ends of successes that are kept
    wrong: float = 0.25  # share of episodes under a wrong instruction
    failed: float = 0.25  # share of failures
    consistency: float = 0.2  # weight of antisymmetry and triangles

    def __post_init__(self) -> None:
        if min(self.episodes, self.frames, self.stride, self.goals, self.kept) < 1:
            raise ValueError(f"progress: expected counts of 1 or more, got {self}")
        if not (self.wrong >= 0 and self.failed >= 0 and self.wrong + self.failed < 1):
            raise ValueError(
                f"progress: expected shares that leave room for successes, got wrong={self.wrong} "
                f"and failed={self.failed}"
            )


class ProgressEstimator(LearnedReward):
    name = "progress"
    Config = ProgressConfig
    midway = False

    def __init__(
        self,
        spec: RobotSpec,
        eye: EyeConfig | None = None,
        config: ProgressConfig | None = None,
    ):
        super().__init__(spec, eye, config)
        width = self.eye.config.width
        self.instruction = Instruction(width)
        self.hops = nn.Sequential(
            nn.Linear(5 * width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, BINS),
        )
        self.done = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, 1))
        self.register_buffer("platt", torch.tensor([1.0, 0.0]))  # of the logit of being done
        self.register_buffer("bins", torch.linspace(-1, 1, BINS))
        # ends of successes, one for each of `tasks`
        self.register_buffer("goal_seen", torch.zeros(0))
        self.register_buffer("goal_states", torch.zeros(0))

    # training --------------------------------------------------------------------------------
    def fit(self, data: RewardData) -> None:
        super().fit(data)
        self.lessons = Lessons(data, self.config.frames, self.config.wrong, self.config.failed)

    def logits(self, start: Tensor, goal: Tensor, frames: Tensor) -> Tensor:
        """Hops between all pairs of K vectors f32[B, K, D] of each of B episodes, given their start
        and goal f32[B, D] -> f32[B, K, K, BINS], from the first index to the second."""
        count = frames.shape[1]
        first = frames[:, :, None].expand(-1, -1, count, -1)
        second = frames[:, None].expand(-1, count, -1, -1)
        context = torch.cat([start, goal], -1)[:, None, None].expand(-1, count, count, -1)
        return self.hops(torch.cat([context, first, second, second - first], -1))

    def loss(
        self, data: RewardData, random: np.random.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        lesson = self.lessons.draw(self.config.episodes, random)
        count, frames = lesson.rows.shape
        seen, states = self.seen(data, lesson.rows.reshape(-1), random)
        asked = self.instruction([task for task in lesson.tasks for _ in range(frames)])
        vectors = self.eye(seen, states, asked).reshape(count, frames, -1)
        start, goal = vectors[:, 0], vectors[:, 1]
        logits = self.logits(start, goal, vectors)
        value = (logits.softmax(-1) * self.bins).sum(-1)
        known = torch.from_numpy(lesson.progress).to(self.device)
        pair = known[:, :, None].isfinite() & known[:, None].isfinite()
        # a wrong instruction's goal may be no goal of it: nothing leads there, all is far from it
        pair[torch.from_numpy(lesson.kinds == WRONG).to(self.device), :, 1] = False
        target = hop(known[:, :, None].nan_to_num(), known[:, None].nan_to_num())
        entropy = -(two_hot(target, -1, 1, BINS) * logits.log_softmax(-1)).sum(-1)[pair].mean()
        backward = 1 + value[:, 1].clamp(max=0)  # f32[B, K], from the goal
        excess = F.relu(backward - torch.from_numpy(lesson.most).to(self.device)).sum() / count
        apart = self._disagreement(value, backward)
        done = self.done(torch.cat([vectors, goal[:, None].expand_as(vectors)], -1)).squeeze(-1)
        label = torch.from_numpy(lesson.done).to(self.device)
        success = F.binary_cross_entropy_with_logits(
            done, label.nan_to_num(), label.isfinite().float()
        )
        loss = entropy + 4 * excess + self.config.consistency * apart + success
        error = (value - target).abs()[pair].mean()
        return loss, {"error": float(error.detach()), "done": float(success.detach())}

    def _disagreement(self, value: Tensor, backward: Tensor) -> Tensor:
        """Of hops with themselves: there and back again is nowhere, there by way of a third is
        there, and the two anchors mean the same."""
        potential = backward.detach()
        there = land(potential[:, :, None], value)
        back = (land(there, value.transpose(1, 2)) - potential[:, :, None]).abs().mean()
        forward = land(potential[:, :1], value[:, 0])
        return triangle(potential, value) + back + (forward - backward).abs().mean()

    @torch.no_grad()
    def calibrate(self, data: RewardData) -> None:
        """Keep the ends of successes as goals, spread over the instructions. Let being done be as
        likely as it is at the ends of episodes that were held out."""
        chosen = spread_over([data.tracks[i].task for i in self.lessons.labelled], self.config.kept)
        chosen = [self.lessons.labelled[i] for i in chosen]
        ends = data.first[chosen] + data.length[chosen] - 1
        self.tasks = tuple(data.tracks[i].task for i in chosen)
        self.goal_seen, self.goal_states = data.gather(ends, self.device)
        if self.lessons.held_out:
            logits = torch.stack([self._end_logit(data, i) for i in self.lessons.held_out])
            label = torch.from_numpy(data.success[self.lessons.held_out]).float()
            with torch.enable_grad():
                self.platt.copy_(platt(logits, label.to(self.device)))

    def _end_logit(self, data: RewardData, episode: int) -> Tensor:
        """Logit of being done at the end of an episode of the data."""
        seen, states = self.seen(data, data.first[[episode]] + data.length[episode] - 1)
        task = data.tracks[episode].task
        vector = self.eye(seen, states, self.instruction([task]))
        goals = self.goals(task)
        both = torch.cat([vector.expand(len(goals), -1), goals], -1)
        return self.done(both).squeeze(-1).mean()

    def goals(self, task: str) -> Tensor:
        """Vectors f32[G, D] of the ends of successes that an instruction is measured by."""
        chosen = nearest(task, self.tasks, self.config.goals)
        states = self.normalize_state(self.goal_states[chosen])
        asked = self.instruction([task]).expand(len(chosen), -1)
        return self.eye(self.goal_seen[chosen], states, asked)

    # use -------------------------------------------------------------------------------------
    def score(self, episode: Episode) -> np.ndarray:
        return self.explain(episode).potential

    @torch.inference_mode()
    def explain(self, episode: Episode) -> Scores:
        """The fused potential, the anchors' agreement as confidence, and as terms the three
        estimates and the success head."""
        seen, states = self.look(episode)
        return Following(self, episode.task).go_on(seen, states, episode.actions)

    def follow(self) -> Following:
        return Following(self)

    def _estimates(
        self, start: Tensor, before: Tensor, vectors: Tensor, goal: Tensor
    ) -> tuple[Tensor, ...]:
        """(forward, backward, hop from `before`, probability of success), f32[L] each, of vectors
        f32[L, D] of an episode that began at f32[D], given those of `stride` before f32[L, D]."""

        def hops(first: Tensor, second: Tensor) -> Tensor:
            context = torch.cat([start, goal]).expand(len(second), -1)
            x = torch.cat([context, first, second, second - first], -1)
            return (self.hops(x).softmax(-1) * self.bins).sum(-1)

        here = torch.cat([start[None], vectors])
        backward = 1 + hops(goal.expand_as(here), here).clamp(max=0)
        forward = land(backward[0], hops(start.expand_as(vectors), vectors))
        done = self.done(torch.cat([vectors, goal.expand_as(vectors)], -1)).squeeze(-1)
        done = torch.sigmoid(self.platt[0] * done + self.platt[1])
        return forward, backward[1:], hops(before, vectors), done


class Following(LearnedFollower[ProgressEstimator]):
    """Keeps the vectors of the goals, of the start and of the last `stride` observations."""

    def __init__(self, reward: ProgressEstimator, task: str | None = None):
        super().__init__(reward, task)
        self._fusion = Fusion(reward.config.stride)
        self._past: Tensor | None = None

    def go_on(self, seen: Tensor, states: Tensor, actions: np.ndarray) -> Scores:
        reward, stride = self.reward, self.reward.config.stride
        asked = reward.instruction([self.task])
        vectors = reward.eye(seen, states, asked.expand(len(seen), -1))
        if self._past is None:  # before the start there was the start
            self._start, self._past = vectors[0], vectors[:1].expand(stride, -1)
            self._goals = reward.goals(self.task)
        line = torch.cat([self._past, vectors])
        before, self._past = line[: len(vectors)], line[-stride:]
        found = [reward._estimates(self._start, before, vectors, goal) for goal in self._goals]
        forward, backward, steps, done = (torch.stack(x).mean(0).cpu().numpy() for x in zip(*found))
        fused, trust, incremental = self._fusion.go_on(forward, backward, steps)
        claim = claimed(done) * np.clip(fused / HALFWAY, 0, 1) ** 2
        potential = claim + (1 - claim) * np.minimum(fused, SURE)
        terms = {"incremental": incremental, "forward": forward, "backward": backward, "done": done}
        terms = {name: np.clip(x, 0, 1).astype(np.float32) for name, x in terms.items()}
        return Scores(np.clip(potential, 0, 1).astype(np.float32), trust, terms)


def claimed(done: np.ndarray) -> np.ndarray:
    """The part f32[L] of the potential that being done decides, from its calibrated probability.

    DONE at even odds, so that a task counts as complete exactly where it is more likely done than
    not, and next to nothing at one in ten, where an arm may hover.
    """
    odds = np.log(np.clip(done, 1e-6, 1 - 1e-6) / np.clip(1 - done, 1e-6, 1 - 1e-6))
    return 1 / (1 + (1 - DONE) / DONE * np.exp(-SHARP * odds))
