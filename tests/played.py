"""Actions to play, and all that an environment tells in answer, to be compared bit by bit."""

import numpy as np


def draw(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 7)).astype(np.float32)


def content(step):
    """All that a Step tells, bit by bit."""
    seen = step.observation
    arrays = [seen.state, *seen.images.values(), *step.keypoints.values()]
    flags = step.terminated, step.truncated, step.success, seen.stamp, seen.task
    return [a.tobytes() for a in arrays], flags


def play(env, actions):
    """What was seen after each action, and the positions that float32 would round."""
    return [(content(env.step(a)), env.data.qpos.tobytes()) for a in actions]


def same(a, b):
    """Without pytest's help, which would print megabytes of pixels."""
    return bool(a == b)
