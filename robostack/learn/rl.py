"""Online reinforcement learning of a flow policy by advantage-weighted flow matching.

Each iteration rolls the policy out, scores what it did, and regresses its velocity field on every
action chunk so far, demonstrations included, drawn in proportion to exp(advantage / temperature)
(AWR, arXiv 1910.00177; Flow-RWR, 2501.13918). Chosen over flow-SDE PPO at this size because it

* needs no likelihood, so no stochastic sampler in training and no ratio to clip;
* re-uses every rollout for the rest of the run, where PPO would throw it away after one update:
  a hundred rollouts are what a real arm, or a CPU, can afford;
* degrades to cloning what the policy did: with a constant reward all weights are equal, which is
  what makes that control arm exact.

Its price is that it cannot push a chunk away, only stop imitating it.
"""

from __future__ import annotations

import copy
import json
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from robostack.alarms import Alarms, Watch
from robostack.augment import AugmentConfig, augment
from robostack.data.chunks import ChunkData
from robostack.data.normalize import Normalizer
from robostack.data.store import Store
from robostack.device import device
from robostack.learn import bc
from robostack.learn.bc import Lesson
from robostack.learn.learner import Compute, Learner
from robostack.learn.readings import Readings
from robostack.learn.run import Run, generator, rng, write_json
from robostack.policy.vla import VLA
from robostack.protocols import Scores
from robostack.rewards.eye import EyeConfig, SmallEye
from robostack.rewards.shaping import discount, shaped_rewards
from robostack.rollout import over
from robostack.types import Episode
from robostack.vision import shrink

Collect = Callable[[Path, list[int]], Iterable[Episode]]  # policy folder, seeds -> episodes
Score = Callable[[Episode], Scores]  # the combined potential and how sure it is
HISTORY = "alarms.json"  # readings of every iteration
SIDE = 32  # [px] of the pictures that the critic looks at
LARGEST = 20.0  # weight of a chunk, relative to one of average advantage


@dataclass(frozen=True)
class RLConfig:
    """Online fine-tuning from an existing policy."""

    iterations: int = 6
    episodes: int = 60  # rollouts an iteration, each from a new start
    updates: int = 200  # policy updates an iteration
    batch: int = 32
    draws: int = 4
    lr: float = 3e-4
    warmup: int = 20
    average: float = 0.99
    temperature: float = 0.05  # in units of success probability
    time_constant: float = 5.0  # [s] until a reward is worth 1/e, whatever the control rate
    trace: float = 0.95  # lambda of generalised advantage estimation
    shaping: float = 1.0  # weight of the potentials; 0 leaves bare success
    gate: bool = False  # pay for potentials only where they are sure (see `shaped_rewards`)
    critic_updates: int = 100
    critic_batch: int = 128
    constant_reward: bool = False  # control: success and potentials are ignored
    compute: Compute = field(default_factory=Compute)
    augment: AugmentConfig = field(default_factory=AugmentConfig)  # of the images
    first_seed: int = 50_000  # of the environment, for rollouts
    alarms: Alarms = field(default_factory=Alarms)  # of reward hacking


class Critic(nn.Module):
    """Value of an observation: the shaped return still to come. Its eyes are its own."""

    def __init__(self, data: ChunkData, width: int = 64):
        super().__init__()
        spec = data.spec
        self.normalize_state = Normalizer(spec.state_dim)
        self.normalize_state.fit(data.column("state"))
        self.encoder = SmallEye(
            EyeConfig(side=SIDE, width=width), len(spec.cameras), spec.state_dim
        )
        self.head = nn.Sequential(nn.GELU(), nn.Linear(width, 1))
        nn.init.zeros_(self.head[1].weight)  # no opinion before the first update
        nn.init.zeros_(self.head[1].bias)

    def forward(self, frames: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(frames, self.normalize_state(state))).squeeze(-1)


def advantages(
    rewards: np.ndarray, values: np.ndarray, terminated: bool, gamma: float, trace: float
) -> np.ndarray:
    """Generalised advantage estimates f32[T] (Schulman 2016) of rewards f32[T], values f32[T+1].

    The value after a true terminal is 0; after a time limit it is the critic's.
    """
    following = values[1:].astype(np.float64).copy()
    if terminated:
        following[-1] = 0.0
    delta = rewards + gamma * following - values[:-1]
    out = np.empty(len(rewards))
    running = 0.0
    for t in range(len(rewards) - 1, -1, -1):
        running = delta[t] + gamma * trace * running
        out[t] = running
    return out.astype(np.float32)


