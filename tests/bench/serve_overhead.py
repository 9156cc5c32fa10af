"""What a policy costs by being served: round trip minus inference, over localhost.

    python tests/bench/serve_overhead.py                    # ours: raw, JPEG, openpi's client
    python tests/bench/serve_overhead.py --openpi SRC       # also openpi's server, from its src/

Every server is a process of its own with the same policy of random weights and two 224-pixel
cameras; the clients take turns in one run. Prints one JSON object as its last line: for every way
the milliseconds of the whole round trip and of what is not inference (median and 99th percentile),
and the bytes of a request. openpi-client must be installed (it is part of the extra `test`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import sys
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))

from fakes import LIFT, SPEC  # noqa: E402

from robostack.types import Observation  # noqa: E402

CAMERAS = {"front": (224, 224), "wrist": (224, 224)}
WARM = 5  # requests before the clock starts


def runner():
    """A ChunkRunner of random weights, always the same ones."""
    from dataclasses import replace

    import torch

    from robostack.policy.backbone import SmallConfig
    from robostack.policy.chunking import ChunkRunner
    from robostack.policy.expert import ExpertConfig
    from robostack.policy.vla import VLA, VLAConfig

    torch.manual_seed(0)
    torch.set_num_threads(1)
    small = SmallConfig(width=16, layers=1, heads=2, points=4)
    size = VLAConfig(horizon=8, small=small, expert=ExpertConfig(width=16))
    return ChunkRunner(VLA(size, replace(SPEC, cameras=CAMERAS)), 8, 5)


def serve_ours(address) -> None:
    from robostack.policy.serve import ServeConfig
    from robostack.policy.server import PolicyServer

    server = PolicyServer(runner().vla, ServeConfig(port=0), "bench", "")

    async def run() -> None:
        await server.run(asyncio.Event(), address.put)

    asyncio.run(run())


def serve_openpi(address, source: str) -> None:
    """openpi's server around the same policy."""
    import socket

    sys.path.insert(0, source)
    from openpi.serving.websocket_policy_server import WebsocketPolicyServer

    class Policy:
        def __init__(self) -> None:
            self.runner = runner()

        def infer(self, told: dict) -> dict:
            images = {name: told[f"observation/{name}"] for name in CAMERAS}
            seen = Observation(images, told["observation/state"].copy(), told["prompt"], 0.0)
            return {"actions": self.runner.plan(seen)}

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address.put(f"ws://127.0.0.1:{port}")
    WebsocketPolicyServer(Policy(), "127.0.0.1", port).serve_forever()


def picture(seed: int) -> np.ndarray:
    """uint8[224, 224, 3] with edges, gradients and some noise, as a camera's."""
    rng = np.random.default_rng(seed)
    image = np.linspace(40, 200, 224)[:, None, None] + rng.normal(0, 4, (224, 224, 3))
    for _ in range(30):
        y, x = rng.integers(0, 200, 2)
        image[y : y + rng.integers(8, 60), x : x + rng.integers(8, 60)] = rng.uniform(0, 255, 3)
    return np.clip(image, 0, 255).astype(np.uint8)


def ours(url: str, quality: int):
    """(ask, bytes): ask(seen) gives the inference's milliseconds."""
    from robostack.policy.client import RemotePolicy

    policy = RemotePolicy(url, jpeg_quality=quality)

    def ask(seen: Observation) -> float:
        policy.plan(seen)
        return policy.timing["infer_ms"]

    return ask


def openpi(url: str):
    from openpi_client.websocket_client_policy import WebsocketClientPolicy

    for _ in range(100):  # openpi's server tells nobody when it is there
        with contextlib.suppress(ConnectionRefusedError):
            policy = WebsocketClientPolicy(url)
            break
        time.sleep(0.2)

    def ask(seen: Observation) -> float:
        message = {f"observation/{name}": image for name, image in seen.images.items()}
        told = policy.infer(message | {"observation/state": seen.state, "prompt": seen.task})
        return told["server_timing"]["infer_ms"]

    return ask


def measure(ways: dict, rounds: int, requests: int) -> dict:
    seen = Observation(
        {name: picture(k) for k, name in enumerate(CAMERAS)}, np.zeros(3, np.float32), LIFT, 0.0
    )
    total: dict[str, list[float]] = {name: [] for name in ways}
    beside: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, ask in ways.items():
            for k in range(WARM + requests):
                begin = time.perf_counter()
                infer = ask(seen)
                took = 1e3 * (time.perf_counter() - begin)
                if k >= WARM:
                    total[name].append(took)
                    beside[name].append(took - infer)

    def told(values: list[float]) -> dict:
        median, late = np.percentile(values, [50, 99])
        return {"median": round(float(median), 3), "p99": round(float(late), 3)}

    return {
        name: {"total_ms": told(total[name]), "overhead_ms": told(beside[name])} for name in ways
    }


def sizes(quality: int) -> dict[str, int]:
    from robostack.policy.wire import encode_jpeg

    images = [picture(k) for k in range(len(CAMERAS))]
    return {
        "raw": sum(image.nbytes for image in images),
        "jpeg": sum(len(encode_jpeg(image, quality)) for image in images),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--openpi", metavar="SRC", help="src/ of openpi, to measure its server")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=60, help="of each client in a round")
    parser.add_argument("--quality", type=int, default=90, help="of the JPEG")
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    address = context.Queue()
    servers = [context.Process(target=serve_ours, args=(address,), daemon=True)]
    servers[0].start()
    url = address.get(timeout=60)
    ways = {
        "ours, raw": ours(url, 0),
        "ours, jpeg": ours(url, args.quality),
        "openpi's client, our server": openpi(url),
    }
    if args.openpi:
        servers.append(
            context.Process(target=serve_openpi, args=(address, args.openpi), daemon=True)
        )
        servers[1].start()
        ways["openpi's client and server"] = openpi(address.get(timeout=60))
    found = measure(ways, args.rounds, args.requests)
    for server in servers:
        server.terminate()
    print(
        json.dumps({"requests": args.rounds * args.requests, "bytes": sizes(args.quality)} | found)
    )


if __name__ == "__main__":
    main()
