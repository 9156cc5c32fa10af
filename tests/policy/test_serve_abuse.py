"""Whatever is thrown at a policy server, it goes on serving those who behave."""

import contextlib
import os
import re
import socket
import struct

import numpy as np
import pytest
from serving import FLAT, SEEN, lone, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from robostack.policy import wire
from robostack.policy.client import RemotePolicy
from robostack.policy.server import MAX_FRAGMENTS

GOOD = wire.pack(FLAT)


@pytest.fixture
def served():
    """A server that is well after the test too: it tells so, and gives the right actions."""
    with serving(max_message_mb=1) as found:
        yield found
        assert found.get("/healthz") == (200, "OK\n")
        with RemotePolicy(found.url) as remote:
            good = remote.plan(SEEN)
        assert np.array_equal(good, lone(calls=1)[0])
        found.wait(lambda server: not server._clients and server.metrics.in_flight == 0)


@contextlib.contextmanager
def talking(served):
    with connect(served.url, compression=None, max_size=None) as client:
        client.recv()  # the greeting
        yield client


@contextlib.contextmanager
def raw(served, *sent):
    """A bare TCP connection on which `sent` was sent."""
    with socket.create_connection(served.address(), timeout=20) as client:
        with contextlib.suppress(ConnectionError):  # it may have hung up already
            for data in sent:
                client.sendall(data)
                if data is UPGRADE:
                    assert b" 101 " in client.recv(4096)
        yield client


def read_to_the_end(client):
    """Returns once the server has ended the connection, whatever it says before."""
    with contextlib.suppress(ConnectionError):
        while client.recv(65536):
            pass


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(opcode, payload, masked=True, declared=None):
    """One final client frame; a mask of zeros leaves the payload as it is."""
    size = len(payload) if declared is None else declared
    head = bytes([0x80 | opcode, (0x80 if masked else 0) | 127]) + struct.pack(">Q", size)
    return head + (bytes(4) if masked else b"") + payload


@pytest.mark.slow
def test_hundreds_of_damaged_messages_are_answered_with_one_line_each(served):
    rng, refused = np.random.default_rng(1), 0
    with talking(served) as client:
        for k in range(600):
            data = bytearray(GOOD)
            if k % 3 == 0:
                data = bytearray(rng.bytes(rng.integers(0, 400)))
            elif k % 3 == 1:
                data = data[: rng.integers(len(data))]
            else:
                for _ in range(rng.integers(1, 4)):
                    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
            client.send(bytes(data))
            answer = client.recv(20)
            if isinstance(answer, str):
                refused += 1
                assert answer and "\n" not in answer and len(answer) <= 1000
                assert "Traceback" not in answer and os.sep + "robostack" not in answer
            else:  # a flip within the picture is another picture
                assert np.isfinite(wire.unpack(answer)["actions"]).all()
        assert served.server.metrics.errors["message"] == refused > 400
        client.send(wire.pack({"reset": 0}))  # the very connection goes on
        assert wire.unpack(client.recv()) == {"reset": 0}
        client.send(GOOD)
        assert np.array_equal(wire.unpack(client.recv())["actions"], lone()[0])


@pytest.mark.parametrize(
    "message, told",
    [
        ("hello", "expected a binary frame"),
        (b"", "not msgpack"),
        (wire.pack({}), "missing; expected top, state, prompt, got nothing"),
        (wire.pack({"reset": 1.5}), "reset: expected it alone .* got 1.5"),
        (wire.pack({"reset": 1, "more": 2}), "reset: expected it alone"),
        (wire.pack({"reset": None}), "reset: expected it alone"),
        (wire.pack(FLAT | {"x" * 60_000: 1}), "unknown key x"),
    ],
)
def test_what_makes_no_sense_is_told_so_and_the_connection_goes_on(served, message, told):
    with talking(served) as client:
        for _ in range(2):
            client.send(message)
            answer = client.recv(20)
            assert isinstance(answer, str) and len(answer) <= 1000
            assert re.search(told, answer)
        client.send(GOOD)
        assert isinstance(client.recv(20), bytes)


def test_a_message_in_fragments_is_the_message(served):
    with talking(served) as client:
        client.send(GOOD[k : k + 100] for k in range(0, len(GOOD), 100))
        assert np.array_equal(wire.unpack(client.recv(20))["actions"], lone()[0])


def test_endless_fragments_and_endless_messages_end_the_connection(served):
    for parts in ((b"" for _ in range(3 * MAX_FRAGMENTS)), [bytes(3 << 20)]):
        with talking(served) as client, pytest.raises(ConnectionClosed) as closed:
            client.send(parts)
            client.recv(20)
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
    served.wait(lambda server: server.metrics.errors["framing"] == 2)


BROKEN = {
    "unmasked": frame(2, b"abc", masked=False),
    "a reserved kind": frame(3, b"reserved"),
    "no text": frame(1, b"\xff\xfe"),
    "the end of nothing": frame(0, b"continues nothing"),
    "as long as 2 to the 62": frame(2, b"", declared=1 << 62),
    "a ping too long": frame(9, bytes(200)),
    "noise": b"\xff" * 100,
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_websocket_any_more_is_ended(served, name):
    with raw(served, UPGRADE, BROKEN[name]) as client:
        read_to_the_end(client)
    served.wait(lambda server: server.metrics.errors["framing"] == 1)


def test_http_garbage_is_survived(served):
    rng = np.random.default_rng(2)
    garbage = [rng.bytes(300) + b"\r\n\r\n" for _ in range(20)] + [
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"\r\n" * 100,
        UPGRADE.replace(b"13", b"12"),
        UPGRADE.replace(b"Host: x", b"Authorization: \xff\xfe"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # TLS
    ]
    for data in garbage:
        with raw(served, data) as client:
            client.shutdown(socket.SHUT_WR)
            read_to_the_end(client)


def test_half_open_and_vanishing_clients_are_survived(served):
    with contextlib.ExitStack() as stack:
        for k in range(60):
            stack.enter_context(raw(served, UPGRADE[: 2 * k]))  # handshakes that never end
        for k in range(5):
            stack.enter_context(raw(served, UPGRADE, frame(2, GOOD)[: 40 * k + 1]))
        assert served.get("/healthz") == (200, "OK\n")
        with RemotePolicy(served.url) as remote:
            assert np.array_equal(remote.plan(SEEN), lone(calls=1)[0])
    for _ in range(10):  # asked, and gone before the answer
        with raw(served, UPGRADE, frame(2, GOOD)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
