"""Episodes whose pictures a codec can keep, and whose numbers mean something."""

from dataclasses import replace

import numpy as np
from fakes import SPEC, make_episode

from robostack.data.store import Store

ARM = replace(
    SPEC,
    robot="arm",
    state_names=("gripper_x", "gripper_y", "gripper_z", "gripper_opening"),
    action_names=("dx", "dy", "dz", "gripper"),
    action_low=(-1.0,) * 4,
    action_high=(1.0,) * 4,
    cameras={"top": (32, 48), "wrist": (32, 32)},
    conventions={"action": "delta", "frame": "base", "gripper": "+1 closes"},
)


def pictures(steps, size, seed):
    """A bright square that moves over a smooth ground."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    ground = np.stack([x + y, x + y + 30, x + 60], -1).clip(0, 255)
    frames = np.repeat(ground[None], steps, 0).astype(np.uint8)
    for t, frame in enumerate(frames):
        column = (3 * t + seed) % (width - 6)
        frame[4:10, column : column + 6] += 100
    return frames


def arm_episode(seed, steps=30, **changes):
    """A hand that goes a hundredth of what it is asked to, whose fingers follow in three steps."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (steps, 4)).astype(np.float32)
    actions[:, 3] = np.where(np.arange(steps) // 8 % 2, 1, -1)
    place = np.concatenate([[[0.1, -0.2, 0.9]], 0.01 * actions[:, :3]]).cumsum(0)
    opening = [0.08]
    for asked in actions[:, 3]:
        goal = 0.0 if asked > 0 else 0.08
        opening.append(opening[-1] + np.clip(goal - opening[-1], -0.03, 0.03))
    n = steps + 1
    fields = dict(
        spec=ARM,
        states=np.concatenate([place, np.array(opening)[:, None]], 1).astype(np.float32),
        actions=actions,
        images={name: pictures(n, size, seed) for name, size in ARM.cameras.items()},
        truth=np.linspace(0, 1, n).astype(np.float32),
        group="",
    )
    return make_episode(seed, steps, **(fields | changes))


def make_store(path, episodes):
    store = Store.create(path, episodes[0].spec)
    for episode in episodes:
        store.append(episode)
    return store


def through(items, label, total):
    """Progress that nobody watches."""
    return iter(items)
