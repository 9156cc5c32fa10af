"""What a seed puts on the table and asks for: a pure function that needs no simulator.

First the scene is drawn, then one of the requests that fit it, all equally likely. So nothing that
can be seen tells which one it is: a policy that does not read the instruction must guess.

Lengths are metres from the middle of the workspace on the table, x away from the robot and y to
its left. Directions in instructions are those of the camera, which faces the robot: its right is
+y, and what is in front is nearer to the camera, at greater x.
"""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass
from functools import cache

import numpy as np

from robostack.sim.tabletop.language import phrase

SHAPES: dict[str, tuple[float, float, float]] = {  # half extents
    "cube": (0.024, 0.024, 0.024),
    "cylinder": (0.024, 0.024, 0.035),
    "ball": (0.026, 0.026, 0.026),
    "bar": (0.018, 0.05, 0.02),
}
STACKABLE = ("cube", "cylinder", "bar")
COPIES = 2  # of each shape
COLOURS: dict[str, tuple[float, float, float]] = {  # RGB
    "red": (0.8, 0.05, 0.05),
    "orange": (1.0, 0.42, 0.0),
    "yellow": (0.95, 0.85, 0.05),
    "green": (0.05, 0.5, 0.1),
    "cyan": (0.1, 0.8, 0.85),
    "blue": (0.05, 0.1, 0.75),
    "purple": (0.5, 0.1, 0.6),
    "black": (0.1, 0.1, 0.1),
}
RELATIONS: dict[str, tuple[float, float]] = {  # unit vectors from the reference
    "left": (0.0, -1.0),
    "right": (0.0, 1.0),
    "front": (1.0, 0.0),
    "behind": (-1.0, 0.0),
}

# blocks of colours and shapes, so that held-out objects can fill scenes of their own; each colour
# and each shape is still met in training, though in "tabletop/stack" alone only four colours are
_HELD_OUT_BLOCKS = (
    (("red", "cyan"), ("cube", "bar")),
    (("green", "purple"), ("cylinder", "ball")),
    (("orange", "blue"), ("bar", "cylinder")),
)
HELD_OUT = frozenset(p for block in _HELD_OUT_BLOCKS for p in itertools.product(*block))
HELD_OUT_RELATIONS = frozenset(  # (relation, shape of the reference)
    {("left", "cube"), ("behind", "cylinder"), ("right", "ball"), ("front", "bar")}
)

KINDS = ("pick", "place", "stack")
TASKS: dict[str, tuple[tuple[str, ...], bool]] = {  # name -> kinds, of held-out combinations
    f"tabletop/{name}{'-heldout' * held_out}": (kinds, held_out)
    for held_out in (False, True)
    for name, kinds in [*((kind, (kind,)) for kind in KINDS), ("mixed", KINDS)]
}

AREA = (0.14, 0.22)  # objects start within +-AREA
REACH = (0.23, 0.32)  # and are placed within +-REACH
APART = 0.17  # least distance of two centres at the start
NEAR = (0.05, 0.16)  # distance of centres that "left of" and the like mean: less than APART
CLEARANCE = 0.11  # least distance of a place to put something from other objects' centres
_AIMS = np.array([(r, a) for r in (0.12, 0.135) for a in (0.0, 0.3, -0.3, 0.6, -0.6)])


@dataclass(frozen=True)
class Thing:
    """An object on the table. `copy` says which one of its shape in the simulator's pool."""

    colour: str
    shape: str
    copy: int
    x: float
    y: float
    yaw: float  # [rad]

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def body(self) -> str:
        return f"{self.shape}{self.copy}"


@dataclass(frozen=True)
class Request:
    """What is asked: indices of things; a pick has no reference, only a place has a relation."""

    kind: str
    mover: int
    reference: int | None = None
    relation: str | None = None


@dataclass(frozen=True)
class Layout:
    things: tuple[Thing, ...]
    request: Request
    instruction: str

    @property
    def mover(self) -> Thing:
        return self.things[self.request.mover]

    @property
    def reference(self) -> Thing:
        return self.things[self.request.reference]


