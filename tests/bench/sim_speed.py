"""Control steps per second of stock robosuite and of ours, in turns in one run.

    python tests/bench/sim_speed.py                                   # Lift, everything
    python tests/bench/sim_speed.py --tasks Lift Stack Door --pixels 0 84 --workers 1

Both play the same random actions from the same start, in fresh processes: stock robosuite with its
own observations and cameras (`env.step`), ours through `make_env`. Prints one JSON object as its
last line: for every task, picture size (0: no cameras; else two square cameras) and number of
worker processes the steps per second of all workers together (median of the rounds), ours / stock,
and how far the joint positions come apart within the first hundred steps that both made.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time

import numpy as np

WARM = 5  # steps before the clock starts
COMPARED = 100  # steps: beyond, a first contact makes a difference of 1e-16 grow without bound
REACH = 0.5  # of the random actions: at 1 the arm is soon pressed against the table


def stock(task: str, pixels: int):
    """(step, qpos, close) of robosuite as its documentation sets it up."""
    from robostack.sim.robosuite_env import quiet_robosuite
    from robostack.sim.tasks import TASKS

    about = TASKS[task]
    with quiet_robosuite():
        import robosuite

        env = robosuite.make(
            task,
            robots=["Panda"] * about.arms,
            has_renderer=False,
            has_offscreen_renderer=pixels > 0,
            use_camera_obs=pixels > 0,
            camera_names=list(about.cameras[:2]),
            camera_heights=pixels or 84,
            camera_widths=pixels or 84,
            control_freq=20,
            ignore_done=True,
            hard_reset=False,
            seed=0,
        )
        env.rng.bit_generator.state = np.random.default_rng(0).bit_generator.state
        env.reset()
    return env.step, lambda: env.sim.data.qpos.copy(), env.close


def ours(task: str, pixels: int):
    from robostack.sim.env import EnvConfig, make_env
    from robostack.sim.tasks import TASKS

    cameras = dict.fromkeys(TASKS[task].cameras[:2], pixels) if pixels else {}
    config = EnvConfig(task=task, cameras=cameras, render="lean" if pixels else "none")
    env = make_env(config)
    env.reset(0)
    return env.step, lambda: env.data.qpos.copy(), env.close


def run(make, task: str, pixels: int, steps: int, rounds: int, barrier, results) -> None:
    """One worker: seconds of every round, and the positions after every step."""
    from robostack.sim.tasks import TASKS

    step, qpos, close = make(task, pixels)
    dims = 6 if task == "Wipe" or task == "TwoArmPegInHole" else 7
    shape = WARM + rounds * steps, dims * TASKS[task].arms
    # rounded as an Episode stores them, so that both get the very same numbers
    actions = np.random.default_rng(1).uniform(-REACH, REACH, shape).astype(np.float32)
    for action in actions[:WARM]:
        step(action)
    seconds, positions = [], []
    for k in range(rounds):
        barrier.wait()
        begin = time.perf_counter()
        for action in actions[WARM + k * steps : WARM + (k + 1) * steps]:
            step(action)
            positions.append(qpos())
        seconds.append(time.perf_counter() - begin)
    results.put((seconds, np.stack(positions)))
    close()


def measure(make, task: str, pixels: int, workers: int, steps: int, rounds: int) -> tuple:
    """Steps/s of all workers together, and the positions of one of them."""
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(workers), spawn.Queue()
    processes = [
        spawn.Process(target=run, args=(make, task, pixels, steps, rounds, barrier, results))
        for _ in range(workers)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=900) for _ in processes]
    for process in processes:
        process.join()
    slowest = np.max([seconds for seconds, _ in found], axis=0)
    return workers * steps / float(np.median(slowest)), found[0][1]


def compare(task: str, pixels: int, workers: int, rounds: int) -> dict:
    few, many = (40, 200) if pixels == 0 else (10, 60)
    stock_sps, theirs = measure(stock, task, pixels, workers, few, rounds)
    ours_sps, mine = measure(ours, task, pixels, workers, many, rounds)
    both = min(len(theirs), len(mine), COMPARED)
    row = {
        "task": task,
        "px": pixels,
        "workers": workers,
        "stock_sps": round(stock_sps, 2),
        "ours_sps": round(ours_sps, 1),
        "ratio": round(ours_sps / stock_sps, 1),
        "max_dqpos": float(np.abs(theirs[:both] - mine[:both]).max()),
    }
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=["Lift"])
    parser.add_argument("--pixels", nargs="+", type=int, default=[0, 84, 128, 224])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    rows = [
        compare(task, pixels, workers, args.rounds)
        for task in args.tasks
        for pixels in args.pixels
        for workers in args.workers
    ]
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
