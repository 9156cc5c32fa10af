"""`robostack serve`: which policy, where, and for whom. The server itself is `server.py`.

It speaks no TLS: across a network that others share, put it behind an ssh tunnel or a proxy that
does (clients understand wss://), as token and pictures travel as they are.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from robostack.device import device
from robostack.policy.checkpoint import fingerprint
from robostack.policy.chunking import require_temperature
from robostack.policy.rtc import Realtime
from robostack.policy.vla import VLA

TOKEN = "ROBOSTACK_TOKEN"  # environment variable, of servers and clients


@dataclass(frozen=True)
class ServeConfig:
    """Where a policy is served, and how it samples."""

    host: str = "127.0.0.1"  # any other than this machine's own needs a token
    port: int = 8000  # 0: any that is free
    token_file: str = ""  # first line: the token; "": ROBOSTACK_TOKEN, or none
    steps: int = 5  # of the flow sampler
    level: float = 0.0  # noise of the flow sampler; 0 is the ordinary differential equation
    temperature: float = 1.0  # of the noise that chunks begin with: below 1 likelier ones
    rtc: Realtime = "none"  # how `previous` and `delay` of a request are used, see policy/rtc.py
    half: bool = False  # the expert and a pretrained backbone in bfloat16
    compile: bool = False  # slow to start, then faster; for a server that stays
    max_message_mb: int = 64
    max_clients: int = 16
    idle_timeout_s: float = 600.0  # a client that says nothing for longer is let go

    def __post_init__(self) -> None:
        if not 0 <= self.port < 1 << 16:
            raise ValueError(f"port={self.port}: expected 0 to 65535")
        for name in ("steps", "max_message_mb", "max_clients"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected 1 or more")
        require_temperature(self.temperature)
        if not (self.level >= 0 and self.idle_timeout_s > 0):
            raise ValueError(
                "expected a level of 0 or more and an idle_timeout_s above 0, got "
                f"{self.level} and {self.idle_timeout_s}"
            )


def read_token(config: ServeConfig) -> str:
    """From the file, else from the environment, else "". It is no key of the config, because `ps`
    shows those to everybody. Raises ValueError where there should be one and is none."""
    if config.token_file:
        lines = Path(config.token_file).read_text().split("\n")
        token, where = lines[0].strip(), f"token_file={config.token_file}: its first line"
        if not token:
            raise ValueError(f"{where} is empty")
    else:
        token, where = os.environ.get(TOKEN, "").strip(), TOKEN
    if not token.isascii() or len(token.split()) > 1:  # a header could not carry it
        raise ValueError(f"{where}: expected a token of ASCII letters, without spaces")
    if not token and not is_local(config.host):
        raise ValueError(
            f"host={config.host} can be reached from other machines, so a token is needed: set "
            f"{TOKEN}, or write it into a file and give token_file=FILE; clients send the same"
        )
    return token


def is_local(host: str) -> bool:
    """Whether only this machine can connect; False where one would have to ask a name server."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(config: ServeConfig, run: Path) -> None:
    """Serve a policy, or that of a run, until SIGINT or SIGTERM."""
    from robostack.policy.server import PolicyServer

    token = read_token(config)
    folder = run / "policy" if (run / "policy").is_dir() else run
    vla, name = VLA.load(folder).to(device()), run.resolve().name
    if config.half:
        vla.halve()
    if config.compile:
        vla.compile_expert()
    server = PolicyServer(vla, config, name, fingerprint(folder), token)
    cameras = ", ".join(f"{camera} {h}x{w}" for camera, (h, w) in vla.spec.cameras.items())

    def announce(address: str) -> None:
        print(
            f"serving {name} for {vla.spec.robot} ({cameras}; {vla.config.horizon} actions at "
            f"{vla.spec.control_hz:g} Hz) on {address}{', with a token' if token else ''}",
            flush=True,
        )

    async def until_stopped() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()

        def end() -> None:
            stop.set()
            for number in (signal.SIGINT, signal.SIGTERM):  # a second one does not wait
                loop.remove_signal_handler(number)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end)
        await server.run(stop, announce)

    asyncio.run(until_stopped())
