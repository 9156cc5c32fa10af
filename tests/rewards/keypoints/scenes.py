"""Rendered scenes whose truth is known: a coloured ball seen by calibrated cameras.

No simulator: a ball projects to nearly a disc, drawn with soft edges on a patterned table.
"""

from dataclasses import replace

import numpy as np
from fakes import LIFT, SPEC, make_episode

from robostack.rewards.keypoints.camera import Camera

SIZE, RADIUS = 96, 0.04  # [px], [m]
RED, BLUE = (200, 30, 40), (30, 60, 190)


def looking(position, size=SIZE, focal=110.0, lens=()):
    """A camera that looks at the origin from a place, its pictures' upper edge upwards."""
    forward = -np.asarray(position, float) / np.linalg.norm(position)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.column_stack([right, np.cross(forward, right), forward])
    middle = (size - 1) / 2
    return Camera(
        [[focal, 0, middle], [0, focal, middle], [0, 0, 1]], rotation, position, size, size, lens
    )


CAMERAS = {
    "left": looking((0.7, -0.5, 0.5)),
    "right": looking((0.7, 0.5, 0.5)),
    "front": looking((0.9, 0.0, 0.3)),
}
GRIPPER = ("gripper_x", "gripper_y", "gripper_z", "gripper_opening")


def background(camera: str, size: int = SIZE) -> np.ndarray:
    """Grey blotches, always the same ones, so that there are corners everywhere."""
    rng = np.random.default_rng(sorted(CAMERAS).index(camera))
    cells = rng.integers(90, 170, (size // 6 + 1, size // 6 + 1, 1))
    return np.repeat(np.repeat(np.repeat(cells, 6, 0), 6, 1)[:size, :size], 3, 2).astype(float)


def picture(camera: str, balls: list[tuple[np.ndarray, tuple]], noise: int | None = None):
    """uint8[H, W, 3] of balls (centre f64[3], colour), the later before the earlier."""
    image, known = background(camera), CAMERAS[camera]
    y, x = np.mgrid[: known.height, : known.width]
    for centre, colour in balls:
        u, v = known.project(centre)
        distance = np.linalg.norm(centre - known.position)
        size = known.intrinsics[0, 0] * RADIUS / distance
        cover = np.clip(size - np.hypot(x - u, y - v) + 0.5, 0, 1)[..., None]
        image = cover * np.array(colour) + (1 - cover) * image
    if noise is not None:
        image = image + np.random.default_rng(noise).normal(0, 3, image.shape)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def episode(path, colour=RED, views=tuple(CAMERAS), others=(), noise=None, **changes):
    """An episode in which a ball goes along f64[T+1, 3]; `others` are balls that stand still."""
    path = np.asarray(path, float)
    images = {
        view: np.stack(
            [
                picture(view, [*others, (at, colour)], None if noise is None else noise + t)
                for t, at in enumerate(path)
            ]
        )
        for view in views
    }
    spec = changes.pop("spec", None) or spec_of(views)
    gripper = path + [0, 0, 0.1]
    fields = dict(
        spec=spec,
        images=images,
        states=np.column_stack([gripper, np.full(len(path), 0.08)]).astype(np.float32),
        keypoints={"object": path.astype(np.float32)},
        task=LIFT,
    )
    return make_episode(0, len(path) - 1, **(fields | changes))


def spec_of(views, states=GRIPPER):
    return replace(SPEC, cameras=dict.fromkeys(views, (SIZE, SIZE)), state_names=states)


def lift(steps: int = 20, start=(0.02, -0.03, 0.0)) -> np.ndarray:
    """A path that moves sideways and then up."""
    t = np.linspace(0, 1, steps + 1)[:, None]
    side = np.clip(2 * t, 0, 1) * [0.05, 0.06, 0]
    return np.array(start) + side + np.clip(2 * t - 1, 0, 1) * [0, 0, 0.12]


def starts(at, views=tuple(CAMERAS)):
    """Where a point is in each view."""
    return {view: tuple(CAMERAS[view].project(at)) for view in views}


PATH_OF_LIFT, TABLE = lift(), np.array([0.0, 0.0, -0.02])


def lifted(path=PATH_OF_LIFT, seed=0, **changes):
    """A success: a hand follows the ball and closes on it, and then they rise."""
    opening = np.where(path[:, 2] > 0, 0.04, 0.08)
    opening[np.argmax(path[:, 2] > 0) - 2 :] = 0.04
    keypoints = {
        "gripper": path.astype(np.float32),
        "object": path.astype(np.float32),
        "support": np.broadcast_to(np.float32(TABLE), path.shape),
    }
    states = np.column_stack([path, opening]).astype(np.float32)
    fields = dict(states=states, keypoints=keypoints, success=True, noise=seed)
    return replace(episode(path, **(fields | changes)), seed=seed)
