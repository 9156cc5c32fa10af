"""A policy that runs on a server. It costs numpy and a websocket: robots need no torch for it."""

from __future__ import annotations

import json
import os
import sys
import time
from urllib.parse import urlsplit

import numpy as np

from robostack.policy import wire  # first, because it says how to install what is missing

# isort: split
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    WebSocketException,
)
from websockets.sync.client import ClientConnection, connect

from robostack.policy.request import RESET
from robostack.types import Observation, RobotSpec, ShapeError

PAUSE_S = 0.2  # between two tries to reach a server that is not there yet


class RemoteError(RuntimeError):
    """The server cannot be reached, is none of ours, or refused."""


class ConnectionLost(RemoteError):
    """The connection broke; another one may do better."""


class RemotePolicy:
    """A Policy whose chunks a `robostack serve` samples; `execute` of each are handed out (0: all).

    The server is waited for, at most `timeout_s`, and so is each of its answers. `spec` is the
    robot at hand: another one's policy is refused with SpecMismatch; conventions named in
    `may_differ` may differ. `token` defaults to the environment's ROBOSTACK_TOKEN. `jpeg_quality`
    1 to 100 sends compressed pictures, far fewer bytes and not quite what the camera saw; 0 sends
    them as they are.

    A connection that breaks is opened again, once for each call, and stderr tells: the server's
    draws then begin anew from the seed of the last `reset`. Another policy behind the same address
    by then is an error.
    """

    def __init__(
        self,
        url: str,
        *,
        execute: int = 0,
        spec: RobotSpec | None = None,
        may_differ: tuple[str, ...] = (),
        timeout_s: float = 30.0,
        token: str | None = None,
        jpeg_quality: int = 0,
    ):
        if not _is_address(url):
            raise ValueError(f"{url!r}: expected an address such as ws://127.0.0.1:8000")
        if not 0 <= jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality: expected 1 to 100, or 0 for raw, got {jpeg_quality}")
        self.url, self.timeout_s, self.jpeg_quality = url, timeout_s, jpeg_quality
        self.timing: dict[str, float] = {}  # [ms] of the last answer, as the server took them
        self._token = os.environ.get("ROBOSTACK_TOKEN", "") if token is None else token
        self._wanted, self._may_differ, self._seed = spec, may_differ, 0
        self._greeting: dict = {}
        self._socket = self._connect()
        try:
            self.executing(execute)
        except ValueError:
            self.close()
            raise

    def executing(self, execute: int) -> RemotePolicy:
        """Itself, handing out that many actions of a chunk from now on (0: all)."""
        if not 0 <= execute <= self.horizon:
            raise ValueError(
                f"execute: expected 1 to {self.horizon} (the chunk), or 0 for all, got {execute}"
            )
        self.execute = execute or self.horizon
        return self

    def reset(self, seed: int) -> None:
        self._seed = seed
        told = self._ask({RESET: seed})
        if told.get(RESET) != seed:
            raise RemoteError(f"{self.url} did not confirm the seed {seed}")

    def act(self, observation: Observation) -> np.ndarray:
        return self.plan(observation)[: self.execute]

    def plan(
        self, observation: Observation, previous: np.ndarray | None = None, delay: int = 0
    ) -> np.ndarray:
        """The whole chunk f32[H, A]; row i is meant for the observation's stamp + i / control_hz.

        `previous` f32[M, A] are the actions that will be executed from this observation on for as
        long as no answer is there, and the first `delay` of them surely will: the chunk goes on
        from them (real-time chunking, arXiv 2506.07339).
        """
        message: dict = {
            "images": {n: self._picture(image) for n, image in observation.images.items()},
            "state": observation.state,
            "prompt": observation.task,
            "stamp": observation.stamp,
        }
        if previous is not None:
            message["previous"] = np.asarray(previous, np.float32)
        if delay:
            message["delay"] = delay
        told = self._ask(message)
        actions, shape = told.get("actions"), (self.horizon, self.spec.action_dim)
        good = isinstance(actions, np.ndarray) and actions.dtype == np.float32
        if not good or actions.shape != shape or not np.isfinite(actions).all():
            raise RemoteError(f"{self.url} sent no finite actions f32{list(shape)}")
        self.timing = told.get("server_timing", {})
        return actions.copy()  # that of a message is read-only

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> RemotePolicy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _picture(self, image: np.ndarray) -> np.ndarray | bytes:
        return wire.encode_jpeg(image, self.jpeg_quality) if self.jpeg_quality else image

    def _ask(self, message: dict) -> dict:
        data = wire.pack(message)
        try:
            return self._exchange(self._socket, data)
        except ConnectionLost as lost:
            self._socket = self._connect()
            if RESET not in message:
                self._exchange(self._socket, wire.pack({RESET: self._seed}))
            text = f"{lost}; connected again, its draws begin anew from seed {self._seed}"
            print(f"warning: {text}", file=sys.stderr, flush=True)
            return self._exchange(self._socket, data)

    def _exchange(self, socket: ClientConnection, data: bytes | None) -> dict:
        """Send, unless there is nothing to, and receive."""
        try:
            if data is not None:
                socket.send(data)
            answer = socket.recv(self.timeout_s)
        except TimeoutError:
            socket.close()  # else its answer would be taken for that to the next question
            raise RemoteError(
                f"{self.url} gave no answer within timeout_s={self.timeout_s:g}"
            ) from None
        except ConnectionClosed as closed:
            why = closed.rcvd.reason if closed.rcvd is not None else ""
            raise ConnectionLost(
                f"{self.url} closed the connection{f': {why}' if why else ''}"
            ) from None
        if isinstance(answer, str):
            raise RemoteError(f"{self.url} refused: {answer}")
        try:
            return wire.unpack(answer)
        except wire.WireError as error:
            raise RemoteError(f"{self.url} sent nonsense: {error}") from None

    def _connect(self) -> ClientConnection:
        socket = self._open()
        try:
            self._meet(self._exchange(socket, None))
        except Exception:
            socket.close()
            raise
        return socket

    def _open(self) -> ClientConnection:
        headers = {"Authorization": f"Api-Key {self._token}"} if self._token else None
        end = time.monotonic() + self.timeout_s
        while True:
            try:
                return connect(
                    self.url,
                    additional_headers=headers,
                    compression=None,
                    max_size=1 << 26,
                    open_timeout=max(0.1, end - time.monotonic()),
                    close_timeout=1,
                )
            except InvalidStatus as refused:
                code = refused.response.status_code
                if code == 401:
                    asked = "refuses this token" if self._token else "wants a token"
                    raise RemoteError(
                        f"{self.url} {asked} (401); set ROBOSTACK_TOKEN to the server's"
                    ) from None
                raise RemoteError(f"{self.url} answered with HTTP {code}") from None
            except InvalidHandshake:
                raise RemoteError(f"{self.url} is no policy server") from None
            except (OSError, WebSocketException) as error:  # TimeoutError is an OSError
                if time.monotonic() + PAUSE_S >= end:
                    raise RemoteError(
                        f"no policy server answers at {self.url} within "
                        f"timeout_s={self.timeout_s:g} ({error}); start one with `robostack serve`"
                    ) from None
                time.sleep(PAUSE_S)

    def _meet(self, told: dict) -> None:
        """Read what the server says of itself. Raises RemoteError or SpecMismatch."""
        if self._greeting and told != self._greeting:
            raise RemoteError(f"{self.url} serves another policy now than before")
        if told.get("protocol") != wire.PROTOCOL:
            got = wire.short(told.get("protocol", "none of ours"))
            raise RemoteError(
                f"{self.url} speaks protocol {got}, this client {wire.PROTOCOL}; "
                "install the same robostack on both sides"
            )
        try:
            self.spec = RobotSpec.from_json(json.dumps(told["spec"]))
            self.horizon, self.steps = int(told["horizon"]), int(told["steps"])
            self.level, self.fingerprint = float(told["level"]), str(told["fingerprint"])
            self.temperature = float(told.get("temperature", 1.0))  # earlier servers have none
        except (KeyError, TypeError, ValueError, ShapeError) as error:
            raise RemoteError(
                f"{self.url} says too little of itself: {wire.short(error)}"
            ) from None
        if self._wanted is not None:
            mine = f"the policy at {self.url}"
            self.spec.require_same(self._wanted, mine, "the robot", self._may_differ)
        self._greeting = told


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        return False
