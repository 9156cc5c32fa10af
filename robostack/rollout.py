"""rollout(env, policy) -> Episode, and several from one simulator state."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from robostack.protocols import Env, Leader, Policy, Renders, Snapshots, Watcher
from robostack.types import Episode, Observation, RobotSpec, Step

STOPPED = "stopped"  # label of an episode that ended because its watcher said so
LED = "led"  # source of an episode in which the policy was helped


@dataclass
class Recorder:
    """Collects Steps and actions and turns them into an Episode. Where something else was executed
    than was asked for, that is kept, and the episode is an intervention."""

    env: Env
    source: str
    seed: int
    group: str = ""
    label: str = ""
    steps: list[Step] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    pictures: bool = True  # else the episode is one of a robot without cameras

    def take(self, action: np.ndarray, step: Step) -> None:
        if step.executed is not None:
            action, self.source = step.executed, "intervention"
        self.actions.append(np.asarray(action, np.float32))
        self.steps.append(step)

    def episode(self) -> Episode:
        seen = [step.observation for step in self.steps]
        last, spec = self.steps[-1], self.env.spec
        spec = spec if self.pictures else replace(spec, cameras={})
        return Episode(
            states=np.stack([o.state for o in seen]),
            images={name: np.stack([o.images[name] for o in seen]) for name in spec.cameras},
            stamps=np.array([o.stamp for o in seen], np.float64),
            actions=np.stack(self.actions).astype(np.float32),
            task=seen[0].task,
            success=last.success,
            terminated=last.terminated,
            source=self.source,
            seed=self.seed,
            spec=spec,
            keypoints={
                name: np.stack([step.keypoints[name] for step in self.steps])
                for name in self.steps[0].keypoints
            },
            group=self.group,
            truth=None if last.truth is None else np.array([s.truth for s in self.steps], "f4"),
            label=self.label,
        )


def rollout(
    env: Env,
    policy: Policy,
    seed: int,
    *,
    start: Step | None = None,
    policy_seed: int | None = None,
    max_steps: int | None = None,
    source: str = "rollout",
    group: str = "",
    label: str = "",
    stop: Watcher | None = None,
    pictures: bool = True,
) -> Episode:
    """One try: until the environment ends it, `stop` says that it is done, or after `max_steps`
    actions.

    `start` continues from a Step that `env` has just returned (a restored snapshot) instead of
    resetting to `seed`. `policy_seed` fixes what the policy draws; it defaults to `seed`.

    `stop` is told every observation; the rest of a chunk is dropped when it says so, though not
    before the first action. Such an episode has the label STOPPED; `terminated` and `success`
    stay the environment's verdict, so that one can see whether it was right.

    Without `pictures` the episode has neither these nor cameras, and an environment that renders
    makes only those that the policy is shown: one a chunk (with `stop`, which looks at all, every
    one).
    """
    if stop is not None and label:
        raise ValueError(f"label={label!r}: a try with a watcher gets its label from that")
    policy.reset(seed if policy_seed is None else policy_seed)
    first = env.reset(seed) if start is None else start
    record = Recorder(env, source, seed, group, label, [first], pictures=pictures)
    sparing = not pictures and stop is None and isinstance(env, Renders)
    if stop is not None:
        stop.see(first.observation)
    while True:
        chunk = policy.act(record.steps[-1].observation)
        for k, action in enumerate(chunk, 1):
            step = (env.step_unseen if sparing and k < len(chunk) else env.step)(action)
            record.take(action, step)
            full = max_steps is not None and len(record.actions) >= max_steps
            stopped = stop is not None and stop.see(step.observation)
            if stopped:
                record.label = STOPPED
            if step.terminated or step.truncated or full or stopped:
                return record.episode()


def over(episode: Episode) -> bool:
    """Whether nothing could come after it: a true terminal, a success, which is paid once even
    where it was only told at the time limit, or a stop of its own accord whose outcome is known. A
    time limit leaves a future that was not seen, and so does a stop of which nobody said how it
    went."""
    stopped = episode.label == STOPPED and episode.success is not None
    return episode.terminated or bool(episode.success) or stopped


class Pulled:
    """A policy whose chunks are pulled aside, each as a whole and by its own draw: standard
    deviation `spread`, in half ranges of the actions. The fingers do as they are told.

    A policy that is sure of itself fails in the same way each time it is asked; what would have
    been better lies beside what it does.
    """

    def __init__(self, policy: Policy, spec: RobotSpec, spread: float):
        self.policy, self.spec = policy, spec
        moves = [not name.endswith("gripper") for name in spec.action_names]
        self._scale = spread * np.array(moves) * np.subtract(spec.action_high, spec.action_low) / 2

    def reset(self, seed: int) -> None:
        self.policy.reset(seed)
        self._rng = np.random.default_rng(seed)

    def act(self, observation: Observation) -> np.ndarray:
        chunk = self.policy.act(observation)
        return self.spec.clip(chunk + self._scale * self._rng.standard_normal(chunk.shape[1]))


def branches(
    env: Env,
    policy: Policy,
    seed: int,
    *,
    tries: int,
    every: int,
    span: int,
    points: int,
    spread: float = 0.0,
    led: int = 0,
    leader: Leader | None = None,
) -> list[Episode]:
    """Several tries from the same simulator states along one rollout of the policy.

    At reset and after every `every` actions, at most `points` times, the full state is kept and
    `tries` rollouts of up to `span` actions start from it. They share a `group` and differ only in
    what the policy draws; with `spread`, all but the first are pulled aside, too (`Pulled`). Of
    those after the first, `led` are instead played in `leader`, which acts upon `env`; their source
    is LED. The environment must offer snapshots.
    """
    if not isinstance(env, Snapshots):
        raise TypeError(f"{type(env).__name__} has no snapshots; branching needs a simulator")
    found: list[Episode] = []
    pulled = Pulled(policy, env.spec, spread) if spread else policy
    env.reset(seed)
    for point in range(points):
        here = env.snapshot()
        now = env.restore(here)
        if now.terminated or now.truncated:
            break
        for k in range(tries):
            by_lead, start = leader is not None and 1 <= k <= led, env.restore(here)
            episode = rollout(
                leader if by_lead else env,
                policy if by_lead or not k else pulled,
                seed,
                start=leader.begin(start) if by_lead else start,
                policy_seed=hash_seed(seed, point, k),
                max_steps=span,
                group=f"seed {seed} step {point * every}",
            )
            found.append(replace(episode, source=LED) if by_lead else episode)
        start = env.restore(here)
        trunk_seed = hash_seed(seed, point, tries)
        how = {"policy_seed": trunk_seed, "max_steps": every, "pictures": False}
        rollout(env, policy, seed, start=start, **how)
    return found


def hash_seed(*key: int) -> int:
    """One seed from several numbers, without the collisions of adding them up."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint32)[0])
