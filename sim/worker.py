"""How a policy is executed in simulation, and what a worker process keeps for it: one environment,
and every policy and reward that it was given."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from robostack.policy.checkpoint import CARD, EDITS, policy_folder
from robostack.policy.chunking import ChunkRunner, Steer, require_temperature
from robostack.policy.edits import EditedRunner, Edits
from robostack.policy.implicit import ImplicitReward
from robostack.policy.rtc import Realtime
from robostack.policy.vla import VLA
from robostack.protocols import ChunkReward, Policy, Stops, Watcher
from robostack.rewards.noisy import NoisyReward
from robostack.rollout import Pulled
from robostack.sim.env import EnvConfig, SimEnv, make_env
from robostack.types import Observation, RobotSpec

if TYPE_CHECKING:
    from robostack.policy.client import RemotePolicy
    from robostack.rewards.saved import SavedReward

REMOTE = ("ws://", "wss://")  # how the address of a served one begins
SAMPLING = ("steps", "level", "temperature")  # of a served policy it is the server's choice
MAY_DIFFER = ("render",)  # between a policy and its environment: a warning, not an error


@dataclass(frozen=True)
class RunnerConfig:
    """How a policy is executed."""

    execute: int = 8  # actions of a chunk that are executed before the next look
    steps: int = 5  # of the flow sampler
    level: float = 0.0  # noise of the flow sampler; 0 is the ordinary differential equation
    temperature: float = 1.0  # of the noise that chunks begin with: below 1 likelier ones
    once: bool = False  # in a single step of it, drawn anew for each chunk: what ppo learns from
    delay: int = 0  # control steps that a chunk takes to compute, while the old one goes on; the
    # perturbation of that name delays every single action instead
    rtc: Realtime = "none"  # how a chunk takes the delay into account, see policy/rtc.py
    best_of: int = 1  # chunks that are sampled, of which the judge's favourite is executed
    judge: str = ""  # folder of a reward that ranks chunks, or of a policy: what that learned more
    # than `reference`
    reference: str = ""  # folder of a policy, of a judge that is one; the acting one if not named
    guide: str = ""  # folder of a reward that reads noisy chunks (`robostack train guide`), whose
    # gradient steers the sampler
    guidance: float = 1.0  # how strongly it does
    explore: float = 0.0  # by which chunks are pulled aside, each as a whole: standard deviation
    # in half ranges of the actions
    stop: str = ""  # folder of a reward that says when a try is done, in the place of the
    # simulator, which then lets it run on to the time limit

    def __post_init__(self) -> None:
        if self.execute < 1 or self.steps < 1 or not self.level >= 0:
            raise ValueError(
                "runner: expected execute and steps of 1 or more and a level of 0 or more, got "
                f"{self.execute}, {self.steps} and {self.level}"
            )
        require_temperature(self.temperature)
        if not self.explore >= 0 or (self.explore and (self.delay or self.rtc != "none")):
            raise ValueError(
                f"runner: expected explore of 0 or more, and of 0 with a delay or rtc, which go on "
                f"from what was proposed; got {self.explore}"
            )
        if self.once and (self.level <= 0 or self.steps < 2):
            raise ValueError(
                f"runner: once expects a level above 0 and 2 steps or more, got {self.level} and "
                f"{self.steps}"
            )
        if self.best_of < 1 or (self.best_of > 1) != bool(self.judge):
            raise ValueError(
                f"runner: best_of={self.best_of} with judge={self.judge!r}: expected 1 without a "
                "judge, or more with one"
            )
        if self.reference and not self.judge:
            raise ValueError("runner: a reference is for a judge that is a policy; name that, too")
        if not 0 <= self.guidance < float("inf") or (self.guidance != 1 and not self.guide):
            raise ValueError(
                f"runner: guidance={self.guidance} with guide={self.guide!r}: expected 0 or more "
                "with a guide, and nothing without"
            )
        if self.delay < 0 or (self.rtc != "none" and self.delay == 0):
            raise ValueError(
                f"runner: delay={self.delay} with rtc={self.rtc}: expected a delay of 0 or more, "
                "and of 1 or more for rtc to have an effect"
            )


class RandomPolicy:
    """Uniform actions: what success is worth that anybody has."""

    def __init__(self, spec: RobotSpec):
        self.spec = spec
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def act(self, observation: Observation) -> np.ndarray:
        return self._rng.uniform(self.spec.action_low, self.spec.action_high).astype(np.float32)[
            None
        ]


class Timed:
    """A policy and how long each of its answers took [s]."""

    def __init__(self, policy: Policy):
        self.policy, self.seconds = policy, []

    def reset(self, seed: int) -> None:
        self.policy.reset(seed)

    def act(self, observation: Observation) -> np.ndarray:
        begin = time.perf_counter()
        actions = self.policy.act(observation)
        self.seconds.append(time.perf_counter() - begin)
        return actions


class Unplayable(RuntimeError):
    """A policy and a task that cannot be brought together; no other seed would change that."""


@dataclass
class Worker:
    """The context of a `Pool`: one environment at a time, and every policy it was given."""

    config: EnvConfig | None = None
    opened: SimEnv | None = field(default=None, repr=False)
    loaded: dict[str, VLA] = field(default_factory=dict, repr=False)
    edited: dict[str, Edits] = field(default_factory=dict, repr=False)
    served: dict[str, RemotePolicy] = field(default_factory=dict, repr=False)
    judges: dict[str, SavedReward] = field(default_factory=dict, repr=False)  # by folder
    make: Callable[[EnvConfig], SimEnv] = make_env

    def env(self, config: EnvConfig, runner: RunnerConfig | None = None) -> SimEnv:
        """Where a runner has a judge to stop it, success alone ends nothing."""
        if self.config != config:
            self.close()
            self.opened, self.config = self.make(config), config
        self.opened.ends = runner is None or not runner.stop
        return self.opened

    def watcher(self, runner: RunnerConfig, env: SimEnv) -> Watcher | None:
        """A new one for a try, of the runner's judge if it has one."""
        if not runner.stop:
            return None
        judge = self._reward(runner.stop, env)
        if not isinstance(judge, Stops):
            raise ValueError(
                f"runner.stop={runner.stop}: a reward of kind {judge.name} cannot stop a try; "
                "expected one with `watch`, such as success"
            )
        return judge.watch()

    def policy(self, folder: str, runner: RunnerConfig, env: SimEnv) -> Policy:
        if folder.startswith(REMOTE):
            return self._served(folder, runner, env)
        vla = self._load(folder)
        vla.spec.require_same(env.spec, f"the policy {folder}", "the environment", MAY_DIFFER)
        edited = (Path(folder) / EDITS).is_dir()
        acts = self._edited(vla, folder, runner) if edited else self._plain(vla, runner, env)
        return Pulled(acts, env.spec, runner.explore) if runner.explore else acts

    def _plain(self, vla: VLA, runner: RunnerConfig, env: SimEnv) -> Policy:
        return ChunkRunner(
            vla,
            runner.execute,
            runner.steps,
            runner.level,
            runner.rtc,
            runner.delay,
            candidates=runner.best_of,
            score=self._judge(vla, runner, env).rank if runner.judge else None,
            steer=self._steer(vla, runner, env) if runner.guide else None,
            once=runner.once,
            temperature=runner.temperature,
        )

    def _edited(self, vla: VLA, folder: str, runner: RunnerConfig) -> Policy:
        if folder not in self.edited:
            self.edited[folder] = Edits.load(Path(folder) / EDITS, vla.spec)
        edits, own = self.edited[folder], RunnerConfig()
        fixed = replace(runner, steps=own.steps, level=own.level, explore=0.0, stop="")
        if fixed != replace(own, execute=edits.config.execute):
            raise ValueError(
                f"{folder} acts through edits, which choose among chunks of "
                f"{edits.config.execute} actions: expected runner.execute={edits.config.execute} "
                f"and of the rest steps, level, explore and stop alone, got {runner}"
            )
        return EditedRunner(vla, edits, runner.steps, runner.level)

    def _steer(self, vla: VLA, runner: RunnerConfig, env: SimEnv) -> Steer:
        guide = self._reward(runner.guide, env)
        if not isinstance(guide, NoisyReward):
            raise ValueError(
                f"runner.guide={runner.guide}: a reward of kind {guide.name} cannot read noisy "
                "chunks; expected one of `robostack train guide`"
            )
        return guide.steer(vla.config.horizon, runner.guidance)

    def _judge(self, vla: VLA, runner: RunnerConfig, env: SimEnv) -> ChunkReward:
        better = policy_folder(runner.judge)
        if (better / CARD).is_file():
            judge, reference = self._asked(better, "the judge", vla, env), vla
            if runner.reference:
                folder = policy_folder(runner.reference)
                reference = self._asked(folder, "the reference", vla, env)
            return ImplicitReward(judge, reference)
        if runner.reference:
            raise ValueError(f"runner.reference: {runner.judge} is no policy, and takes none")
        judge = self._reward(runner.judge, env)
        if not isinstance(judge, ChunkReward):
            raise ValueError(
                f"runner.judge={runner.judge}: a reward of kind {judge.name} cannot rank chunks; "
                "expected a policy, or a reward that does, such as world_model"
            )
        return judge

    def _asked(self, folder: Path, what: str, acting: VLA, env: SimEnv) -> VLA:
        """A policy that judges chunks of another one. Raises SpecMismatch where it is of another
        robot, ValueError where its chunks have another length."""
        vla = self._load(str(folder))
        vla.spec.require_same(env.spec, f"{what} {folder}", "the environment", MAY_DIFFER)
        if vla.config.horizon != acting.config.horizon:
            raise ValueError(
                f"{what} {folder} has chunks of {vla.config.horizon} actions, the acting policy of "
                f"{acting.config.horizon}"
            )
        return vla

    def _load(self, folder: str) -> VLA:
        if folder not in self.loaded:
            self.loaded[folder] = VLA.load(folder, edited=True)
        return self.loaded[folder]

    def _reward(self, folder: str, env: SimEnv) -> SavedReward:
        from robostack.rewards.load import load_reward  # only where it is asked for

        if folder not in self.judges:
            self.judges[folder] = load_reward(folder)
        judge = self.judges[folder]
        judge.spec.require_same(env.spec, f"the reward {folder}", "the environment")
        return judge

    def _served(self, url: str, runner: RunnerConfig, env: SimEnv) -> Policy:
        from robostack.policy.client import RemotePolicy  # it needs the extra `serve`

        if url not in self.served:
            self.served[url] = RemotePolicy(url)
        remote = self.served[url]
        remote.spec.require_same(env.spec, f"the policy {url}", "the environment", MAY_DIFFER)
        if runner.delay or runner.rtc != "none" or runner.judge or runner.guide or runner.explore:
            raise ValueError(
                f"{url}: runner.delay, .rtc, .judge, .guide and .explore are for policies in a "
                "folder; a served one takes the time that it takes, and its own choice"
            )
        sampling = {name: getattr(remote, name) for name in SAMPLING}
        asked = {name: getattr(runner, name) for name in SAMPLING}
        if asked != sampling:
            theirs, mine = (
                ", ".join(f"{name}={value:g}" for name, value in each.items())
                for each in (sampling, asked)
            )
            raise ValueError(
                f"{url} samples with {theirs}, which is the server's choice; got runner with "
                f"{mine}, give the same"
            )
        return remote.executing(runner.execute)

    def close(self) -> None:
        if self.opened is not None:
            self.opened.close()
        self.opened = self.config = None


def make_worker() -> Worker:
    torch.set_num_threads(1)
    return Worker()
