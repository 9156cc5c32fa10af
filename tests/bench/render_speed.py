"""Three ways to a camera picture, in turns in one process: robosuite's own, OpenGL, and numba.

    python tests/bench/render_speed.py [--task Lift] [--rounds 24] [--pixels 64 84 128 224]

`stock` is robosuite's own rendering, `gl` GLRenderer, `raster` RasterRenderer with its default
of four samples a pixel, `raster_1` with one. Two cameras, one fixed and one in the hand; the arm
is elsewhere in every round. Prints one JSON object as its last line: milliseconds an image
(medians), ratios, and how far pictures are apart (mean absolute difference, of 255).
"""

from __future__ import annotations

import argparse
import json
import logging
import time

import numpy as np

from robostack.sim.raster import RasterRenderer
from robostack.sim.render import GLRenderer

CAMERAS = ("agentview", "robot0_eye_in_hand")
WARM_UP = 4  # rounds that do not count


def stock_env(task: str, pixels: int):
    import robosuite

    return robosuite.make(
        task,
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


def measure(task: str, pixels: int, rounds: int) -> dict:
    stock = stock_env(task, pixels)
    xml = stock.sim.model.get_xml()  # at once: MuJoCo returns the model it compiled last
    cameras = dict.fromkeys(CAMERAS, (pixels, pixels))
    lean = GLRenderer(xml, cameras)
    ways = {
        "stock": lambda qpos: draw_stock(stock, pixels),
        "gl": lean.render,
        "raster": RasterRenderer(xml, cameras).render,
        "raster_1": RasterRenderer(xml, cameras, samples=1).render,
    }
    stock.reset()
    start, arm = stock.sim.data.qpos.copy(), stock.robots[0]._ref_joint_pos_indexes
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {way: [] for way in ways}
    apart: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds + WARM_UP):
        qpos = start.copy()
        qpos[arm] += rng.normal(0, 0.02, len(arm))
        stock.sim.data.qpos[:] = qpos
        stock.sim.forward()
        images = {}
        for way, render in ways.items():
            begin = time.perf_counter()
            images[way] = render(qpos)
            times[way].append(1e3 * (time.perf_counter() - begin) / len(CAMERAS))
        for way in ways:
            apart[way].append(
                np.mean([np.abs(images[way][c].astype(float) - images["gl"][c]) for c in CAMERAS])
            )
    lean.close()
    stock.close()
    cost = {way: float(np.median(taken[WARM_UP:])) for way, taken in times.items()}
    return {
        "task": task,
        "pixels": pixels,
        **{f"{way}_ms": round(cost[way], 2) for way in ways},
        "gl_over_raster": round(cost["gl"] / cost["raster"], 1),
        "gl_over_raster_1": round(cost["gl"] / cost["raster_1"], 1),
        "stock_over_raster": round(cost["stock"] / cost["raster"], 1),
        **{
            f"{way}_apart_from_gl": round(float(np.mean(apart[way])), 2)
            for way in ways
            if way != "gl"
        },
    }


def draw_stock(stock, pixels: int) -> dict[str, np.ndarray]:
    # robosuite leaves this out: it expects to be alone
    stock.sim._render_context_offscreen.gl_ctx.make_current()
    return {c: stock.sim.render(pixels, pixels, camera_name=c)[::-1] for c in CAMERAS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="Lift")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--pixels", type=int, nargs="+", default=[64, 84, 128, 224])
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # robosuite warns about what its users need not know
    rows = [measure(args.task, pixels, args.rounds) for pixels in args.pixels]
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
