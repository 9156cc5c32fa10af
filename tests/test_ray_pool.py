"""Real Ray: the same results in the same order, and actors whose loss costs nothing."""

import sys

import pytest
from fakes import Bulky, die_once, line_env, roll_line, sleep_once, stumble, times_ten

from robostack.pool import DIED, PATIENCE, Pool, WorkerError
from robostack.ray_pool import RayPool

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory):
    """One for all tests, which join it, as they would join one that is there. Its processes find
    the tests' own modules as worker processes of a `Pool` do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", ":".join(sys.path))
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def opened():
    """Two actors, which take seconds to start."""
    with RayPool(line_env, workers=2) as pool:
        yield pool


@pytest.fixture
def pool(opened):
    opened.lost, opened.patience = 0, PATIENCE
    return opened


def test_results_and_their_order_are_those_of_processes(pool):
    jobs = [(seed,) for seed in (5, 1, 9, 3, 3, 7, 0)]
    with Pool(line_env, 1) as alone:
        wanted = [e.states.tobytes() for e in alone.run(roll_line, jobs)]
    assert [e.states.tobytes() for e in pool.run(roll_line, jobs)] == wanted
    assert list(pool.run(times_ten, [(n,) for n in range(20)])) == list(range(0, 200, 10))
    assert list(pool.run(times_ten, [])) == [] and pool.lost == 0


def test_a_killed_actor_is_replaced_and_its_jobs_are_done_again(pool, tmp_path, capfd):
    jobs = [(n, 3, str(tmp_path / "died")) for n in range(8)]
    assert list(pool.run(die_once, jobs)) == list(range(0, 80, 10))
    assert pool.lost == 1 and "an actor was lost" in capfd.readouterr().err


LOSSES = [
    ray.exceptions.OutOfMemoryError("the node is low on memory\nand here is how much of it"),
    ray.exceptions.NodeDiedError("the node died"),
    ray.exceptions.OwnerDiedError("00", None, ""),
    ray.exceptions.ObjectLostError("00", None, ""),
    ray.exceptions.ActorUnschedulableError("no such node"),
    ray.exceptions.ActorDiedError(),
    ray.exceptions.RaySystemError("the raylet is gone"),
]


@pytest.fixture
def losing(monkeypatch):
    """Ray loses the first answer to every job, in one way after the other."""
    left, seen, get = list(LOSSES), set(), ray.get

    def lose(reference):
        value = get(reference)
        if left and value[0] not in seen:
            seen.add(value[0])
            raise left.pop(0)
        return value

    monkeypatch.setattr(ray, "get", lose)


@pytest.mark.slow
def test_whatever_ray_loses_an_actor_by_its_job_is_done_again(pool, losing, capfd):
    jobs = [(n,) for n in range(len(LOSSES) + 1)]
    assert list(pool.run(times_ten, jobs)) == [10 * n for (n,) in jobs]
    assert pool.lost == len(LOSSES)
    said = capfd.readouterr().err.splitlines()
    assert len(said) == len(LOSSES)
    told = "warning: an actor was lost (OutOfMemoryError: the node is low on memory); another"
    assert told in said[0]


def test_a_job_that_cannot_be_sent_fails_and_costs_no_actor(pool):
    outcomes = list(pool.outcomes(times_ten, [(1,), (Bulky(),), (2,)]))
    assert [o.value for o in outcomes] == [10, None, 20] and pool.lost == 0
    with pytest.raises(WorkerError, match="failed: .*cannot allocate 1 EiB"):
        list(pool.run(times_ten, [(Bulky(),)]))


def test_the_end_of_all_ray_is_told_in_a_sentence(pool, monkeypatch):
    def gone(*_, **__):
        raise ray.exceptions.LocalRayletDiedError

    with monkeypatch.context() as patch:
        patch.setattr(ray, "wait", gone)
        with pytest.raises(WorkerError, match=r"^Ray failed, .*LocalRayletDiedError: .+\)$"):
            list(pool.run(times_ten, [(1,)]))
    assert list(pool.run(times_ten, [(1,)])) == [10]


@pytest.mark.slow
def test_an_actor_that_hangs_is_replaced(pool, tmp_path, capfd):
    assert list(pool.run(times_ten, [(n,) for n in range(4)])) == [0, 10, 20, 30]  # all are up
    pool.patience = 5
    jobs = [(n, 0, str(tmp_path / "slept")) for n in range(3)]
    assert list(pool.run(sleep_once, jobs)) == [0, 10, 20]
    assert pool.lost >= 1 and "an actor hung" in capfd.readouterr().err


@pytest.mark.slow
def test_a_job_that_fails_is_reported_and_one_that_always_kills_is_given_up(pool):
    outcomes = list(pool.outcomes(stumble, [(4,), (-1,), (2,), (5,)]))
    assert [o.value for o in outcomes] == [40, None, None, 50]
    assert [o.kind for o in outcomes] == ["", "ArithmeticError", DIED, ""]
    assert outcomes[2].attempts == 2 and pool.lost >= 2
    with pytest.raises(WorkerError, match="cannot use -1"):
        list(pool.run(times_ten, [(1,), (-1,)]))
    assert list(pool.run(times_ten, [(6,)])) == [60]  # nothing leaks into the next run


def test_a_cluster_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # else it joins the tests' own
    with pytest.raises(ValueError, match="ray:127.0.0.1:9: no cluster answers"):
        RayPool(line_env, address="127.0.0.1:9")
