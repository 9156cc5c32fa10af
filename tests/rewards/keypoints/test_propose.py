"""From marked pictures through votes to a reward, with models that answer well and badly."""

import json
from dataclasses import replace

import numpy as np
import pytest
import scenes
from scenes import BLUE, CAMERAS

from robostack.rewards.keypoints.answer import HEIGHTS, Scene, agree
from robostack.rewards.keypoints.camera import write_cameras
from robostack.rewards.keypoints.endpoint import Endpoint, EndpointError, LocalModel
from robostack.rewards.keypoints.marks import (
    candidates,
    mark,
    tile_at,
    tile_centre,
)
from robostack.rewards.keypoints.propose import ProposeConfig, _tracker, propose_reward, vote
from robostack.rewards.keypoints.tracks import KeypointError
from robostack.rewards.load import load_reward

PATH = scenes.lift()
TARGET = np.array([0.1, -0.2, 0.0])
VIEWS = ("left", "right")
EPISODE = scenes.episode(PATH, views=VIEWS, others=[(TARGET, BLUE)])
STAGES = [
    {
        "name": "reach",
        "goal": [{"kind": "near", "a": "gripper", "b": "object", "within": 0.12}],
    },
    {
        "name": "lift",
        "goal": [{"kind": "above", "a": "object", "b": "support", "height": 0.1}],
        "route": {"mover": "object", "via": [{"point": "support", "up": 0.12}], "least": 0.1},
    },
]


def scene(episode=EPISODE, count=8):
    images = {view: episode.images[view][0] for view in VIEWS}
    return Scene(episode.task, images, {v: candidates(i, count) for v, i in images.items()})


SCENE = scene()


def nearest(view, point):
    """The candidate nearest to a point."""
    away = SCENE.candidates[view] - CAMERAS[view].project(point)
    return int(np.linalg.norm(away, axis=1).argmin())


OBJECT = {view: nearest(view, PATH[0]) for view in VIEWS}
GOAL = {view: nearest(view, TARGET) for view in VIEWS}


def numbers(chosen, number):
    """Candidates as the numbers under which a vote sees them."""
    return {v: int(np.flatnonzero(SCENE.order(v, number) == c)[0]) + 1 for v, c in chosen.items()}


def answer(number=0, chosen=OBJECT, goal=None, **changes):
    raw = {
        "grasp": numbers(chosen, number),
        "target": numbers(goal, number) if goal else {},
        "waypoints": [],
        "stages": STAGES,
    }
    return json.dumps(raw | changes)


class Answers:
    """A model that answers what it was told to, one text a question."""

    def __init__(self, texts, name="told"):
        self.texts, self.name, self.asked = list(texts), name, []

    def ask(self, text, images):
        self.asked.append((text, images))
        return self.texts[len(self.asked) - 1]


@pytest.fixture
def config(tmp_path):
    write_cameras(tmp_path / "cameras.json", CAMERAS)
    return ProposeConfig(cameras=str(tmp_path / "cameras.json"), candidates=8, votes=3)


# marks ---------------------------------------------------------------------------------------


def test_candidates_hold_the_balls_middles_first_and_are_far_from_each_other():
    for view in VIEWS:
        found = SCENE.candidates[view]
        for ball in (PATH[0], TARGET):
            middle = CAMERAS[view].project(ball)
            assert np.linalg.norm(found[:2] - middle, axis=1).min() < 0.6
        gaps = np.linalg.norm(found[:, None] - found[None], axis=-1)[
            ~np.eye(len(found), dtype=bool)
        ]
        assert len(found) == 8 and gaps.min() >= 0.04 * 96 and CAMERAS[view].sees(found).all()


def test_fewer_candidates_are_the_first_of_more():
    few, many = (candidates(EPISODE.images["left"][0], n) for n in (4, 12))
    assert (few[:2] == many[:2]).all() and len(few) == 4 and len(many) == 12


