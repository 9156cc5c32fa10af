"""What a policy server counts, as the text that Prometheus reads."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

EDGES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # [s]
ERRORS = {  # kind -> what the client did, or met
    "unauthorised": "no token, or a wrong one",
    "full": "one client too many",
    "idle": "silent for too long",
    "framing": "no websocket any more: too large, or not as the protocol wants it",
    "message": "a message that makes no sense",
    "policy": "the policy failed",
}


class Histogram:
    """How long something took."""

    def __init__(self) -> None:
        self.counts, self.sum = [0] * (len(EDGES) + 1), 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(EDGES, seconds)] += 1
        self.sum += seconds

    def lines(self, name: str) -> list[str]:
        seen, found = 0, []
        for edge, count in zip((*map(str, EDGES), "+Inf"), self.counts):
            seen += count
            found.append(f'{name}_bucket{{le="{edge}"}} {seen}')
        return [*found, f"{name}_sum {self.sum:.6f}", f"{name}_count {seen}"]


@dataclass
class Metrics:
    """Touched by the event loop's thread only."""

    requests: int = 0
    received: int = 0  # bytes of messages
    sent: int = 0
    in_flight: int = 0  # requests waiting or being answered
    infer: Histogram = field(default_factory=Histogram)  # the policy alone
    total: Histogram = field(default_factory=Histogram)  # message received to answer sent
    errors: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ERRORS, 0))

    def text(self, clients: int) -> str:
        lines = []

        def add(name: str, kind: str, meaning: str, values: list[str]) -> None:
            lines.extend((f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", *values))

        for name, kind, meaning, value in (
            ("requests_total", "counter", "Messages that asked for something.", self.requests),
            ("received_bytes_total", "counter", "Bytes of messages received.", self.received),
            ("sent_bytes_total", "counter", "Bytes of messages sent.", self.sent),
            ("clients", "gauge", "Open connections.", clients),
            ("in_flight", "gauge", "Requests waiting or being answered.", self.in_flight),
        ):
            add(f"robostack_{name}", kind, meaning, [f"robostack_{name} {value}"])
        name = "robostack_errors_total"
        add(
            name,
            "counter",
            "; ".join(f"{kind}: {meaning}" for kind, meaning in ERRORS.items()),
            [f'{name}{{kind="{kind}"}} {count}' for kind, count in self.errors.items()],
        )
        for name, meaning, histogram in (
            ("robostack_infer_seconds", "The policy alone.", self.infer),
            ("robostack_total_seconds", "From a request to its answer.", self.total),
        ):
            add(name, "histogram", meaning, histogram.lines(name))
        return "\n".join(lines) + "\n"
