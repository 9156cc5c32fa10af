"""A hand that leads: what is recorded is what was done, and without it nothing is left of it."""

import numpy as np
import pytest
from fakes import LineEnv

from robostack.assist import AssistConfig, Assisted, Led, Standstill
from robostack.rewards.keypoints.tracks import KeypointError
from robostack.rollout import rollout
from robostack.sim.env import EnvConfig, make_env
from robostack.types import CONTACTS

START = 7


class Wrong:
    """Sinks and shuts its fingers wherever it is."""

    def reset(self, seed):
        pass

    def act(self, observation):
        return np.array([[0.2, 0.2, -0.3, 0, 0, 0, 1]], np.float32)


class Given:
    """Actions that were recorded."""

    def __init__(self, actions):
        self.actions = actions

    def reset(self, seed):
        pass

    def act(self, observation):
        return self.actions


@pytest.fixture(scope="module")
def lift():
    env = make_env(EnvConfig("Lift", render="none"))
    yield env
    env.close()


def test_led_it_lifts_what_it_never_would_alone(lift):
    seeds = range(START, START + 6)
    alone = [rollout(lift, Wrong(), seed) for seed in seeds]
    led = [rollout(Assisted(lift, 0.8), Wrong(), seed) for seed in seeds]
    assert not any(e.success for e in alone)
    assert sum(bool(e.success) for e in led) >= 5
    assert {e.source for e in alone} == {"rollout"} and {e.source for e in led} == {"intervention"}


def test_what_was_recorded_does_the_same_with_nobody_leading(lift):
    led = rollout(Assisted(lift, 0.5), Wrong(), START)
    again = rollout(lift, Given(led.actions), START)
    assert np.array_equal(again.actions, led.actions) and np.array_equal(again.states, led.states)


def test_the_share_is_how_much_of_the_motion_is_not_the_policys(lift):
    asked = np.array([0.2, -0.1, 0.1, 0.3, 0, 0.2, -1], np.float32)
    first = {}
    for share in (0.0, 0.5, 1.0):
        env = Assisted(lift, share)
        env.reset(START)
        step = env.step(asked)
        first[share] = asked if step.executed is None else step.executed
    assert np.array_equal(first[0.0], asked)  # the fingers are open on the way, as they should be
    assert np.allclose(first[0.5], (first[0.0] + first[1.0]) / 2, atol=1e-6)
    assert all(np.array_equal(a[3:], asked[3:]) for a in first.values())  # no opinion of turning


@pytest.fixture(scope="module")
def stack():
    env = make_env(EnvConfig("Stack", render="none"))
    yield env
    env.close()


def askew(episode):
    """Angles between the line of the fingers and that of the contacts [rad], f64[T+1]."""
    first, second = (episode.keypoints[name] for name in CONTACTS)
    along, names = second - first, episode.spec.state_names
    yaw = np.arctan2(*(episode.states[:, names.index(f"gripper_x{a}")] for a in "yx"))
    angle = np.arctan2(along[:, 1], along[:, 0]) - yaw
    return np.abs((angle + np.pi / 2) % np.pi - np.pi / 2)


def test_the_hand_is_turned_to_where_fingers_touch_best_by_its_share(stack):
    led = [rollout(Assisted(stack, 1.0), Wrong(), seed) for seed in range(8)]
    there = [askew(e)[np.argmax(e.actions[:, 6] > 0)] for e in led]  # when the fingers close
    begun = [askew(e)[0] for e in led]
    assert np.median(begun) > 0.3 and np.median(there) < 0.05 and max(there) < 0.4
    asked, first = np.array([0, 0, 0, 0, 0, 0.2, -1], np.float32), {}
    for share in (0.5, 1.0):
        env = Assisted(stack, share)
        env.reset(START)
        first[share] = env.step(asked).executed
    assert first[1.0][5] != asked[5] and np.array_equal(first[1.0][3:5], asked[3:5])
    assert first[0.5][5] == pytest.approx((first[1.0][5] + asked[5]) / 2)


