"""A point on a line as Env, a Policy that draws its actions, and seeded synthetic episodes.

Numpy only at import, because worker processes import this file.
"""

import dataclasses
from dataclasses import replace

import numpy as np

from robostack.types import Episode, Observation, RobotSpec, Step

LIFT, STACK = "lift the red cube", "stack the red cube on the green cube"
SPEC = RobotSpec(
    robot="fake",
    state_names=("x", "speed", "opening"),
    action_names=("dx", "dy", "gripper"),
    action_low=(-1.0, -1.0, -1.0),
    action_high=(1.0, 1.0, 1.0),
    cameras={"top": (16, 16)},
    control_hz=10.0,
    conventions={"action": "delta", "gripper": "+1 closes"},
)


def make_episode(seed: int, steps: int = 5, **changes) -> Episode:
    """Random content in every field; `changes` replace fields."""
    rng = np.random.default_rng(seed)
    n = steps + 1
    fields = dict(
        states=rng.normal(size=(n, 3)).astype(np.float32),
        images={"top": rng.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)},
        stamps=np.arange(n) / 10.0,
        actions=rng.uniform(-1, 1, (steps, 3)).astype(np.float32),
        task=LIFT,
        success=bool(seed % 2),
        terminated=bool(seed % 2),
        source="rollout",
        seed=seed,
        spec=SPEC,
        keypoints={"object": rng.normal(size=(n, 3)).astype(np.float32)},
        group=f"seed {seed // 2} step 0",
    )
    return Episode(**(fields | changes))


def require_equal(a, b):
    """Every field of two episodes, arrays bit by bit."""
    for f in dataclasses.fields(a):
        one, two = getattr(a, f.name), getattr(b, f.name)
        if not isinstance(one, dict):
            one, two = {"": one}, {"": two}
        assert one.keys() == two.keys(), f.name
        for key in one:
            assert type(one[key]) is type(two[key]), f.name
            assert np.array_equal(one[key], two[key]), f.name


class LineEnv:
    """x moves by action / 10 from a seeded start below 0.2; beyond the goal it has succeeded.

    The picture is a bright column at x.
    """

    def __init__(self, horizon: int = 20, log: list | None = None, goal: float = 1.0):
        self.spec, self.horizon, self.log, self.goal = SPEC, horizon, log, goal
        self.x, self.t = 0.0, 0

    def reset(self, seed: int) -> Step:
        self.x, self.t = float(np.random.default_rng(seed).uniform(0, 0.2)), 0
        return self._look()

    def step(self, action: np.ndarray) -> Step:
        self.x, self.t = self.x + 0.1 * float(action[0]), self.t + 1
        return self._look()

    def snapshot(self):
        return self.x, self.t

    def restore(self, snapshot) -> Step:
        self.x, self.t = snapshot
        return self._look()

    def close(self) -> None:
        if self.log is not None:
            self.log.append("closed")

    def _look(self) -> Step:
        image = np.zeros((16, 16, 3), np.uint8)
        image[:, int(np.clip(15 * self.x, 0, 15))] = 255
        state = np.array([self.x, self.t, 0], np.float32)
        success = self.x >= self.goal
        return Step(
            observation=Observation({"top": image}, state, LIFT, self.t / 10),
            terminated=success,
            truncated=not success and self.t >= self.horizon,
            success=success,
            keypoints={"object": np.array([self.x, 0, 0], np.float32)},
        )


class DrawnPolicy:
    """Two actions at a time, uniform between `low` and 1."""

    def __init__(self, low: float = 0.0):
        self.low = low
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def act(self, observation: Observation) -> np.ndarray:
        return self._rng.uniform(self.low, 1, (2, 3)).astype(np.float32)


SQUARE_SPEC = replace(SPEC, state_names=("nothing",), cameras={"top": (32, 32)})


def square_episode(seed: int, steps: int = 16, success=True, jerky=False) -> Episode:
    """A bright square whose column is the progress; action 0 is how far it moves in a step.

    Its row and the other actions say nothing; the fingers stay open. Successes end at the right
    edge, failures wander on the left. A jerky one is fast for a while and then slow, or the
    reverse, and has its place as its state, which otherwise says nothing either.
    """
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (steps, 3)).astype(np.float32)
    actions[:, 2] = -1  # open fingers
    if jerky:
        fast = (np.arange(steps) < rng.integers(4, steps - 4)) == (rng.random() < 0.5)
        actions[:, 0] = np.where(fast, 0.8, -0.8) + 0.2 * actions[:, 0]
    speed = (0.8 + actions[:, 0]) if success else actions[:, 0]
    moved = np.concatenate([[0], np.cumsum(speed / steps)])
    x = np.clip(1 - moved[-1] + moved if success else 0.2 + moved, 0, 1)
    frames = rng.integers(0, 30, (steps + 1, 32, 32, 3), dtype=np.uint8)
    row = rng.integers(4, 20)
    for frame, column in zip(frames, np.round(x * 24).astype(int)):
        frame[row : row + 8, column : column + 8] = 250
    return make_episode(
        seed,
        steps,
        spec=SQUARE_SPEC,
        images={"top": frames},
        states=(x if jerky else 0.01 * rng.normal(size=steps + 1))[:, None].astype(np.float32),
        actions=actions,
        success=success,
        terminated=success,
        keypoints={},
    )


