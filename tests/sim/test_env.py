"""The simulated arm: reproducible, restorable, strict about actions, and robosuite underneath."""

import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from played import content, draw, play, same

from robostack.protocols import Env, Renders, Snapshots
from robostack.rewards.keypoints import KeypointAffordance
from robostack.rollout import rollout
from robostack.sim.env import EnvConfig, ScriptedExpert, make_env


def test_it_is_an_env_with_snapshots_that_shows_what_its_spec_says(lift):
    assert isinstance(lift, Env) and isinstance(lift, Snapshots) and isinstance(lift, Renders)
    seen = lift.reset(0).observation
    assert seen.state.shape == (lift.spec.state_dim,)
    assert {n: i.shape[:2] for n, i in seen.images.items()} == lift.spec.cameras
    assert all(image.std() > 10 for image in seen.images.values())


def test_the_same_seed_gives_the_same_start_whatever_happened_before(lift):
    first = content(lift.reset(3))
    play(lift, draw(5))
    other = content(lift.reset(4))
    assert same(content(lift.reset(3)), first) and not same(first, other)


def test_the_same_seed_and_actions_give_the_same_episode(lift):
    runs = []
    for _ in range(2):
        lift.reset(3)
        runs.append(play(lift, draw(6)))
    assert same(*runs)


class Chunks:
    """Draws chunks of four, and counts the pictures that it was shown."""

    def reset(self, seed):
        self.rng, self.shown = np.random.default_rng(seed), []

    def act(self, observation):
        self.shown.append(observation.images["agentview"].copy())
        return self.rng.uniform(-1, 1, (4, 7)).astype(np.float32)


def test_without_pictures_a_try_is_the_same_and_only_what_the_policy_sees_is_rendered(
    lift, monkeypatch
):
    policy, render, made = Chunks(), lift.renderer.render, []
    monkeypatch.setattr(lift.renderer, "render", lambda qpos: made.append(1) or render(qpos))
    whole = rollout(lift, policy, 3, max_steps=10)
    assert len(made) == 11
    assert np.array_equal(policy.shown, whole.images["agentview"][:-1:4])
    made.clear()
    bare = rollout(lift, policy, 3, max_steps=10, pictures=False)
    assert len(made) == len(policy.shown) == 3
    assert np.array_equal(policy.shown, whole.images["agentview"][:-1:4])
    assert not bare.images and np.array_equal(bare.states, whole.states)
    assert np.array_equal(bare.actions, whole.actions) and bare.success == whole.success
    assert all(np.array_equal(bare.keypoints[k], v) for k, v in whole.keypoints.items())


def test_who_watches_a_try_sees_every_picture_of_it(lift):
    seen = []
    watcher = SimpleNamespace(see=lambda observation: seen.append(observation.images) or False)
    rollout(lift, Chunks(), 3, max_steps=6, stop=watcher, pictures=False)
    assert len(seen) == 7 and all(images.keys() == lift.spec.cameras.keys() for images in seen)


@pytest.mark.parametrize(
    "action", [np.zeros(6), np.zeros((1, 7)), np.full(7, np.nan), np.r_[np.zeros(6), np.inf], 0.0]
)
def test_an_action_that_is_no_seven_finite_numbers_is_refused_by_name(lift, action):
    lift.reset(0)
    before = lift.snapshot()
    with pytest.raises(ValueError, match="7 finite numbers.*gripper"):
        lift.step(action)
    assert np.array_equal(lift.snapshot()[0], before[0])


def test_an_action_beyond_the_bounds_acts_like_the_bound(lift):
    wild, seen = draw(4) * 5, []
    for actions in (wild, np.clip(wild, -1, 1)):
        lift.reset(0)
        seen.append(play(lift, actions))
    assert same(*seen)


