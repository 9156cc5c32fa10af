"""The loop on a fake robot: what is recorded is what was done, whatever ends it."""

from dataclasses import replace

import numpy as np
import pytest
from acting import ALONE, FAST, Clock, collector, push
from fakes import SPEC, LineEnv

from robostack.collecting.loop import LoopConfig
from robostack.collecting.shelves import Shelves
from robostack.data.store import Store
from robostack.real.env import LinkError
from robostack.real.samples import StreamError
from robostack.real.teleop.device import LOST


def finish(acting, show=lambda c: None):
    try:
        acting.run(show)
    finally:
        acting.session.shelves.close()
    return acting.session.shelves


def test_a_session_alone_keeps_as_many_as_were_asked_for(tmp_path):
    shelves = finish(collector(tmp_path, replace(ALONE, episodes=3, first_seed=5)))
    episodes = [e for _, e in shelves.store.episodes()]
    assert [e.seed for e in episodes] == [5, 6, 7] and len(shelves.trash) == 0
    for episode in episodes:
        assert episode.source == "demo" and episode.success and episode.terminated
        moved = np.diff(episode.states[:, 0])
        assert np.allclose(moved, 0.1 * episode.actions[:, 0], atol=1e-6)  # action t: t to t + 1
        assert episode.stamps[0] == 0 and (episode.actions[:, 2] == -1).all()


def test_the_periods_of_the_clock_are_the_robots(tmp_path):
    clock, seen = Clock(), []
    acting = collector(tmp_path, replace(ALONE, episodes=1), LoopConfig(), clock=clock)
    finish(acting, lambda c: seen.append(clock.now))
    assert np.allclose(np.diff(seen), 1 / SPEC.control_hz) and acting.late == 0
    assert abs(acting.rate() - 10) < 1e-6


def test_a_robot_that_is_slower_than_its_rate_is_seen_to_be_late(tmp_path):
    clock = Clock()

    class Slow(LineEnv):
        def step(self, action):
            clock.sleep(0.2)  # two periods
            return super().step(action)

    acting = collector(tmp_path, replace(ALONE, episodes=1), LoopConfig(), env=Slow(), clock=clock)
    finish(acting)
    assert acting.late > 5 and acting.rate() < 6


@pytest.mark.parametrize(
    ("loop", "script", "why"),
    [
        (replace(FAST, max_s=1.5), lambda: iter([push(0.1)] * 99), "time is up (2 s)"),
        (replace(FAST, max_s=1e6), lambda: iter([push(0.0)] * 1500), "time is up"),
    ],
)
def test_time_ends_a_recording_and_it_is_kept_for_review(tmp_path, loop, script, why):
    acting = collector(tmp_path, replace(ALONE, review="ask", episodes=1), loop, script)
    told = []

    def show(c):
        if c.session.state == "review":
            told.append(c.session.message)
            c.session.hear(["failure"], 0.0)

    shelves = finish(acting, show)
    assert why in told[0] and len(shelves.store) == 1
    steps = shelves.store.attributes("000000")["steps"]
    assert steps == (15 if loop.max_s == 1.5 else 1000)


def test_a_lost_device_holds_the_arm_and_after_a_while_ends_the_recording(tmp_path):
    def script():
        yield from [push(0.5)] * 4
        while True:
            yield LOST

    clock = Clock()
    loop = LoopConfig(lost_s=2.0)
    acting = collector(tmp_path, replace(ALONE, review="ask"), loop, script, clock=clock)
    states = []

    def show(c):
        states.append(c.status())
        if c.session.state == "review":
            c.session.hear(["quit"], clock.now)

    shelves = finish(acting, show)
    assert "lost for 2 s" in states[-1]["message"] or "lost for 2 s" in states[-2]["message"]
    lost = [s for s in states if s["state"] == "recording" and not s["alive"]]
    assert lost and all(s["note"] == "the device is lost or silent" for s in lost)
    episode = shelves.pending.read("000000")
    assert np.array_equal(episode.actions[-1], [0, 0, -1]) and 20 <= len(episode) - 4 <= 22


def test_a_robot_that_cannot_be_seen_any_more_ends_the_recording_and_keeps_it(tmp_path):
    class Blind(LineEnv):
        def step(self, action):
            if self.t == 4:
                raise StreamError("top", "stale", "camera top: 1.0 s old")
            return super().step(action)

    acting = collector(tmp_path, replace(ALONE, review="ask"), env=Blind())

    def show(c):
        if c.session.state == "review":
            assert "camera top" in c.session.message
            c.session.hear(["quit"], 0.0)

    assert len(finish(acting, show).pending.read("000000")) == 4


