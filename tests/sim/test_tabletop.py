"""Tabletop tasks: what is asked, that it cannot be guessed from what is seen, and who succeeds."""

import functools
import itertools
import zlib

import numpy as np
import pytest
from played import content, play, same
from played import draw as draw_actions

from robostack.rollout import rollout
from robostack.sim.catalog import SUITES
from robostack.sim.control import KernelControl
from robostack.sim.env import EnvConfig, ScriptedExpert, make_env
from robostack.sim.tabletop import language, layout
from robostack.sim.tabletop.layout import HELD_OUT, HELD_OUT_RELATIONS, TASKS, draw, requests
from robostack.testing import check_env

TRAINING = [task for task, (_, held_out) in TASKS.items() if not held_out]
KINDS = ("pick", "place", "stack")


@pytest.fixture(scope="module")
def envs():
    built = {}

    def get(task, **changes):
        key = task, *changes.items()
        if key not in built:
            built[key] = make_env(EnvConfig(task=task, **({"render": "none"} | changes)))
        return built[key]

    yield get
    for env in built.values():
        env.close()


@functools.cache
def many(task):
    """Two thousand scenes."""
    return [draw(seed, task) for seed in range(2000)]


# on paper ----------------------------------------------------------------------------------


def test_the_same_seed_draws_the_same_and_another_seed_or_task_something_else():
    assert draw(5, "tabletop/mixed") == draw(5, "tabletop/mixed")
    assert draw(5, "tabletop/mixed") != draw(6, "tabletop/mixed")
    assert draw(5, "tabletop/place").things != draw(5, "tabletop/pick").things


@pytest.mark.parametrize("task", ["tabletop/mixed", "tabletop/mixed-heldout"])
def test_what_is_held_out_is_never_asked_in_training_and_always_in_the_held_out_tasks(task):
    held_out = TASKS[task][1]
    for drawn in many(task)[:200]:
        assert ((drawn.mover.colour, drawn.mover.shape) in HELD_OUT) == held_out
        if drawn.request.kind == "place":
            pair = drawn.request.relation, drawn.reference.shape
            assert (pair in HELD_OUT_RELATIONS) == held_out


def test_every_colour_shape_and_relation_is_met_in_training():
    drawn = many("tabletop/mixed")[:500]
    assert {d.mover.colour for d in drawn} == set(layout.COLOURS)
    assert {d.mover.shape for d in drawn} == set(layout.SHAPES)
    places = {(d.request.relation, d.reference.shape) for d in drawn if d.request.relation}
    assert len(places) == 12 and len(HELD_OUT_RELATIONS) == 4


@pytest.mark.parametrize("task", ["tabletop/mixed", "tabletop/mixed-heldout"])
def test_neither_colour_nor_shape_alone_says_which_thing_is_meant(task):
    for drawn in many(task)[:500]:
        others = [t for t in drawn.things if t != drawn.mover]
        assert all(t.name != drawn.mover.name for t in others)
        assert any(t.colour == drawn.mover.colour for t in others)
        assert any(t.shape == drawn.mover.shape for t in others)
        if drawn.request.kind == "stack":
            assert {t.shape for t in drawn.things} <= set(layout.STACKABLE)


def test_the_instruction_names_the_things_and_fits_the_words_that_policies_read():
    for drawn in many("tabletop/mixed")[:500]:
        named = [drawn.mover] if drawn.request.reference is None else [drawn.mover, drawn.reference]
        for thing in drawn.things:
            assert (thing.name in drawn.instruction) == (thing in named)
        order = [drawn.instruction.index(thing.name) for thing in named]
        assert order == sorted(order)
        words = language.RELATION_WORDS.get(drawn.request.relation, ("",))
        assert any(word in drawn.instruction for word in words)
        assert len(drawn.instruction.split()) <= 12


def test_no_two_words_of_the_instructions_share_a_bucket_of_the_word_hasher():
    texts = itertools.chain(*language.TEMPLATES.values(), *language.RELATION_WORDS.values())
    words = {w for text in texts for w in text.split() if "{" not in w}
    words |= {*layout.COLOURS, *layout.SHAPES}
    assert len({zlib.crc32(word.encode()) % 511 for word in words}) == len(words)


@pytest.mark.parametrize("task", ["tabletop/mixed", "tabletop/mixed-heldout"])
def test_things_stand_apart_and_there_is_room_to_do_whatever_could_be_asked(task):
    for drawn in many(task)[:100]:
        spots = np.array([(t.x, t.y) for t in drawn.things])
        gaps = [np.linalg.norm(a - b) for a, b in itertools.combinations(spots, 2)]
        assert min(gaps) >= layout.APART > layout.NEAR[1]  # so no relation holds at the start
        for request in requests(drawn.things, "place", TASKS[task][1]):
            place = layout.aim(spots, request.mover, request.reference, request.relation)
            assert layout.holds(request.relation, place - spots[request.reference])
            others = np.delete(spots, request.mover, axis=0)
            assert np.linalg.norm(others - place, axis=1).min() >= layout.CLEARANCE


