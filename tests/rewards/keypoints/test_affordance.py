"""The keypoint reward on a rehearsed pick and place, and beside the simulator's own judgement."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fakes import LIFT, SPEC, STACK, make_episode

from robostack.protocols import Explains, Reward
from robostack.rewards.keypoints import KeypointAffordance, KeypointError, Program
from robostack.rewards.keypoints import constraints as kinds
from robostack.rewards.keypoints import program as programs
from robostack.rewards.keypoints.affordance import OPENING, rehearsal, rehearsed
from robostack.rewards.keypoints.builtin import GROCERIES, PROGRAMS, SHAPES
from robostack.rewards.keypoints.track import Tracker
from robostack.rewards.load import load_reward
from robostack.rewards.saved import RewardError
from robostack.sim.env import EnvConfig, ScriptedExpert, make_env
from robostack.sim.tabletop import layout
from robostack.sim.tasks import TASKS
from robostack.types import SpecMismatch

REWARD = KeypointAffordance()
CAN = "put the can into the front right quarter of the bin on the right"
PICK, PLACE = "pick up the blue bar", "put the blue bar left of the red ball"
ALL = pytest.mark.parametrize("task", [LIFT, STACK, CAN, PICK, PLACE])
ROBOT = replace(SPEC, state_names=("x", OPENING))


def played(task=STACK, tracks=None, **changes):
    """The rehearsal as an episode of a robot that knows the opening of its gripper."""
    tracks = tracks or rehearsal({"gripper"})
    opening = np.zeros(len(tracks)) if tracks.opening is None else tracks.opening
    fields = {
        "spec": ROBOT,
        "task": task,
        "states": np.stack([np.zeros(len(tracks)), opening], 1).astype(np.float32),
        "keypoints": {n: np.array(p, np.float32) for n, p in tracks.points.items()},
    }
    return make_episode(0, steps=len(tracks) - 1, **(fields | changes))


def backwards(episode):
    points = {n: p[::-1].copy() for n, p in episode.keypoints.items()}
    return replace(episode, keypoints=points, states=episode.states[::-1].copy())


@ALL
def test_the_potential_is_the_weighted_mean_of_the_terms(task):
    scores = REWARD.explain(played(task))
    program = REWARD.program(task)
    assert list(scores.terms) == [stage.name for stage in program.stages]
    mean = sum(w * t for w, t in zip(program.shares, scores.terms.values()))
    assert np.allclose(scores.potential, mean, atol=1e-6)
    assert np.array_equal(scores.potential, REWARD.score(played(task)))
    assert (scores.confidence == 1).all() and scores.confidence.dtype == np.float32


@ALL
def test_the_potential_is_one_where_it_is_done_and_nowhere_else(task):
    for episode in (played(task), backwards(played(task))):
        assert np.array_equal(REWARD.stops(episode), REWARD.score(episode) == 1)
    assert REWARD.stops(played(STACK))[-1] and not REWARD.stops(played(STACK))[:-5].any()


@ALL
@pytest.mark.parametrize("yaw", [0.0, 1.0, 2.5])
def test_moving_and_turning_the_whole_scene_changes_nothing(task, yaw):
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    here = played(task)
    moved = {
        n: (p @ turn.T + [0.3, -0.2, 0.1]).astype(np.float32) for n, p in here.keypoints.items()
    }
    assert np.allclose(REWARD.score(here), REWARD.score(replace(here, keypoints=moved)), atol=1e-4)


@ALL
def test_a_success_played_backwards_ends_low(task):
    forwards = REWARD.score(played(task))
    assert forwards.max() > 0.7 and REWARD.score(backwards(played(task)))[-1] < 0.2


@ALL
def test_hovering_near_the_object_earns_no_more_than_reaching_it(task):
    """With open fingers, with shut ones, and with fingers that keep opening and closing."""
    tracks = rehearsal({"gripper"})
    steps, most = np.arange(len(tracks)), REWARD.program(task).shares[0]
    lying = np.repeat(tracks.points["object"][:1], len(tracks), 0)
    gripper = np.where(steps[:, None] < 40, tracks.points["gripper"], lying + [0, 0, 0.01])
    points = tracks.points | {"object": lying, "gripper": gripper.astype(np.float32)}
    for opening in (0.08 + 0 * steps, 0 * steps, 0.04 + 0.005 * abs(steps % 8 - 4)):
        score = REWARD.score(played(task, replace(tracks, points=points, opening=opening)))
        assert most - 1e-6 <= score.max() <= most + 0.01


@pytest.mark.parametrize("drop", [58, 70, 80])
def test_dropping_the_object_takes_back_what_was_earned(drop):
    tracks = rehearsal({"gripper"})
    fallen = tracks.points["object"].copy()
    fallen[drop:] = fallen[drop] * [1, 1, 0] + np.float32([0, 0, 0.02])
    score = REWARD.score(played(STACK, replace(tracks, points=tracks.points | {"object": fallen})))
    assert score[drop - 1] > 0.4 and score[drop + 5] < 0.25
    assert np.array_equal(score[:drop], REWARD.score(played(STACK))[:drop])


def test_the_first_program_that_fits_is_the_one():
    assert REWARD.program("Lift the RED cube") is PROGRAMS["Lift"]
    assert REWARD.program("lift the blue cube") is PROGRAMS["tabletop/pick cube"]
    other = KeypointAffordance(programs={"mine": PROGRAMS["Stack"], "Stack": PROGRAMS["Lift"]})
    assert other.program(STACK) is PROGRAMS["Stack"]


def test_an_unknown_task_lists_the_known_ones():
    with pytest.raises(KeypointError, match="'fold the shirt'") as caught:
        REWARD.score(played("fold the shirt"))
    assert all(name in str(caught.value) for name in (*PROGRAMS, LIFT, CAN))
    assert isinstance(caught.value, RewardError)


def test_bad_points_are_named_with_the_task():
    here = played(STACK)
    lacking = {n: p for n, p in here.keypoints.items() if n != "target"}
    with pytest.raises(KeypointError, match=f"{STACK}.*'target'; there are: gripper, object"):
        REWARD.score(replace(here, keypoints=lacking))
    here.keypoints["object"][7] = np.nan
    with pytest.raises(KeypointError, match=f"{STACK}.*'object' is not finite at step 7"):
        REWARD.score(here)


class Shown:
    """A source that has seen the same points in every episode."""

    def __init__(self, points, sure):
        self.points, self.sure = points, sure

    def __call__(self, episode):
        return self.points, self.sure

    def settings(self):
        return {}

    def arrays(self):
        return {**self.points, "sure": self.sure}


def test_a_source_gives_points_and_how_sure_they_are():
    whole = played(STACK)
    sure = np.linspace(0, 1, len(whole) + 1, dtype=np.float32)
    reward = KeypointAffordance(source=Shown(whole.keypoints, sure))
    blind = replace(whole, keypoints={})
    assert np.array_equal(reward.score(blind), REWARD.score(whole))
    assert np.array_equal(reward.explain(blind).confidence, sure)
    assert reward.fingerprint() != REWARD.fingerprint()
    assert KeypointAffordance(
        source=Shown(whole.keypoints, sure[::-1].copy())
    ).fingerprint() not in (
        reward.fingerprint(),
        REWARD.fingerprint(),
    )
    with pytest.raises(KeypointError, match="96 points for 9 observations"):
        reward.score(make_episode(0, steps=8, task=STACK))


def test_a_robot_that_does_not_tell_its_opening_is_judged_by_motion():
    assert REWARD.score(played(STACK, spec=SPEC, states=np.zeros((96, 3), np.float32))).max() > 0.7


def test_it_is_saved_with_its_programs(tmp_path):
    mine = {"mine": Program.from_json(PROGRAMS["Stack"].to_json() | {"instructions": ["do it"]})}
    saved = KeypointAffordance(ROBOT, mine)
    saved.save(tmp_path)
    loaded = load_reward(tmp_path)
    assert loaded.programs == mine and loaded.fingerprint() == saved.fingerprint()
    episode = played("do it")
    assert np.array_equal(loaded.score(episode), saved.score(episode))
    with pytest.raises(SpecMismatch, match="control_hz"):
        loaded.score(replace(episode, spec=replace(ROBOT, control_hz=20.0)))


def test_it_is_saved_with_its_tracker(tmp_path):
    fixed = {"gripper": (0.1, 0, 0.1), "object": (0, 0, 0.02), "support": (0, 0, 0)}
    saved = KeypointAffordance(ROBOT, source=Tracker({}, {}, fixed=fixed))
    saved.save(tmp_path)
    loaded, blind = load_reward(tmp_path), played(LIFT, keypoints={})
    assert isinstance(loaded.source, Tracker) and loaded.fingerprint() == saved.fingerprint()
    assert np.array_equal(loaded.score(blind), saved.score(blind)) and saved.score(blind).max() > 0


def test_what_cannot_be_saved_says_why(tmp_path):
    with pytest.raises(KeypointError, match="give it spec"):
        REWARD.save(tmp_path)
    with pytest.raises(KeypointError, match="Tracker as its source, not with a Shown"):
        KeypointAffordance(ROBOT, source=Shown({}, np.zeros(1))).save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_program_in_a_folder_is_refused(tmp_path):
    KeypointAffordance(ROBOT).save(tmp_path)
    card = json.loads((tmp_path / "reward.json").read_text())
    card["settings"]["programs"][0][1]["stages"][0]["goal"][0]["kind"] = "__import__"
    (tmp_path / "reward.json").write_text(json.dumps(card))
    with pytest.raises(RewardError, match="kinds near, apart"):
        load_reward(tmp_path)


@pytest.mark.parametrize("path", ["weight", "within"])
def test_the_fingerprint_changes_with_any_number(path):
    raw = PROGRAMS["Stack"].to_json()
    stage = raw["stages"][-1]
    (stage if path == "weight" else stage["keep"][0])[path] *= 1.1
    other = KeypointAffordance(programs=PROGRAMS | {"Stack": Program.from_json(raw)})
    assert other.fingerprint() != REWARD.fingerprint()


@pytest.fixture
def change(monkeypatch):
    """A formula, while what the old one said is kept for the life of a process."""

    def to(owner, name, value):
        monkeypatch.setattr(owner, name, value)
        rehearsed.cache_clear()

    yield to
    rehearsed.cache_clear()


@pytest.mark.parametrize("kind", ["Near", "Held", "Released", "Level"])
def test_the_fingerprint_changes_with_any_formula(change, kind):
    before, cls = REWARD.fingerprint(), getattr(kinds, kind)
    value = cls.value
    change(cls, "value", lambda self, tracks: value(self, tracks) * 1.01)
    assert REWARD.fingerprint() != before


def test_the_fingerprint_changes_with_how_progress_is_counted(change):
    before = REWARD.fingerprint()
    change(programs, "UNFINISHED", 0.8)
    assert REWARD.fingerprint() != before


def test_it_is_a_reward_that_explains_itself_and_is_the_same_every_time():
    assert isinstance(REWARD, Reward) and isinstance(REWARD, Explains)
    assert REWARD.fingerprint() == KeypointAffordance().fingerprint()


# beside the simulator --------------------------------------------------------------------------
def test_programs_know_the_simulators_shapes_and_instructions():
    assert {shape: size[2] for shape, size in layout.SHAPES.items()} == SHAPES
    for name in ("Lift", "Stack", *(f"PickPlace{t.capitalize()}" for t in GROCERIES)):
        assert REWARD.program(TASKS[name].instruction) is PROGRAMS[name]
    for seed in range(100):
        for kind in layout.KINDS:
            drawn = layout.draw(seed, f"tabletop/{kind}")
            shape = f" {drawn.mover.shape}" if kind == "pick" else ""
            want = PROGRAMS[f"tabletop/{kind}{shape}"]
            assert REWARD.program(drawn.instruction) is want, drawn.instruction


@pytest.mark.parametrize(
    ("task", "early"), [("Lift", 0), ("Stack", 1), ("tabletop/pick", 0), ("tabletop/place", 5)]
)
def test_experts_earn_more_and_more_and_are_done_when_the_simulator_says_so(task, early):
    from robostack.rollout import rollout

    env = make_env(EnvConfig(task=task, render="none"))
    try:
        episode = rollout(env, ScriptedExpert(env), 0)
    finally:
        env.close()
    score, stops = REWARD.score(episode), REWARD.stops(episode)
    rank = np.argsort(np.argsort(score, kind="stable"))
    assert episode.success and np.corrcoef(rank, np.arange(len(rank)))[0, 1] > 0.9
    assert score[0] < 0.1 and score[-1] == 1
    assert len(episode) - early <= stops.argmax() <= len(episode)
