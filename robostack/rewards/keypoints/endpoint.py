"""Vision-language models that answer questions about pictures: behind an address, or local.

An address is any server that speaks OpenAI's /v1/chat/completions, such as vLLM or llama.cpp.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import queue
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np

LONGEST = 4_000_000  # bytes of an answer that are read
QUOTED = 200  # characters of a server's answer that a message may hold
AGAIN = (408, 425, 429, 500, 502, 503, 504)  # HTTP status that may be another one in a while
PAUSE = 0.2  # [s] before the first retry, twice as long before the next


class EndpointError(RuntimeError):
    """A model that did not answer, or not in words."""


class _Passing(EndpointError):
    """One that may be over when asked again."""


class Model(Protocol):
    name: str

    def ask(self, text: str, images: Sequence[np.ndarray]) -> str:
        """The answer to a text with images uint8[H, W, 3] after it. Raises EndpointError."""


def png(image: np.ndarray) -> bytes:
    """An RGB image as a PNG file."""
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


@dataclass(frozen=True)
class Endpoint:
    """A model behind `url`, the part before /chat/completions, e.g. http://127.0.0.1:8000/v1.

    One question takes `timeout` seconds at most, whatever the server does, retries included.
    Connections that fail or break off and status 429 or 5xx are tried again, up to `retries`
    times; nothing else is, because it would not be better. The key is read from the environment
    variable named `key_variable`, sent to this address only, and in no message.
    """

    url: str
    model: str
    timeout: float = 60.0  # [s]
    retries: int = 2
    key_variable: str = ""
    temperature: float = 0.0
    tokens: int = 2000  # of the answer, at most
    name: str = field(init=False)

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ValueError(
                "endpoint: expected an address such as http://127.0.0.1:8000/v1, got "
                f"{_quote(self.url, '')}"
            )
        if "@" in parts.netloc:
            raise ValueError("endpoint: expected an address without a password in it; see the key")
        if not self.model:
            raise ValueError("model: expected the name under which the server knows it, got ''")
        if not 0 < self.timeout < float("inf"):
            raise ValueError(f"timeout: expected seconds above 0, got {self.timeout}")
        if self.retries < 0 or self.tokens < 1 or not 0 <= self.temperature <= 2:
            raise ValueError(
                "expected retries >= 0, tokens >= 1 and a temperature in [0, 2], got "
                f"{self.retries}, {self.tokens}, {self.temperature}"
            )
        object.__setattr__(self, "name", self.model)

    def ask(self, text: str, images: Sequence[np.ndarray]) -> str:
        pictures = [
            {
                "type": "image_url",
                "image_url": {"url": "data:image/png;base64," + base64.b64encode(png(i)).decode()},
            }
            for i in images
        ]
        content = [{"type": "text", "text": text}, *pictures]
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": self.temperature,
            "max_tokens": self.tokens,
        }
        headers = {"Content-Type": "application/json"}
        key = self._key()
        if key:
            headers["Authorization"] = f"Bearer {key}"
        address = self.url.rstrip("/") + "/chat/completions"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)
        return self._words(self._insist(request, key), key)

    def _key(self) -> str:
        if not self.key_variable:
            return ""
        key = os.environ.get(self.key_variable, "").strip()
        if not key or not key.isascii() or not key.isprintable():
            raise EndpointError(
                f"the environment variable {self.key_variable} holds no key for {self.url}"
            )
        return key

    def _insist(self, request: urllib.request.Request, key: str) -> bytes:
        """The body of the answer, tried again where that makes sense, until time is up."""
        end = time.monotonic() + self.timeout
        for attempt in range(self.retries + 1):
            try:
                return self._within(end, request, key)
            except _Passing as error:
                pause = PAUSE * 2**attempt
                if attempt == self.retries or time.monotonic() + pause >= end:
                    raise EndpointError(f"{error} (tried {attempt + 1} times)") from None
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _within(self, end: float, request: urllib.request.Request, key: str) -> bytes:
        """`_once`, abandoned when time is up: a socket's own limit starts anew with every byte."""
        answer: queue.SimpleQueue = queue.SimpleQueue()

        def work() -> None:
            try:
                answer.put(_once(request, max(end - time.monotonic(), 0.001)))
            except Exception as error:  # handed to whoever waits
                answer.put(error)

        threading.Thread(target=work, daemon=True).start()
        try:
            found = answer.get(timeout=max(end - time.monotonic(), 0.001))
        except queue.Empty:
            found = TimeoutError()
        if isinstance(found, Exception):
            raise self._explain(found, key) from None
        status, body = found
        if status != 200:
            kind = _Passing if status in AGAIN else EndpointError
            raise kind(f"{self.url} answered with HTTP status {status}: {_quote(body, key)}")
        return body

    def _explain(self, error: Exception, key: str) -> EndpointError:
        reason = getattr(error, "reason", None)
        if isinstance(error, EndpointError):
            return error
        if isinstance(error, TimeoutError) or isinstance(reason, TimeoutError):
            return EndpointError(f"{self.url} did not answer within {self.timeout:g} s")
        if isinstance(error, http.client.IncompleteRead):
            return _Passing(f"{self.url} broke off in the middle of its answer")
        if isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
            return EndpointError(f"{self.url} does not speak HTTP ({type(error).__name__})")
        return _Passing(f"no connection to {self.url}: {_quote(str(reason or error), key)}")

    def _words(self, body: bytes, key: str) -> str:
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            raise EndpointError(f"{self.url} did not answer in JSON: {_quote(body, key)}") from None
        try:
            choice = told["choices"][0]
            words, why = choice["message"]["content"], choice.get("finish_reason")
        except (KeyError, IndexError, TypeError, AttributeError):
            words, why = None, None
        if why == "length":
            raise EndpointError(
                f"{self.url} cut its answer off after {self.tokens} tokens; allow it more"
            )
        if not isinstance(words, str) or not words.strip():
            raise EndpointError(
                f"{self.url}: expected the answer's words in choices[0].message.content, got "
                f"{_quote(body, key)}"
            )
        return words


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nobody elsewhere: the key is for one address only."""

    def redirect_request(self, *_: object) -> None:
        return None


def _once(request: urllib.request.Request, timeout: float) -> tuple[int, bytes]:
    """Status and body of the answer, whatever the status."""
    try:
        response = urllib.request.build_opener(_Stay).open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        body = response.read(LONGEST + 1)
        length = response.headers.get("Content-Length") or ""
        if len(body) > LONGEST:
            raise EndpointError(f"the server's answer is longer than {LONGEST} bytes")
        if length.isdigit() and len(body) < int(length):  # read(n) does not complain
            raise http.client.IncompleteRead(body)
        return response.status, body


def _quote(said: bytes | str, key: str) -> str:
    """The beginning of what somebody said, on one line, without the key."""
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    text = " ".join((text.replace(key, "***") if key else text).split())
    return repr(text if len(text) <= QUOTED else text[: QUOTED - 1] + "…")


class LocalModel:
    """A model of transformers in this process, from a folder or the hub. Greedy, so that the same
    question has the same answer. Raises EndpointError where it cannot be loaded."""

    def __init__(self, folder: str, tokens: int = 2000):
        from transformers import AutoModelForImageTextToText, AutoProcessor

        from robostack.device import device

        self.name, self.tokens = str(folder), tokens
        try:
            self.processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
            model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=False)
        except (OSError, ValueError, KeyError, ImportError) as error:
            first = str(error).strip().split("\n")[0]
            raise EndpointError(
                f"{folder} holds no vision-language model that answers: {first}"
            ) from None
        if not getattr(self.processor, "chat_template", None):
            raise EndpointError(f"{folder} has no chat template, so that nothing can be asked")
        self.model = model.to(device()).eval()

    def ask(self, text: str, images: Sequence[np.ndarray]) -> str:
        import torch
        from PIL import Image

        pictures = [{"type": "image", "image": Image.fromarray(image)} for image in images]
        messages = [{"role": "user", "content": [*pictures, {"type": "text", "text": text}]}]
        inputs = self.processor.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(self.model.device)
        with torch.inference_mode():
            out = self.model.generate(**inputs, max_new_tokens=self.tokens, do_sample=False)
        new = out[0, inputs["input_ids"].shape[1] :]
        return self.processor.decode(new, skip_special_tokens=True)
