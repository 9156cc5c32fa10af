"""Recording without ROS: serialised messages in, one rosbag2 folder (MCAP) an episode out.

    <folder>/000012/           metadata.yaml, 000012.mcap: a finished episode
    <folder>/partial/000013/   the one being written; after a crash or `kill -9`, what is left of it
    <folder>/trash/000011/     discarded ones; nothing is ever deleted

An episode is renamed into place when it is closed, so a folder with a number is always whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from robostack.real.rates import Rate

QUEUE = 512 * 2**20  # [bytes] waiting for the disk, before messages are dropped
PARTIAL, TRASH = "partial", "trash"
CUSTOM = "robostack"  # the key of a bag's custom data that holds what we say of an episode


class RecordingError(RuntimeError):
    """Nothing can be recorded, or what was recorded is not whole."""


@dataclass(frozen=True)
class Topic:
    """What is recorded of one topic."""

    name: str  # resolved: with its namespace
    type: str  # e.g. sensor_msgs/msg/Image
    hz: float = 0.0  # at least expected of it; 0: whatever comes, even nothing

    @property
    def required(self) -> bool:
        return self.hz > 0


@dataclass
class Track:
    """What came of one topic during an episode."""

    count: int = 0  # written
    dropped: int = 0  # the disk was too slow for
    gap: float = 0.0  # [s] the longest between two messages, or from the start to the first one
    last: float = field(default=0.0, repr=False)  # [s] when the last one came


def slow(topics: list[Topic], rates: dict[str, Rate], now: float, least: float) -> list[str]:
    """Complaints about required topics that come at less than `least` of their rate."""
    return [
        f"{topic.name}: expected {topic.hz:g} Hz, measured {rates[topic.name].hz(now):.1f} Hz"
        for topic in topics
        if topic.required and rates[topic.name].hz(now) < least * topic.hz
    ]


class Recording:
    """One episode on its way to the disk: a bounded queue and a thread that empties it.

    `put` never waits. What does not fit into the queue is dropped, and counted. Raises
    RecordingError where the folder cannot be written.
    """

    def __init__(self, folder: Path, topics: list[Topic], queue: int = QUEUE):
        self.folder, self.queue = folder, queue
        self.number = _next(folder)
        self.path = folder / PARTIAL / self.number
        self.topics = {topic.name: topic for topic in topics}
        self.started = self._now()
        self.tracks = {name: Track(last=self.started) for name in self.topics}
        self.error: Exception | None = None  # of the writer: nothing more is written
        self._waiting: deque[tuple[str, int, bytes]] = deque()
        self._bytes, self._closing, self._ended = 0, False, 0.0
        self._lock = threading.Condition()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = Writer(self.path, version=9, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
        except OSError as error:
            raise RecordingError(f"cannot record into {folder}: {error}") from None
        types = get_typestore(Stores.ROS2_JAZZY)
        self._connections = {
            topic.name: self._writer.add_connection(topic.name, topic.type, typestore=types)
            for topic in topics
        }
        self._thread = threading.Thread(target=self._write, name="bag writer", daemon=True)
        self._thread.start()

    @staticmethod
    def _now() -> float:
        return time.monotonic()

    @property
    def seconds(self) -> float:
        return (self._ended or self._now()) - self.started

    def put(self, topic: str, stamp: int, message: bytes) -> None:
        """A serialised message that came at `stamp` [ns]."""
        now = self._now()
        with self._lock:
            track = self.tracks[topic]
            track.gap, track.last = max(track.gap, now - track.last), now
            if self._closing or self.error or self._bytes + len(message) > self.queue:
                track.dropped += 1
                return
            self._waiting.append((topic, stamp, message))
            self._bytes += len(message)
            self._lock.notify()

    def _write(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                topic, stamp, message = self._waiting.popleft()
                self._bytes -= len(message)
            try:
                self._writer.write(self._connections[topic], stamp, message)
                self.tracks[topic].count += 1
            except Exception as error:  # a full disk, mostly; told by `close` and by the node
                with self._lock:
                    self.error = error
                    self.tracks[topic].dropped += 1 + sum(m[0] == topic for m in self._waiting)
                    self._waiting.clear()
                return

    def audit(self) -> tuple[dict[str, dict], list[str]]:
        """What came of every topic, and what is wrong with it."""
        seconds, found, problems = self.seconds, {}, []
        for name, topic in self.topics.items():
            track = self.tracks[name]
            gap = max(track.gap, self.started + seconds - track.last)
            hz = track.count / seconds if seconds > 0 else 0.0
            found[name] = {
                "type": topic.type,
                "count": track.count,
                "hz": round(hz, 2),
                "gap": round(gap, 4),
                "dropped": track.dropped,
            }
            if track.dropped:
                problems.append(f"{name}: {track.dropped} dropped, the disk was too slow")
            if topic.required and hz < 0.9 * topic.hz and topic.hz * seconds >= 5:
                problems.append(f"{name}: {hz:.1f} Hz, expected {topic.hz:g}")
            if topic.required and gap > max(3 / topic.hz, 0.25):
                problems.append(f"{name}: nothing for {gap:.2f} s")
        return found, problems

    def close(self, about: dict) -> tuple[Path, list[str]]:
        """Write what is waiting and the bag's index; rename it into place.

        `about` is stored in the bag, with the audit. Returns the bag's folder and what the audit
        found wrong. Raises RecordingError where it cannot be finished; what was written stays
        under partial/.
        """
        self._stop()
        found, problems = self.audit()
        try:
            if self.error is not None:
                raise self.error
            text = json.dumps(about | {"topics": found, "problems": problems})
            self._writer.set_custom_data(CUSTOM, text)
            self._writer.close()
            _sync(self.path)
            return _place(self.path, self.folder), problems
        except Exception as error:  # whatever a disk makes of it
            with contextlib.suppress(Exception):
                self._writer.abort()
            raise RecordingError(
                f"{self.path} could not be finished ({error}); what was written is there"
            ) from None

    def discard(self) -> Path:
        """Close it, and put it into the trash."""
        self._stop()
        (self._writer.abort if self.error else self._writer.close)()
        return _place(self.path, self.folder / TRASH)

    def _stop(self) -> None:
        with self._lock:
            self._closing, self._ended = True, self._now()
            self._lock.notify()
        self._thread.join()


def leftovers(folder: Path) -> list[Path]:
    """Episodes that were never finished."""
    return sorted((folder / PARTIAL).glob("*"))


def free_space(folder: Path) -> float:
    """[bytes] on the disk of a folder that need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return float(shutil.disk_usage(folder).free)


def _next(folder: Path) -> str:
    """A number that no episode of the folder has, finished, discarded or neither."""
    used = [
        int(path.name)
        for home in (folder, folder / PARTIAL, folder / TRASH)
        if home.is_dir()
        for path in home.iterdir()
        if path.name.isdigit()
    ]
    return f"{max(used, default=-1) + 1:06d}"


def _place(path: Path, home: Path) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    os.rename(path, home / path.name)
    _sync_folder(home)
    return home / path.name


def _sync(folder: Path) -> None:
    """The rename must not become durable before the bytes are."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
