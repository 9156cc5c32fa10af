"""Lean cameras against robosuite's own, in turns in one process.

    python tests/bench/render_speed.py [--rounds 12]

Prints one JSON object as its last line: milliseconds an image (medians), their ratio, and how far
the pictures are apart (mean absolute difference, of 255).
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from robostack.sim.env import EnvConfig, RobosuiteEnv, _quiet_robosuite

CAMERAS = ("agentview", "robot0_eye_in_hand")


def stock_env(pixels: int):
    with _quiet_robosuite():
        import robosuite

        return robosuite.make(
            "Lift",
            robots="Panda",
            has_renderer=False,
            has_offscreen_renderer=True,
            use_camera_obs=False,
            camera_names=list(CAMERAS),
            camera_heights=pixels,
            camera_widths=pixels,
            hard_reset=False,
            seed=0,
        )


def measure(pixels: int, rounds: int) -> dict:
    ours = RobosuiteEnv(EnvConfig(cameras=dict.fromkeys(CAMERAS, pixels)))
    ours.reset(0)
    stock = stock_env(pixels)
    with _quiet_robosuite():
        stock.reset()
    qpos = ours._data.qpos
    stock.sim.data.qpos[:] = qpos
    stock.sim.forward()
    times: dict[str, list[float]] = {"stock": [], "lean": []}
    theirs_context = stock.sim._render_context_offscreen.gl_ctx
    for _ in range(rounds):
        theirs_context.make_current()  # robosuite leaves this out: it expects to be alone
        begin = time.perf_counter()
        theirs = [stock.sim.render(pixels, pixels, camera_name=c)[::-1] for c in CAMERAS]
        middle = time.perf_counter()
        lean = ours.renderer.render(qpos)
        times["stock"].append((middle - begin) / len(CAMERAS))
        times["lean"].append((time.perf_counter() - middle) / len(CAMERAS))
    apart = [np.abs(a.astype(float) - lean[c]).mean() for a, c in zip(theirs, CAMERAS)]
    ours.close()
    stock.close()
    stock_ms, lean_ms = (1e3 * float(np.median(times[k][2:])) for k in ("stock", "lean"))
    return {
        "pixels": pixels,
        "stock_ms": round(stock_ms, 2),
        "lean_ms": round(lean_ms, 2),
        "ratio": round(stock_ms / lean_ms, 1),
        "mean_difference": round(float(np.mean(apart)), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    rounds = parser.parse_args().rounds
    print(json.dumps({"rows": [measure(pixels, rounds) for pixels in (64, 84, 128)]}))


if __name__ == "__main__":
    main()
