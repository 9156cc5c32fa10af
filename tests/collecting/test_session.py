"""What each word means when, with nobody's clock: and no word ever deletes a recording."""

import contextlib
import errno
import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import SPEC, make_episode, require_equal

from robostack.collecting import saving
from robostack.collecting.session import Session
from robostack.collecting.shelves import Shelves
from robostack.collecting.words import SessionConfig, counts
from robostack.data.audit import audit, disagreement
from robostack.data.store import Store, StoreError

CONFIG = SessionConfig(episodes=3, first_seed=40, spare_mb=0)


def recording(seed, success=True, **changes):
    """Smooth and whole, so that nothing about it is suspicious."""
    steps = 12
    x = np.linspace(0, 1, steps + 1) ** 1.5
    images = np.zeros((steps + 1, 16, 16, 3), np.uint8)
    for i, column in enumerate(np.round(15 * x).astype(int)):
        images[i, :, column], images[i, 0, i] = 255, 90
    fields = dict(
        states=np.stack([x, np.gradient(x), 0 * x], 1).astype(np.float32),
        images={"top": images},
        actions=np.linspace(0.1, 0.6, 3 * steps, dtype=np.float32).reshape(steps, 3),
        success=success,
        source="demo",
        group="",
        keypoints={},
    )
    return make_episode(seed, steps, **(fields | changes))


@pytest.fixture
def shelves(tmp_path):
    shelves = Shelves(tmp_path / "mine", SPEC)
    yield shelves
    shelves.close()


class Talk:
    """A session whose clock counts words."""

    def __init__(self, shelves, config=CONFIG):
        self.now = 0.0
        self.session = Session(config, shelves, self.now)

    def say(self, *words):
        self.now += 10
        return self.session.hear(words, self.now)

    def record(self, success=True, stop="stop", **changes):
        assert self.say("start") == "begin"
        if stop:
            assert self.say(stop) == "end"
        episode = recording(self.session.seed, success, **changes)
        return self.session.stopped(episode, "", self.now)


@pytest.fixture
def talk(shelves):
    return Talk(shelves)


def seeds(store):
    return [store.attributes(i)["seed"] for i in store.ids()]


def test_the_recording_of_these_tests_raises_no_suspicion():
    assert [f for f in audit(recording(0)) if f.severity != "note"] == []


def test_record_and_keep_until_there_are_enough(talk, shelves):
    for seed in (40, 41, 42):
        assert talk.session.state == "ready" and talk.session.seed == seed
        talk.record()
        assert talk.session.state == "review" and talk.session.clean
        assert len(shelves.pending) == 1  # on the disk before anybody has decided
        assert talk.say("keep") == "reset"
    assert talk.session.state == "over" and seeds(shelves.store) == [40, 41, 42]
    assert len(shelves.pending) == len(shelves.trash) == 0


def test_one_key_may_mean_a_word_in_every_state_and_each_press_means_one(talk):
    enter = ("start", "stop", "keep")
    assert talk.say(*enter) == "begin" and talk.session.state == "recording"
    assert talk.say(*enter) == "end"
    talk.session.stopped(recording(40), "", talk.now)
    assert talk.say(*enter) == "reset" and talk.session.kept == 1


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("ready", ["stop", "keep", "success", "failure", "discard", "redo", "undo", "sing"]),
        ("recording", ["start", "keep", "undo", "quit"]),
        ("review", ["start", "stop", "undo"]),
    ],
)
def test_words_that_make_no_sense_now_do_nothing(talk, state, words):
    if state != "ready":
        talk.say("start")
    if state == "review":
        talk.say("stop")
        talk.session.stopped(recording(40), "", talk.now)
    assert [talk.say(word) for word in words] == [""] * len(words)
    assert talk.session.state == state


def test_discarding_goes_to_the_trash_and_on_to_the_next_start(talk, shelves):
    talk.record()
    assert talk.say("discard") == "reset"
    assert talk.session.seed == 41 and seeds(shelves.trash) == [40] and talk.session.kept == 0


def test_doing_it_again_keeps_the_bad_one_in_the_trash_and_the_start_as_it_was(talk, shelves):
    talk.record()
    assert talk.say("redo") == "reset" and talk.session.seed == 40
    talk.record()
    talk.say("keep")
    assert seeds(shelves.trash) == seeds(shelves.store) == [40]


