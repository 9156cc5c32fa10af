"""Worker processes change nothing but the time that it takes, and fail aloud."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes import (
    LineEnv,
    broken_setup,
    die,
    die_once,
    line_env,
    roll_line,
    sleep_once,
    stumble,
    times_ten,
)

from robostack.pool import Pool, WorkerError


def test_one_worker_runs_here_and_closes_what_it_set_up():
    log = []
    with Pool(lambda: LineEnv(log=log), 1) as pool:
        assert list(pool.run(times_ten, [(3,), (1,), (2,)])) == [30, 10, 20]
        assert log == []
    assert log == ["closed"]


def test_less_than_one_worker_is_refused():
    with pytest.raises(ValueError, match="workers"):
        Pool(line_env, 0)


def test_the_number_of_workers_changes_neither_results_nor_their_order():
    jobs = [(seed,) for seed in (5, 1, 9, 3, 3, 7, 0)]
    with Pool(line_env, 1) as one, Pool(line_env, 2) as two:
        alone, shared = list(one.run(roll_line, jobs)), list(two.run(roll_line, jobs))
        assert [e.seed for e in shared] == [5, 1, 9, 3, 3, 7, 0]
        assert [e.states.tobytes() for e in alone] == [e.states.tobytes() for e in shared]
        assert list(two.run(times_ten, [(n,) for n in range(20)])) == list(range(0, 200, 10))
        assert list(two.run(times_ten, [])) == []


def test_what_was_left_of_an_abandoned_run_does_not_leak_into_the_next():
    with Pool(line_env, 2) as pool:
        assert next(pool.run(times_ten, [(n,) for n in range(9)])) == 0
        assert list(pool.run(times_ten, [(100,), (200,)])) == [1000, 2000]


def test_a_failing_worker_raises_with_its_traceback():
    with Pool(line_env, 2) as pool:
        with pytest.raises(WorkerError, match="cannot use -1") as caught:
            list(pool.run(times_ten, [(1,), (-1,), (2,)]))
    assert "ArithmeticError" in str(caught.value) and "in times_ten" in str(caught.value)


def test_a_setup_that_fails_raises_with_its_traceback():
    with Pool(broken_setup, 2) as pool:
        with pytest.raises(WorkerError, match="no such device"):
            list(pool.run(times_ten, [(1,)]))


def test_a_worker_that_dies_is_noticed():
    with Pool(line_env, 2) as pool:
        with pytest.raises(WorkerError, match="exit code 3"):
            list(pool.run(die, [(3,)]))


def test_a_job_that_fails_is_reported_and_the_rest_goes_on():
    jobs = [(4,), (-1,), (1,), (5,), (-1,), (6,)]
    with Pool(line_env, 1) as one, Pool(line_env, 2) as two:
        for pool in (one, two):
            outcomes = list(pool.outcomes(stumble, jobs))
            assert [o.value for o in outcomes] == [40, None, None, 50, None, 60]
            kinds = ["", "ArithmeticError", "MemoryError", "", "ArithmeticError", ""]
            assert [o.kind for o in outcomes] == kinds
            assert [o.attempts for o in outcomes] == [1] * 6
            first, _, traceback = outcomes[1].error.partition("\n\n")
            assert first == "ArithmeticError: cannot use -1" and "in times_ten" in traceback


def test_what_a_job_failed_in_is_closed_and_made_anew():
    log, made = [], []

    def setup():
        made.append(LineEnv(log=log))
        return made[-1]

    with Pool(setup, 1) as pool:
        assert [o.value for o in pool.outcomes(times_ten, [(1,), (-1,), (2,), (3,)])][2:] == [
            20,
            30,
        ]
        assert len(made) == 2 and log == ["closed"]


def test_a_setup_that_fails_is_every_jobs_error():
    with Pool(broken_setup, 1) as pool:
        outcomes = list(pool.outcomes(times_ten, [(1,), (2,)]))
    assert [o.kind for o in outcomes] == ["OSError"] * 2
    assert outcomes[0].error.startswith("OSError: no such device\n\n")


def test_a_job_whose_worker_is_killed_is_tried_again_and_flagged(tmp_path):
    jobs = [(n, 2, str(tmp_path / "died")) for n in range(7)]
    with Pool(line_env, 2) as pool:
        outcomes = list(pool.outcomes(die_once, jobs))
        assert [o.value for o in outcomes] == [0, 10, 20, 30, 40, 50, 60]
        assert not any(o.error for o in outcomes)
        assert [o.attempts for o in outcomes] == [1, 1, 2, 1, 1, 1, 1]
        assert len(pool._workers) == 2 and all(w.process.is_alive() for w in pool._workers)


def test_one_worker_in_a_process_of_its_own_may_die_too(tmp_path):
    jobs = [(n, 0, str(tmp_path / "died")) for n in range(3)]
    with Pool(line_env, 1, isolate=True) as pool:
        assert [o.value for o in pool.outcomes(die_once, jobs)] == [0, 10, 20]


def test_a_job_that_always_kills_its_worker_is_given_up_and_no_other():
    with Pool(line_env, 2) as pool:
        outcomes = list(pool.outcomes(stumble, [(n,) for n in (5, 2, 6, 3, 7, 8)]))
    assert [o.value for o in outcomes] == [50, None, 60, None, 70, 80]
    assert [o.kind for o in outcomes] == ["", "died", "", "died", "", ""]
    assert [o.attempts for o in outcomes] == [1, 2, 1, 2, 1, 1]
    assert "out of memory" in outcomes[1].error and "--workers" in outcomes[1].error
    assert "exit code 7" in outcomes[3].error


def test_no_process_is_started_for_no_jobs():
    with Pool(line_env, 2) as pool:
        assert list(pool.outcomes(times_ten, [])) == [] and pool._workers == []


def test_jobs_are_drawn_only_a_little_ahead_of_the_results():
    drawn = []

    def jobs():
        for n in range(100):
            drawn.append(n)
            yield (n,)

    with Pool(line_env, 2) as pool:
        for seen, _ in enumerate(pool.outcomes(times_ten, jobs()), 1):
            assert len(drawn) < seen + 4 * 2


def test_a_killed_parent_leaves_no_worker():
    script = """