def test_a_stopped_arm_ends_the_recording_and_not_the_session(tmp_path):
    class Stopped(LineEnv):
        stopped = False

        def look(self):
            return self._look()

        def step(self, action):
            self.stopped = self.stopped or (self.t == 4 and self.resets == 1)
            if self.stopped:
                raise LinkError("the arm is stopped; /arm/estop_reset ends it")
            return super().step(action)

        def reset(self, seed):
            self.resets = getattr(self, "resets", 0) + 1
            if self.resets == 2:
                raise StreamError("top", "stale", "camera top: 1.0 s old")
            return super().reset(seed)

    env = Stopped(horizon=1000)
    ask = replace(ALONE, review="ask", start_after=-1, episodes=2)
    acting, told = collector(tmp_path, ask, env=env), []
    said = ["start", "", "", "", "", "failure", "start", "start", "", "success"]
    acting.said = lambda: [(said.pop(0),)] if said else []

    def show(c):
        told.append(c.status()["message"])
        if len(told) == 7:  # somebody has let it go on
            env.stopped = False
        if not said:
            c.session.hear(["keep"], 0.0)
            c.session.hear(["quit"], 0.0)

    shelves = finish(acting, show)
    assert "the arm is stopped" in told[4] and "kept as" in told[5]  # and the reset failed
    assert "nothing was recorded: the arm is stopped" in told[6] or "camera top" in told[6]
    assert [len(e) for _, e in shelves.store.episodes()][0] == 3 and len(shelves.store) == 2


def test_what_another_device_drove_past_this_one_is_what_was_demonstrated(tmp_path):
    class Driven(LineEnv):
        """A hand at `teleop_node` pushes with closed fingers for a while."""

        def step(self, action):
            other = np.array([1.0, 0.0, 1.0]) if 2 <= self.t < 6 else None
            return replace(super().step(action if other is None else other), executed=other)

    def script():
        yield from [push(0.0)] * 3
        while True:
            yield LOST

    loop, clock = LoopConfig(lost_s=0.3), Clock()
    acting = collector(
        tmp_path, replace(ALONE, review="ask"), loop, script, env=Driven(), clock=clock
    )
    notes = []

    def show(c):
        notes.append(c.status()["note"])
        if c.session.state == "review":
            assert "lost for 0.3 s" in c.session.message
            c.session.hear(["quit"], clock.now)

    episode = finish(acting, show).pending.read("000000")
    assert episode.source == "demo" and notes.count("another device drives") == 4
    assert np.allclose(np.diff(episode.states[:, 0]), 0.1 * episode.actions[:, 0], atol=1e-6)
    assert episode.actions[:, 0].tolist() == [0, 0, 1, 1, 1, 1] + [0] * (len(episode) - 6)
    assert episode.actions[:, 2].tolist() == [-1, -1] + [1] * (
        len(episode) - 2
    )  # nothing is let go
    assert len(episode) > 7  # nobody was lost while somebody drove


@pytest.mark.parametrize("wrong", ["state", "picture"])
def test_of_a_recording_that_cannot_be_whole_the_beginning_is_kept(tmp_path, wrong):
    class Odd(LineEnv):
        def step(self, action):
            seen = super().step(action).observation
            if self.t == 6 and wrong == "state":
                seen = replace(seen, state=np.full(3, np.nan, np.float32))
            if self.t == 6 and wrong == "picture":
                seen = replace(seen, images={"top": np.zeros((8, 8, 3), np.uint8)})
            return replace(super()._look(), observation=seen)

    acting = collector(tmp_path, replace(ALONE, review="ask"), env=Odd())

    def show(c):
        if c.session.state == "review":
            assert "only the first 5 of" in c.session.message
            c.session.hear(["quit"], 0.0)

    episode = finish(acting, show).pending.read("000000")
    assert len(episode) == 5 and episode.stamps[-1] == pytest.approx(0.5)


