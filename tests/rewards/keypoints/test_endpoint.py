"""The door to models, against a real server that answers well, badly, late and never."""

import base64
import contextlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from robostack.rewards.keypoints.endpoint import QUOTED, Endpoint, EndpointError, LocalModel, png

IMAGE = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
KEY = "sk-very-secret-9d2f"


def said(words, why="stop"):
    return json.dumps({"choices": [{"message": {"content": words}, "finish_reason": why}]}).encode()


@contextlib.contextmanager
def server(*answers):
    """(address, requests): a server whose nth answer is (status, body), or a function of the
    handler that does something worse; the last one goes on."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["Content-Length"])
            seen.append((self.path, dict(self.headers), json.loads(self.rfile.read(length))))
            answer = answers[min(len(seen), len(answers)) - 1]
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                if callable(answer):
                    answer(self)
                    return
                self.send_response(answer[0])
                self.send_header("Content-Length", str(len(answer[1])))
                self.end_headers()
                self.wfile.write(answer[1])

        def do_GET(self):
            seen.append((self.path, dict(self.headers), None))

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}/v1", seen
        finally:
            http.shutdown()
            thread.join()


def refused(endpoint, why):
    """The message of the one error that a question ends with."""
    with pytest.raises(EndpointError, match=why) as caught:
        endpoint.ask("what?", [IMAGE])
    error = caught.value
    assert error.__cause__ is None and (error.__suppress_context__ or not error.__context__)
    return str(error)


def test_the_words_come_back_and_the_question_went_there_with_its_pictures(monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    with server((200, said("a cube"))) as (url, seen):
        endpoint = Endpoint(url, "small-vlm", key_variable="MY_KEY", temperature=0.5, tokens=7)
        assert endpoint.ask("what?", [IMAGE, IMAGE[:5]]) == "a cube"
    (path, headers, body), *more = seen
    assert path == "/v1/chat/completions" and not more
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("small-vlm", 0.5, 7)
    text, *pictures = body["messages"][0]["content"]
    assert text == {"type": "text", "text": "what?"}
    for sent, image in zip(pictures, (IMAGE, IMAGE[:5]), strict=True):
        kind, data = sent["image_url"]["url"].split(",")
        assert kind == "data:image/png;base64"
        found = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert (found[..., ::-1] == image).all()


def test_a_png_holds_the_image():
    found = cv2.imdecode(np.frombuffer(png(IMAGE), np.uint8), cv2.IMREAD_COLOR)
    assert (found[..., ::-1] == IMAGE).all()


def test_without_a_variable_no_key_is_sent():
    with server((200, said("yes"))) as (url, seen):
        Endpoint(url, "m").ask("what?", [])
    assert "Authorization" not in seen[0][1]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_asked_again(status):
    with server((status, b"busy"), (200, said("now"))) as (url, seen):
        assert Endpoint(url, "m").ask("what?", [IMAGE]) == "now"
    assert len(seen) == 2 and seen[0][2] == seen[1][2]


def test_an_answer_that_breaks_off_is_asked_for_again():
    def half(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(said("no")[:10])

    with server(half, (200, said("whole"))) as (url, _):
        assert Endpoint(url, "m").ask("what?", []) == "whole"
    with server(half) as (url, seen):
        refused(Endpoint(url, "m", retries=1), "broke off.*tried 2 times")
    assert len(seen) == 2


def test_a_failure_that_stays_is_told_with_its_status():
    with server((500, b"out of memory")) as (url, seen):
        refused(Endpoint(url, "m", retries=2), "HTTP status 500: 'out of memory'.*tried 3 times")
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((400, b"bad"), "status 400: 'bad'"),
        ((401, b"who?"), "status 401"),
        ((404, b""), "status 404"),
        ((200, b"<html>welcome</html>"), "not answer in JSON: '<html>welcome"),
        ((200, b"\xff\xfe"), "not answer in JSON"),
        ((200, b"[" * 100_000), "not answer in JSON"),
        ((200, b""), "not answer in JSON"),
        ((200, b"3"), "message.content, got '3'"),
        ((200, b'{"error": "no such model"}'), "message.content.*no such model"),
        ((200, b'{"choices": []}'), "message.content"),
        ((200, b'{"choices": [7]}'), "message.content"),
        ((200, said(None)), "message.content"),
        ((200, said("  ")), "message.content"),
        ((200, said(["a", "list"])), "message.content"),
        ((200, said("half of", "length")), "cut its answer off after 2000 tokens"),
    ],
)
def test_a_useless_answer_is_one_clear_error_and_not_asked_for_again(answer, why):
    with server(answer) as (url, seen):
        assert url in refused(Endpoint(url, "m"), why)
    assert len(seen) == 1


def test_an_endless_answer_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr("robostack.rewards.keypoints.endpoint.LONGEST", 1000)
    with server((200, said("a" * 5000))) as (url, _):
        refused(Endpoint(url, "m"), "longer than 1000 bytes")


def late(handler):
    time.sleep(1.0)
    handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + said("late"))


def dripping(handler):
    """Always a byte more, so that no socket's own time limit is ever reached."""
    handler.wfile.write(b"HTTP/1.0 200 OK\r\n")
    for _ in range(40):
        handler.wfile.write(b"X")
        time.sleep(0.05)