def draw(seed: int, task: str) -> Layout:
    """The scene and the instruction of a seed."""
    kinds, held_out = TASKS[task]
    # a stream of its own: the robot's first posture, drawn from `seed` alone, tells nothing
    rng = np.random.default_rng([seed, zlib.crc32(task.encode())])
    kind = kinds[rng.integers(len(kinds))]
    things = _draw_things(rng, kind, held_out)
    possible = requests(things, kind, held_out)
    request = possible[rng.integers(len(possible))]
    names = [None if i is None else things[i].name for i in (request.mover, request.reference)]
    return Layout(things, request, phrase(rng, kind, *names, request.relation))


def requests(things: tuple[Thing, ...], kind: str, held_out: bool) -> list[Request]:
    """All that could be asked of this scene; each thing is the mover in equally many."""
    slots = range(len(things))
    if kind == "pick":
        return [Request(kind, mover) for mover in slots]
    pairs = list(itertools.permutations(slots, 2))
    if kind == "stack":
        return [Request(kind, *pair) for pair in pairs]
    return [
        Request(kind, mover, reference, relation)
        for mover, reference in pairs
        for relation in RELATIONS
        if ((relation, things[reference].shape) in HELD_OUT_RELATIONS) == held_out
    ]


@cache
def scenes(kind: str, held_out: bool) -> list[tuple[tuple[str, str], ...]]:
    """All choices of four (colour, shape): two colours times two shapes, so that neither the
    colour nor the shape alone singles out any of them. All four are held out, or none."""
    shapes = STACKABLE if kind == "stack" else tuple(SHAPES)
    squares = itertools.product(
        itertools.combinations(COLOURS, 2), itertools.combinations(shapes, 2)
    )
    choices = [tuple(itertools.product(*square)) for square in squares]
    return [c for c in choices if {pair in HELD_OUT for pair in c} == {held_out}]


def _draw_things(rng: np.random.Generator, kind: str, held_out: bool) -> tuple[Thing, ...]:
    choices = scenes(kind, held_out)
    pairs = list(choices[rng.integers(len(choices))])
    rng.shuffle(pairs)
    spots = _draw_spots(rng, len(pairs))
    yaws = rng.uniform(-np.pi, np.pi, len(pairs))
    first = {shape: int(rng.integers(COPIES)) for _, shape in pairs}
    things = []
    for (colour, shape), spot, yaw in zip(pairs, spots, yaws):
        copy = (first[shape] + sum(t.shape == shape for t in things)) % COPIES
        things.append(Thing(str(colour), str(shape), copy, float(spot[0]), float(spot[1]), yaw))
    return tuple(things)


def _draw_spots(rng: np.random.Generator, count: int) -> np.ndarray:
    """Centres f64[count, 2], apart, with room for every relation of every pair. Demanded of all
    pairs and not of the one in the instruction, for else the room would give it away."""
    others = ~np.eye(count, dtype=bool)
    while True:
        draws = rng.uniform(-1, 1, (200, count, 2)) * AREA  # about one in 200 will do
        distances = np.linalg.norm(draws[:, :, None] - draws[:, None], axis=-1)
        for spots in draws[(distances[:, others] >= APART).all(axis=1)]:
            if _room(spots)[1].any(axis=3)[others].all():
                return spots


def _room(spots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places f64[reference, relation, aim, 2] and which are free bool[reference, mover,
    relation, aim], for things at `spots` f64[n, 2]. The mover itself leaves its spot."""
    angles = np.array([np.arctan2(y, x) for x, y in RELATIONS.values()])[:, None] + _AIMS[:, 1]
    arms = _AIMS[:, :1] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    places = spots[:, None, None] + arms
    taken = np.linalg.norm(places[..., None, :] - spots, axis=-1) < CLEARANCE
    by_others = taken.sum(axis=-1, keepdims=True) - taken
    free = (by_others == 0) & (np.abs(places) <= REACH).all(axis=-1)[..., None]
    return places, np.moveaxis(free, 3, 1)


def aim(spots: np.ndarray, mover: int, reference: int, relation: str) -> np.ndarray:
    """Where f64[2] to put the mover, with room around it. `spots` f64[n, 2] is where things are."""
    places, free = _room(spots)
    number = list(RELATIONS).index(relation)
    return places[reference, number, free[reference, mover, number].argmax()]


def holds(relation: str, offset: np.ndarray) -> bool:
    """Whether a thing that is f64[2] away from another is left of it (and so on): near it, and
    farther that way than sideways."""
    distance, along = np.linalg.norm(offset), offset @ RELATIONS[relation]
    return bool(NEAR[0] <= distance <= NEAR[1] and along >= distance * np.cos(np.pi / 4))
