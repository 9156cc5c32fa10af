"""`robostack up`: the nodes of a graph as child processes, without `ros2 launch`."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import yaml

from robostack.real.graph import Process, stopping
from robostack.real.paths import find

PATIENCE = 5.0  # [s] between SIGINT, SIGTERM and SIGKILL, as `ros2 launch` has it
PR_SET_PDEATHSIG = 1  # linux/prctl.h
BOOTSTRAP = ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "LD_LIBRARY_PATH")  # of one interpreter's ROS wheels


class Supervisor:
    """Starts the nodes, prefixes what they say, and stops them in order.

    With `python`, another interpreter than this one runs them.
    """

    def __init__(
        self,
        processes: list[Process],
        python: str = sys.executable,
        namespace: str = "",
        log_level: str = "info",
        params_file: str = "",
        say: Callable[[str], None] = lambda line: print(line, flush=True),
    ):
        self.python, self.say = python, say
        self._arguments = ["--log-level", log_level]
        self._arguments += ["-r", f"__ns:=/{namespace.strip('/')}"] if namespace else []
        self._params_file = str(find(params_file)) if params_file else ""
        self._processes = {process.part.name: process for process in processes}
        self._children: dict[str, subprocess.Popen] = {}
        self._readers: list[threading.Thread] = []
        self._stop = threading.Event()
        self._width = max(map(len, self._processes), default=0)

    def run(self) -> int:
        """Start everything; return when it has ended: 0 after SIGINT or SIGTERM, else 1."""
        with tempfile.TemporaryDirectory(prefix="robostack-up-") as folder, self._signals():
            try:
                for name in self._processes:
                    self._start(name, Path(folder))
                return self._watch()
            finally:
                self._end()

    @contextlib.contextmanager
    def _signals(self):
        """Both signals ask for an orderly end, also while it is under way."""
        handlers = {
            number: signal.signal(number, lambda *_: self._stop.set())
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def command(self, name: str, parameters: Path) -> list[str]:
        """How a node is started; its parameters are in a file, which keeps their types."""
        part = self._processes[name].part
        files = [str(parameters), *([self._params_file] if self._params_file else [])]
        given = [word for file in files for word in ("--params-file", file)]
        named = ["-r", f"__node:={name}"]
        return [self.python, "-m", part.module, "--ros-args", *self._arguments, *named, *given]

    def _start(self, name: str, folder: Path) -> None:
        parameters = folder / f"{name}.yaml"
        process = self._processes[name]
        values = process.parameters | ({"autostart": True} if process.part.lifecycle else {})
        parameters.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        if self.python != sys.executable:
            environment = {k: v for k, v in environment.items() if k not in BOOTSTRAP}
        child = subprocess.Popen(
            self.command(name, parameters),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # Ctrl-C is for us: they are stopped one after the other. A keyboard's node stays in
            # our session, without which there is no terminal to read.
            start_new_session=not process.part.terminal,
            preexec_fn=_end_with_parent,
        )
        self._children[name] = child
        reader = threading.Thread(target=self._read, args=(name, child), daemon=True)
        reader.start()
        self._readers.append(reader)

    def _read(self, name: str, child: subprocess.Popen) -> None:
        for line in child.stdout:
            self._tell(name, line.rstrip("\n"))

    def _tell(self, name: str, line: str) -> None:
        self.say(f"{name:>{self._width}} | {line}")

    def _watch(self) -> int:
        """Wait for the end: being asked to, an essential node's, or the last one's."""
        gone: set[str] = set()
        while not self._stop.wait(0.1):
            ended = {name for name, child in self._children.items() if child.poll() is not None}
            for name in sorted(ended - gone):
                code = self._children[name].returncode
                essential = self._processes[name].part.essential
                then = "stopping all" if essential else "the others go on"
                self._tell(name, f"ended with exit code {code}; {then}")
                if essential:
                    return 1
            gone = ended
            if len(gone) == len(self._children):
                return 1
        return 0

    def _end(self) -> None:
        """Stop them one after the other; who does not listen is killed in the end."""
        for name in stopping(list(self._children)):
            child = self._children[name]
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
                if child.poll() is None:
                    child.send_signal(number)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        child.wait(PATIENCE)
            self._tell(name, f"stopped, exit code {child.returncode}")
        for reader in self._readers:
            reader.join(1.0)


_libc = ctypes.CDLL(None, use_errno=True)


def _end_with_parent() -> None:
    """In the child: SIGINT when the supervisor dies, however it does. Only Linux has it.

    It may come several times, once for each thread that the supervisor had: nodes take a second
    one for the first.
    """
    if sys.platform == "linux":
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGINT)