def test_a_plain_picture_has_no_candidates():
    with pytest.raises(KeypointError, match="plain"):
        candidates(np.full((64, 64, 3), 90, np.uint8), 5)


@pytest.mark.parametrize("count", [1, 8, 24])
def test_labels_lie_in_the_picture_and_cover_neither_marks_nor_each_other(count):
    pixels = candidates(EPISODE.images["left"][0], count)
    marked = mark(EPISODE.images["left"][0], pixels)
    boxes = np.array(marked.labels)
    scale = marked.image.shape[0] // 96
    dots = (pixels + 0.5) * scale - 0.5
    assert min(marked.image.shape[:2]) >= 512 and len(boxes) == len(pixels)
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] < marked.image.shape[1::-1]).all()
    for i, (left, top, right, bottom) in enumerate(boxes):
        inside = (dots >= (left, top)) & (dots <= (right, bottom))
        assert not inside.all(1).any()
        for other in boxes[:i]:
            apart = other[0] > right or other[2] < left or other[1] > bottom or other[3] < top
            assert apart


def test_marks_without_room_for_their_labels_are_refused():
    crowd = np.stack(np.meshgrid(np.arange(0, 96, 3), np.arange(0, 96, 3)), -1).reshape(-1, 2)
    with pytest.raises(KeypointError, match="no room"):
        mark(EPISODE.images["left"][0], crowd)


def test_the_middle_of_every_tile_is_in_that_tile_and_tiles_cover_the_picture():
    names = [column + row for column in "abcde" for row in "12345"]
    assert [tile_at(tile_centre(name, 90, 130), 90, 130) for name in names] == names
    assert tile_at((0, 0), 90, 130) == "a1" and tile_at((129, 0), 90, 130) == "e1"
    assert tile_at((0, 89), 90, 130) == "a5" and np.allclose(
        tile_centre("c3", 90, 130), (64.5, 44.5)
    )


@pytest.mark.parametrize("tile", ["", "f1", "a0", "a6", "1a", "a12", "A1", None, 3])
def test_what_is_no_tile_is_refused(tile):
    with pytest.raises(KeypointError, match="from a1"):
        tile_centre(tile, 90, 130)


# answers -------------------------------------------------------------------------------------


def test_every_vote_numbers_all_candidates_in_an_order_of_its_own():
    orders = [SCENE.order("left", number) for number in range(6)]
    assert (orders[0] == np.arange(8)).all() and len({tuple(order) for order in orders}) > 4
    assert all(sorted(order) == list(range(8)) for order in orders)
    shown = [SCENE.marked(number)[0].pixels for number in range(6)]
    assert all((s == SCENE.candidates["left"][o]).all() for s, o in zip(shown, orders))


def test_an_answer_means_the_same_candidates_in_whichever_order_they_are_numbered():
    for number in range(6):
        read = SCENE.read(answer(number, goal=GOAL), number)
        assert read.grasp == OBJECT and read.target == GOAL


@pytest.mark.parametrize("wrap", ["{}", "```json\n{}\n```", "Sure:\n{}\nDone.", "```\n{}```"])
def test_an_object_is_found_in_a_fence_or_between_words(wrap):
    assert SCENE.read(wrap.replace("{}", answer()), 0).grasp == OBJECT


def test_the_form_in_the_prompt_is_a_valid_answer_and_names_every_kind():
    text = SCENE.prompt()
    read = SCENE.read(text[text.rindex('{"grasp"') :], 0)
    assert read.grasp == {"left": 0, "right": 0} and len(read.waypoints) == 1
    assert EPISODE.task in text and all(
        f"\n- {kind} (" in text for kind in ("near", "path", "held")
    )


@pytest.mark.parametrize("task", ["lift [all] *?", "Put It Down"])
def test_the_program_is_for_this_instruction_whatever_signs_are_in_it(task):
    program = replace(SCENE, instruction=task).read(answer(), 0).program
    assert program.fits(task) and not program.fits("lift all of it")


