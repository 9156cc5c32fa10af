"""Learning from few rollouts: critics over chunks, on a frozen policy (RLPD, arXiv 2302.02948).

Half of every batch is demonstrations and successes. Chunks of all rollouts, begun at any of their
steps, teach an ensemble of critics; what is best of the policy's proposals, as they are and nudged,
is executed (`robostack.policy.edits`). The policy itself is never touched, so nothing that it can
do is forgotten; what may be gained ends where neither a proposal nor a nudge reaches.
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from robostack.data.chunks import ChunkData
from robostack.device import device
from robostack.learn.rl.config import RLConfig
from robostack.learn.rl.flow_learner import MARKS, Steps
from robostack.learn.rl.replay import Replay
from robostack.learn.rl.traces import Acting
from robostack.learn.run import Run, generator, rng, trim, write_json
from robostack.policy.checkpoint import EDITS
from robostack.policy.edits import EditConfig, Edits, look
from robostack.policy.vla import VLA
from robostack.rollout import over

AT_ONCE = 64  # observations that the policy looks at in one pass


class Chunks:
    """Every chunk of the replay, begun anywhere: what was seen, done, earned, and what came."""

    def __init__(self, vla: VLA, data: ChunkData, config: EditConfig, acting: Acting, seed: int):
        self.vla, self.data, self.config, self.acting, self.seed = vla, data, config, acting, seed
        self.known = 0  # episodes
        self.seen: list[Tensor] = []  # f32[T+1, F + S] of each
        self.proposals: list[Tensor] = []  # f32[T+1, P, execute, A]
        self.rows: dict[str, np.ndarray] = {}

    def extend(self, rewards: list[np.ndarray], gamma: float) -> None:
        """Take in the episodes that are new in `data`."""
        while self.known < len(self.data.episodes):
            self._look(self.known)
            self.known += 1
        parts = [self._of(i, rewards[i], gamma) for i in range(self.known)]
        self.rows = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    @torch.no_grad()
    def _look(self, index: int) -> None:
        """Once for all: the policy is frozen."""
        count = len(self.data.episodes[index]) + 1
        draws, seen, proposals = generator(self.seed, index), [], []
        for k in range(0, count, AT_ONCE):
            rows = self.data.row(index, 0) + np.arange(k, min(count, k + AT_ONCE))
            batch = self.data.batch(rows).to(device())
            prefix = self.vla.encode(batch)
            seen.append(look(self.vla, batch, prefix))
            many, size = prefix.repeat(self.config.proposals), len(rows) * self.config.proposals
            repeated = batch.repeat(self.config.proposals)
            noise = self.vla.noise(size, draws)
            chunk = self.vla.sample(
                repeated, noise, self.acting.steps, self.acting.level, draws, many
            )
            shape = len(rows), self.config.proposals, *chunk.shape[1:]
            chunk = torch.from_numpy(self.vla.spec.clip(chunk.cpu().numpy())).to(device())
            proposals.append(chunk.reshape(shape)[:, :, : self.config.execute])
        self.seen.append(torch.cat(seen))
        self.proposals.append(torch.cat(proposals))

    def _of(self, index: int, rewards: np.ndarray, gamma: float) -> dict[str, np.ndarray]:
        """Chunks of an episode: all of them, but those that a time limit cut, whose rest nobody
        knows. After a true end the last action stands for what no longer matters."""
        episode, size = self.data.episodes[index], self.config.execute
        ended = over(episode)
        starts = np.arange(len(episode) if ended else len(episode) - size + 1)
        stops = np.minimum(starts + size, len(episode))
        picked = np.minimum(starts[:, None] + np.arange(size), len(episode) - 1)
        powers = gamma ** np.arange(size)
        earned = [rewards[a:b] @ powers[: b - a] for a, b in zip(starts, stops)]
        last = ended & (stops == len(episode))
        return {
            "episode": np.full(len(starts), index),
            "start": starts,
            "stop": stops,
            "chunk": episode.actions[picked],
            "reward": np.array(earned, np.float32).reshape(-1),
            "discount": (gamma ** (stops - starts) * ~last).astype(np.float32),
            "good": np.full(len(starts), bool(episode.success)),
        }

    def batch(self, pick: np.ndarray) -> dict[str, Tensor]:
        """Of rows i64[B]: seen, chunk, reward, discount, next_seen, next_proposals, proposal."""
        rows = {name: column[pick] for name, column in self.rows.items()}
        at = list(zip(rows["episode"], rows["start"], rows["stop"]))
        return {
            "seen": torch.stack([self.seen[e][a] for e, a, _ in at]),
            "next_seen": torch.stack([self.seen[e][b] for e, _, b in at]),
            "proposals": torch.stack([self.proposals[e][a] for e, a, _ in at]),
            "next_proposals": torch.stack([self.proposals[e][b] for e, _, b in at]),
            **{n: torch.from_numpy(rows[n]).to(device()) for n in ("chunk", "reward", "discount")},
        }


def target(edits: Edits, batch: dict[str, Tensor], members: Sequence[int]) -> Tensor:
    """r + gamma^n min over `members` of Q(s', best chunk there), f32[B]."""
    chunk = edits.best(batch["next_seen"], batch["next_proposals"])
    value = edits.judge(batch["next_seen"], chunk)[list(members)].amin(0)
    return batch["reward"] + batch["discount"] * value


class RLPD:
    """Algorithm of `train rl`; see the module."""

    tries = 1

    def __init__(self, config: RLConfig, start: VLA, replay: Replay, seed: int, acting: Acting):
        own = config.rlpd
        self.config, self.replay, self.seed = config, replay, seed
        self.vla = copy.deepcopy(start).to(device()).eval()
        sizes = own.proposals, own.reach, own.critics, own.width
        edit = EditConfig(acting.execute, *sizes)
        self.chunks = Chunks(self.vla, replay.data, edit, acting, seed)
        self.chunks.extend(replay.rewards, replay.gamma)
        seen = torch.cat(self.chunks.seen)
        self.edits = Edits(edit, start.spec, seen.shape[1] - start.spec.state_dim).to(device())
        self.edits.fit(seen)
        self.slow = copy.deepcopy(self.edits)
        parts = self.edits.critics, self.edits.actor
        self._optimizers = [torch.optim.AdamW(p.parameters(), lr=own.lr) for p in parts]
        self._marks: list[int] = []
        self.step = 0

    def relive(self, iteration: int, fresh: Sequence[int]) -> None:
        pass  # its networks were saved

    def learn(
        self, iteration: int, fresh: Sequence[int], seeds: Sequence[int], steps: Steps
    ) -> dict[str, float]:
        self.chunks.extend(self.replay.rewards, self.replay.gamma)
        random, told, done = rng(self.seed, iteration, 1), {}, 0
        good = np.flatnonzero(self.chunks.rows["good"])
        every = np.arange(len(self.chunks.rows["good"]))
        size = self.config.rlpd.batch
        share = int(self.config.rlpd.demonstrated * size) if len(good) else 0
        for _ in steps(self.config.updates):
            pick = np.concatenate([random.choice(good, share), random.choice(every, size - share)])
            each = self._update(self.chunks.batch(pick.astype(int)), random)
            told, done = {n: told.get(n, 0.0) + v for n, v in each.items()}, done + 1
            self.step += 1
        return {n: v / done for n, v in told.items()} | {"chunks": len(every)}

    def _update(self, batch: dict[str, Tensor], random: np.random.Generator) -> dict[str, float]:
        own = self.config.rlpd
        members = random.choice(own.critics, 2, replace=False)
        with torch.no_grad():
            wanted = target(self.slow, batch, members)
        value = self.edits.judge(batch["seen"], batch["chunk"])
        error = F.mse_loss(value, wanted.expand_as(value))
        self._descend(self._optimizers[0], error)
        which = torch.from_numpy(random.integers(own.proposals, size=len(wanted))).to(wanted.device)
        proposal = batch["proposals"][torch.arange(len(wanted), device=wanted.device), which]
        nudged = self.edits.nudge(batch["seen"], proposal)
        expected = self.edits.judge(batch["seen"], nudged).mean()
        self._descend(self._optimizers[1], -expected)
        with torch.no_grad():
            for slow, fast in zip(self.slow.parameters(), self.edits.parameters()):
                slow.lerp_(fast, own.average)
        moved = ((nudged - proposal) / self.edits.half_range).abs().amax((1, 2)).mean()
        told = {"critic_error": error, "value": value.mean(), "expected": expected, "nudge": moved}
        return {name: float(x.detach()) for name, x in told.items()}

    def _descend(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"rlpd: a loss became {float(loss)} at update {self.step}; nothing is saved from "
                "here on. Lower rlpd.lr, or look for broken episodes in the data"
            )
        for each in self._optimizers:
            each.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    # interruptions -------------------------------------------------------------------------

    def _state(self) -> dict[str, Tensor]:
        state = {f"edits.{k}": v for k, v in self.edits.state_dict().items()}
        state |= {f"slow.{k}": v for k, v in self.slow.state_dict().items()}
        for i, optimizer in enumerate(self._optimizers):
            for j, kept in optimizer.state_dict()["state"].items():
                state |= {f"optimizer.{i}.{j}.{k}": torch.as_tensor(v) for k, v in kept.items()}
        return state

    def save(self, run: Run, iteration: int) -> None:
        self._marks = [*self._marks[:iteration], self.step]
        partial = run.path / ".resume.safetensors"
        save_file({k: v.contiguous().cpu() for k, v in self._state().items()}, partial)
        partial.replace(run.path / f"resume.{self.step}.safetensors")
        write_json(run.path / MARKS, self._marks)
        write_json(run.path / "resume.json", {"step": self.step, "seconds": run.seconds()})
        for old in run.path.glob("resume.*.safetensors"):
            if old.name != f"resume.{self.step}.safetensors":
                old.unlink()

    def resume(self, run: Run) -> int:
        if not (run.path / "resume.json").is_file():
            trim(run.path / "metrics.jsonl", 0)
            return 0
        self.step = json.loads((run.path / "resume.json").read_text())["step"]
        marks = json.loads((run.path / MARKS).read_text())
        self._marks = [mark for mark in marks if mark <= self.step]
        kept = load_file(run.path / f"resume.{self.step}.safetensors", device=str(device()))
        for name, module in (("edits.", self.edits), ("slow.", self.slow)):
            own = {k.removeprefix(name): v for k, v in kept.items() if k.startswith(name)}
            module.load_state_dict(own)
        for i, optimizer in enumerate(self._optimizers):
            state: dict[int, dict] = {}
            for key, value in kept.items():
                if key.startswith(f"optimizer.{i}."):
                    _, _, j, name = key.split(".", 3)
                    state.setdefault(int(j), {})[name] = value
            optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
        trim(run.path / "metrics.jsonl", self.step)
        return len(self._marks)

    # acting --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def acting(self) -> Iterator[VLA]:
        yield self.vla

    def put(self, folder: Path) -> None:
        self.edits.save(folder / EDITS)  # before the card, which makes the folder a policy
        self.vla.save(folder)