@pytest.mark.parametrize("word", ["discard", "redo"])
def test_a_recording_can_be_broken_off_into_the_trash(talk, shelves, word):
    assert talk.record(stop=word) == "reset"
    assert talk.session.state == "ready" and seeds(shelves.trash) == [40]
    assert talk.session.seed == (41 if word == "discard" else 40)


@pytest.mark.parametrize(("word", "kept"), [("success", True), ("failure", False)])
@pytest.mark.parametrize("when", ["recording", "review"])
@pytest.mark.parametrize("measured", [True, False, None])
def test_the_word_of_the_operator_is_what_is_kept(talk, shelves, word, kept, when, measured):
    if when == "recording":
        talk.record(measured, stop=word)
        assert talk.session.success is kept
        talk.say("keep")
        talk.say("keep")  # where it failed one must be sure
    else:
        talk.record(measured)
        assert talk.say(word) == "reset"
    assert shelves.store.read("000000").success is kept


def test_what_looks_wrong_is_not_kept_by_a_single_press(talk, shelves):
    dark = {"images": {"top": np.zeros((13, 16, 16, 3), np.uint8)}}
    talk.record(**dark)
    assert not talk.session.clean and talk.session.findings
    assert talk.say("keep") == "" and "keep again" in talk.session.message
    assert len(shelves.store) == 0 and len(shelves.pending) == 1
    assert talk.say("keep") == "reset" and len(shelves.store) == 1
    talk.record(**dark)
    talk.say("keep")
    talk.say("stop")  # makes no sense here, and takes nothing back
    assert talk.say("redo") == "reset" and len(shelves.store) == 1


@pytest.mark.parametrize("success", [None, False])
def test_nor_is_what_did_not_succeed(talk, success):
    talk.record(success)
    assert talk.say("keep") == "" and talk.session.state == "review"
    assert talk.say("keep") == "reset"


def test_undo_brings_back_what_was_decided_last_and_what_before(talk, shelves):
    talk.record()
    talk.say("keep")
    talk.record()
    talk.say("discard")
    assert (seeds(shelves.store), seeds(shelves.trash)) == ([40], [41])
    assert talk.say("undo") == "" and talk.session.state == "review" and talk.session.seed == 41
    assert talk.say("keep") == "reset"
    assert (seeds(shelves.store), seeds(shelves.trash)) == ([40, 41], [])
    talk.say("undo")
    talk.say("discard")
    talk.say("undo")
    talk.say("keep")
    assert seeds(shelves.store) == [40, 41] and talk.session.seed == 42
    assert len(shelves.trash) == len(shelves.pending) == 0


def test_what_an_earlier_session_decided_can_be_undone(talk, shelves):
    talk.record()
    talk.say("keep")
    talk.record(success=False)
    time.sleep(0.01)  # by the clock of the disk
    talk.say("discard")
    later = Talk(shelves)
    assert later.say("undo") == "" and later.session.seed == 41 and later.session.success is False
    assert later.say("success") == "reset" and seeds(shelves.store) == [40, 41]
    assert len(shelves.trash) == 0 and later.session.seed == 42


def test_a_detector_is_asked_and_what_it_sees_otherwise_is_no_clean_recording(shelves):
    def failed(episode):
        return disagreement(episode, False, "eye")

    session = Session(CONFIG, shelves, 0.0, failed)
    session.hear(["start"], 0.0)
    session.stopped(recording(40), "", 1.0)
    assert "recorded as a success, but eye says that it failed" in str(session.findings[-1])
    assert session.hear(["keep"], 2.0) == "" and "1 thing looks wrong" in session.message
    assert session.hear(["keep"], 3.0) == "reset" and shelves.store.read("000000").success


def test_undo_is_offered_only_where_there_is_something_to_undo(talk):
    assert "undo" not in talk.session.words()
    talk.record()
    talk.say("keep")
    assert "undo" in talk.session.words()
    talk.say("undo")
    talk.say("keep")
    talk.say("undo")
    talk.say("discard")
    talk.say("undo")
    assert talk.session.state == "review" and len(talk.session.shelves.store) == 0


def test_a_recording_without_an_action_is_none(talk):
    talk.say("start")
    talk.say("stop")
    assert talk.session.stopped(None, "", talk.now) == "reset"
    assert talk.session.state == "ready" and talk.session.message == "nothing was recorded"