GRASP = {"left": 1, "right": 1}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "expected a JSON object"),
        ("I see a cube.", "expected a JSON object, got 'I see"),
        ('{"grasp": ', "not JSON"),
        ("{" * 19_000, "not JSON"),
        ('{"a":' * 3000, "not JSON"),
        ("x" * 30_000, "at most 20000 characters"),
        ("{}", "'grasp' is missing"),
        ('{"grasp": 1, "grasp": 2}', "'grasp' stands there twice"),
        (answer(thought="hm"), "unknown key 'thought'"),
        (answer(grasp={"left": 1}), "views left, right"),
        (answer(grasp=GRASP | {"top": 1}), "views left, right"),
        (answer(grasp=[1, 1]), "views left, right"),
        (answer(grasp=None), "views left, right"),
        (answer(grasp=GRASP | {"left": 0}), "grasp: left: expected a mark from 1 to 8, got 0"),
        (answer(grasp=GRASP | {"right": 9}), "grasp: right: expected a mark from 1 to 8, got 9"),
        (answer(grasp=GRASP | {"left": 1.0}), "from 1 to 8, got 1.0"),
        (answer(grasp=GRASP | {"left": "1"}), "from 1 to 8, got '1'"),
        (answer(grasp=GRASP | {"left": True}), "from 1 to 8, got True"),
        (answer(grasp=GRASP | {"left": float("nan")}), "finite numbers, got NaN"),
        (answer(grasp=GRASP | {"left": 10**400}), "usual size"),
        (answer(target=0), "target: expected a mark"),
        (answer(target=[]), "target: expected a mark"),
        (answer(waypoints="c3"), "waypoints: expected a list"),
        (answer(waypoints=[{"tile": "c3"}]), r"waypoints\[0\].*missing"),
        (answer(waypoints=[{"view": "top", "tile": "c3", "height": "same"}]), "left, right"),
        (answer(waypoints=[{"view": "left", "tile": "f9", "height": "same"}]), "from a1"),
        (answer(waypoints=[{"view": "left", "tile": "c3", "height": "up"}]), "same, above, high"),
        (answer(stages=[]), "stages: expected a list of 1"),
        (answer(stages=[{"name": "a", "goal": [{"kind": "touch"}]}]), "kinds"),
        (
            answer(stages=[{"name": "a", "goal": [dict(STAGES[0]["goal"][0], within=1e999)]}]),
            "finite",
        ),
        (
            answer(stages=[{"name": "a", "goal": [dict(STAGES[0]["goal"][0], b="target")]}]),
            "no keypoint 'target'",
        ),
        (
            answer(stages=[{"name": "a", "goal": [dict(STAGES[0]["goal"][0], b="way1")]}]),
            "no keypoint 'way1'",
        ),
    ],
)
def test_an_answer_that_does_not_fit_says_where_and_what_was_expected(text, why):
    with pytest.raises(KeypointError, match=why) as caught:
        SCENE.read(text, 0)
    assert len(str(caught.value)) < 400


# votes ---------------------------------------------------------------------------------------


def read(*texts):
    return [SCENE.read(text, number) for number, text in enumerate(texts)]


OTHER = {view: (OBJECT[view] + 2) % 8 for view in VIEWS}


def test_the_mark_that_most_votes_name_wins_with_its_share():
    votes = read(answer(0), answer(1, chosen=OTHER), answer(2), answer(3, goal=GOAL))
    found, shares = agree(votes, 5, 0.5)  # the fifth was no valid answer
    assert found.grasp == OBJECT and found.target == {}
    assert shares["grasp.left"] == 3 / 5 and shares["target.left"] == 3 / 5
    assert shares["program"] == 2 / 5


def test_the_order_of_the_votes_does_not_matter_where_there_is_a_majority():
    votes = read(answer(0), answer(1, chosen=OTHER), answer(2))
    assert agree(votes, 3, 0.6)[1] == agree(votes[::-1], 3, 0.6)[1]