def test_each_relation_holds_on_its_own_side_and_only_near():
    for name, direction in layout.RELATIONS.items():
        there = 0.1 * np.array(direction)
        assert [other for other in layout.RELATIONS if layout.holds(other, there)] == [name]
        assert not layout.holds(name, 0.3 * there) and not layout.holds(name, 2 * there)


@pytest.mark.parametrize("task", ["tabletop/mixed", "tabletop/mixed-heldout"])
def test_nothing_visible_tells_which_thing_is_asked_for(task):
    """Given the scene, each of the four is asked for in a quarter of all episodes: by its place in
    the list, and when the four are ranked by anything that can be seen."""
    drawn = many(task)
    asked = np.array([scene.request.mover for scene in drawn])
    looks = list(itertools.product(layout.COLOURS, layout.SHAPES))
    features = {
        "slot": lambda t: 0,  # equal features keep the order of the slots
        "x": lambda t: t.x,
        "y": lambda t: t.y,
        "yaw": lambda t: t.yaw,
        "distance": lambda t: np.hypot(t.x, t.y),
        "looks": lambda t: looks.index((t.colour, t.shape)),
        "body": lambda t: zlib.crc32(t.body.encode()),
    }
    for name, feature in features.items():
        values = np.array([[feature(thing) for thing in scene.things] for scene in drawn])
        order = np.argsort(values, axis=1, kind="stable")
        counts = np.bincount((order == asked[:, None]).argmax(axis=1), minlength=4)
        chi2 = ((counts - len(drawn) / 4) ** 2 / (len(drawn) / 4)).sum()
        assert chi2 < 16.27, (name, counts)  # 3 degrees of freedom, p = 0.001


def test_an_instruction_blind_policy_cannot_beat_one_in_four():
    """The bound, counted: given the scene all requests are equally likely, and each thing is to be
    moved in a quarter of them. To lift another one is to fail."""
    for task, (kinds, held_out) in TASKS.items():
        drawn = draw(0, task)
        for kind in kinds:
            movers = [r.mover for r in requests(drawn.things, kind, held_out)]
            assert np.ptp(np.bincount(movers, minlength=4)) == 0 and len(movers) >= 4


# in the simulator --------------------------------------------------------------------------


def test_the_suites_are_the_training_tasks_and_the_held_out_ones():
    assert SUITES["tabletop"] == TRAINING and len(TRAINING) == 4
    assert SUITES["tabletop-heldout"] == [f"{task}-heldout" for task in TRAINING]


def test_it_passes_the_exam_of_environments(envs):
    check_env(envs("tabletop/place"))
    check_env(envs("tabletop/mixed-heldout", render="lean", pixels=32))


def test_every_reset_shows_its_instruction_things_and_keypoints(envs):
    task = "tabletop/mixed-heldout"
    env, seen = envs(task, render="lean", pixels=32), set()
    for seed in range(6):
        step = env.reset(seed)
        assert step.observation.task == env.instruction == draw(seed, task).instruction
        assert {"object", "gripper", "support"} <= set(step.keypoints)
        assert ("target" in step.keypoints) == (env.layout.request.kind != "pick")
        here = env.origin[:2] + [env.layout.mover.x, env.layout.mover.y]
        assert np.allclose(step.keypoints["object"][:2], here, atol=1e-6)
        for thing, model in itertools.product(env.layout.things, (env.model, env.renderer.model)):
            rgb = model.geom_rgba[env.model.geom(f"{thing.body}_g0_vis").id, :3]
            assert np.allclose(rgb, layout.COLOURS[thing.colour])
        seen.add(step.observation.task)
    assert len(seen) == 6


def test_the_goal_is_on_the_side_that_the_camera_sees(envs):
    """Left in the instruction is left in the picture, and in front is nearer to its lower edge."""
    renderer = envs("tabletop/mixed-heldout", render="lean", pixels=32).renderer
    middle = np.array([-0.06, 0, 0.8])
    start = renderer.project("tableview", middle)[0]
    moves = {
        name: renderer.project("tableview", middle + 0.1 * np.array([*direction, 0]))[0] - start
        for name, direction in layout.RELATIONS.items()
    }
    assert moves["left"][0] < -2 and moves["right"][0] > 2
    assert moves["front"][1] > 2 and moves["behind"][1] < -2


