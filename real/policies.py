"""The policy that a robot is given: a folder on this machine, or a server somewhere else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from robostack.policy.rtc import Realtime
from robostack.types import Observation, RobotSpec

REMOTE = ("ws://", "wss://")
MAY_DIFFER = ("render",)  # of a simulator's pictures: a robot has none


class Planner(Protocol):
    """What an `AsyncRunner` asks for chunks, and what begins another try."""

    def plan(
        self, observation: Observation, previous: np.ndarray | None, delay: int
    ) -> np.ndarray: ...

    def reset(self, seed: int) -> None: ...


@dataclass(frozen=True)
class PolicyConfig:
    """How a policy runs beside a robot."""

    policy: str = ""  # folder of a policy, of a run that holds one, or ws://HOST:PORT
    execute: int = 0  # rows of a chunk that are due before the next is asked for; 0: half of them
    steps: int = 5  # of the flow sampler, of a policy in a folder
    level: float = 0.0  # noise of the flow sampler; 0 is the ordinary differential equation
    temperature: float = 1.0  # of the noise that chunks begin with: below 1 likelier ones
    rtc: Realtime = "none"  # how a chunk goes on from the last one, see policy/rtc.py
    seed: int = 0  # of what the policy draws; each reset counts on from it
    threads: int = 1  # of torch on the CPU; 0: as many as torch likes
    jpeg_quality: int = 0  # of pictures that are sent to a server; 0: as they are
    timeout_s: float = 10.0  # for a server to answer

    def __post_init__(self) -> None:
        if not self.policy:
            raise ValueError(
                "policy: expected the folder of a policy or of a run, or ws://HOST:PORT of a "
                "`robostack serve`"
            )
        if self.execute < 0 or self.steps < 1 or self.threads < 0:
            raise ValueError(
                "expected execute and threads of 0 or more and steps of 1 or more, got "
                f"{self.execute}, {self.threads} and {self.steps}"
            )


@dataclass(frozen=True)
class Loaded:
    """A policy that is ready to plan for one robot."""

    planner: Planner
    spec: RobotSpec  # that it was trained for
    horizon: int  # rows of a chunk
    execute: int  # of them before the next one is asked for

    def close(self) -> None:
        if hasattr(self.planner, "close"):  # a connection
            self.planner.close()


def load(config: PolicyConfig, spec: RobotSpec) -> Loaded:
    """Raises SpecMismatch naming the field in which policy and robot differ, before the weights are
    read; CheckpointError or RemoteError where there is no policy."""
    if config.policy.startswith(REMOTE):
        from robostack.policy.client import RemotePolicy  # numpy and a websocket, no torch

        remote = RemotePolicy(
            config.policy,
            spec=spec,
            may_differ=MAY_DIFFER,
            timeout_s=config.timeout_s,
            jpeg_quality=config.jpeg_quality,
        )
        return _loaded(config, remote, remote.spec, remote.horizon)
    import torch

    from robostack.device import device
    from robostack.policy.checkpoint import policy_folder
    from robostack.policy.chunking import ChunkRunner
    from robostack.policy.vla import VLA

    if config.threads:
        torch.set_num_threads(config.threads)
    folder = policy_folder(Path(config.policy).expanduser())
    trained = VLA.read_card(folder).spec
    mine = f"the policy {config.policy}"
    trained.require_same(spec, mine, "the robot's configuration", MAY_DIFFER)
    vla = VLA.load(folder).to(device())
    sampling = config.steps, config.level, config.rtc
    runner = ChunkRunner(vla, 1, *sampling, temperature=config.temperature)
    return _loaded(config, runner, trained, vla.config.horizon)


def _loaded(config: PolicyConfig, planner: Planner, spec: RobotSpec, horizon: int) -> Loaded:
    execute = config.execute or max(1, horizon // 2)
    if execute > horizon:
        raise ValueError(f"execute={execute}: expected 1 to {horizon} (the chunk), or 0 for half")
    _rehearse(planner, spec)
    planner.reset(config.seed)
    return Loaded(planner, spec, horizon, execute)


def _rehearse(planner: Planner, spec: RobotSpec) -> None:
    """One chunk for a grey picture: the first one compiles and allocates, and must not be the
    robot's."""
    images = {n: np.full((*size, 3), 127, np.uint8) for n, size in spec.cameras.items()}
    planner.plan(Observation(images, np.zeros(spec.state_dim, np.float32), "", 0.0), None, 0)
