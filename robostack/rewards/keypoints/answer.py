"""What a vision-language model is asked about a scene, what it must answer, what votes agree on.

Marks and tiles are MOKA's (arXiv 2403.03174), the order of waypoints KAGI's (2407.10341), stages
ReKep's (2409.01652). Every vote numbers the marks anew, so that agreement is agreement about the
scene, and not a liking for small numbers.
"""

from __future__ import annotations

import dataclasses
import glob
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robostack.rewards.keypoints.constraints import KINDS
from robostack.rewards.keypoints.marks import Marked, mark, tile_centre
from robostack.rewards.keypoints.program import Program
from robostack.rewards.keypoints.reading import PRIMITIVE, read_fields, several
from robostack.rewards.keypoints.tracks import KeypointError

VERSION = 1  # of the prompt below; a new one makes all cached answers stale
HEIGHTS = {"same": 0.0, "above": 0.1, "high": 0.25}  # over the grasp mark [m]
LONGEST = 20_000  # characters of an answer

PROMPT = """\
A robot arm with a two-finger gripper is told: "{instruction}"
You see the scene before it moves, {views}. Numbered dots are candidates for keypoints, and a grid
divides every picture into tiles, a1 at its upper left to e5 at its lower right. The same object
may have different numbers in different pictures.

Decide
- grasp: the mark on the object that is to be moved, at its middle, in every picture;
- target: the mark on the place or object that it is to be brought to, in every picture; {{}} if
  the instruction names none;
- waypoints: tiles, in order, over which the object should be carried; [] if it needs none. height
  is one of {heights}, over where the object is now;
- stages: what has to be achieved, in order.

A stage has a name, a goal (all of it holds when the stage is done), and keep (what must go on
holding during the stage, or it is lost). goal and keep are lists of constraints over the points
gripper, object (the grasp mark), support (where the object is now), target (if you named one), and
way1, way2, ... (the waypoints). Lengths are metres. The kinds of constraints and their keys:
{kinds}
Waypoints of a path or a route are {{"point": point, "up": metres above it}}. A stage may have a
route {{"mover": point, "via": [waypoints], "least": metres}}: the path that a point should take
from where it is when the stage begins, and how long that usually is.

Answer with one JSON object and nothing else, of this form:
{form}
"""
FORM = {
    "grasp": {},
    "target": {},
    "waypoints": [],
    "stages": [
        {
            "name": "reach",
            "goal": [{"kind": "near", "a": "gripper", "b": "object", "within": 0.04}],
            "keep": [],
            "route": {"mover": "gripper", "via": [{"point": "object", "up": 0.1}], "least": 0.2},
        },
    ],
}


@dataclass(frozen=True)
class Tile:
    """A waypoint: a tile of a view, and one of HEIGHTS."""

    view: str
    tile: str
    height: str


@dataclass(frozen=True)
class Answer:
    """Marks count from 0 on, in the order of the scene's candidates."""

    grasp: Mapping[str, int]  # view -> candidate
    target: Mapping[str, int]  # the same; empty where nothing is named
    waypoints: tuple[Tile, ...]
    program: Program

    @property
    def marks(self) -> dict[str, int | None]:
        """What votes must agree on: "grasp.agentview" -> candidate, None for no target."""
        named = {f"grasp.{view}": number for view, number in self.grasp.items()}
        return named | {f"target.{view}": self.target.get(view) for view in self.grasp}