def test_the_program_is_the_one_that_most_of_the_winners_wrote():
    short = STAGES[1:]
    votes = read(answer(0, stages=short), answer(1), answer(2), answer(3, OTHER, stages=short))
    assert len(agree(votes, 4, 0.5)[0].program.stages) == 2


def test_votes_that_do_not_agree_are_refused_with_what_they_do_not_agree_on():
    with pytest.raises(KeypointError, match="grasp.left.*1 of 3, expected a share of 0.6"):
        agree(read(answer(0), answer(1, chosen=OTHER)), 3, 0.6)


def test_winners_that_no_vote_names_together_are_refused():
    left, right = OBJECT | {"left": OTHER["left"]}, OBJECT | {"right": OTHER["right"]}
    goal = {"left": GOAL["left"], "right": GOAL["right"]}
    votes = read(answer(0, left), answer(1, right), answer(2, OBJECT, goal=goal))
    with pytest.raises(KeypointError, match="no vote names all"):
        agree(votes, 3, 0.6)


def test_invalid_votes_count_against_and_are_told():
    model = Answers([answer(0), "nonsense", answer(2), answer(3)])
    settings = ProposeConfig(votes=4, agreement=0.7)
    found, shares, problems = vote(SCENE, model, settings)
    assert found.grasp == OBJECT and shares["grasp.left"] == 3 / 4
    assert len(problems) == 1 and problems[0].startswith("vote 2: answer: expected a JSON object")
    with pytest.raises(KeypointError, match="3 of 4.*vote 2: answer"):
        vote(SCENE, Answers(model.texts), replace(settings, agreement=0.8))
    with pytest.raises(KeypointError, match="none of 2 votes.*vote 1: answer"):
        vote(SCENE, Answers(["no", "no"]), replace(settings, votes=2))


def test_cached_answers_are_not_asked_for_again_and_damaged_ones_are(tmp_path):
    texts = [answer(0), "nonsense", answer(2)]
    settings = ProposeConfig(votes=3, cache=str(tmp_path / "cache"))
    first = vote(SCENE, Answers(texts), settings)
    files = sorted((tmp_path / "cache").iterdir())
    assert len(files) == 2  # the valid ones
    again = Answers([answer(1)])  # asked for the vote that was none
    found = vote(SCENE, again, settings)
    assert len(again.asked) == 1 and found[1]["grasp.left"] == 1 and found[0] == first[0]
    for damage in ("", "{", "[]", json.dumps({"key": "x", "answer": answer()})):
        files[0].write_text(damage)
        model = Answers([answer(0), answer(2)])
        with_damage = vote(SCENE, _either(model, texts), settings)
        assert with_damage[1]["grasp.left"] == 1
    assert json.loads(files[0].read_text())["key"] == files[0].stem  # written anew
    assert not [file for file in (tmp_path / "cache").iterdir() if file.name.startswith(".")]


def _either(model, texts):
    """A model that answers the one vote whose file is damaged, whichever it is."""

    def ask(text, images):
        shown = {number: SCENE.marked(number)[0].image for number in (0, 2)}
        (number,) = [n for n, image in shown.items() if (image == images[0]).all()]
        return texts[number]

    model.ask = ask
    return model


@pytest.mark.parametrize(
    "change", ["image", "instruction", "model"], ids=lambda name: f"another {name}"
)
def test_another_question_is_not_answered_from_the_cache(tmp_path, change):
    settings = ProposeConfig(votes=1, cache=str(tmp_path))
    vote(SCENE, Answers([answer(0)]), settings)
    other, name = SCENE, "told"
    if change == "image":
        image = SCENE.images["left"].copy()
        image[0, 0] += 40
        other = replace(SCENE, images=SCENE.images | {"left": image})
    elif change == "instruction":
        other = replace(SCENE, instruction="lift the ball")
    else:
        name = "another"
    model = Answers([answer(0)], name)
    vote(other, model, settings)
    assert len(model.asked) == 1


# rewards -------------------------------------------------------------------------------------