def test_a_second_ctrl_c_in_the_middle_of_writing_costs_nothing(tmp_path, monkeypatch):
    put, asked = Shelves.put, []

    def interrupted(self, episode):
        if not asked:
            asked.append(episode)
            raise KeyboardInterrupt
        return put(self, episode)

    monkeypatch.setattr(Shelves, "put", interrupted)
    acting = collector(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        finish(acting)
    assert len(Store(tmp_path / "pending")) == 1 and len(Store(tmp_path / "store")) == 0
    assert "next session" in acting.left


@pytest.mark.parametrize("broken", [RuntimeError("driver"), KeyboardInterrupt()])
def test_whatever_interrupts_a_recording_it_waits_for_the_next_session(tmp_path, broken):
    class Breaks(LineEnv):
        def step(self, action):
            if self.t == 3:
                raise broken
            return super().step(action)

    with pytest.raises(type(broken)):
        finish(collector(tmp_path, env=Breaks()))
    acting = collector(tmp_path, replace(ALONE, review="ask"))
    assert acting.session.state == "review" and acting.session.steps == 3
    acting.session.shelves.close()


def test_asked_to_stop_it_ends_at_the_next_period(tmp_path):
    acting = collector(tmp_path, script=lambda: iter([push(0.1)] * 999))
    acting.stop = lambda: acting.record is not None and len(acting.record.actions) == 6
    assert len(finish(acting).pending.read("000000")) == 6


def test_the_operators_task_is_what_is_recorded(tmp_path):
    shelves = finish(
        collector(tmp_path, replace(ALONE, episodes=1), replace(FAST, task="go there"))
    )
    assert shelves.store.attributes("000000")["task"] == "go there"


def test_nothing_moves_between_recordings_unless_it_is_asked_for(tmp_path):
    for always in (False, True):
        env = LineEnv(horizon=1000)
        acting = collector(
            tmp_path / str(always),
            replace(ALONE, start_after=1.0),
            replace(FAST, drive_always=always),
            script=lambda: iter([push(0.1)] * 999),
            env=env,
        )
        acting._back()
        for _ in range(5):
            acting.tick()
        assert (env.t == 5) is always and acting.session.state == "ready"
        acting.session.shelves.close()


def test_what_a_robot_sees_stays_fresh_while_nobody_records(tmp_path):
    class Live(LineEnv):
        def look(self):
            self.t += 1
            return self._look()

    acting = collector(tmp_path, replace(ALONE, start_after=-1), env=Live())
    acting._back()
    for _ in range(3):
        acting.tick()
    assert acting.step.observation.stamp == pytest.approx(0.3)
    acting.session.shelves.close()


def test_words_from_elsewhere_are_heard_one_after_the_other(tmp_path):
    acting = collector(tmp_path, replace(ALONE, start_after=-1, review="ask"))
    said = [[("start",)], [], [("stop",), ("success",)]]
    acting.said = lambda: said.pop(0) if said else []

    def show(c):
        if not said and c.session.state == "ready":
            c.session.hear(["quit"], 0.0)

    shelves = finish(acting, show)
    assert shelves.store.attributes("000000")["success"] is True


def test_a_button_of_the_device_is_one_press_of_several_words(tmp_path):
    def script():
        while True:
            yield push(0.5)
            yield push(0.5, "enter")

    acting = collector(tmp_path, replace(ALONE, start_after=-1, review="ask"), script=script)
    words = ("start", "stop", "keep")
    acting.driver.mapping = replace(acting.driver.mapping, session=dict.fromkeys(words, "enter"))
    seen = []

    def show(c):
        seen.append(c.session.state)
        if len(seen) == 8:
            c.session.hear(["quit"], 0.0)

    finish(acting, show)
    order = [s for i, s in enumerate(seen) if i == 0 or seen[i - 1] != s]
    assert order[:3] == ["ready", "recording", "review"]


def test_status_is_what_json_can_hold(tmp_path):
    import json

    acting = collector(tmp_path, replace(ALONE, episodes=1))
    texts = []
    finish(acting, lambda c: texts.append(json.dumps(c.status())))
    last = json.loads(texts[-1])
    assert last["state"] == "over" and last["kept"] == 1 and last["goal"] == 1


@pytest.mark.parametrize("wrong", [{"max_s": 0.0}, {"pace": -1.0}, {"lost_s": 0.0}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="expected more than"):
        LoopConfig(**wrong)


def test_what_cannot_be_seen_between_recordings_is_told_until_it_can(tmp_path):
    class Flickers(LineEnv):
        def look(self):
            self.t += 1
            if self.t < 3:
                raise StreamError("top", "stale", "camera top: 1.0 s old")
            return self._look()

    acting = collector(tmp_path, replace(ALONE, start_after=-1), env=Flickers())
    acting._back()
    told, ages = [], []
    for _ in range(3):
        acting.clock.sleep(0.4)
        acting.tick()
        told.append(acting.status()["message"])
        ages.append(acting.status()["ages"])
    assert "camera top" in told[0] and "camera top" in told[1] and told[2] == ""
    assert ages == [{"top": 0.4}, {"top": 0.8}, {"top": 0.0}]
    acting.env.ages = lambda: {"top": 0.123}  # where pictures have stamps, those count
    assert acting.status()["ages"] == {"top": 0.12}
    acting.session.shelves.close()
