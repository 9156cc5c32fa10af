"""No demonstration is lost, whatever ends the process; nobody else writes meanwhile."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes import SPEC, make_episode

from robostack.collecting.shelves import Shelves
from robostack.data.store import Store, StoreError
from robostack.types import SpecMismatch

TESTS = Path(__file__).parents[1]

# one import, then a fork for every kill; each child says what it has on the disk for certain
COLLECTORS = """
import os, random, signal, sys, time
from pathlib import Path
sys.path.append(sys.argv[1])
from acting import collector

random.seed(7)
for attempt in range(int(sys.argv[3])):
    out = Path(sys.argv[2]) / f"session-{attempt % 4}"
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        acting = collector(out)
        acting.run(lambda c: os.write(write, b"r" * (c.session.state == "review")))
    os.close(write)
    seen = [os.read(read, 1) for _ in range(random.choice([0, 0, 1, 1, 2]))]
    time.sleep(random.uniform(0.0, 0.05))
    os.kill(child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    with open(read, "rb") as told:
        print(attempt % 4, len(seen) + len(told.read()), flush=True)
"""


@pytest.fixture
def shelves(tmp_path):
    shelves = Shelves(tmp_path / "mine", SPEC)
    yield shelves
    shelves.close()


@pytest.mark.slow
def test_killed_a_hundred_times_no_finished_recording_is_lost(tmp_path):
    command = [sys.executable, "-c", COLLECTORS, str(TESTS), str(tmp_path), "100"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = np.zeros(4, int)
    for line in done.stdout.splitlines():
        session, count = map(int, line.split())
        told[session] += count
    assert told.sum() > 50 and len(done.stdout.splitlines()) == 100
    for session in range(4):
        shelves = Shelves(tmp_path / f"session-{session}", SPEC)  # no lock is left behind
        stores = (shelves.store, shelves.pending, shelves.trash)
        episodes = [episode for store in stores for _, episode in store.episodes()]  # all readable
        found = [episode.seed for episode in episodes]
        assert len(set(found)) == len(found)  # none twice
        assert sorted(found) == list(range(len(found)))  # and the numbers went on
        assert len(found) >= told[session]
        assert all(episode.states[-1, 0] >= 1 for episode in episodes)  # whole ones
        assert len(shelves.pending) <= 1
        shelves.close()


def test_a_decision_is_one_rename_and_the_episode_stays_the_same(shelves):
    before = make_episode(1)
    shelves.put(before)
    assert shelves.keep("000000", True) == "000000" and len(shelves.pending) == 0
    assert shelves.reopen("store", "000000") == "000000" and len(shelves.store) == 0
    assert shelves.discard("000000") == "000000" and len(shelves.pending) == 0
    after = shelves.trash.read("000000")
    assert np.array_equal(after.images["top"], before.images["top"])
    assert np.array_equal(after.actions, before.actions) and after.task == before.task


@pytest.mark.parametrize("success", [True, False, None])
def test_what_the_operator_says_is_written_before_the_episode_is_kept(shelves, success):
    shelves.put(make_episode(1, success=False))
    shelves.keep("000000", success)
    assert shelves.store.attributes("000000")["success"] is success
    assert shelves.store.read("000000").success is success
    hidden = [p.name for p in shelves.pending.path.iterdir() if p.name.startswith(".")]
    assert hidden == []


def test_numbers_count_up_on_every_shelf(shelves):
    for seed in range(4):
        number = shelves.put(make_episode(seed))
        (shelves.discard if seed % 2 else lambda n: shelves.keep(n, True))(number)
    assert shelves.store.ids() == shelves.trash.ids() == ["000000", "000001"]
    assert shelves.next_seed(0) == 4 and shelves.next_seed(100) == 100


def test_two_collectors_never_hold_one_folder(shelves):
    with pytest.raises(StoreError, match=f"another process \\({os.getpid()}\\)"):
        Shelves(shelves.out, SPEC)
    code = (
        "import sys; sys.path.append(sys.argv[1])\n"
        "from pathlib import Path\n"
        "from fakes import SPEC\n"
        "from robostack.collecting.shelves import Shelves\n"
        "Shelves(Path(sys.argv[2]), SPEC)"
    )
    command = [sys.executable, "-c", code, str(TESTS), str(shelves.out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert f"another process ({os.getpid()}), `" in done.stderr
    assert "`; stop that one, or give another --out" in done.stderr
    shelves.close()
    Shelves(shelves.out, SPEC).close()  # free again


def test_a_folder_into_which_a_program_collects_is_no_persons(tmp_path):
    from robostack.learn.run import Run

    run = Run(tmp_path / "demos", "collect", {})
    with pytest.raises(StoreError, match="another process"):
        Shelves(run.path, SPEC)
    assert not (run.path / "pending").exists()
    run.finish({})
    shelves = Shelves(run.path, SPEC)
    with pytest.raises(StoreError, match="another process"):
        Run(run.path, "collect", {}, existing="replace")
    shelves.close()


def test_what_is_damaged_is_set_aside_and_the_rest_goes_on(shelves):
    for seed in range(3):
        shelves.put(make_episode(seed))
    shelves.keep("000000", True)
    shelves.discard("000001")
    for store in (shelves.trash, shelves.pending):
        (found,) = store.ids()
        (store.path / "episodes" / found / "zarr.json").write_bytes(b"\xff\x00")
    shelves.close()
    again = Shelves(shelves.out, SPEC)
    assert [len(s) for s in (again.store, again.pending, again.trash)] == [1, 0, 0]
    assert again.next_seed(0) == 1 and len(again.aside) == 2
    told = " ".join(again.aside)
    for name in ("pending-000002", "trash-000000"):
        assert str(shelves.out / "damaged" / name) in told
        assert (shelves.out / "damaged" / name / "images.top").is_dir()  # nothing is deleted
    again.put(make_episode(5))
    again.set_aside("pending", "000000", "once more")
    again.close()


def test_a_folder_of_another_robot_is_refused_and_not_locked(shelves):
    from dataclasses import replace

    shelves.close()
    with pytest.raises(SpecMismatch, match="control_hz"):
        Shelves(shelves.out, replace(SPEC, control_hz=7.0))
    Shelves(shelves.out, SPEC).close()


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match="not empty"):
        Shelves(tmp_path, SPEC)
    assert (tmp_path / "store" / "thesis.txt").read_text() == "years of work"


def test_an_episode_moves_only_between_stores_of_one_robot(shelves, tmp_path):
    from dataclasses import replace

    other = Store.create(tmp_path / "other", replace(SPEC, robot="another"))
    shelves.put(make_episode(1))
    with pytest.raises(SpecMismatch, match="robot"):
        other.take(shelves.pending, "000000")
    with pytest.raises(StoreError, match="no episode '000007'"):
        shelves.store.take(shelves.pending, "000007")
    assert shelves.pending.ids() == ["000000"]
    group = json.loads((shelves.pending.path / "episodes" / "000000" / "zarr.json").read_text())
    assert group["attributes"]["seed"] == 1