@dataclass(frozen=True, eq=False)
class Scene:
    """Views of a scene with candidates for keypoints, and what is to be done in it."""

    instruction: str
    images: Mapping[str, np.ndarray]  # view -> uint8[H, W, 3]
    candidates: Mapping[str, np.ndarray]  # view -> f64[N, 2] [px]

    def order(self, view: str, vote: int) -> np.ndarray:
        """The candidates i64[N] in the order in which a vote numbers them."""
        count = len(self.candidates[view])
        seed = [vote, sorted(self.images).index(view)]
        return np.random.default_rng(seed).permutation(count) if vote else np.arange(count)

    def marked(self, vote: int) -> list[Marked]:
        return [
            mark(image, self.candidates[view][self.order(view, vote)])
            for view, image in self.images.items()
        ]

    def prompt(self) -> str:
        views = [f"picture {i} from the camera {v}" for i, v in enumerate(self.images, 1)]
        numbers = dict.fromkeys(self.images, 1)
        tile = {"view": next(iter(self.images)), "tile": "c3", "height": "above"}
        form = FORM | {"grasp": numbers, "target": numbers, "waypoints": [tile]}
        return PROMPT.format(
            instruction=self.instruction,
            views=", ".join(views),
            heights=", ".join(f"{name} ({up:g} m)" for name, up in HEIGHTS.items()),
            kinds="\n".join(f"- {_kind(name, kind)}" for name, kind in KINDS.items()),
            form=json.dumps(form),
        )

    def read(self, text: str, vote: int) -> Answer:
        """An answer to a vote. Raises KeypointError that says what was expected where."""
        raw = _object(text)
        keys = ("grasp", "target", "waypoints", "stages")
        unknown, missing = sorted(set(raw) - set(keys)), [k for k in keys if k not in raw]
        if unknown or missing:
            what = f"unknown key {unknown[0]!r}" if unknown else f"{missing[0]!r} is missing"
            raise KeypointError(f"answer: {what}; the keys are: {', '.join(keys)}")
        grasp = self._marks(raw["grasp"], "answer: grasp", vote)
        nothing = raw["target"] is None or raw["target"] == {}
        target = {} if nothing else self._marks(raw["target"], "answer: target", vote)
        tiles = several(self._tile, least=0)(raw["waypoints"], "answer: waypoints")
        points = {"gripper", "object", "support"} | ({"target"} if target else set())
        points |= {f"way{i}" for i in range(1, len(tiles) + 1)}
        program = {"instructions": [glob.escape(self.instruction.lower())], "stages": raw["stages"]}
        return Answer(grasp, target, tiles, Program.from_json(program, points))

    def _marks(self, raw: Any, where: str, vote: int) -> dict[str, int]:
        if not isinstance(raw, dict) or set(raw) != set(self.images):
            raise KeypointError(
                f"{where}: expected a mark for each of the views {', '.join(self.images)}, "
                f"got {_brief(raw)}"
            )
        found = {}
        for view, number in raw.items():
            count = len(self.candidates[view])
            whole = isinstance(number, int) and not isinstance(number, bool)
            if not whole or not 1 <= number <= count:
                raise KeypointError(
                    f"{where}: {view}: expected a mark from 1 to {count}, got {_brief(number)}"
                )
            found[view] = int(self.order(view, vote)[number - 1])
        return found

    def _tile(self, raw: Any, where: str) -> Tile:
        tile = read_fields(Tile, raw, where, PRIMITIVE)
        for value, valid in ((tile.view, self.images), (tile.height, HEIGHTS)):
            if value not in valid:
                raise KeypointError(
                    f"{where}: expected one of {', '.join(valid)}, got {_brief(value)}"
                )
        try:
            tile_centre(tile.tile, 1, 1)
        except KeypointError as error:
            raise KeypointError(f"{where}: {error}") from None
        return tile


def agree(answers: Sequence[Answer], votes: int, least: float) -> tuple[Answer, dict[str, float]]:
    """The answer that most votes give to each mark, and the share of all votes that gave it.

    `votes` counts those that were no valid answer, too: they agree with nobody. Waypoints and
    program are those of the first answer whose marks are the winners, and whose program most of
    these share. Raises KeypointError where a mark has a share below `least`, and where no answer
    has all winners.
    """
    shares, winners = {}, {}
    for name in answers[0].marks:
        (winner, count), *_ = Counter(answer.marks[name] for answer in answers).most_common()
        winners[name], shares[name] = winner, count / votes
        if count / votes < least:
            raise KeypointError(
                f"the votes do not agree on {name}: the most common answer has {count} of {votes}, "
                f"expected a share of {least:g}"
            )
    together = [answer for answer in answers if answer.marks == winners]
    if not together:
        raise KeypointError("no vote names all the marks that most votes name one by one")
    plans = [json.dumps(answer.program.to_json()) for answer in together]
    plan, count = Counter(plans).most_common(1)[0]
    shares["program"] = count / votes
    return together[plans.index(plan)], shares


def _kind(name: str, kind: type) -> str:
    """A constraint's keys and meaning, for the prompt."""
    keys = ", ".join(
        f.name if f.default is dataclasses.MISSING else f"{f.name}={f.default}"
        for f in dataclasses.fields(kind)
    )
    meaning = " ".join((kind.__doc__ or "").replace("`", "").split())
    return f"{name} ({keys}): {meaning}"


def _object(text: str) -> dict:
    """The JSON object in an answer, which may stand in a fence or between words."""
    if len(text) > LONGEST:
        raise KeypointError(f"answer: expected at most {LONGEST} characters, got {len(text)}")
    fence = re.search(r"```(?:json)?\s*(\{.*?)```", text, re.DOTALL)
    inner = fence.group(1) if fence else text
    begin = inner.find("{")
    if begin < 0:
        raise KeypointError(f"answer: expected a JSON object, got {_brief(text)}")
    decoder = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number, parse_int=_whole)
    try:
        return decoder.raw_decode(inner[begin:])[0]
    except (ValueError, RecursionError) as error:
        what = str(error) or "nested too deeply"
        raise KeypointError(f"answer: not JSON: {what}; got {_brief(inner[begin:])}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict:
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise KeypointError(f"answer: the key {twice[0]!r} stands there twice")
    return dict(pairs)


def _whole(digits: str) -> int:
    if len(digits) > 15:
        raise KeypointError(f"answer: expected numbers of a usual size, got {_brief(digits)}")
    return int(digits)


def _no_number(name: str) -> float:
    raise KeypointError(f"answer: expected finite numbers, got {name}")


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
