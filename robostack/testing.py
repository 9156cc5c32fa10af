"""The exams of the protocols: run them on your own environment, policy or reward.

    from robostack.testing import check_env
    def test_my_env():
        check_env(MyEnv())

Each raises AssertionError with one sentence saying what was expected and what came.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from robostack.protocols import Env, Policy, Renders, Reward, Snapshots
from robostack.rollout import rollout
from robostack.types import Episode, Observation, Step


def _same(first: Observation, second: Observation) -> bool:
    return np.array_equal(first.state, second.state) and all(
        np.array_equal(first.images[name], second.images[name]) for name in first.images
    )


def _check_step(env: Env, step: Step, where: str) -> None:
    seen, spec = step.observation, env.spec
    assert seen.state.shape == (spec.state_dim,), (
        f"{where}: state has shape {seen.state.shape}, the spec names {spec.state_dim} values"
    )
    assert np.isfinite(seen.state).all(), f"{where}: the state is not finite: {seen.state}"
    sizes = {name: image.shape[:2] for name, image in seen.images.items()}
    assert sizes == spec.cameras, f"{where}: images {sizes}, the spec has {spec.cameras}"
    assert not (step.terminated and step.truncated), f"{where}: terminated and truncated at once"
    for name, point in step.keypoints.items():
        assert point.shape == (3,), f"{where}: keypoint {name} has shape {point.shape}, not (3,)"


def check_env(env: Env, seed: int = 0, steps: int = 5) -> None:
    """The contract of an environment, on a few random actions. The caller closes it.

    Same seed, same start; observations as the spec says; time that moves on; bad actions refused
    with ValueError; with snapshots: what follows a restore is what followed the first time; where
    pictures can be left out: nothing else differs.
    """
    first = env.reset(seed)
    _check_step(env, first, "reset")
    assert not (first.terminated or first.truncated), "reset: the episode is over before it began"
    assert _same(first.observation, env.reset(seed).observation), (
        f"reset({seed}) twice gave two different starts"
    )
    spec, rng = env.spec, np.random.default_rng(seed)
    low, high = np.array(spec.action_low), np.array(spec.action_high)
    actions = rng.uniform(low, high, (2 * steps, spec.action_dim)).astype(np.float32)
    stamp = first.observation.stamp
    for action in actions[:steps]:
        step = env.step(action)
        _check_step(env, step, "step")
        assert step.observation.stamp > stamp, "step: the stamp did not move on"
        stamp = step.observation.stamp
    for bad in (np.full(spec.action_dim, np.nan), np.zeros(spec.action_dim + 1)):
        try:
            env.step(bad)
        except ValueError:
            continue
        raise AssertionError(f"step: the bad action {bad} was not refused with ValueError")
    if isinstance(env, Snapshots):
        here = env.snapshot()
        before = [env.step(action) for action in actions[steps:]]
        env.restore(here)
        after = [env.step(action) for action in actions[steps:]]
        assert all(_same(a.observation, b.observation) for a, b in zip(before, after)), (
            "restore: the same actions after a restore led elsewhere"
        )
    if isinstance(env, Renders):
        env.reset(seed)
        seen = [env.step(action) for action in actions]
        env.reset(seed)
        for action, step in zip(actions, seen):
            blind = env.step_unseen(action)
            assert not blind.observation.images, "step_unseen: it has pictures"
            pictured = replace(blind.observation, images=step.observation.images)
            assert _same(step.observation, pictured) and blind.success == step.success, (
                "step_unseen: it led elsewhere than step"
            )


def check_policy(policy: Policy, env: Env, seed: int = 0) -> Episode:
    """The contract of a policy, on one rollout, which is returned.

    Actions f32[n, A], finite and within the spec's bounds; the same seed, the same actions.
    """
    observation = env.reset(seed).observation
    policy.reset(seed)
    first = policy.act(observation)
    assert isinstance(first, np.ndarray) and first.dtype == np.float32, (
        f"act: expected an f32 array, got {getattr(first, 'dtype', type(first))}"
    )
    want = env.spec.action_dim
    assert first.ndim == 2 and len(first) >= 1 and first.shape[1] == want, (
        f"act: expected shape [n >= 1, {want}], got {list(first.shape)}"
    )
    assert np.isfinite(first).all(), "act: the actions are not finite"
    assert np.array_equal(first, env.spec.clip(first)), "act: the actions leave the spec's bounds"
    env.reset(seed)
    policy.reset(seed)
    assert np.array_equal(first, policy.act(observation)), (
        f"act: after reset({seed}) the same observation gave other actions"
    )
    return rollout(env, policy, seed, max_steps=3 * len(first))


def check_reward(reward: Reward, episode: Episode) -> None:
    """The contract of a reward on one episode: a potential f32[T+1] in [0, 1], the same every
    time, that looks at what happened and leaves the episode as it was."""
    images = {name: frames.copy() for name, frames in episode.images.items()}
    phi = reward.score(episode)
    want = (len(episode) + 1,)
    assert isinstance(phi, np.ndarray) and phi.dtype == np.float32 and phi.shape == want, (
        f"score: expected f32{list(want)}, got {getattr(phi, 'dtype', type(phi))}"
        f"{list(np.shape(phi))}"
    )
    assert np.isfinite(phi).all(), "score: the potential is not finite"
    assert phi.min() >= 0 and phi.max() <= 1, (
        f"score: expected values in [0, 1], got {phi.min():.3g} to {phi.max():.3g}"
    )
    assert np.array_equal(phi, reward.score(episode)), "score: twice the same episode, two scores"
    assert all(np.array_equal(episode.images[n], images[n]) for n in images), (
        "score: the episode was changed"
    )
    assert isinstance(reward.name, str) and reward.name, "name: expected a word"
    assert reward.fingerprint() == reward.fingerprint(), "fingerprint: changes by itself"