def test_the_next_session_goes_on_numbering_and_with_what_was_left_undecided(shelves):
    talk = Talk(shelves)
    talk.record()
    talk.say("keep")
    talk.record()
    talk.say("quit")
    assert talk.session.state == "over" and len(shelves.pending) == 1
    later = Talk(shelves)
    assert later.session.state == "review" and later.session.seed == 41
    assert "earlier session" in later.session.message
    assert later.say("keep") == "reset"
    assert later.session.seed == 42 and shelves.store.ids() == ["000000", "000001"]


def test_a_session_into_a_full_folder_is_over_and_a_larger_goal_goes_on(shelves):
    talk = Talk(shelves, replace(CONFIG, episodes=1))
    talk.record()
    talk.say("keep")
    assert Talk(shelves, replace(CONFIG, episodes=1)).session.state == "over"
    assert Talk(shelves, replace(CONFIG, episodes=2)).session.state == "ready"
    assert Talk(shelves, replace(CONFIG, episodes=0)).session.state == "ready"  # no end


# by itself ---------------------------------------------------------------------------------------
def test_hands_free_it_starts_after_a_while_and_keeps_what_is_clean(shelves):
    config = replace(CONFIG, start_after=2.0, review="clean", decide_after=1.0)
    session = Session(config, shelves, 0.0)
    assert [session.tick(t) for t in (0.0, 1.9, 2.0)] == ["", "", "begin"]
    session.stopped(recording(40), "", 5.0)
    assert [session.tick(t) for t in (5.0, 5.9, 6.0)] == ["", "", "reset"]
    assert session.tick(7.9) == "" and session.tick(8.1) == "begin"
    session.stopped(recording(41, success=False), "", 9.0)
    assert session.tick(99.0) == "" and session.state == "review"  # that is yours to decide
    assert seeds(shelves.store) == [40]


def test_alone_it_throws_the_others_into_the_trash(shelves):
    config = replace(CONFIG, start_after=0.0, review="alone", decide_after=0.0)
    session = Session(config, shelves, 0.0)
    for seed, success in ((40, True), (41, False), (42, None), (43, True)):
        assert session.tick(0.0) == "begin"
        session.stopped(recording(seed, success), "", 0.0)
        assert session.tick(0.0) == "reset"
    assert (seeds(shelves.store), seeds(shelves.trash)) == ([40, 43], [41, 42])


def test_it_asks_where_nobody_said_otherwise(shelves):
    session = Session(CONFIG, shelves, 0.0)
    assert session.tick(1e6) == ""
    session.hear(["start"], 0.0)
    session.stopped(recording(40), "", 0.0)
    assert session.tick(1e6) == ""


# the disk ----------------------------------------------------------------------------------------
@pytest.fixture
def full(monkeypatch):
    """A disk that is full until it is called."""

    def fails(self, data, **_):
        raise OSError(errno.ENOSPC, "No space left on device")

    patch = monkeypatch.context()
    inner = patch.__enter__()
    inner.setattr(Path, "write_bytes", fails)
    inner.setattr(Path, "write_text", fails)
    yield inner.undo
    patch.__exit__(None, None, None)


def test_a_recording_that_does_not_fit_is_kept_in_memory_until_it_does(talk, shelves, full):
    talk.record()
    assert talk.session.unsaved and "NOT SAVED" in talk.session.message
    assert "free some" in talk.session.message and not talk.session.clean
    for word in ("keep", "success", "discard"):
        assert talk.say(word) == "" and talk.session.unsaved
    assert talk.say("quit") == "" and "quit again" in talk.session.message  # is that meant?
    full()
    assert talk.say("keep") == "reset"
    assert seeds(shelves.store) == [40] and not talk.session.unsaved