def chunk_weights(advantage: np.ndarray, temperature: float) -> np.ndarray:
    """exp(A / temperature), limited, with mean 1: how often a chunk is imitated."""
    weight = np.exp(np.clip(advantage / temperature, -np.log(LARGEST) * 2, np.log(LARGEST)))
    return weight / weight.mean()


class Replay:
    """All episodes so far with their rewards, for the policy and, shrunk, for the critic."""

    def __init__(self, vla: VLA, config: RLConfig):
        self.config = config
        self.gamma = discount(vla.spec.control_hz, config.time_constant)
        self.data = ChunkData(vla.spec, vla.config.horizon)
        self.rewards: list[np.ndarray] = []
        self._frames: list[np.ndarray] = []

    def add(self, episode: Episode, scores: Scores) -> None:
        config = self.config
        self.data.add(episode)
        self._frames.append(shrink(episode.images, SIDE))
        if config.constant_reward:
            self.rewards.append(np.zeros(len(episode), np.float32))
            return
        self.rewards.append(
            shaped_rewards(
                config.shaping * scores.potential,
                episode.success,
                over(episode),
                self.gamma,
                scores.confidence if config.gate else None,
            )
        )

    def targets(self, critic: Critic) -> tuple[np.ndarray, np.ndarray]:
        """Advantage and return-to-go of every row (0 at the last row of an episode)."""
        values = self._values(critic)
        advantage = np.zeros(len(values), np.float32)
        for i, (episode, rewards) in enumerate(zip(self.data.episodes, self.rewards)):
            rows = slice(self.data.row(i, 0), self.data.row(i, len(episode)))
            own = values[rows.start : rows.stop + 1]
            advantage[rows] = advantages(rewards, own, over(episode), self.gamma, self.config.trace)
        return advantage, advantage + values

    @torch.no_grad()
    def _values(self, critic: Critic) -> np.ndarray:
        out = []
        for frames, episode in zip(self._frames, self.data.episodes):
            seen = torch.from_numpy(frames).to(device()), torch.from_numpy(episode.states)
            out.append(critic(seen[0], seen[1].to(device())).cpu().numpy())
        return np.concatenate(out)

    def fit_critic(self, critic: Critic, optimizer: torch.optim.Optimizer, random) -> float:
        """Regress the critic on the current returns; returns the last error."""
        if self.config.constant_reward:
            return 0.0
        rows, frames = self.data.rows(), np.concatenate(self._frames)
        _, returns = self.targets(critic)
        for _ in range(self.config.critic_updates):
            pick = random.choice(rows, self.config.critic_batch)
            value = critic(
                torch.from_numpy(frames[pick]).to(device()),
                torch.from_numpy(self.data.column("state")[pick]).to(device()),
            )
            loss = F.mse_loss(value, torch.from_numpy(returns[pick]).to(device()))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return float(loss.detach())


