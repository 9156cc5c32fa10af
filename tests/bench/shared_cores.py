"""How long an update of a small policy takes on cores that are free, and where one is busy.

    python tests/bench/shared_cores.py

Measures torch as it comes and as robostack/__init__.py lets its threads wait (GOMP_SPINCOUNT), in
turns in one run, each in fresh processes. Prints one JSON object as its last line: milliseconds of
an update (median of the rounds' medians), and how many times as long torch's own takes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time

import numpy as np

import robostack  # before torch, as every command does

OWN = {"GOMP_SPINCOUNT": "300000"}  # libgomp's, where nobody says anything
WAYS = {"ours": {}, "torch": OWN}


def update_ms(batch: int, updates: int) -> float:
    """Median of one policy's updates in this process."""
    import torch

    from robostack.data.chunks import Batch
    from robostack.policy.vla import VLA, VLAConfig
    from robostack.sim.env import EnvConfig, make_env

    spec, draws = make_env(EnvConfig()).spec, 4
    torch.manual_seed(0)
    vla = VLA(VLAConfig(), spec)
    chunk = torch.zeros(batch, vla.config.horizon, spec.action_dim)
    valid = torch.ones(chunk.shape[:2], dtype=torch.bool)
    images = {n: torch.zeros(batch, *hw, 3, dtype=torch.uint8) for n, hw in spec.cameras.items()}
    seen = Batch(images, torch.zeros(batch, spec.state_dim), ["lift it"] * batch, chunk, valid)
    noise, tau = torch.randn(batch * draws, *chunk.shape[1:]), torch.rand(batch * draws)
    taken = []
    for _ in range(updates + 2):
        begin = time.perf_counter()
        vla.zero_grad()
        vla(seen, noise, tau, draws).mean().backward()
        taken.append(time.perf_counter() - begin)
    return 1e3 * float(np.median(taken[2:]))


@contextlib.contextmanager
def busy(cores: int):
    """So many processes that do nothing, as fast as they can."""
    idle = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        yield
    finally:
        for process in idle:
            process.kill()
            process.wait()


def apart(way: dict[str, str], words: list[str]) -> float:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, __file__, "--here", *words],
        env=kept | way,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--updates", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--here", action="store_true", help="in this process, as it is")
    args = parser.parse_args()
    if args.here:
        print(update_ms(args.batch, args.updates))
        return
    words, told = ["--batch", str(args.batch), "--updates", str(args.updates)], {}
    for name, cores in (("free", 0), ("one_busy", 1)):
        with busy(cores):
            each = [{w: apart(e, words) for w, e in WAYS.items()} for _ in range(args.rounds)]
        ms = {way: round(float(np.median([r[way] for r in each])), 1) for way in WAYS}
        ratio = float(np.median([r["torch"] / r["ours"] for r in each]))
        told[name] = {f"{way}_ms": ms[way] for way in WAYS} | {"ratio": round(ratio, 2)}
    print(json.dumps({"version": robostack.__version__, "cores": os.cpu_count(), **told}))


if __name__ == "__main__":
    main()