@contextlib.contextmanager
def failing(code, folder):
    """Nothing can be written below `folder`, by that error; a real disk where there can be one."""
    if code == errno.EROFS:  # by a mount over it: files are open on the one below
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
        subprocess.run(["umount", folder], check=True)
        return
    if code == errno.ENOSPC:
        with contextlib.suppress(OSError), (folder / "filler").open("wb", 0) as file:
            while True:
                file.write(bytes(4096))
        yield
        (folder / "filler").unlink()
        return
    write = Path.write_bytes

    def fails(self, data):
        if self.is_relative_to(folder):
            raise OSError(code, os.strerror(code))
        return write(self, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_bytes", fails)
        yield


@pytest.fixture(params=[errno.EIO, errno.ESTALE, errno.EROFS, errno.ENOSPC], ids=os.strerror)
def disk(request, tmp_path):
    """A disk, and how it fails."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param in (errno.EIO, errno.ESTALE):
        yield folder, request.param
        return
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a disk is not permitted")
    yield folder, request.param
    subprocess.run(["umount", folder], check=True)


def test_a_finished_recording_outlives_whatever_the_disk_does(disk):
    folder, code = disk
    shelves = Shelves(folder / "mine", SPEC)
    talk = Talk(shelves)
    with failing(code, folder):
        talk.record()
        assert talk.session.unsaved and "NOT SAVED" in talk.session.message
        assert talk.say("keep") == "" and talk.session.state == "review"
    assert talk.say("keep") == "reset"
    require_equal(shelves.store.read("000000"), recording(40))
    shelves.close()


def test_at_the_end_another_disk_takes_what_this_one_does_not(disk, tmp_path, monkeypatch):
    folder, code = disk
    monkeypatch.setattr(saving, "PLACES", [str(folder), str(tmp_path)])
    shelves = Shelves(folder / "mine", SPEC)
    talk = Talk(shelves, replace(CONFIG, review="alone"))
    with failing(code, folder):
        with pytest.raises((OSError, StoreError)):  # nobody is there to mend it
            talk.record()
        told = talk.session.leave()
    (found,) = tmp_path.glob("robostack-*")
    assert str(found) in told and os.strerror(code).split()[0].lower() in told.lower()
    require_equal(Store(found / "store").read("000000"), recording(40))
    assert list(folder.glob("robostack-*")) == [] and talk.session.leave() == ""
    shelves.close()


def test_a_recording_that_cannot_be_audited_is_saved_and_waits(talk, shelves, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("of what")

    monkeypatch.setattr("robostack.collecting.session.audit", broken)
    talk.record()
    (found,) = talk.session.findings
    assert "cannot be audited (ZeroDivisionError: of what)" in str(found)
    assert not talk.session.clean and seeds(shelves.pending) == [40]


def test_what_cannot_be_read_is_set_aside_and_the_session_goes_on(shelves):
    talk = Talk(shelves)
    for _ in range(2):
        talk.record()
        talk.say("quit")
        talk = Talk(shelves)
        talk.session._turn("ready", 0.0)
    (shelves.pending.path / "episodes" / "000001" / "actions/zarr.json").unlink()
    talk = Talk(shelves)
    assert talk.session.state == "review" and seeds(shelves.pending) == [40]
    assert "pending/000001 is damaged and now in" in talk.session.message
    assert (shelves.out / "damaged" / "pending-000001" / "states").is_dir()
    talk.say("keep")
    (shelves.store.path / "episodes" / "000000" / "states/zarr.json").unlink()
    assert talk.say("undo") == "" and "damaged" in talk.session.message
    assert talk.session.state == "ready" and talk.say("start") == "begin"


def test_a_word_that_cannot_be_written_down_leaves_the_recording_undecided(talk, shelves, request):
    talk.record(success=False)
    free = request.getfixturevalue("full")
    assert talk.say("success") == "" and "No space left" in talk.session.message
    assert talk.session.state == "review" and seeds(shelves.pending) == [40]
    free()
    assert talk.say("success") == "reset" and shelves.store.read("000000").success is True


def test_where_nobody_is_there_a_full_disk_ends_the_session(shelves, full):
    session = Session(replace(CONFIG, review="alone", start_after=0), shelves, 0.0)
    session.tick(0.0)
    with pytest.raises(StoreError, match="no space left"):
        session.stopped(recording(40), "", 0.0)


def test_without_room_for_a_recording_none_is_begun(shelves):
    talk = Talk(shelves, replace(CONFIG, spare_mb=10**9))
    assert talk.say("start") == "" and talk.session.state == "ready"
    assert "MB of the disk are free" in talk.session.message


@pytest.mark.parametrize("wrong", [{"episodes": -1}, {"spare_mb": -1}, {"decide_after": -1.0}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="expected 0 or more"):
        replace(CONFIG, **wrong)


def test_findings_are_counted_in_words():
    dark = recording(0, images={"top": np.zeros((13, 16, 16, 3), np.uint8)})
    assert counts([]) == "" and counts(audit(dark)).split(",")[0].endswith(
        ("error", "errors", "warning")
    )
