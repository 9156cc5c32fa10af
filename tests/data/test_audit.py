"""What is wrong is found where it is, and what is fine is left alone."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import SPEC, make_episode

from robostack.data.audit import (
    AuditConfig,
    audit,
    audit_all,
    disagreement,
    fingerprint,
    idle,
    trimmed,
)
from robostack.data.curate import cut

STEPS = 60  # 6 s


def moving(**changes):
    """Always in motion, its actions well inside their bounds."""
    episode = make_episode(1, STEPS, **changes)
    return replace(episode, actions=0.8 * episode.actions)


def checks(episode, **options):
    return {(f.check, f.field) for f in audit(episode, **options)}


def test_an_episode_in_order_has_no_finding():
    assert audit(moving(), spec=SPEC) == []


def test_a_frozen_camera_is_found_where_it_froze_and_only_while_the_robot_moves():
    images = moving().images["top"].copy()
    images[20:31] = images[20]
    (found,) = audit(moving(images={"top": images}))
    assert (found.check, found.field, found.start, found.stop) == (
        "frozen camera",
        "images.top",
        20,
        31,
    )
    assert found.severity == "error"
    states = moving().states.copy()
    states[20:31] = states[20] + np.linspace(0, 0.2, 11, dtype=np.float32)[:, None]
    (slow,) = audit(moving(images={"top": images}, states=states))
    assert (slow.check, slow.severity) == (
        "frozen camera",
        "warning",
    )
    states[20:31] = states[20]
    still = moving(images={"top": images}, states=states)
    assert "frozen camera" not in {f.check for f in audit(still)}


def swept(repeats=()):
    """A hand that goes to and fro once in 3 s, seen at each step but where a picture repeats."""
    x = np.sin(np.arange(STEPS + 1) * 2 * np.pi / 30).astype(np.float32)
    images = moving().images["top"].copy()
    for t in repeats:
        images[t] = images[t - 1]
    return moving(states=np.stack([x, x, x], 1), images={"top": images})


def test_a_camera_that_drops_pictures_is_found_and_one_that_sees_slow_motion_late_is_not():
    for repeats, lost in ((range(2, 61, 2), 15), (range(3, 61, 3), 10)):
        (found,) = audit(swept(repeats))
        assert (found.check, found.severity) == ("dropped frames", "warning")
        assert found.field == "images.top" and int(found.what.split()[0]) == pytest.approx(lost, 1)
        assert audit(swept(repeats), config=AuditConfig(dropped=1)) == []
    turns = [t for t in range(1, 61) if abs(np.cos(t * 2 * np.pi / 30)) < 0.35]
    assert len(turns) > 8 and audit(swept(turns)) == []  # where the hand turns it is slow


def test_a_short_freeze_in_full_motion_is_a_warning():
    (found,) = audit(swept(range(28, 32)))
    assert (found.check, found.severity) == ("frozen camera", "warning")
    assert (found.start, found.stop) == (27, 32) and "0.4 s" in found.what


def test_a_state_that_stands_still_while_the_pictures_change_is_found():
    states = moving().states.copy()
    states[10:21] = states[10]
    assert ("frozen state", "states") in checks(moving(states=states))


def test_pictures_of_one_colour_are_found():
    images = moving().images["top"].copy()
    images[5:8] = 17
    (found,) = audit(moving(images={"top": images}))
    assert (found.check, found.start, found.stop) == ("blank camera", 5, 8)


def test_a_gap_says_how_much_is_missing_and_time_must_increase():
    stamps = np.arange(STEPS + 1) / 10
    late = np.where(np.arange(STEPS + 1) > 30, stamps + 0.3, stamps)
    (found,) = audit(moving(stamps=late))
    assert found.check == "stamps" and (found.start, found.stop) == (30, 32)
    assert "about 3 observations are missing" in found.what and found.severity == "warning"
    back = stamps.copy()
    back[40] = back[38]
    (found,) = audit(moving(stamps=back))
    assert found.severity == "error" and found.start == 39


@pytest.mark.parametrize("factor", [0.9, 1.1, 3.0])
def test_another_rate_than_the_spec_says_is_found(factor):
    found = audit(moving(stamps=factor * np.arange(STEPS + 1) / 10))
    assert [f.severity for f in found if "Hz" in f.what] == ["error"]


def test_saturated_motions_are_found_and_grippers_may_be_at_their_bounds():
    actions = moving().actions.copy()
    actions[: STEPS * 2 // 3, 0] = 1
    actions[:, 2] = np.where(np.arange(STEPS) < 30, -1, 1)
    assert checks(replace(moving(), actions=actions)) == {("saturation", "actions.dx")}


def test_an_action_beyond_its_bounds_is_an_error_that_names_it():
    actions = moving().actions.copy()
    actions[7, 1] = 1.5
    (found,) = audit(replace(moving(), actions=actions))
    assert (found.severity, found.field, found.start) == ("error", "actions.dy", 7)


def still_at(start, stop):
    states = moving().states.copy()
    states[start : stop + 1] = states[start]
    actions = moving().actions.copy()
    actions[start:stop] = 0
    images = moving().images["top"].copy()
    images[start : stop + 1] = images[start]
    return replace(moving(states=states, images={"top": images}), actions=actions)


@pytest.mark.parametrize(
    ("still", "kept"),
    [((0, 15), (13, 60)), ((40, 60), (0, 42)), ((20, 40), (0, 60)), ((0, 60), (0, 60))],
    ids=["head", "tail", "midway", "always"],
)
def test_only_idle_ends_are_proposed_to_be_cut(still, kept):
    episode = still_at(*still)
    assert still in idle(episode) and trimmed(episode) == kept
    assert trimmed(cut(episode, *kept)) == (0, kept[1] - kept[0])  # once is enough


def test_a_gripper_that_changes_is_no_idleness():
    episode = still_at(0, 15)
    actions = episode.actions.copy()
    actions[:, 2] = np.where(np.arange(STEPS) < 8, -1, 1)
    assert idle(replace(episode, actions=actions)) == [(0, 8), (9, 15)]


def test_another_robot_is_found_by_the_fields_that_differ():
    (found,) = audit(moving(), spec=replace(SPEC, control_hz=20.0))
    assert found.check == "spec" and "control_hz" in found.what


def test_silence_about_task_and_outcome_is_told():
    assert checks(moving(task=" ", success=None)) == {("task", "task"), ("task", "success")}


def test_duplicates_are_found_whatever_else_is_said_of_them():
    one, other = moving(), replace(moving(), task="another", seed=9)
    assert fingerprint(one) == fingerprint(other) != fingerprint(make_episode(2, STEPS))
    found = {i: f for i, _, f in audit_all([("a", one), ("b", other), ("c", make_episode(2, 9))])}
    assert found["a"] == []
    assert found["b"][0].check == "duplicate" and "episode a" in found["b"][0].what


def test_a_detector_may_see_the_outcome_otherwise():
    assert disagreement(moving(success=True), True, "eye") == []
    (found,) = disagreement(moving(success=True), False, "eye")
    assert found.severity == "warning"
    assert found.what == "recorded as a success, but eye says that it failed"
    (found,) = disagreement(moving(success=None), True, "eye")
    assert (found.severity, found.what) == ("note", "nobody said; eye says that it succeeded")


def test_findings_come_errors_first():
    stamps = np.arange(STEPS + 1) / 10
    stamps[30:] += 0.3
    images = moving().images["top"].copy()
    images[50:] = 0
    found = audit(moving(stamps=stamps, images={"top": images}, success=None))
    assert [f.severity for f in found] == ["error", "warning", "note"]


def test_limits_must_make_sense():
    with pytest.raises(ValueError, match="positive"):
        AuditConfig(idle=0)
