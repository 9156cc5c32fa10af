"""Scripted episodes of known outcome, to train rewards on and to examine them.

A reward that has only seen successes believes in anything (every published one that skipped
failures came back for them), so each start state is played in all of these ways:

success       the expert, noisily
near miss     the expert drops it late, grasps a few centimetres beside it, or puts it down beside
              where it belongs
failure       the expert loses its way early and wanders
recovery      disturbed, it drops everything, begins anew and succeeds
hover         the expert gets close and stays there until time is up
wrong object  the expert does something else than it was asked (tasks with several requests)
try           short ones that share a start state, in groups: which chunk was better?
after success the expert succeeds, and then goes on, rests or drifts a while: may the arm stop?
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from robostack.rollout import Recorder, hash_seed, rollout
from robostack.sim.env import SimEnv
from robostack.sim.scripts import Script, Scripts
from robostack.types import Episode, Observation

KINDS = (
    "success",
    "near miss",
    "failure",
    "recovery",
    "hover",
    "wrong object",
    "try",
    "after success",
)
SUCCEED = ("success", "recovery", "after success")
BESIDE = (0.025, 0.05)  # [m] by which a grasp misses
ASIDE = (0.06, 0.13)  # [m] by which a place is missed
AFTER = (5, 20)  # steps that an episode goes on after success
_DRAWS = 6  # of a case whose outcome was not the one that was asked for


@dataclass(frozen=True)
class TryConfig:
    """Chunks that are tried from the same states, for rewards that rank."""

    points: int = 4  # states along a trajectory
    tries: int = 8  # chunks from each
    span: int = 8  # actions of a chunk


@dataclass(frozen=True)
class CaseConfig:
    """What is played from each start state."""

    kinds: tuple[str, ...] = KINDS
    noise: float = 0.15  # of the expert's motions
    tries: TryConfig = field(default_factory=TryConfig)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.kinds) - set(KINDS))
        if unknown or not self.kinds:
            raise ValueError(f"kinds: expected some of {', '.join(KINDS)}; got {self.kinds}")
        if min(self.tries.points, self.tries.span) < 1 or self.tries.tries < 2:
            raise ValueError(
                f"tries: expected points and span of 1 or more, 2 tries or more, got {self.tries}"
            )


class Scripted:
    """A Policy that follows `script`, a generator of actions f32[A] which looks at the scene."""

    def __init__(self, env: SimEnv, script: Script):
        self.env, self.script = env, script

    def reset(self, seed: int) -> None:
        self._actions = None
        self._rng = np.random.default_rng(seed)

    def act(self, observation: Observation) -> np.ndarray:
        if self._actions is None:  # the script looks at the scene, so it starts after the reset
            self._actions = self.script(self._rng)
        return self.env.spec.clip(next(self._actions))[None]


class Cases:
    """The cases of one environment. `play` is a function of the seed alone."""

    def __init__(self, env: SimEnv, config: CaseConfig):
        self.env, self.config = env, config
        self.scripts = Scripts(env, config.noise)
        names = env.spec.action_names
        self._moves = np.array([not name.endswith("gripper") for name in names])

    def play(self, seed: int) -> list[Episode]:
        """Every kind that the task has, from the start state of `seed`. What did not come about
        after several draws is left out: some starts know no near miss, say."""
        model = self._draw("success", seed, 0)
        if model is None:
            return []
        found = {"success": model}
        for kind in self.config.kinds:
            if kind not in ("success", "try") and (
                kind != "wrong object" or self.env.other_requests()
            ):
                found[kind] = self._draw(kind, seed, len(model))
        episodes = [found[kind] for kind in self.config.kinds if found.get(kind) is not None]
        if "try" in self.config.kinds:
            episodes += self._tries(model, seed)
        return episodes

    def _draw(self, kind: str, seed: int, length: int) -> Episode | None:
        """An episode whose outcome is that of its kind; None if none came about."""
        for draw in range(_DRAWS):
            drawn = hash_seed(seed, KINDS.index(kind), draw)
            rng = np.random.default_rng(drawn)
            script, most = self._script(kind, rng, length, 0.85**draw)
            episode = self._play(kind, script, seed, drawn, most)
            if kind == "after success" and episode.success:
                episode = self._go_on(len(episode), rng, seed, drawn)
            if bool(episode.success) == (kind in SUCCEED):
                return episode
        return None

    def _play(self, kind: str, script: Script, seed: int, drawn: int, most: int) -> Episode:
        # an episode that ends with its time looks like all others of its length
        policy = Scripted(self.env, script)
        return rollout(
            self.env, policy, seed, policy_seed=drawn, max_steps=most, label=kind, source="demo"
        )

    def _go_on(self, steps: int, rng: np.random.Generator, seed: int, drawn: int) -> Episode:
        """The success that took the expert so many steps, and what it does after it."""
        what = [None, self.scripts.stay, self.scripts.drift][rng.integers(3)]
        script = self.scripts.then(steps, what) if what else self.scripts.expert
        self.env.ends = False
        try:
            most = steps + int(rng.integers(*AFTER, endpoint=True))
            return self._play("after success", script, seed, drawn, most)
        finally:
            self.env.ends = True

    def _script(self, kind: str, rng: np.random.Generator, length: int, sooner: float):
        """The script of a kind and the steps that it is given. `length` is that of the success;
        `sooner` shortens what the expert may do before it is interrupted."""
        horizon = self.env.horizon
        extra = round(length * rng.uniform(1.0, 1.5))
        if kind in ("success", "after success"):
            return self.scripts.expert, horizon
        target = self.env.goal_body
        way = rng.random() if kind == "near miss" else 0
        if way > 0.66 and target:
            return self.scripts.beside(rng, target, ASIDE), min(horizon, length + 15)
        if way > 0.5:
            most = round(length * rng.uniform(0.7, 1.2))
            return self.scripts.beside(rng, self.env.handled, BESIDE), min(horizon, most)
        share = {"near miss": (0.7, 0.97), "failure": (0.0, 0.5), "recovery": (0.3, 0.9)}
        low, high = share.get(kind, (0.5, 0.95))
        first = round(length * rng.uniform(low, high) * sooner)
        if kind == "near miss":
            most = first + int(rng.integers(4, 15))
            return self.scripts.then(first, self.scripts.fumble), min(horizon, most)
        if kind == "failure":
            return self.scripts.then(first, self.scripts.wander), min(horizon, extra + 10)
        if kind == "recovery":
            return self.scripts.disturbed(first), horizon + 60
        if kind == "hover":
            return self.scripts.then(first, self.scripts.stay), horizon
        return self.scripts.astray(rng), min(horizon, round(1.3 * length))

    # tries ---------------------------------------------------------------------------------
    def _tries(self, model: Episode, seed: int) -> list[Episode]:
        """Groups of chunks along the success `model`: its own and changed ones, executed."""
        config, found = self.config.tries, []
        rng = np.random.default_rng(hash_seed(seed, KINDS.index("try")))
        last = max(len(model) - config.span // 2, 1)
        stops = np.sort(rng.choice(last, min(config.points, last), replace=False))
        self.env.reset(seed)
        for t, action in enumerate(model.actions):
            if t in stops:
                here = self.env.snapshot()
                own = model.actions[t : t + config.span]
                own = np.concatenate([own, np.repeat(own[-1:], config.span - len(own), axis=0)])
                for chunk in changed(own, self._moves, config.tries, rng):
                    found.append(self._try(here, self.env.spec.clip(chunk), seed, t))
                self.env.restore(here)
            if self.env.step(action).terminated:
                break
        return found

    def _try(self, here: tuple, chunk: np.ndarray, seed: int, t: int) -> Episode:
        group = f"seed {seed} step {t}"
        record = Recorder(self.env, "rollout", seed, group, "try", [self.env.restore(here)])
        for action in chunk:
            record.steps.append(self.env.step(action))
            record.actions.append(action)
            if record.steps[-1].terminated:
                break
        return record.episode()


def changed(
    chunk: np.ndarray, moves: np.ndarray, count: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """`count` chunks f32[H, A] around one: itself, itself with the fingers the other way, standing
    still, elsewhere, and then itself pulled aside as a whole, a little or a lot, which is how the
    samples of a policy differ."""
    fixed = [
        chunk,
        np.where(moves, chunk, -chunk),
        np.where(moves, 0.0, chunk),
        np.where(moves, rng.uniform(-1, 1, chunk.shape[1]), chunk),
    ]
    yield from fixed[:count]
    for k in range(count - len(fixed)):
        scale = 0.2 if k % 2 else 0.5
        pull = scale * rng.standard_normal(chunk.shape[1]) * moves
        yield chunk + pull + 0.1 * rng.standard_normal(chunk.shape) * moves