def test_what_is_not_used_stays_out_of_sight_and_touches_nothing(envs):
    env = envs("tabletop/place")
    env.reset(0)
    env.reset(3)  # other things than before
    used = {thing.body for thing in env.layout.things}
    parked = [f"{s}{c}" for s in layout.SHAPES for c in (0, 1) if f"{s}{c}" not in used]
    before = [env.scene.body(f"{name}_main")[0] for name in parked]
    play(env, draw_actions(20))
    assert np.array_equal(before, [env.scene.body(f"{name}_main")[0] for name in parked])
    assert np.min(before, axis=0)[0] > 1.5 and len(parked) == 4
    touched = {env.model.body(i).name for i in env.model.geom_bodyid[env.data.contact.geom.ravel()]}
    assert {f"{name}_main" for name in used} <= touched
    assert not {f"{name}_main" for name in parked} & touched


def test_a_restored_snapshot_brings_back_the_instruction_and_the_colours(envs):
    env = envs("tabletop/mixed-heldout", render="lean", pixels=32)
    env.reset(1)
    here, actions = env.snapshot(), draw_actions(3)
    first = play(env, actions)
    before = env.instruction
    env.reset(2)
    assert env.instruction != before
    restored = env.restore(here)
    assert restored.observation.task == before and same(play(env, actions), first)
    assert same(content(env.reset(1)), content(restored))


def test_the_compiled_control_loop_is_used_and_equals_robosuites_own(envs):
    fast, stock = envs("tabletop/place"), envs("tabletop/place", control="stock")
    assert isinstance(fast.control, KernelControl) and stock.control.name == "stock"
    fast.reset(3), stock.reset(3)
    for action in draw_actions(30):
        fast.step(action), stock.step(action)
        assert np.abs(fast.data.qpos - stock.data.qpos).max() < 1e-5


def follow(env, request):
    """The last step of doing what `request` says, as far as success is possible."""
    step = None
    for action in env.carry_out(request):
        step = env.step(action)
        if step.terminated or step.truncated or step.truth == 0:  # a wrong thing was lifted
            break
    return step


@pytest.mark.parametrize("kind", KINDS)
def test_the_expert_does_what_it_is_told(kind, envs):
    env = envs(f"tabletop/{kind}")
    assert rollout(env, ScriptedExpert(env), 0).success


def test_there_is_a_plan_before_the_first_episode():
    """By which an evaluation and a session know that there is an expert."""
    env = make_env(EnvConfig("tabletop/pick", render="none"))
    plan = env.plan()
    env.reset(0)
    assert np.array_equal(next(plan), next(env.plan()))
    env.close()


def test_lifting_the_wrong_thing_fails_for_good(envs):
    env = envs("tabletop/pick")
    env.reset(0)
    asked = env.layout.request
    wrong = next(r for r in requests(env.layout.things, "pick", False) if r != asked)
    assert not raised(env, env.layout.things[wrong.mover]).success
    env.restore(env.snapshot())  # which remembers it
    assert not raised(env, env.layout.mover).success
    env.reset(0)
    assert raised(env, env.layout.mover).success


def raised(env, thing):
    """The step after a thing was put in the air by magic."""
    env.data.qpos[env.model.joint(f"{thing.body}_joint0").qposadr[0] + 2] += 0.1
    return env.step(np.zeros(7))


def test_putting_the_thing_on_the_wrong_side_or_on_the_wrong_support_is_no_success(envs):
    for kind, change in (("place", "relation"), ("stack", "reference")):
        env = envs(f"tabletop/{kind}")
        env.reset(0)
        asked = env.layout.request
        others = [
            r
            for r in requests(env.layout.things, kind, False)
            if r.mover == asked.mover and getattr(r, change) != getattr(asked, change)
        ]
        assert not follow(env, others[0]).success


def blind_successes(env, seeds) -> int:
    """Episodes in which a request succeeded that was drawn without looking at the instruction."""
    wins = 0
    for seed in seeds:
        env.reset(seed)
        kind = env.layout.request.kind
        possible = requests(env.layout.things, kind, False)
        guess = possible[np.random.default_rng([seed, 1]).integers(len(possible))]
        wins += follow(env, guess).success
    return wins


def test_without_the_instruction_the_same_expert_fails(envs):
    assert blind_successes(envs("tabletop/pick"), range(6)) <= 3


@pytest.mark.slow
@pytest.mark.parametrize("task", [task for task in TASKS if "mixed" not in task])
def test_the_expert_succeeds_in_at_least_nineteen_of_twenty(task, envs):
    env = envs(task)
    expert = ScriptedExpert(env)
    assert sum(rollout(env, expert, seed).success for seed in range(20)) >= 19


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_instruction_blind_expert_succeeds_in_less_than_half(kind, envs):
    assert blind_successes(envs(f"tabletop/{kind}"), range(40)) <= 20
