"""The policy server: one model, many clients. Messages are `robostack.policy.wire`'s.

The event loop only moves bytes. Whatever takes time (decoding, the policy, encoding) is done by one
worker thread, first come, first served; as a connection has one request in flight at most, every
client gets its turn, the queue is no longer than the clients are many, and /healthz answers
while the policy thinks.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING

import numpy as np

from robostack import __version__
from robostack.policy import wire  # first, because it says how to install what is missing

# isort: split
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response

from robostack.policy.chunking import ChunkRunner
from robostack.policy.metrics import Metrics
from robostack.policy.request import NEEDED, OPTIONAL, RESET, read_request, require_servable
from robostack.policy.vla import VLA
from robostack.policy.wire import WireError
from robostack.types import Observation

if TYPE_CHECKING:
    from robostack.policy.serve import ServeConfig

HANDSHAKE_S, CLOSE_S = 5.0, 1.0  # how long a client may take for either
MAX_FRAGMENTS = 4096  # of a message: empty ones cost nothing to send, and memory to keep
FULL, IDLE, PROTOCOL_ERRORS = 1013, 1001, (1002, 1007, 1009)  # websocket close codes

_log = logging.getLogger("robostack.server.websockets")
_log.setLevel(logging.CRITICAL)  # it tells every port scan with a traceback; we count instead


class Session:
    """What belongs to one connection: its random state, and how long its last answer took."""

    def __init__(self, runner: ChunkRunner):
        self.runner = runner
        self.last_total: float | None = None  # [s]
        self.reset(0)

    def reset(self, seed: int) -> None:
        self.seed = seed
        self.runner.reset(seed)


class PolicyServer:
    """Serves `vla`. With a `token`, whoever does not name it is turned away before any websocket
    is opened; only /healthz is open to all."""

    def __init__(self, vla: VLA, config: ServeConfig, name: str, fingerprint: str, token: str = ""):
        require_servable(vla.spec)
        raw = sum(3 * height * width for height, width in vla.spec.cameras.values())
        self._limit = config.max_message_mb << 20
        if raw + wire.MAX_TEXT > self._limit:
            raise ValueError(
                f"max_message_mb={config.max_message_mb}: an observation of this policy's cameras "
                f"has {raw / 2**20:.1f} MB"
            )
        self.vla, self.config, self.metrics = vla, config, Metrics()
        self._token = token.encode()
        self._clients: set[ServerConnection] = set()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="policy")
        self._greeting = wire.pack(
            {
                "protocol": wire.PROTOCOL,
                "robostack": __version__,
                "policy": name,
                "fingerprint": fingerprint,
                "spec": json.loads(vla.spec.to_json()),
                "horizon": vla.config.horizon,
                "steps": config.steps,
                "level": config.level,
                "temperature": config.temperature,
                "accepts": [*vla.spec.cameras, *NEEDED, *OPTIONAL, RESET],
            }
        )

    async def run(self, stop: asyncio.Event, announce: Callable[[str], None]) -> None:
        """Until `stop`; `announce` gets the address once clients are welcome. The policy has been
        called by then, as its first call is the slowest."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._worker, self._warm_up)
            async with serve(
                self._client,
                self.config.host,
                self.config.port,
                process_request=self._http,
                origins=[None],  # a browser names one: a page must not drive the user's robot
                compression=None,
                max_size=self._limit,
                max_queue=1,
                open_timeout=HANDSHAKE_S,
                close_timeout=CLOSE_S,
                server_header=None,
                logger=_log,
            ) as server:
                host, port = server.sockets[0].getsockname()[:2]
                announce(f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}")
                await stop.wait()
        finally:
            self._worker.shutdown(cancel_futures=True)

    def _runner(self) -> ChunkRunner:
        config = self.config
        horizon = self.vla.config.horizon
        sampling = config.steps, config.level, config.rtc
        return ChunkRunner(self.vla, horizon, *sampling, temperature=config.temperature)

    def _warm_up(self) -> None:
        """Plan as if chunks were chained, and as if not, for instructions of two lengths: what is
        compiled is compiled now, and not while a robot waits."""
        spec = self.vla.spec
        images = {name: np.zeros((*size, 3), np.uint8) for name, size in spec.cameras.items()}
        runner = self._runner()
        for task in ("warm up", "warm up once more"):
            seen = Observation(images, np.zeros(spec.state_dim, np.float32), task, 0.0)
            runner.plan(seen, runner.plan(seen))

    def _http(self, connection: ServerConnection, request: HttpRequest) -> Response | None:
        """The answer to a plain HTTP request; None lets a websocket be opened."""
        path = request.path.partition("?")[0]
        if path == "/healthz":
            return connection.respond(HTTPStatus.OK, "OK\n")
        if not self._allowed(request):
            self.metrics.errors["unauthorised"] += 1
            text = "expected the header `Authorization: Api-Key TOKEN` with the server's token\n"
            return connection.respond(HTTPStatus.UNAUTHORIZED, text)
        if path == "/metrics":
            return connection.respond(HTTPStatus.OK, self.metrics.text(len(self._clients)))
        return None

    def _allowed(self, request: HttpRequest) -> bool:
        if not self._token:
            return True
        given = request.headers.get_all("Authorization")
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        known = scheme.lower() in ("api-key", "bearer")
        same = hmac.compare_digest(token.strip().encode(errors="replace"), self._token)
        return same and known

    async def _client(self, connection: ServerConnection) -> None:
        if len(self._clients) >= self.config.max_clients:
            self.metrics.errors["full"] += 1
            most = self.config.max_clients
            await connection.close(FULL, f"this server takes {most} clients (max_clients)")
            return
        self._clients.add(connection)
        try:
            await self._converse(connection)
        except ConnectionClosed as closed:
            if closed.sent is not None and closed.sent.code in PROTOCOL_ERRORS:
                self.metrics.errors["framing"] += 1
        except asyncio.TimeoutError:
            self.metrics.errors["idle"] += 1
            await connection.close(IDLE, f"silent for {self.config.idle_timeout_s:g} s")
        finally:
            self._clients.discard(connection)

    async def _converse(self, connection: ServerConnection) -> None:
        metrics, session = self.metrics, Session(self._runner())
        await connection.send(self._greeting)
        while True:
            message = await asyncio.wait_for(_receive(connection), self.config.idle_timeout_s)
            begin = time.perf_counter()
            metrics.requests += 1
            metrics.received += len(message)
            metrics.in_flight += 1
            try:
                answer = await self._answer(session, message, begin)
            finally:
                metrics.in_flight -= 1
            await connection.send(answer)
            metrics.sent += len(answer)
            session.last_total = time.perf_counter() - begin
            metrics.total.add(session.last_total)

    async def _answer(self, session: Session, message: str | bytes, begin: float) -> str | bytes:
        """The answer, or one line of text saying why there is none."""
        try:
            if isinstance(message, str):
                raise WireError("message: expected a binary frame of msgpack, got a text frame")
            loop = asyncio.get_running_loop()
            answer, seconds = await loop.run_in_executor(
                self._worker, self._work, session, message, begin
            )
            if seconds is not None:
                self.metrics.infer.add(seconds)
            return answer
        except WireError as error:
            kind, text = "message", str(error)
        except (ValueError, FloatingPointError) as error:  # what policies raise themselves
            kind, text = "policy", str(error)
        except Exception as error:  # the server outlives whatever happens inside a policy
            traceback.print_exc(file=sys.stderr)
            kind, text = "policy", f"the policy failed ({type(error).__name__}); see the server"
        self.metrics.errors[kind] += 1
        return " ".join(text.split())[:1000]

    def _work(self, session: Session, message: bytes, begin: float) -> tuple[bytes, float | None]:
        """The packed answer, and how long the policy took [s]. On the worker thread."""
        queued = time.perf_counter()
        told = wire.unpack(message)
        if RESET in told:
            session.reset(_seed(told))
            return wire.pack({RESET: session.seed}), None
        request = read_request(told, self.vla.spec)
        decoded = time.perf_counter()
        actions = session.runner.plan(request.observation, request.previous, request.delay)
        inferred = time.perf_counter()
        timing = {
            "queue_ms": 1e3 * (queued - begin),
            "decode_ms": 1e3 * (decoded - queued),
            "infer_ms": 1e3 * (inferred - decoded),
        }
        if session.last_total is not None:
            timing["prev_total_ms"] = 1e3 * session.last_total
        answer = {
            "actions": actions,  # the one array: openpi's clients cut every array along the chunk
            "stamp": request.stamp,
            "step_s": 1 / self.vla.spec.control_hz,
            "seed": session.seed,
            "server_timing": timing,
        }
        return wire.pack(answer), inferred - decoded


def _seed(message: dict) -> int:
    seed = message[RESET]
    if len(message) > 1 or type(seed) is not int:
        raise WireError(
            f"{RESET}: expected it alone in a message, with an integer, got {wire.short(seed)}"
        )
    return seed


async def _receive(connection: ServerConnection) -> str | bytes:
    parts: list = []
    async for part in connection.recv_streaming():
        parts.append(part)
        if len(parts) > MAX_FRAGMENTS:
            await connection.close(1009, f"more than {MAX_FRAGMENTS} fragments")
    return parts[0][:0].join(parts)