def dripping_failure(handler):
    """The same with the body of an error."""
    handler.send_response(404)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(40):
        handler.wfile.write(b"X")
        time.sleep(0.05)


@pytest.mark.parametrize("answer", [late, dripping, dripping_failure])
def test_no_question_takes_longer_than_its_time(answer):
    with server(answer) as (url, seen):
        begin = time.monotonic()
        refused(Endpoint(url, "m", timeout=0.3), "did not answer within 0.3 s")
        assert time.monotonic() - begin < 0.8 and len(seen) == 1


def test_retries_end_with_the_time_too():
    with server((503, b"")) as (url, seen):
        begin = time.monotonic()
        refused(Endpoint(url, "m", timeout=0.5, retries=1000), "status 503")
        assert time.monotonic() - begin < 0.8 and 1 < len(seen) < 5


def test_nobody_there_and_nobody_who_speaks_http_are_told_apart():
    with socket.create_server(("127.0.0.1", 0)) as quiet:
        port = quiet.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        refused(Endpoint(url, "m", timeout=0.3), "did not answer within")  # accepts, says nothing
    refused(Endpoint(url, "m", retries=1), f"no connection to {url}.*refused.*tried 2 times")
    with server(lambda handler: handler.wfile.write(b"SSH-2.0-hello\r\n")) as (url, _):
        refused(Endpoint(url, "m", retries=0), "does not speak HTTP")


def test_messages_hold_a_little_of_the_answer_and_never_the_key(monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    echo = f"invalid key {KEY} ".encode() * 1000
    for answer in ((401, echo), (200, echo), (200, json.dumps({"got": KEY}).encode())):
        with server(answer) as (url, _):
            message = refused(Endpoint(url, "m", key_variable="MY_KEY"), url)
        assert KEY not in message and "***" in message and len(message) < QUOTED + 150


def test_the_key_does_not_follow_a_redirection(monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    with server((200, said("stolen"))) as (elsewhere, seen):

        def sent_away(handler):
            handler.send_response(302)
            handler.send_header("Location", elsewhere + "/chat/completions")
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        with server(sent_away) as (url, _):
            refused(Endpoint(url, "m", key_variable="MY_KEY"), "status 302")
        assert seen == []


@pytest.mark.parametrize("value", [None, "", "  ", "two\nlines"])
def test_a_variable_without_a_usable_key_is_named_before_anything_is_sent(monkeypatch, value):
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    with server((200, said("yes"))) as (url, seen):
        with pytest.raises(EndpointError, match="MY_KEY holds no key"):
            Endpoint(url, "m", key_variable="MY_KEY").ask("what?", [])
    assert seen == []


@pytest.mark.parametrize(
    "change",
    [
        {"url": "localhost:8000"},
        {"url": "ftp://host/v1"},
        {"url": "file:///etc/passwd"},
        {"url": "http://"},
        {"url": "http://me:secret@host/v1"},
        {"model": ""},
        {"timeout": 0.0},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"retries": -1},
        {"tokens": 0},
        {"temperature": -0.1},
    ],
)
def test_settings_that_cannot_work_are_refused(change):
    with pytest.raises(ValueError, match="expected") as caught:
        Endpoint(**({"url": "http://host/v1", "model": "m"} | change))
    assert "secret" not in str(caught.value)


def test_a_folder_without_a_model_is_one_clear_error(tmp_path):
    with pytest.raises(EndpointError, match="holds no vision-language model"):
        LocalModel(str(tmp_path))