from fakes import line_env, times_ten
from robostack.pool import Pool
pool = Pool(line_env, 2)
list(pool.run(times_ten, [(1,)]))
print(*[worker.process.pid for worker in pool._workers], flush=True)
input()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2 and all(map(alive, workers))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(300):
        if not any(map(alive, workers)):
            return
        time.sleep(0.1)
    pytest.fail("the workers outlived their parent by half a minute")


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_spare_is_done_in_the_place_of_what_two_workers_were_lost_with():
    jobs = [(n,) for n in (4, 2, 6, 5)]
    with Pool(line_env, 1, isolate=True) as pool:
        assert list(pool.run(stumble, jobs, lambda n: (n + 5,))) == [40, 70, 60, 50]
        assert pool.lost == 2
        with pytest.raises(WorkerError, match="exit code 7"):  # a spare has no other
            list(pool.run(stumble, jobs, lambda n: (3,)))
        assert pool.lost == 6


@pytest.mark.slow
def test_one_worker_in_a_process_of_its_own_may_hang_too(tmp_path, capfd):
    with Pool(line_env, 1, isolate=True) as pool:
        assert list(pool.run(times_ten, [(1,)])) == [10]  # it is up
        pool.patience = 5
        jobs = [(n, 1, str(tmp_path / "slept")) for n in range(3)]
        assert list(pool.run(sleep_once, jobs)) == [0, 10, 20]
        assert pool.lost >= 1 and "not done after 5 s" in capfd.readouterr().err


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced_and_its_jobs_are_done_again(tmp_path, capfd):
    with Pool(line_env, 2) as pool:
        assert list(pool.run(times_ten, [(n,) for n in range(4)])) == [0, 10, 20, 30]  # all are up
        pool.patience = 2
        jobs = [(n, 2, str(tmp_path / "slept")) for n in range(6)]
        assert list(pool.run(sleep_once, jobs)) == list(range(0, 60, 10))
        assert pool.lost >= 1 and "a worker hung" in capfd.readouterr().err


def test_a_killed_worker_s_job_is_done_again_without_being_asked(tmp_path, capfd):
    with Pool(line_env, 2) as pool:
        jobs = [(n, 3, str(tmp_path / "died")) for n in range(8)]
        assert list(pool.run(die_once, jobs)) == list(range(0, 80, 10))
        assert pool.lost == 1 and "was killed (signal 9)" in capfd.readouterr().err