def test_agreed_marks_become_a_reward_that_rises_as_the_ball_is_lifted(config):
    tiles = [{"view": "left", "tile": "c3", "height": "above"}]
    model = Answers([answer(n, goal=GOAL, waypoints=tiles) for n in range(3)])
    found = propose_reward(config, EPISODE, model)
    assert np.linalg.norm(found.places["object"] - PATH[0]) < 0.01
    assert np.linalg.norm(found.places["target"] - TARGET) < 0.01
    way = found.places["way1"]
    assert np.isclose(way[2], found.places["object"][2] + HEIGHTS["above"])
    assert tile_at(CAMERAS["left"].project(way), 96, 96) == "c3"
    assert found.confidence == 1 and len(found.pictures) == 2 and found.problems == ()
    scores = found.reward.explain(EPISODE)
    assert scores.potential[0] < 0.6 and scores.potential[-1] == 1
    assert (np.diff(scores.potential) > -0.05).all() and (scores.confidence > 0).all()
    assert found.reward.stops(EPISODE)[-1] and not found.reward.stops(EPISODE)[:10].any()


def test_the_reward_judges_an_episode_that_begins_elsewhere(config):
    reward = propose_reward(config, EPISODE, Answers(map(answer, range(3)))).reward
    path = scenes.lift(start=(-0.05, 0.03, 0.0))
    lifted = scenes.episode(path, views=VIEWS, others=[(TARGET, BLUE)])
    left = scenes.episode(path * [1, 1, 0], views=VIEWS, others=[(TARGET, BLUE)])
    assert reward.score(lifted)[-1] == 1 and reward.score(left)[-1] < 0.7


def test_the_reward_is_the_same_after_saving_and_loading(config, tmp_path):
    reward = propose_reward(config, EPISODE, Answers(map(answer, range(3)))).reward
    reward.save(tmp_path / "reward")
    again = load_reward(tmp_path / "reward")
    assert again.fingerprint() == reward.fingerprint()
    other = scenes.episode(scenes.lift(start=(-0.05, 0.03, 0.0)), views=VIEWS)
    for seen in (EPISODE, other):
        assert (again.score(seen) == reward.score(seen)).all()


def test_a_target_that_looks_like_its_surroundings_is_a_fixed_point(config):
    bare = scenes.episode(PATH, views=VIEWS)
    images = {view: frames.copy() for view, frames in bare.images.items()}
    for frames in images.values():  # a plain table with marks that only corners show
        for t, frame in enumerate(frames):
            frame[:] = np.where(np.ptp(frame, -1, keepdims=True) > 40, frame, 128)
            frame[2, 2 + t] = 0
    plain = replace(bare, images=images)
    shown = {view: images[view][0] for view in VIEWS}
    marks = {
        view: np.stack([CAMERAS[view].project(PATH[0]), CAMERAS[view].project(TARGET)])
        for view in VIEWS
    }
    starts = {
        name: {view: tuple(marks[view][i]) for view in VIEWS}
        for i, name in enumerate(("object", "target"))
    }
    tracker = _tracker(CAMERAS, starts, shown, {"object": PATH[0], "target": TARGET})
    points, _ = tracker(plain)
    assert np.allclose(points["target"], TARGET, atol=1e-6)
    assert np.linalg.norm(points["object"] - PATH, axis=1).max() < 0.01


def test_marks_of_two_views_that_are_not_one_point_are_refused(config):
    height = SCENE.candidates["right"][:, 1] - CAMERAS["right"].project(PATH[0])[1]
    wrong = OBJECT | {"right": int(np.abs(height).argmax())}
    with pytest.raises(KeypointError, match="marks of the object are not the same point.*pixels"):
        propose_reward(config, EPISODE, Answers([answer(n, wrong) for n in range(3)]))


def test_marks_of_different_colours_are_not_one_point_even_where_their_rays_meet(config):
    wrong = OBJECT | {"right": GOAL["right"]}
    with pytest.raises(KeypointError, match="colours differ between left and right"):
        propose_reward(config, EPISODE, Answers([answer(n, wrong) for n in range(3)]))


