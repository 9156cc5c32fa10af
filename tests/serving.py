"""A policy server of a few thousand random weights in a thread, and what its clients see."""

import asyncio
import contextlib
import queue
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

from fakes import make_episode, tiny_vla

from robostack.policy.chunking import ChunkRunner
from robostack.policy.serve import ServeConfig
from robostack.policy.server import PolicyServer

SEEN = make_episode(3).observation(1)
FLAT = {"observation/top": SEEN.images["top"], "observation/state": SEEN.state, "prompt": SEEN.task}


@dataclass
class Served:
    url: str
    server: PolicyServer

    def get(self, path, **headers):
        """(status, text) of a plain HTTP request."""
        request = urllib.request.Request(f"http{self.url[2:]}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def address(self):
        host, _, port = self.url.removeprefix("ws://").rpartition(":")
        return host, int(port)

    def wait(self, condition):
        """Until the server has come so far."""
        for _ in range(1000):
            if condition(self.server):
                return
            time.sleep(0.01)
        raise AssertionError("the server did not come so far in 10 s")


@contextlib.contextmanager
def serving(vla=None, token="", print_of_weights="cafe", **keys):
    config = ServeConfig(**{"port": 0, **keys})
    server = PolicyServer(vla or tiny_vla(), config, "tiny", print_of_weights, token)
    begun: queue.Queue = queue.Queue()

    async def work():
        stop = asyncio.Event()
        end = asyncio.get_running_loop().call_soon_threadsafe
        await server.run(stop, lambda address: begun.put((address, lambda: end(stop.set))))

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    url, stop = begun.get(timeout=30)
    try:
        yield Served(url, server)
    finally:
        stop()
        thread.join(30)
        assert not thread.is_alive()


def lone(seed=0, calls=3, vla=None):
    """The chunks that a runner of its own samples for SEEN, one after the other."""
    runner = ChunkRunner(vla or tiny_vla(), 4)
    runner.reset(seed)
    return [runner.plan(SEEN) for _ in range(calls)]
