"""Programs for the simulator's tasks, by their instructions. Heights and distances are metres.

Heights are those of centres over the `support`, the plane that the object rests on at first.
"""

from __future__ import annotations

from robostack.rewards.keypoints.constraints import (
    Above,
    Apart,
    Constraint,
    Held,
    Level,
    Near,
    Over,
    Released,
    Still,
)
from robostack.rewards.keypoints.program import Program, Route, Stage
from robostack.rewards.keypoints.tracks import Waypoint

HOVER = 0.1  # over object and target, where paths bend

# half heights of the tabletop's shapes, see robostack.sim.tabletop.layout
SHAPES = {"cube": 0.024, "cylinder": 0.035, "ball": 0.026, "bar": 0.02}
# robosuite's groceries: quarter of the bin, half height, how far from the centre one is gripped
GROCERIES = {
    "milk": ("back left", 0.085, 0.07),
    "bread": ("front left", 0.045, 0.045),
    "cereal": ("back right", 0.1, 0.07),
    "can": ("front right", 0.06, 0.045),
}
QUARTER, DEEP, AWAY = 0.0975, 0.1, 0.0424  # half width of one, of its air, and of what is let go


def _take(
    rest: float, height: float, within: float, weights: tuple[float, ...]
) -> tuple[Stage, ...]:
    """Reach an object whose centre rests at `rest`, grasp it `within`, raise it to `height`."""
    held = Held("object", within=within + 0.02)
    to_object = (Waypoint("object", HOVER), Waypoint("object"))
    reach, grasp, lift = weights
    return (
        Stage(
            "reach",
            goal=(Near("gripper", "object", within),),
            weight=reach,
            route=Route("gripper", to_object, least=0.25),
        ),
        Stage(
            "grasp",
            goal=(held,),
            keep=(Near("gripper", "object", within + 0.03),),
            weight=grasp,
            scale=0.001,  # half a grasp is none
        ),
        Stage(
            "lift",
            goal=(Above("object", "support", height),),
            keep=(held,),
            weight=lift,
            scale=height - rest,
        ),
    )


def _bring(
    rest: float,
    carried: float,
    within: float,
    centred: float,
    goal: tuple[Constraint, ...],
    up: float = 0.0,
) -> tuple[Stage, ...]:
    """Take an object, carry it `carried` high, over the target within `centred`, and put it there,
    `up` above the target's centre."""
    take = _take(rest, carried, within, weights=(0.2, 0.1, 0.15))
    held = take[2].keep
    on = (Above("object", "target", up / 2),) if up else ()
    return (
        *take,
        Stage(
            "align",
            goal=(Over("object", "target", centred),),
            keep=(*held, Above("object", "support", carried - 0.02)),
            weight=0.25,
            route=Route("object", (Waypoint("target", HOVER),), least=0.15),
        ),
        Stage(
            "place",
            goal=goal,
            keep=(Over("object", "target", centred + 0.01), *on),
            weight=0.3,
            route=Route("object", (Waypoint("target", up),), least=0.1, sigma=centred),
        ),
    )


def _lift(instructions: tuple[str, ...], rest: float, height: float) -> Program:
    stages = _take(rest, height, within=0.03, weights=(0.3, 0.2, 0.5))
    return Program(instructions, stages)


def _grocery(thing: str) -> Program:
    quarter, rest, within = GROCERIES[thing]
    inside = (
        Over("object", "target", QUARTER),
        Level("object", "support", DEEP),
        Apart("gripper", "object", AWAY),
    )
    # the bins' walls are as high as the air above a quarter that counts
    stages = _bring(rest, DEEP + 0.02, within, QUARTER, inside)
    instruction = f"put the {thing} into the {quarter} quarter of the bin on the right"
    return Program((instruction,), stages)


def _shift(instruction: str, within: float, done: float, least: float) -> Program:
    """Come `within` [m] of what cannot be lifted, and move it to `done` [m] from the target."""
    touch = Near("gripper", "object", within)
    approach = Route("gripper", (Waypoint("object", HOVER), Waypoint("object")), least=0.25)
    return Program(
        (instruction,),
        (
            Stage("reach", goal=(touch,), weight=0.4, route=approach),
            Stage(
                "move",
                goal=(Near("object", "target", done),),
                keep=(Near("gripper", "object", within + 0.05),),
                weight=0.6,
                route=Route("object", (Waypoint("target"),), least=least),
            ),
        ),
    )


def _picks(shape: str) -> tuple[str, ...]:
    return (
        f"pick up the * {shape}",
        f"pick the * {shape} up",
        f"lift the * {shape}",
        f"grasp the * {shape} and raise it",
        f"raise the * {shape} off the table",
    )


_STACKS = (
    "stack the * on the *",
    "put the * on top of the *",
    "place the * on the *",
    "set the * down on the *",
)
_PLACES = ("* left of the *", "* right of the *", "* in front of the *", "* behind the *")

# robosuite asks for no more than contact of the cubes and none with the fingers
_ON_CUBE = (
    Over("object", "target", 0.04),
    Above("object", "target", 0.035),
    Level("object", "target", 0.055),
    Released("object"),
)
# let go where it rests, and not falling any more
_ON_TOP = (
    Over("object", "target", 0.025),
    Above("object", "target", 0.035),
    Level("object", "target", 0.08),
    Released("object"),
    Still("object", 0.1),
)
_ON_TABLE = (
    Over("object", "target", 0.04),
    Level("object", "target", 0.006),
    Released("object"),
    Still("object", 0.1),
)

# The first program that fits an instruction is the one: the special ones come first. The tabletop
# family asks for a red cube to be lifted, too, in the very words of Lift, and a centimetre higher.
PROGRAMS: dict[str, Program] = {
    "Lift": _lift(("lift the red cube",), rest=0.02, height=0.04),
    "Stack": Program(
        ("stack the red cube on the green cube",),
        _bring(0.02, 0.07, 0.03, 0.025, _ON_CUBE, up=0.045),
    ),
    **{f"PickPlace{t.capitalize()}": _grocery(t) for t in GROCERIES},
    **{
        f"tabletop/pick {shape}": _lift(_picks(shape), rest, rest + 0.05)
        for shape, rest in SHAPES.items()
    },
    "tabletop/stack": Program(_STACKS, _bring(0.024, 0.07, 0.03, 0.025, _ON_TOP, up=0.05)),
    # Meta-World's own thresholds: of the door's handle it asks for one coordinate only
    "metaworld/door-open-v3": _shift("open the door", 0.075, 0.09, least=0.5),
    "metaworld/drawer-open-v3": _shift("pull the drawer open", 0.075, 0.03, least=0.15),
    "metaworld/button-press-topdown-v3": _shift(
        "press the red button down", 0.03, 0.024, least=0.08
    ),
    "tabletop/place": Program(_PLACES, _bring(0.024, 0.06, 0.03, 0.04, _ON_TABLE)),
}
