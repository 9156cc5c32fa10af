"""The page of a session: pictures, keys, what can be decided. One port: the page by HTTP, all else
by a WebSocket.

To the page go JSON texts (status, ten times a second) and pictures (a byte that numbers the camera,
then a JPEG), only ever the newest. From it come {"n", "held", "axes"}, what the hands hold, thirty
times a second; {"do": word}; and {"drive": true}, to be the one of several pages that drives.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np

from robostack.real.teleop.browser import BrowserInput
from robostack.real.teleop.device import SESSION, DeviceError

FILE = Path(__file__).parents[1] / "collecting.html"
LOCAL = ("127.0.0.1", "localhost", "::1")
LARGEST = 4000  # bytes of a message
TOLD = 0.1  # [s] between two status messages
QUALITY = 85  # of the JPEGs


@dataclass(frozen=True)
class PageConfig:
    """Where the page is."""

    on: bool = True
    host: str = "127.0.0.1"  # this machine alone; for another one, a secret is part of the address
    port: int = 8091  # 0: any that is free
    clients: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536 or self.clients < 1:
            raise ValueError(
                f"port={self.port}, clients={self.clients}: expected 0 to 65535, and 1 or more"
            )


class Page:
    """A server in threads of its own. The loop calls `show`; `said` and `input` come back.

    Raises DeviceError where websockets is not installed, ValueError where the address is taken.
    """

    def __init__(self, config: PageConfig, about: dict):
        """`about`: what the page is told once, e.g. what the keys do."""
        try:
            from websockets.sync.server import serve
        except ImportError:
            raise DeviceError(
                "the page needs websockets: pip install 'robostack[serve]'; or page.on=false"
            ) from None
        self.config, self.about = config, about
        self.input = BrowserInput()
        self.secret = "" if config.host in LOCAL else secrets.token_urlsafe(9)
        self._words: deque[str] = deque(maxlen=64)
        self._changed = threading.Condition()
        self._number, self._status, self._pictures = 0, "{}", {}
        self._jpegs: tuple[int, list[bytes]] = (0, [])
        self._clients: list[object] = []
        self._driver: object | None = None
        try:
            self._server = serve(
                self._client,
                config.host,
                config.port,
                process_request=self._http,
                compression=None,
                max_size=LARGEST,
                open_timeout=2,  # browsers open connections in advance, and closing waits for them
                close_timeout=1,
            )
        except OSError as error:
            raise ValueError(
                f"cannot listen on {config.host}:{config.port} ({error}); give another page.port"
            ) from None
        self.port = self._server.socket.getsockname()[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://{self.config.host}:{self.port}/{f'?key={self.secret}' * bool(self.secret)}"

    # the loop's side -------------------------------------------------------------------------
    def show(
        self, status: Callable[[], dict], pictures: Callable[[], dict[str, np.ndarray]]
    ) -> None:
        """What is to be seen from now on; neither is asked for while nobody looks."""
        if not self._clients:
            return
        text, images = json.dumps(status()), pictures()
        with self._changed:
            self._number += 1
            self._status, self._pictures = text, images
            self._changed.notify_all()

    def said(self) -> list[tuple[str]]:
        """Words of the session whose buttons were pressed since the last call."""
        found: list[tuple[str]] = []
        with contextlib.suppress(IndexError):  # another thread appends meanwhile
            while True:
                found.append((self._words.popleft(),))
        return found

    def close(self) -> None:
        self._server.shutdown()

    # the pages' side -------------------------------------------------------------------------
    def _http(self, connection, request):
        """The page itself, or why not; None lets a WebSocket be opened."""
        address = urlsplit(request.path)
        given = parse_qs(address.query).get("key", [""])[0]
        if not hmac.compare_digest(given.encode(), self.secret.encode()):
            return connection.respond(HTTPStatus.FORBIDDEN, "open the address with its ?key=...\n")
        host = request.headers.get("Host", "")
        if not self.secret and urlsplit(f"//{host}").hostname not in LOCAL:
            return connection.respond(HTTPStatus.FORBIDDEN, "this page is for its own machine\n")
        if request.headers.get("Upgrade", "").lower() == "websocket":
            origin = request.headers.get("Origin")  # another site must not drive the robot
            if origin is not None and urlsplit(origin).netloc != host:
                return connection.respond(HTTPStatus.FORBIDDEN, "this is for its own page\n")
            if len(self._clients) >= self.config.clients:
                return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many pages\n")
            return None
        if address.path != "/":
            return connection.respond(HTTPStatus.NOT_FOUND, "there is no such page\n")
        reply = connection.respond(HTTPStatus.OK, FILE.read_text())
        del reply.headers["Content-Type"]
        reply.headers["Content-Type"] = "text/html; charset=utf-8"
        reply.headers["Cache-Control"] = "no-store"
        return reply

    def _client(self, connection) -> None:
        from websockets.exceptions import ConnectionClosed

        me = object()
        with self._changed:
            self._clients.append(me)
        if self._driver is None:
            self._take_over(me)
        threading.Thread(target=self._tell, args=(connection, me), daemon=True).start()
        try:
            with contextlib.suppress(ConnectionClosed):
                for text in connection:
                    self._take(text, me, connection)
        finally:
            with self._changed:
                self._clients.remove(me)
                if self._driver is me:
                    self._driver = None
                    self.input.gone()
                self._changed.notify_all()

    def _take_over(self, me: object) -> None:
        self.input.gone()
        self._driver = me

    def _take(self, text: str | bytes, me: object, connection) -> None:
        """One message of a page."""
        try:
            message = json.loads(text)
            if not isinstance(message, dict):
                raise ValueError(f"expected an object, got {str(message)[:40]}")
            if message.get("drive") is True:
                self._take_over(me)
            elif "do" in message:
                if message["do"] not in SESSION:
                    raise ValueError(f"do: expected one of {', '.join(SESSION)}")
                if self.about["drives"] and self._driver is not me:
                    raise ValueError("another page drives; take over first")
                self._words.append(message["do"])
            elif self._driver is me:
                self.input.feed(message, time.monotonic())
        except (ValueError, RecursionError) as error:
            connection.send(json.dumps({"error": str(error)[:200]}))

    def _tell(self, connection, me: object) -> None:
        """Send one page the newest there is, as fast as it takes it."""
        from websockets.exceptions import ConnectionClosed

        seen, told, owed = 0, 0.0, False  # a status that came too soon after the one before it
        with contextlib.suppress(ConnectionClosed):
            connection.send(json.dumps({"about": self.about}))
            while not self._gone(me):
                patience = told + TOLD - time.monotonic() if owed else 1.0
                number, status = self._newer(seen, me, patience)
                fresh, seen = number > seen, number
                owed, now = owed or fresh, time.monotonic()
                if owed and now - told >= TOLD:
                    told, owed = now, False
                    drives = json.dumps(self._driver is me)
                    connection.send(f'{{"status": {status}, "drives": {drives}}}')
                for jpeg in self._encoded() if fresh else ():
                    connection.send(jpeg)

    def _newer(self, seen: int, me: object, patience: float) -> tuple[int, str]:
        """The number and the status of what is to be seen, waited for that long [s]."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > seen or self._gone(me), patience)
            return self._number, self._status

    def _gone(self, me: object) -> bool:
        return all(client is not me for client in self._clients)

    def _encoded(self) -> list[bytes]:
        """The newest pictures, encoded once for all pages."""
        with self._changed:
            number, pictures = self._number, self._pictures
            if self._jpegs[0] != number:
                self._jpegs = (
                    number,
                    [bytes([i]) + _jpeg(pictures[name]) for i, name in enumerate(sorted(pictures))],
                )
            return self._jpegs[1]


def _jpeg(picture: np.ndarray) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    return cv2.imencode(".jpg", picture[..., ::-1], options)[1].tobytes()
