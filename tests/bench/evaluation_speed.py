"""What it saves to render only the pictures that a policy looks at, back to back in one run.

    python tests/bench/evaluation_speed.py                            # a small policy, not trained
    python tests/bench/evaluation_speed.py --policy runs/bc --tasks Lift --episodes 10

The same episodes are played as they are for a video, with a picture of every step, and as all
others of an evaluation are, with one a chunk. Prints one JSON object as its last line: of every
task the milliseconds a control step (median over episodes) and the median ratio of an episode's
two. Exits with 1 if what came of an episode differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from robostack.policy.vla import VLA, VLAConfig
from robostack.sim.arena import Trial, play
from robostack.sim.env import EnvConfig, make_env
from robostack.sim.worker import RunnerConfig, Worker, make_worker


def compare(worker: Worker, task: str, policy: str, episodes: int, horizon: int) -> dict:
    env, runner = EnvConfig(task=task, horizon=horizon), RunnerConfig()
    ms, same = [], True
    for seed in range(-1, episodes):  # the first one is for warming up
        bare = Trial(policy, env, runner, 0.0, max(seed, 0), film=False)
        every, some = (play(worker, t) for t in (replace(bare, film=True), bare))
        same &= (every.success, every.steps) == (some.success, some.steps)
        if seed >= 0:
            ms.append([1e3 * p.seconds / p.steps for p in (every, some)])
    ms = np.array(ms)
    return {
        "task": task,
        "every_step_ms": round(float(np.median(ms[:, 0])), 2),
        "looked_at_ms": round(float(np.median(ms[:, 1])), 2),
        "ratio": round(float(np.median(ms[:, 0] / ms[:, 1])), 2),
        "same": bool(same),
    }


def untrained(task: str, folder: Path) -> str:
    torch.manual_seed(0)
    env = make_env(EnvConfig(task=task))
    VLA(VLAConfig(), env.spec).save(folder / task)
    env.close()
    return str(folder / task)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=["Lift", "Stack", "PickPlaceCan"])
    parser.add_argument("--policy", default="", help="a folder; without it, random weights")
    parser.add_argument("--episodes", type=int, default=5)
    parser.add_argument("--horizon", type=int, default=0, help="control steps; 0: the task's own")
    args = parser.parse_args()
    worker, rows = make_worker(), []
    with tempfile.TemporaryDirectory() as folder:
        for task in args.tasks:
            policy = args.policy or untrained(task, Path(folder))
            rows.append(compare(worker, task, policy, args.episodes, args.horizon))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    worker.close()
    print(json.dumps({"rows": rows}))
    return 0 if all(row["same"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
