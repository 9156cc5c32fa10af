"""Makes the pictures of docs/simulation.md:  python docs/pictures.py [name ...]"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from robostack.sim.catalog import SUITES, TASKS
from robostack.sim.env import EnvConfig, make_env
from robostack.sim.perturb import AXES

HERE = Path(__file__).parent
STEPS = 12  # of the expert, so that something is going on


def views(config: EnvConfig, seed: int = 0) -> list[np.ndarray]:
    """Pictures u8[H, W, 3] of a task's first two cameras, a little into an episode."""
    env = make_env(config)
    try:
        step = env.reset(seed)
        plan = env.plan() if TASKS[config.task].expert else iter(())
        for action, _ in zip(plan, range(STEPS)):
            step = env.step(action)
        return list(step.observation.images.values())[:2]
    finally:
        env.close()


def labelled(picture: np.ndarray, text: str) -> np.ndarray:
    """The picture under a line that says what it is."""
    bar = np.full((22, picture.shape[1], 3), 245, np.uint8)
    cv2.putText(bar, text, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (32, 48, 60), 1, cv2.LINE_AA)
    return np.concatenate([bar, picture])


def sheet(tiles: list[np.ndarray], columns: int) -> np.ndarray:
    blank = np.full_like(tiles[0], 255)
    tiles = tiles + [blank] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows)


def _family(names: list[str], pixels: int) -> Iterator[np.ndarray]:
    for name in names:
        pair = views(EnvConfig(task=name, pixels=pixels))
        yield labelled(np.concatenate(pair, 1), name.removeprefix("metaworld/"))


def tasks() -> np.ndarray:
    return sheet(list(_family(SUITES["robosuite"], 160)), 3)


def metaworld() -> np.ndarray:
    return sheet(list(_family(SUITES["metaworld-mt50"], 84)), 7)


def tabletop() -> np.ndarray:
    """Each with its instruction."""
    tiles = []
    for seed in range(3):
        for name in SUITES["tabletop"]:
            env = make_env(EnvConfig(task=name, pixels=200))
            images = list(env.reset(seed).observation.images.values())[:2]
            tiles.append(labelled(np.concatenate(images, 1), env.instruction))
            env.close()
    return sheet(tiles, 3)


def profiles() -> np.ndarray:
    """Stock beside lean."""
    tiles = []
    for name in ("Lift", "PickPlaceCan", "Door"):
        for pixels in (84, 224):
            for profile in ("stock", "lean"):
                pair = np.concatenate(views(EnvConfig(task=name, pixels=pixels, render=profile)), 1)
                shown = cv2.resize(pair, (448, 224), interpolation=cv2.INTER_NEAREST)
                tiles.append(labelled(shown, f"{name}, {pixels} px, {profile}"))
    return sheet(tiles, 2)


def perturbations() -> np.ndarray:
    tiles = []
    for axis in ("none", *(axis for axis in AXES if axis != "delay")):
        for seed in range(3):
            perturb = {} if axis == "none" else {axis: 1.0}
            pair = views(EnvConfig(task="Stack", pixels=160, perturb=perturb), seed)
            tiles.append(labelled(np.concatenate(pair, 1), axis))
    return sheet(tiles, 3)


SHEETS: dict[str, Callable[[], np.ndarray]] = {
    each.__name__: each for each in (tasks, metaworld, tabletop, profiles, perturbations)
}


def main() -> None:
    unknown = set(sys.argv[1:]) - set(SHEETS)
    if unknown:
        sys.exit(f"unknown {', '.join(unknown)}; valid: {', '.join(SHEETS)}")
    for name in sys.argv[1:] or SHEETS:
        path = HERE / f"{name}.jpg"
        cv2.imwrite(str(path), SHEETS[name]()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
        print(path, f"{path.stat().st_size / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