def test_positive_motion_moves_the_gripper_along_the_named_axis(lift):
    for axis in range(3):
        start = lift.reset(0).observation.state
        for _ in range(5):
            end = lift.step(np.eye(7)[axis]).observation.state
        moved = (end - start)[:3]
        assert moved.argmax() == axis and moved[axis] > 0.03
        assert np.abs(np.delete(moved, axis)).max() < 0.3 * moved[axis]


def test_plus_one_closes_the_gripper_and_minus_one_opens_it(lift):
    openings = []
    for sign in (1, -1):
        lift.reset(0)
        for _ in range(8):
            step = lift.step(np.r_[np.zeros(6), sign])
        openings.append(step.observation.state[lift.spec.state_names.index("gripper_opening")])
    assert openings[0] < 0.01 and openings[1] > 0.07


def test_time_is_counted_in_control_steps_and_the_limit_truncates(lift):
    lift.reset(0)
    steps = [lift.step(np.zeros(7)) for _ in range(lift.horizon)]
    assert [s.observation.stamp for s in steps[:3]] == [0.05, 0.1, 0.15]
    assert [s.truncated for s in steps[-2:]] == [False, True] and not steps[-1].terminated


def test_the_dynamics_are_those_of_stock_robosuite(lift):
    import robosuite
    from robosuite.controllers import load_composite_controller_config

    controller = load_composite_controller_config(controller="BASIC", robot="Panda")
    stock = robosuite.make(
        "Lift",
        robots="Panda",
        controller_configs=controller,
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        control_freq=20,
        hard_reset=False,
        seed=0,
    )
    stock.rng.bit_generator.state = np.random.default_rng(11).bit_generator.state
    stock.reset()
    lift.reset(11)
    assert np.array_equal(stock.sim.data.qpos, lift.data.qpos)
    for action in draw(15):
        stock.step(action)
        lift.step(action)
        assert np.abs(stock.sim.data.qpos - lift.data.qpos).max() < 1e-9
    stock.close()


def test_the_keypoints_are_where_the_bodies_are(lift):
    points = lift.reset(8).keypoints
    assert set(points) == {"object", "gripper", "support"}
    assert np.allclose(points["object"], lift.scene.body("cube_main")[0])
    assert np.allclose(points["gripper"], lift.scene.gripper()[0])
    assert points["gripper"][2] > points["object"][2] > points["support"][2]


def test_a_cube_that_nobody_has_touched_is_not_lifted(lift):
    # robosuite drops it from a centimetre above the table
    episode = rollout(lift, Still(), 8, max_steps=5)
    assert KeypointAffordance().terms(episode)["lift"].max() < 0.1


class Still:
    def reset(self, seed):
        pass

    def act(self, observation):
        return np.zeros((1, 7), np.float32)


@pytest.mark.parametrize("noise", [-0.1, 1.0])
def test_an_expert_with_impossible_noise_is_refused(lift, noise):
    with pytest.raises(ValueError, match="noise"):
        ScriptedExpert(lift, noise)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "Dance"}, "'Dance'.* Valid: Lift, Stack"),
        ({"pixels": 4}, "pixels=4"),
        ({"cameras": {"agentview": 4}}, "size >= 8"),
        ({"horizon": -1}, "horizon"),
    ],
)
def test_an_impossible_configuration_is_refused_with_the_choices(changes, message):
    with pytest.raises(ValueError, match=message):
        EnvConfig(**changes)


@pytest.mark.parametrize("task", ["Lift", "tabletop/pick", "metaworld/door-open-v3"])
def test_a_closed_environment_leaves_at_once_and_not_when_the_collector_comes_by(task):
    if task.startswith("metaworld"):
        pytest.importorskip("metaworld")
    gc.collect()
    gc.disable()
    try:
        env = make_env(EnvConfig(task, render="none"))
        env.reset(0)
        left = weakref.ref(env), weakref.ref(env._suite)
        env.close()
        del env
        assert [r() for r in left] == [None, None]
    finally:
        gc.enable()