def train(
    config: RLConfig,
    start: VLA,
    collect: Collect,
    score: Score,
    demonstrations: Iterable[Episode],
    run: Run,
    seed: int = 0,
    label: str = "train rl",
) -> VLA:
    """Improve `start` by its own rollouts, which are kept in `run.path / "store"`.

    An interrupted run goes on: finished rollouts are never collected again.
    """
    torch.manual_seed(seed)
    vla = copy.deepcopy(start).to(device())
    replay = Replay(vla, config)
    for episode in demonstrations:
        replay.add(episode, score(episode))
    readings, watch = Readings(vla, replay.data, seed), Watch(config.alarms, _history(run))
    critic = Critic(replay.data).to(device())
    critic_optimizer = torch.optim.AdamW(critic.parameters(), lr=1e-3, weight_decay=1e-4)
    total = config.iterations * config.updates
    learner = Learner(
        vla.train(), config.lr, total, config.warmup, config.average, compute=config.compute
    )
    parts = learner.parts(config.batch)
    store = Store.create(run.path / "store", vla.spec)
    done, metrics, raised = learner.resume(run) // config.updates, {}, []
    for iteration in range(config.iterations):
        episodes = _rollouts(config, store, iteration, learner, collect, run)
        scores = [score(e) for e in episodes]
        for episode, judged in zip(episodes, scores):
            replay.add(episode, judged)
        if iteration == 0:
            readings.base(episodes, scores)
        random = rng(seed, iteration)
        critic_error = replay.fit_critic(critic, critic_optimizer, random)
        if iteration < done:  # resumed: the updates of this iteration are in the weights already
            continue
        with averaged(learner):
            taken = readings.take(learner.model, episodes, scores)
        raised = watch.update(iteration, taken)
        write_json(run.path / HISTORY, watch.history)
        for alarm in raised:
            text = f"warning: {label}, iteration {iteration + 1}: {alarm}"
            print(text, file=sys.stderr, flush=True)
        if raised and config.alarms.stop:
            break
        advantage, _ = replay.targets(critic)
        rows = replay.data.rows()
        weight = chunk_weights(advantage[rows], config.temperature)
        for k in run.steps(0, config.updates, f"{label} {iteration + 1}/{config.iterations}"):
            draws = generator(seed, iteration, k)
            pick = random.choice(rows, config.batch, p=weight / weight.sum())
            batch = augment(replay.data.batch(pick).to(device()), config.augment, random)
            lesson = Lesson.draw(vla.train(), batch, config.draws, draws)
            metrics = learner.step(learner(bc.loss, lesson.part(part)) for part in parts)
        run.log(
            learner.step_count - 1,  # as everywhere: a resumed run drops what came after its step
            metrics
            | {
                "rollout_success": float(np.mean([bool(e.success) for e in episodes])),
                "rollouts": len(episodes) * (iteration + 1),
                "potential_gain": float(
                    np.mean([s.potential[-1] - s.potential[0] for s in scores])
                ),
                "critic_error": critic_error,
                "effective_share": float(weight.sum() ** 2 / (weight**2).sum() / len(weight)),
                **{f"alarm_{name}": value for name, value in taken.items()},
            },
        )
        learner.save(run)
    stopped = bool(raised) and config.alarms.stop
    vla = _before(run, iteration, start) if stopped else learner.trained()
    vla.save(run.path / "policy")
    shutil.rmtree(run.path / "rollout-policy", ignore_errors=True)
    ended = {"stopped": {"iteration": iteration + 1, "alarms": raised}} if stopped else {}
    run.finish({"rollouts": len(store), **metrics, **ended})
    return vla


def _history(run: Run) -> list:
    """Readings of an interrupted run, up to where it was cut."""
    file = run.path / HISTORY
    return json.loads(file.read_text()) if file.is_file() else []


def _before(run: Run, iteration: int, start: VLA) -> VLA:
    """The averaged policy of the iteration before, the last whose rollouts raised no alarm."""
    if iteration == 0:
        return copy.deepcopy(start)
    return VLA.load(run.path / "rollout-policy" / f"{iteration - 1:03d}")


def _rollouts(
    config: RLConfig, store: Store, iteration: int, learner: Learner, collect: Collect, run: Run
) -> list[Episode]:
    """The iteration's episodes: those already in the store, then new ones, saved one by one."""
    first = iteration * config.episodes
    ids = store.ids()[first : first + config.episodes]
    episodes = [store.read(i) for i in ids]
    seeds = [config.first_seed + first + k for k in range(len(ids), config.episodes)]
    if seeds:
        folder = run.path / "rollout-policy" / f"{iteration:03d}"
        with averaged(learner):
            learner.model.save(folder)
        for episode in collect(folder, seeds):
            store.append(episode)
            episodes.append(episode)
    return episodes


class averaged:
    """Within the block the model has its averaged weights, after it its own again."""

    def __init__(self, learner: Learner):
        self.learner = learner

    def __enter__(self) -> None:
        if self.learner.average is not None:
            self.learner.average.store(self.learner.parameters)
            self.learner.use_average()

    def __exit__(self, *_: object) -> None:
        if self.learner.average is not None:
            self.learner.average.restore(self.learner.parameters)
