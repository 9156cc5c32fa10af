"""What every learned reward promises, before and after training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import SQUARE_SPEC, make_episode, square_episode

from robostack.protocols import Reward
from robostack.rewards.eye import EyeConfig, SmallEye
from robostack.rewards.learned import RewardData, require_pictures, when_done
from robostack.rewards.lessons import BLURRED, Lessons, label_done
from robostack.rewards.load import LEARNED, load_reward
from robostack.rewards.saved import CARD, WEIGHTS, RewardError, read_card
from robostack.types import SpecMismatch

EYE = EyeConfig(side=32, width=48)
ALL = pytest.mark.parametrize("name", list(LEARNED))


@pytest.fixture
def reward(name, request):
    return request.getfixturevalue(name)


def look(episodes):
    return RewardData(episodes, SmallEye(EYE, 1, 1))


def short(success=True):
    """A try that needed a single action, as tries from late states do."""
    return make_episode(
        0,
        steps=1,
        spec=SQUARE_SPEC,
        states=np.zeros((2, 1), np.float32),
        images={"top": np.zeros((2, 32, 32, 3), np.uint8)},
        success=success,
    )


def tailed(seed, arrived=10, steps=16):
    """A success that goes on after it, and flickers for a moment."""
    truth = np.linspace(0, 0.9, steps + 1).astype(np.float32)
    truth[arrived:] = 1
    truth[arrived + 2] = 0.5
    return replace(square_episode(seed, steps=steps), truth=truth, terminated=False)


def test_what_comes_after_success_is_done_and_a_flicker_is_nobody_knows():
    data = look([tailed(0), square_episode(1), square_episode(2, success=False)])
    after, plain, lost = (label_done(data)[data.rows(i)] for i in range(3))
    assert data.arrived[:2].tolist() == [10, 16]
    assert np.flatnonzero(after == 1).tolist() == [10, 11, 13, 14, 15, 16]
    assert np.flatnonzero(np.isnan(after)).tolist() == [8, 9, 12]
    assert np.flatnonzero(plain == 1).tolist() == [16] and (lost == 0).all()
    assert np.isnan(plain).sum() == BLURRED


def test_the_truth_of_a_failure_makes_nothing_done():
    """It was done for a moment, and dropped."""
    episode = replace(tailed(0), success=False)
    assert not when_done(episode).any()


def test_progress_is_complete_from_success_on():
    lessons = Lessons(look([*(tailed(s) for s in range(4)), square_episode(9)]), 3, 0.0, 0.0)
    for i in range(4):
        progress = lessons.progress[lessons.data.rows(i)]
        assert progress[10] == 1 and (progress[:10] < 1).all()
        assert np.isnan(progress[12]) and (np.delete(progress[10:], 2) == 1).all()


@ALL
@pytest.mark.parametrize("seed", [0, 100])
def test_it_is_a_potential_of_every_observation(reward, seed):
    for success in (True, False):
        score = reward.score(square_episode(seed, steps=11, success=success))
        assert score.shape == (12,) and score.dtype == np.float32
        assert (score >= 0).all() and (score <= 1).all()
    assert isinstance(reward, Reward)


@ALL
def test_a_loaded_reward_scores_what_the_saved_one_did(reward, name, tmp_path):
    reward.save(tmp_path)
    loaded = load_reward(tmp_path)
    episode = square_episode(100)
    # where a tensor lies in memory may change the last bit of a product
    assert np.allclose(loaded.score(episode), reward.score(episode), atol=1e-6)
    assert loaded.fingerprint() == reward.fingerprint()
    card = read_card(tmp_path)
    assert card["name"] == name and card["spec"] == SQUARE_SPEC


@ALL
def test_the_fingerprint_changes_with_any_weight_and_statistic(reward, name, tmp_path):
    reward.save(tmp_path)
    other = load_reward(tmp_path)
    seen = {other.fingerprint()}
    with torch.no_grad():
        for tensor in list(other.state_dict().values())[:: max(1, len(other.state_dict()) // 4)]:
            tensor.view(-1)[0] = 1 - tensor.view(-1)[0].to(tensor.dtype)
            seen.add(other.fingerprint())
    assert len(seen) >= 5


@ALL
def test_the_fingerprint_changes_with_the_version_of_the_formula(reward, monkeypatch):
    before = reward.fingerprint()
    monkeypatch.setattr(type(reward), "version", 99)
    assert reward.fingerprint() != before


@ALL
def test_judging_twice_gives_the_same(reward):
    episode = square_episode(101)
    assert np.array_equal(reward.score(episode), reward.score(episode))


@ALL
def test_an_episode_of_another_robot_is_refused(reward):
    other = replace(square_episode(0), spec=replace(SQUARE_SPEC, control_hz=20.0))
    with pytest.raises(SpecMismatch, match="control_hz"):
        reward.score(other)


@ALL
def test_an_episode_without_an_instruction_is_refused(reward):
    with pytest.raises(RewardError, match="no instruction"):
        reward.score(replace(square_episode(0), task=" "))


def dead(episode, shown):
    """What a camera that shows the same for ever makes of it."""
    frames = episode.images["top"]
    return replace(episode, images={"top": np.broadcast_to(shown, frames.shape).copy()})


@ALL
def test_a_camera_that_is_dead_while_the_state_moves_is_refused(reward):
    episode = square_episode(0)
    flicker = np.arange(17, dtype=np.uint8)[:, None, None, None]
    for shown, why in (
        (np.uint8(0), "shows nothing: each of its 17 frames is of one colour"),
        (flicker, "shows nothing: each of its 17 frames is of one colour"),
        (episode.images["top"][8], "frozen: all its 17 frames are the same"),
    ):
        with pytest.raises(RewardError, match=f"camera 'top' .*{why} while the state changes"):
            reward.score(dead(episode, shown))
        with pytest.raises(RewardError, match=why):
            RewardData([episode, dead(episode, shown)], reward.eye)


def test_of_drawn_pictures_one_camera_may_always_show_the_same():
    """As of a table that the arm has left. A real camera has noise, and never does."""
    episode = square_episode(0)
    top = episode.images["top"]
    still = np.broadcast_to(top[8], top.shape).copy()
    spec = replace(episode.spec, cameras={"top": (32, 32), "side": (32, 32)})
    drawn = replace(spec, conventions=spec.conventions | {"render": "lean"})
    left = replace(episode, spec=drawn, images={"top": top, "side": still})
    require_pictures(left)
    with pytest.raises(RewardError, match="camera 'side' is frozen"):
        require_pictures(replace(left, spec=spec))
    with pytest.raises(RewardError, match="camera 'side' is frozen"):
        require_pictures(replace(left, images={"top": still, "side": still}))
    with pytest.raises(RewardError, match="camera 'side' shows nothing"):
        require_pictures(replace(left, images={"top": top, "side": 0 * still}))


@ALL
def test_a_scene_in_which_nothing_moves_may_look_the_same(reward):
    episode = square_episode(0)
    still = replace(episode, states=np.zeros_like(episode.states))
    assert np.isfinite(reward.score(dead(still, episode.images["top"][8]))).all()
    assert np.isfinite(reward.score(dead(still, np.uint8(0)))).all()


@ALL
def test_without_a_success_there_is_nothing_to_learn(name):
    data = look([square_episode(s, success=False) for s in range(2)])
    with pytest.raises(RewardError, match="successes; none of the 2"):
        LEARNED[name](SQUARE_SPEC, EYE).fit(data)


@ALL
def test_very_short_tries_are_learned_from_or_refused_with_a_reason(name):
    for episodes in ([short(), square_episode(0)], [short()]):
        reward = LEARNED[name](SQUARE_SPEC, EYE)
        try:
            data = look(episodes)
            reward.fit(data)
            loss, _ = reward.loss(data, np.random.default_rng(0))
        except RewardError:
            continue
        assert torch.isfinite(loss)


def test_no_episodes_are_refused():
    with pytest.raises(RewardError, match="no episodes"):
        look([])


def test_a_robot_without_cameras_is_refused():
    with pytest.raises(RewardError, match="no camera"):
        LEARNED["success"](replace(SQUARE_SPEC, cameras={}), EYE)


@ALL
@pytest.mark.parametrize("lost", [CARD, WEIGHTS])
def test_a_folder_that_lacks_a_file_holds_no_reward(reward, tmp_path, lost):
    reward.save(tmp_path)
    (tmp_path / lost).unlink()
    with pytest.raises(RewardError, match="holds no"):
        load_reward(tmp_path)


@ALL
def test_weights_of_another_robot_are_refused(reward, name, tmp_path):
    reward.save(tmp_path / "one")
    two = replace(SQUARE_SPEC, cameras={"top": (32, 32), "wrist": (32, 32)})
    LEARNED[name](two, EYE).save(tmp_path / "two")
    (tmp_path / "two" / WEIGHTS).write_bytes((tmp_path / "one" / WEIGHTS).read_bytes())
    with pytest.raises(RewardError, match="holds no"):
        load_reward(tmp_path / "two")


def test_a_reward_of_an_earlier_format_says_to_train_it_again(success, tmp_path):
    success.save(tmp_path)
    text = (tmp_path / CARD).read_text().replace('"format": 2', '"format": 1')
    (tmp_path / CARD).write_text(text)
    with pytest.raises(RewardError, match="format 1, expected 2; train it"):
        load_reward(tmp_path)


def test_an_unknown_kind_lists_the_known_ones(success, tmp_path):
    success.save(tmp_path)
    text = (tmp_path / CARD).read_text().replace('"name": "success"', '"name": "oracle"')
    (tmp_path / CARD).write_text(text)
    with pytest.raises(RewardError, match="unknown kind 'oracle'; known: world_model, progress"):
        load_reward(tmp_path)


def test_the_columns_of_the_data_are_the_episodes_one_after_the_other():
    episodes = [square_episode(s, steps=8 + s, success=s != 1) for s in range(3)]
    data = look(episodes)
    assert data.first.tolist() == [0, 9, 19] and data.length.tolist() == [9, 10, 11]
    assert data.success.tolist() == [True, False, True]
    for i, episode in enumerate(episodes):
        assert np.array_equal(data.states[data.rows(i)], episode.states)
        assert np.array_equal(data.actions[data.rows(i)][:-1], episode.actions)


def test_a_try_from_the_middle_is_no_whole_episode():
    later = replace(square_episode(1), stamps=square_episode(1).stamps + 3)
    assert look([square_episode(0), later]).whole.tolist() == [True, False]


def test_another_task_is_never_the_one_that_was_given():
    data = look([square_episode(s) for s in range(2)])
    random = np.random.default_rng(0)
    assert all(data.other_task(data.tasks[0], random) != data.tasks[0] for _ in range(50))
