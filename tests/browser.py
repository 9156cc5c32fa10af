"""Headless Chromium, driven by its DevTools protocol: keys are pressed, scripts are asked."""

import json
import subprocess
import time
import urllib.request
from itertools import count

from websockets.sync.client import connect


class Browser:
    """One process with its own profile; pages are tabs of it."""

    def __init__(self, profile):
        self.process = subprocess.Popen(
            [
                *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic"),
                *("--no-first-run", "--disable-background-networking", "--mute-audio"),
                *("--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"),
            ],
            stderr=subprocess.DEVNULL,
        )
        port_file = profile / "DevToolsActivePort"
        wait(lambda: port_file.exists() and len(port_file.read_text().split()) == 2, 60)
        self.port = port_file.read_text().split()[0]

    def open(self, address):
        """The page, once it is there: a new tab is, for a moment, an empty document, as complete as
        any, and between the two there is none."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/json/new?{address}", method="PUT"
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            page = Page(json.load(reply)["webSocketDebuggerUrl"])
        blank = json.dumps(address == "about:blank")

        def there():
            try:
                return page.ask(
                    f"({blank} || location.href !== 'about:blank') "
                    "&& document.readyState === 'complete' && document.documentElement !== null"
                )
            except AssertionError:  # asked between two documents
                return False

        wait(there)
        return page

    def close(self):
        self.process.terminate()
        self.process.wait(20)


class Page:
    def __init__(self, address):
        self._socket = connect(address, max_size=None)
        self._ids = count(1)
        self.events = []  # that came between answers, of domains that were enabled

    def call(self, method, **options):
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": options}))
        while True:
            told = json.loads(self._socket.recv(30))
            if "method" in told:
                self.events.append(told)
            if told.get("id") == number:
                assert "error" not in told, told
                return told["result"]

    def ask(self, script):
        told = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def press(self, key):
        self.call("Page.bringToFront")  # a page in the background may not get it
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def reload(self):
        self.call("Page.reload")

    def picture(self, path):
        import base64

        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def close(self):
        self.call("Page.close")


def wait(ready, seconds=20):
    """Until ready() is true; an AssertionError after so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = ready()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")
