"""A local page on which people say which of two tries was better: `robostack label`.

Every answer is on the disk before the page goes on. The page keeps what it could not yet send, and
sends it again; the same answer twice counts once. An answer names its episodes by their digests, so
that one about another store is not taken; the page keeps it until its own store is served, and what
is refused for good, for somebody to look at. A pair that one tab shows is not shown by another for
a while.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from robostack import figures
from robostack.data.store import Store, open_store
from robostack.prefer.answers import Answer, Ledger
from robostack.prefer.people import Question, Try, agreement, questions, require_about, tries_of
from robostack.prefer.saved import PreferenceError

PAGE = Path(__file__).with_name("labelling.html")
LEASE = 120.0  # seconds for which a pair that is shown in one tab is not shown in another
LARGEST = 10_000  # bytes of a request
SIDE = 320  # [px] of a film


@dataclass(frozen=True)
class LabelConfig:
    """Which pairs are shown, and where the page is."""

    pairs: int = 2  # of each group of tries
    seed: int = 0  # of which, and in which order
    camera: str = ""  # name; "": all of them, side by side
    host: str = "127.0.0.1"  # this machine alone
    port: int = 8090  # 0: any that is free

    def __post_init__(self) -> None:
        if self.pairs < 1 or not 0 <= self.port < 65536:
            raise ValueError(
                f"pairs={self.pairs}, port={self.port}: expected 1 or more, and 0 to 65535"
            )


class Labelling:
    """What the page asks for, without the network.

    Raises ValueError where the store holds no two tries of one state, or the ledger answers about
    other tries.
    """

    def __init__(self, store: Store, ledger: Ledger, config: LabelConfig):
        self.store, self.ledger, self.config = store, ledger, config
        groups: dict[str, list[str]] = defaultdict(list)
        for episode_id in store.ids():
            group = store.attributes(episode_id)["group"]
            if group:
                groups[group].append(episode_id)
        several = {name: tries for name, tries in groups.items() if len(tries) > 1}
        if not several:
            raise ValueError(
                f"{store.path}: no two tries started from the same state; collect with by=branch, "
                "or with tries=2"
            )
        if not store.spec.cameras:
            raise ValueError(
                f"{store.path}: expected tries with pictures, and its robot has no camera"
            )
        if config.camera and config.camera not in store.spec.cameras:
            raise ValueError(
                f"camera={config.camera}: the store has {', '.join(sorted(store.spec.cameras))}"
            )
        require_about(ledger.answers, tries_of(store, ledger.answers))
        self.questions = questions(several, config.pairs, config.seed)
        self._by_key = {q.key: q for q in self.questions}
        self._shown: dict[str, tuple[str, str, float]] = {}  # question -> annotator, tab, until
        self._lock = threading.Lock()
        self.film = lru_cache(maxsize=256)(self._film)
        self.tried = lru_cache(maxsize=None)(lambda episode_id: Try.of(store.read(episode_id)))

    def next(self, annotator: str, tab: str) -> dict:
        """The next pair for a tab, or that there is none; and how far this person is."""
        with self._lock:
            said = {key for name, key in self.ledger.latest() if name == annotator}
            done = sum(q.key in said for q in self.questions)
            about = {"done": done, "total": len(self.questions)}
            now, open_ones = time.monotonic(), [q for q in self.questions if q.key not in said]
            for question in open_ones:
                owner, other, until = self._shown.get(question.key, ("", "", 0.0))
                if owner == annotator and other != tab and now < until:
                    continue
                self._shown[question.key] = annotator, tab, now + LEASE
                return {**about, **self._told(question, annotator)}
            return {**about, "waiting": bool(open_ones)}

    def again(self, annotator: str, key: str) -> dict:
        """A pair that was answered before, to answer it anew."""
        if key not in self._by_key:
            raise ValueError(f"there is no pair {key!r}")
        return self._told(self._by_key[key], annotator)

    def _told(self, question: Question, annotator: str) -> dict:
        left, right = question.sides(annotator)
        task = self.store.attributes(left)["task"]
        digests = {side: self.tried(side).digest for side in (left, right)}
        return {"key": question.key, "left": left, "right": right, "task": task, "digests": digests}

    def answer(self, said: dict) -> dict:
        """Raises ValueError for what is no answer, PreferenceError for one that is not to a pair of
        this store."""
        try:
            answer = Answer(**said)
        except TypeError as error:
            raise ValueError(str(error)) from None
        if answer.digests is None:
            raise ValueError(
                "digests: expected those of both episodes, got none, as from an older page; reload"
            )
        question = self._by_key.get(answer.key)
        if question is None or {answer.left, answer.right} != {question.first, question.second}:
            raise PreferenceError(
                f"there is no pair {answer.key!r} of {answer.left}, {answer.right}"
            )
        require_about([answer], {side: self.tried(side) for side in answer.digests})
        return {"new": self.ledger.add(answer)}

    def statistics(self) -> dict:
        return agreement(self.ledger.latest().values())

    def _film(self, episode_id: str) -> bytes:
        episode = self.store.read(episode_id)
        names = [self.config.camera] if self.config.camera else sorted(episode.images)
        rows = [[figures.framed(episode.images[n], None, SIDE) for n in names]]
        frames = np.concatenate(rows[0], axis=2)
        frames = np.concatenate([frames, np.repeat(frames[-1:], figures.FPS // 2, 0)])
        with self._lock, tempfile.TemporaryDirectory() as folder:  # one encoder at a time
            path = Path(folder) / "film.webm"
            figures.write_video(frames, path)
            return path.read_bytes()


class Handler(BaseHTTPRequestHandler):
    """GET / and /film/ID; POST /next, /again and /answer; GET /statistics."""

    labelling: Labelling
    timeout = 60.0  # [s] that a connection may say nothing; a closed laptop must not hold a thread

    def do_GET(self) -> None:
        if self.path.split("?")[0] == "/":
            self._send(PAGE.read_bytes(), "text/html; charset=utf-8")
        elif self.path == "/statistics":
            self._tell(self.labelling.statistics())
        elif self.path.startswith("/film/"):
            name = self.path.removeprefix("/film/")
            if name in self.labelling.store.ids():
                self._send(self.labelling.film(name), "video/webm")
            else:
                self._tell({"error": f"there is no episode {name!r}"}, HTTPStatus.NOT_FOUND)
        else:
            self._tell({"error": "there is no such page"}, HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        try:
            length = int(self.headers.get("Content-Length", 0))
            if not 0 < length <= LARGEST:
                raise ValueError(f"expected 1 to {LARGEST} bytes, got {length}")
            if self.headers.get("Content-Type", "").split(";")[0] != "application/json":
                raise ValueError("expected application/json")  # which other sites cannot send
            asked = json.loads(self.rfile.read(length))
            self._tell(self._answered(asked))
        except PreferenceError as error:  # the page keeps it for its own store
            self._tell({"error": str(error)}, HTTPStatus.CONFLICT)
        except (ValueError, KeyError, TypeError) as error:
            self._tell({"error": str(error)}, HTTPStatus.BAD_REQUEST)

    def _answered(self, asked: dict) -> dict:
        if self.path == "/next":
            return self.labelling.next(_name(asked["annotator"]), str(asked["tab"]))
        if self.path == "/again":
            return self.labelling.again(_name(asked["annotator"]), asked["key"])
        if self.path == "/answer":
            return self.labelling.answer(asked)
        raise ValueError(f"there is nothing to ask at {self.path}")

    def _tell(self, what: dict, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(what).encode(), "application/json", status)

    def _send(self, data: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the page has moved on from a film
            self.wfile.write(data)

    def log_message(self, *_) -> None:
        pass


def _name(value: str) -> str:
    name = str(value).strip()
    if not 0 < len(name) <= 60:
        raise ValueError(f"annotator: expected a name of 1 to 60 letters, got {value!r}")
    return name


def server(labelling: Labelling, host: str, port: int) -> ThreadingHTTPServer:
    """Raises ValueError where the address is taken or not this machine's."""
    handler = type("Bound", (Handler,), {"labelling": labelling})
    try:
        found = ThreadingHTTPServer((host, port), handler)
    except OSError as error:
        raise ValueError(f"cannot listen on {host}:{port} ({error}); give another port") from None
    found.daemon_threads = True
    return found


def label(config: LabelConfig, data: Path, out: Path) -> dict:
    """Serve the page until it is stopped; returns the statistics of all answers."""
    store = open_store(data)
    store.require_episodes()
    labelling = Labelling(store, Ledger(out), config)
    labelling.ledger.warn_of_unnamed(store.path)
    with server(labelling, config.host, config.port) as found:
        address = f"http://{config.host}:{found.server_address[1]}/"
        print(
            f"{len(labelling.questions)} pairs at {address}\n"
            "keys: left, right, e for equal, s to skip, backspace to go back; Ctrl-C ends",
            flush=True,
        )
        with contextlib.suppress(KeyboardInterrupt):
            found.serve_forever()
    return {"labels": str(out), **labelling.statistics()}