def square_tries(seed: int, up: bool, steps: int = 8, count: int = 4) -> list[Episode]:
    """Tries from one state left of the middle, which differ in one action.

    Either in how fast they go to the right, which is all there is to progress; or in action 1,
    which moves the square up here, and only the truth knows that higher is better. As jerky ones,
    they have their place as their state.
    """
    rng = np.random.default_rng([seed, 1])
    x, row = rng.uniform(0.2, 0.4), rng.integers(10, 14)
    found = []
    for draw in rng.permutation(np.linspace(-0.8, 0.8, count)):
        right, lift = (0.2, draw) if up else (draw, 0.0)
        actions = np.tile(np.array([right, lift, -1], np.float32), (steps, 1))
        far = np.arange(steps + 1) * (0.8 + right) / 16
        columns = np.round(24 * (x + far)).astype(int)
        rows = np.round(row - np.arange(steps + 1) * lift).astype(int)
        truth = 0.5 + 0.03 * (row - rows) if up else x + far
        frames = rng.integers(0, 30, (steps + 1, 32, 32, 3), dtype=np.uint8)
        for frame, column, top in zip(frames, columns, rows):
            frame[top : top + 8, column : column + 8] = 250
        found.append(
            make_episode(
                seed,
                steps,
                spec=SQUARE_SPEC,
                images={"top": frames},
                states=(x + far)[:, None].astype(np.float32),
                actions=actions,
                success=False,
                terminated=False,
                keypoints={},
                group=f"seed {seed} step 8",
                truth=truth.astype(np.float32),
            )
        )
    return found


def swap(store, place: str, episode: Episode) -> None:
    """Another episode under an old id."""
    import shutil

    taken, folder = store.append(episode), store.path / "episodes"
    shutil.rmtree(folder / place)
    (folder / taken).rename(folder / place)


def backwards(episode: Episode) -> Episode:
    """The same pictures and states in reverse order."""
    images = {name: frames[::-1].copy() for name, frames in episode.images.items()}
    return replace(episode, images=images, states=episode.states[::-1].copy())


def tiny_size(horizon: int = 4, layers: int = 2, width: int = 16, points: int = 4):
    """The smallest policy that has every part."""
    from robostack.policy.backbone import SmallConfig
    from robostack.policy.expert import ExpertConfig
    from robostack.policy.vla import VLAConfig

    small = SmallConfig(width=width, layers=layers, heads=2, points=points)
    return VLAConfig(horizon=horizon, small=small, expert=ExpertConfig(width=width))


def tiny_vla():
    """A policy of a few thousand random weights, always the same ones."""
    import torch

    from robostack.policy.vla import VLA

    torch.manual_seed(0)
    return VLA(tiny_size(), SPEC).eval()


# what workers do: at module level, because spawned processes find functions by name


def line_env() -> LineEnv:
    return LineEnv()


def broken_setup() -> LineEnv:
    raise OSError("no such device")


def roll_line(env: LineEnv, seed: int) -> Episode:
    from robostack.rollout import rollout

    return rollout(env, DrawnPolicy(), seed)


def times_ten(env: LineEnv, number: int) -> int:
    if number < 0:
        raise ArithmeticError(f"cannot use {number}")
    return 10 * number


def die(env: LineEnv, code: int) -> None:
    import os

    os._exit(code)


def die_once(env: LineEnv, number: int, victim: int, marker: str) -> int:
    """Ten times the number; the first time that it is the victim's turn, the machine is full."""
    import os
    import signal
    from pathlib import Path

    if number == victim and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return times_ten(env, number)


def sleep_once(env: LineEnv, number: int, victim: int, marker: str) -> int:
    """Ten times the number; the first time that it is the victim's turn, it hangs."""
    import time
    from pathlib import Path

    if number == victim and not Path(marker).exists():
        Path(marker).touch()
        time.sleep(3600)
    return 10 * number


class Bulky:
    """Arrives nowhere: where it is put together again, there is no memory for it."""

    def __reduce__(self):
        return refuse, ()


def refuse():
    raise MemoryError("cannot allocate 1 EiB")


class Deadly(LineEnv):
    """Start 7 costs the life of whoever plays it."""

    def reset(self, seed: int) -> Step:
        import os

        if seed == 7:
            os._exit(7)
        return super().reset(seed)


class Deadlies:
    """A worker of an `Arena` to whom every environment is `Deadly`, and every policy drawn."""

    def env(self, config, runner) -> LineEnv:
        return Deadly()

    def policy(self, folder, runner, env) -> DrawnPolicy:
        return DrawnPolicy()

    def watcher(self, runner, env) -> None:
        pass

    def close(self) -> None:
        pass


def stumble(env: LineEnv, number: int) -> int:
    """One job of many goes wrong: 1 is too large, 2 is killed, 3 leaves, -1 raises."""
    import os
    import signal

    if number == 1:
        raise MemoryError("cannot allocate 1 EiB")
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 3:
        os._exit(7)
    return times_ten(env, number)
