"""The compiled control kernel does what robosuite does, or says that it cannot."""

import logging

import numpy as np
import pytest

from robostack.rollout import rollout
from robostack.sim import kernel
from robostack.sim.catalog import SUITES, TASKS
from robostack.sim.control import KernelControl, StockControl
from robostack.sim.env import EnvConfig, ScriptedExpert, make_env

QUICK = ["Lift", "Wipe", "TwoArmLift"]
ALL = SUITES["robosuite"]
EXPERTS = [name for name in ALL if TASKS[name].expert]
# the rest are scenes of these, in which something else is asked for
SCENES = [t for t in ALL if t not in ("PickPlaceBread", "PickPlaceCereal", "NutAssemblyRound")]


def opened(task, **changes):
    """The same task on the kernel and on robosuite's own loop."""
    pair = [
        make_env(EnvConfig(task=task, render="none", control=control, **changes))
        for control in ("kernel", "stock")
    ]
    assert isinstance(pair[0].control, KernelControl) and isinstance(pair[1].control, StockControl)
    return pair


@pytest.fixture(scope="module")
def pair(request):
    """`opened`, once for all tests of a task: pytest runs these after each other."""
    envs = opened(request.param)
    yield envs
    for env in envs:
        env.close()


def on(tasks):
    return pytest.mark.parametrize("pair", tasks, indirect=True)


def parted(pair, steps, reach, lockstep=False):
    """How far the joint positions of the two come apart, at every one of some random steps.

    In `lockstep` stock robosuite is put where the kernel is before each step.
    """
    fast, stock = pair
    rng, apart = np.random.default_rng(2), []
    fast.reset(2)
    stock.reset(2)
    assert np.array_equal(fast.data.qpos, stock.data.qpos)
    for _ in range(steps):
        if lockstep:
            stock._set(fast.snapshot()[0])
        action = reach * rng.uniform(-1, 1, fast.spec.action_dim)
        fast.step(action)
        stock.step(action)
        apart.append(np.abs(fast.data.qpos - stock.data.qpos).max())
    return np.array(apart)


def reach(pair):
    """Of random actions that touch nothing: two arms soon meet."""
    return 0.25 if pair[0].config.task.startswith("TwoArm") else 0.5


@on(QUICK)
def test_the_kernel_moves_as_stock_robosuite_does(pair):
    assert parted(pair, 30, reach(pair)).max() < 1e-9


@pytest.mark.slow
@on(SCENES)
def test_a_hundred_random_steps_end_where_stock_robosuite_ends(pair):
    assert parted(pair, 100, reach(pair)).max() <= 1e-5


@pytest.mark.slow
@on(SCENES)
def test_from_the_same_state_any_step_ends_where_stock_robosuite_ends_contact_included(pair):
    # MuJoCo's solver stops by a tolerance: in contact a difference of 1e-16 may cost an iteration
    apart = parted(pair, 60, 1.0, lockstep=True)
    assert np.median(apart) < 1e-12 and apart.max() < 1e-4


@pytest.mark.slow
@on(EXPERTS)
def test_what_an_expert_did_on_the_kernel_has_the_same_outcome_in_stock_robosuite(pair):
    fast, stock = pair
    for seed in range(3 if fast.config.task in QUICK else 1):
        episode = rollout(fast, ScriptedExpert(fast, noise=0.1), seed)
        stock.reset(seed)
        for action in episode.actions:
            step = stock.step(action)
        assert np.abs(step.observation.state - episode.states[-1]).max() < 5e-3
        rest = np.append(np.zeros(6), episode.actions[-1][6])
        for _ in range(5):  # contact has parted them a little: it may take a step longer
            step = step if step.success else stock.step(rest)
        assert step.success == episode.success


@on(["TwoArmLift"])
def test_a_snapshot_taken_on_the_kernel_brings_back_the_very_same_future(pair):
    env, rng = pair[0], np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (12, env.spec.action_dim))
    env.reset(3)
    for action in actions[:5]:
        env.step(action)
    kept, ends = env.snapshot(), []
    for _ in range(2):
        env.restore(kept)
        for action in actions[5:]:
            env.step(action)
        ends.append(env.data.qpos.copy())
        env.reset(4)
    assert np.array_equal(*ends)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"controller": "JOINT_POSITION"}, "JointPositionController, not OSC_POSE"),
        ({"controller": "OSC_POSITION"}, "use_ori=False"),
    ],
)
def test_what_does_not_fit_runs_in_robosuite_and_says_why(changes, reason, caplog):
    with caplog.at_level(logging.WARNING):
        env = make_env(EnvConfig(render="none", **changes))
    assert isinstance(env.control, StockControl)
    assert "slower control loop" in caplog.text and reason in caplog.text
    env.reset(0)
    env.step(np.zeros(env.spec.action_dim))
    env.close()
    with pytest.raises(ValueError, match="control=kernel does not fit Lift"):
        make_env(EnvConfig(render="none", control="kernel", **changes))


@pytest.mark.parametrize("robot", ["UR5e", pytest.param("Jaco", marks=pytest.mark.slow)])
def test_other_arms_under_the_same_law_run_on_the_kernel(robot):
    fast, stock = opened("Lift", robot=robot)
    for env in (fast, stock):
        env.reset(0)
    for action in np.random.default_rng(0).uniform(-1, 1, (20, fast.spec.action_dim)):
        fast.step(action)
        stock.step(action)
    assert np.abs(fast.data.qpos - stock.data.qpos).max() < 1e-8
    fast.close()
    stock.close()


def test_solving_with_a_positive_definite_matrix_is_what_numpy_does():
    rng = np.random.default_rng(0)
    half = rng.standard_normal((6, 6))
    a, b = half @ half.T + 0.1 * np.eye(6), rng.standard_normal((6, 2))
    assert np.allclose(kernel.solve(a, b), np.linalg.solve(a, b))


def test_solving_with_a_singular_matrix_is_the_pseudo_inverse():
    a = np.diag([2.0, 0.0, 1.0])
    b = np.array([[4.0], [3.0], [5.0]])
    assert np.allclose(kernel.solve(a, b), [[2.0], [0.0], [5.0]])


@pytest.mark.parametrize("angle", [0.0, 1e-3, 0.7, 3.0])
def test_the_rotation_of_a_vector_turns_about_it_by_its_length(angle):
    axis = np.array([1.0, -2.0, 2.0]) / 3
    turn = kernel.rotation(axis * angle)
    assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-6)
    assert np.allclose(turn @ axis, axis, atol=1e-6)
    assert np.trace(turn) == pytest.approx(1 + 2 * np.cos(angle), abs=1e-6)