def test_it_takes_over_where_somebody_else_has_come_to(lift):
    """The program takes the scene as it finds it: from half-way it finishes what was begun."""
    whole = rollout(Assisted(lift, 1.0), Wrong(), START)
    assert whole.success
    for there in (len(whole) // 3, 2 * len(whole) // 3):
        step = lift.reset(START)
        for action in whole.actions[:there]:
            step = lift.step(action)
        env = Assisted(lift, 1.0)
        rest = rollout(env, Wrong(), START, start=env.begin(step))
        assert rest.success and len(rest) < len(whole) - there + 10
        assert not rollout(lift, Wrong(), START, start=lift.reset(START)).success


def test_help_becomes_less_with_every_iteration_that_was_easy():
    config = AssistConfig(share=0.4, easy=0.8, less=0.25)
    assert config.after([]) == config.after([0.8, 0.3]) == Led(0.4, fingers=1)
    assert config.after([0.9, 0.5, 0.81]) == Led(0.2, fingers=0.5)
    assert config.after([0.9] * 9) == Led(0, fingers=0)
    watched = AssistConfig(share=0.4, rescue=9)
    assert watched.after([0.9] * 9) == Led(0, fingers=0, rescue=9)  # which is not withdrawn


def test_fingers_are_led_in_so_many_of_the_rollouts_as_are_left(lift):
    drawn = [Led(0.2, 0.5).within(lift, seed).fingers for seed in range(200)]
    assert 80 < sum(drawn) < 120
    assert drawn == [Led(0.2, 0.5).within(lift, seed).fingers for seed in range(200)]
    assert all(Led(0.2, 1).within(lift, seed).fingers for seed in range(20))
    assert Led(0).within(lift, 0) is lift
    shut = np.array([0, 0, 0, 0, 0, 0, 1], np.float32)
    for fingers in (False, True):
        env = Assisted(lift, 0.5, fingers)
        env.reset(START)
        assert env.step(shut).executed[6] == (-1 if fingers else 1)


def told(standstill, progress):
    return [standstill(p) for p in progress]


def test_a_standstill_is_no_progress_for_so_long_and_ends_with_some():
    assert not any(told(Standstill(3), np.arange(0, 1, 0.01)))  # slow, and yet it goes on
    assert told(Standstill(3), [0.5, 0.5, 0.51, 0.5, 0.5]) == [False] * 3 + [True] * 2
    fell = [0.5, 0.5, 0.5, 0.5, 0.1, 0.2, 0.25, 0.26, 0.26]  # what was held was dropped meanwhile
    assert told(Standstill(3), fell) == [False] * 3 + [True] * 3 + [False] * 3
    again = told(Standstill(3), [0.1, 0.1, 0.1, 0.1, 0.3, 0.3, 0.3, 0.3])
    assert again == [False] * 3 + [True] + [False] * 3 + [True]  # patience begins anew


class Hovers:
    """Goes down with open fingers for some steps, and then stays where it has come to."""

    def reset(self, seed):
        self.left = 5

    def act(self, observation):
        self.left -= 1
        return np.array([[0, 0, -0.3 * (self.left >= 0), 0, 0, 0, -1]], np.float32)


def test_who_is_stuck_is_rescued_and_nobody_else_is_touched(lift):
    alone = rollout(lift, Hovers(), START)
    helped = rollout(Assisted(lift, 0.0, False, rescue=8), Hovers(), START)
    assert not alone.success and helped.source == "intervention"
    stuck = next(t for t in range(len(alone)) if not np.array_equal(*both(alone, helped, t)))
    assert 8 <= stuck <= 20
    near = [np.linalg.norm(e.keypoints["gripper"] - e.keypoints["object"], axis=1).min()
            for e in (alone, helped)]  # fmt: skip
    assert near[1] < 0.03 < near[0]
    good = rollout(Assisted(lift, 1.0), Wrong(), START)
    again = rollout(Assisted(lift, 0.0, False, rescue=24), Given(good.actions), START)
    assert again.success and again.source == "rollout"
    assert np.array_equal(again.actions, good.actions)


class Wanders:
    """Goes anywhere, and opens and shuts its fingers as it likes."""

    def reset(self, seed):
        self.random = np.random.default_rng(seed)

    def act(self, observation):
        return self.random.uniform(-0.3, 0.3, (8, 7)).astype(np.float32)


def test_rescued_even_who_knows_nothing_comes_through(lift):
    """Standing still for so short a time that nearly all of the task is somebody's who knows."""
    seeds = range(START, START + 6)
    alone = [rollout(lift, Wanders(), seed).success for seed in seeds]
    rescued = [rollout(Assisted(lift, 0.0, False, rescue=4), Wanders(), s).success for s in seeds]
    assert not any(alone) and sum(map(bool, rescued)) >= 5


def both(one, other, t):
    return one.actions[t], other.actions[t]


def test_who_cannot_be_led_is_told_why(lift):
    with pytest.raises(ValueError, match="dx, dy, dz .* fake has dx, dy, gripper"):
        Assisted(LineEnv(), 0.5)
    joints = make_env(EnvConfig("Lift", render="none", controller="JOINT_POSITION"))
    with pytest.raises(ValueError, match="Panda has joint0"):
        Assisted(joints, 0.5)
    joints.close()
    for wrong in ({"share": 1.5}, {"easy": -1}, {"less": 2}):
        with pytest.raises(ValueError, match="expected share, easy and less from 0 to 1"):
            AssistConfig(**wrong)
    with pytest.raises(ValueError, match="expected rescue of 0 or more steps, got -1"):
        AssistConfig(rescue=-1)


def test_a_task_without_a_program_or_keypoints_is_named(lift, monkeypatch):
    door = make_env(EnvConfig("Door", render="none"))
    with pytest.raises(KeypointError, match="no keypoint program for"):
        Assisted(door, 0.5).reset(0)
    door.close()
    monkeypatch.setattr(lift, "_keypoints", dict)
    with pytest.raises(KeypointError, match="assist needs keypoints"):
        Assisted(lift, 0.5).reset(0)
