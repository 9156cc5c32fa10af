"""Meta-World behind Env: its own physics and success to the bit, and starts that a seed fixes."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("metaworld")

from metaworld.env_dict import MT10_V3, MT50_V3
from played import content, same

from robostack.protocols import Env, Snapshots
from robostack.rewards.keypoints import KeypointAffordance
from robostack.rollout import rollout
from robostack.sim.catalog import SUITES, TASKS
from robostack.sim.env import EnvConfig, ScriptedExpert, make_env
from robostack.sim.worker import RandomPolicy
from robostack.testing import check_env

MT50 = SUITES["metaworld-mt50"]
SEED = 2  # of 0 to 3 at which every expert succeeds; Meta-World's own are right 98 times of 100


def blind(name, **options):
    return make_env(EnvConfig(task=f"metaworld/{name}-v3", render="none", **options))


@pytest.fixture(scope="module")
def seen():
    env = make_env(EnvConfig(task="metaworld/pick-place-v3", cameras={"corner2_near": 128}))
    yield env
    env.close()


def draw(count):
    return np.random.default_rng(0).uniform(-1, 1, (count, 4)).astype(np.float32)


def expert_episode(env, seed):
    return rollout(env, ScriptedExpert(env), seed)


def test_it_keeps_the_contract_with_pictures():
    env = make_env(EnvConfig(task="metaworld/button-press-v3", pixels=16))
    try:
        assert isinstance(env, Env) and isinstance(env, Snapshots)
        assert list(env.spec.cameras) == ["corner2_near", "gripperPOV"]
        check_env(env)
    finally:
        env.close()


def test_it_keeps_the_contract_where_success_remembers_contacts():
    check_env(blind("stick-push"), steps=40)


def test_the_spec_tells_a_policy_the_hand_and_hides_the_goal():
    env = blind("reach")
    assert env.spec.robot == "Sawyer" and env.spec.control_hz == 80 and env.horizon == 500
    assert env.spec.state_names == ("hand_x", "hand_y", "hand_z", "gripper_opening")
    step = env.reset(0)
    assert set(step.keypoints) == {"gripper", "object", "target"}
    assert np.allclose(step.observation.state, env._suite._get_obs()[:4])
    assert not np.allclose(step.keypoints["target"], env.reset(1).keypoints["target"])


@pytest.mark.parametrize("name", ["door-lock", "basketball"])  # one settles, one keeps live views
def test_the_same_seed_gives_the_same_start_whatever_happened_before(name):
    env = blind(name)
    first = content(env.reset(3)), env.data.qpos.tobytes()
    for action in draw(5):
        env.step(action)
    other = content(env.reset(4)), env.data.qpos.tobytes()
    assert (content(env.reset(3)), env.data.qpos.tobytes()) == first != other
    fresh = blind(name)
    assert (content(fresh.reset(3)), fresh.data.qpos.tobytes()) == first


@pytest.mark.parametrize("name", ["hammer", "peg-insert-side"])
def test_physics_and_success_are_those_of_metaworld(name):
    env = blind(name)
    env.reset(SEED)
    theirs = MT50_V3[f"{name}-v3"]()
    theirs._set_task_called, theirs._partially_observable = True, False
    del theirs.sawyer_observation_space
    theirs._last_rand_vec = env._suite._last_rand_vec
    seen, _ = theirs.reset()
    plan = env.plan()
    looked_at = np.r_[:7, -3:0]  # hand, gripper, object and goal: by scripted policy and success
    for _ in range(150):
        assert np.array_equal(theirs.data.qpos, env.data.qpos)
        assert np.array_equal(seen[looked_at], env._seen[looked_at])
        action = next(plan)
        step = env.step(action)
        seen, *_, info = theirs.step(action.astype(float))
        assert step.success == bool(info["success"])
        if step.success:
            return
    pytest.fail("the expert did not get to success, which was to be compared")


def test_a_snapshot_goes_on_alike_in_another_environment():
    def goes_on(env, plan):
        return [content(env.step(next(plan))) for _ in range(30)]

    first, second = blind("stick-push"), blind("stick-push")
    first.reset(0)
    plan = first.plan()
    for _ in range(45):
        first.step(next(plan))
    here = first.snapshot()
    ahead = goes_on(first, first.plan())
    second.restore(here)
    assert ahead[-1][1][2] and same(goes_on(second, second.plan()), ahead)


@pytest.mark.parametrize("name", ["handle-press", "coffee-button", "plate-slide"])
def test_the_expert_succeeds(name):
    assert expert_episode(blind(name), SEED).success


@pytest.mark.slow
@pytest.mark.parametrize("task", MT50)
def test_every_expert_succeeds(task):
    env = make_env(EnvConfig(task=task, render="none"))
    episode = expert_episode(env, SEED)
    assert episode.success and len(episode) < env.horizon


def test_the_suites_are_those_of_metaworld_and_every_task_says_what_to_do():
    assert [name.removeprefix("metaworld/") for name in MT50] == list(MT50_V3)
    assert [name.removeprefix("metaworld/") for name in SUITES["metaworld-mt10"]] == list(MT10_V3)
    asked = [TASKS[name].instruction for name in MT50]
    assert len(set(asked)) == 50 and all(10 <= len(text) <= 60 for text in asked)
    assert blind("reach").reset(0).observation.task == TASKS["metaworld/reach-v3"].instruction


@pytest.mark.parametrize("seed", [0, 1])
def test_pictures_show_the_goal_marker_where_the_goal_is(seen, seed):
    step = seen.reset(seed)
    x, y = seen.renderer.project("corner2_near", step.keypoints["target"])[0].round().astype(int)
    red, green, blue = step.observation.images["corner2_near"][y, x].astype(int)
    assert blue > 80 and blue > 2 * max(red, green)  # this task's marker is a blue ball


def test_no_fixed_camera_hangs_upside_down(seen):
    model = seen.renderer.model
    fixed = model.cam_bodyid == 0
    seen.reset(0)
    heights = seen.renderer.data.cam_xmat.reshape(-1, 3, 3)[fixed, 2, 1]
    assert fixed.sum() >= 5 and heights.min() > -1e-6


def test_another_robot_is_refused():
    with pytest.raises(ValueError, match="one robot.*UR5e"):
        blind("reach", robot="UR5e")


def test_without_the_extra_tasks_are_listed_and_making_one_says_what_to_install():
    code = """if True:
        import sys
        sys.modules["metaworld"] = None  # as if it were not installed
        from robostack.sim.catalog import SUITES
        from robostack.sim.env import EnvConfig, make_env
        assert len(SUITES["metaworld-mt50"]) == 50
        make_env(EnvConfig(task="metaworld/reach-v3"))
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "RuntimeError" in run.stderr and "pip install 'robostack[metaworld]'" in run.stderr


@pytest.mark.parametrize("name", ["door-open", "drawer-open", "button-press-topdown"])
def test_the_keypoint_program_calls_done_what_metaworld_does(name):
    env, keypoints = blind(name), KeypointAffordance()
    for seed in (0, 1, SEED):
        episode = expert_episode(env, seed)
        potential = keypoints.score(episode)
        assert episode.success and potential[0] < 0.05 and potential[-1] == 1
        assert np.argmax(keypoints.stops(episode)) >= len(episode) - 2
    idle = rollout(env, RandomPolicy(env.spec), 0, max_steps=60)
    assert not idle.success and keypoints.score(idle).max() < 0.2
    env.close()