def test_a_calibrated_view_that_was_not_marked_helps_to_follow_the_object(config):
    three = scenes.episode(PATH, others=[(TARGET, BLUE)])
    found = propose_reward(replace(config, views=VIEWS), three, Answers(map(answer, range(3))))
    starts = found.reward.source.starts["object"]
    assert set(starts) == set(CAMERAS)
    assert np.linalg.norm(starts["front"] - CAMERAS["front"].project(PATH[0])) < 1.5
    black = {"front": np.zeros_like(three.images["front"][0])}
    for view in VIEWS:
        black[view] = three.images[view][0]
    marked = {view: tuple(CAMERAS[view].project(PATH[0])) for view in VIEWS}
    blind = _tracker(CAMERAS, {"object": marked}, black, {"object": PATH[0]})
    assert set(blind.starts["object"]) == set(VIEWS)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"cameras": ""}, "calibration file"),
        ({"cameras": "nowhere.json"}, "nowhere.json"),
        ({"views": ("left", "front")}, r"in the episode \(left, right\), got left, front"),
        ({"views": ("left", "top")}, r"calibrated \(left, right, front\)"),
    ],
)
def test_cameras_that_do_not_fit_are_told_before_anything_is_asked(config, change, why):
    model = Answers([])
    with pytest.raises(KeypointError, match=why):
        propose_reward(replace(config, **change), EPISODE, model)
    assert model.asked == []


def test_pictures_of_another_size_than_calibrated_are_told_before_anything_is_asked(config):
    small = {name: scenes.looking(c.position, 64) for name, c in CAMERAS.items()}
    write_cameras(config.cameras, small)
    with pytest.raises(KeypointError, match="'left' is calibrated for 64 x 64.*96 x 96"):
        propose_reward(config, EPISODE, Answers([]))


@pytest.mark.parametrize(
    "change",
    [
        {"votes": 0},
        {"candidates": 1},
        {"agreement": 0.0},
        {"agreement": 1.5},
        {"agreement": float("nan")},
        {"gate": 0.0},
        {"views": ("left",)},
        {"views": ("left", "left")},
    ],
)
def test_settings_that_cannot_work_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        ProposeConfig(**change)


def test_the_settings_name_a_server_or_a_local_model():
    asked = ProposeConfig(endpoint="http://host/v1", model="m", timeout=3.0, retries=0).ask()
    assert asked == Endpoint("http://host/v1", "m", 3.0, 0)
    with pytest.raises(ValueError, match="model"):
        ProposeConfig(endpoint="http://host/v1").ask()


CHAT = (
    "{% for m in messages %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)


@pytest.mark.slow
def test_the_nonsense_of_a_random_model_is_refused_and_not_believed(tmp_path):
    import transformers
    import vlms

    tokens, folder = vlms.tokenizer("paligemma"), tmp_path / "model"
    pictures = transformers.SiglipImageProcessorPil(size={"height": 64, "width": 64})
    pictures.image_seq_length = 16
    transformers.PaliGemmaProcessor(pictures, tokens).save_pretrained(folder)
    text = vlms.TEXT | {"max_position_embeddings": 4096}
    config = vlms.config("paligemma", tokens, text=text)
    transformers.PaliGemmaForConditionalGeneration(config).save_pretrained(folder)
    with pytest.raises(EndpointError, match="chat template"):
        LocalModel(str(folder))
    transformers.PaliGemmaProcessor(pictures, tokens, chat_template=CHAT).save_pretrained(folder)
    model = LocalModel(str(folder), tokens=8)
    words = model.ask(SCENE.prompt(), [SCENE.images["left"], SCENE.images["right"]])
    assert isinstance(words, str)
    assert words == model.ask(SCENE.prompt(), [SCENE.images["left"], SCENE.images["right"]])
    with pytest.raises(KeypointError, match="none of 2 votes is a valid answer"):
        vote(SCENE, model, ProposeConfig(votes=2))
