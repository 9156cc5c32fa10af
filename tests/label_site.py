"""A labelling server that tests stop and start, and what a page would send it."""

import json
import threading
import urllib.request

from robostack.labelling import LabelConfig, Labelling, server
from robostack.prefer.answers import Ledger

CONFIG = LabelConfig(pairs=2)


class Site:
    """A server that can be stopped and started again at the same address."""

    def __init__(self, store, path):
        self.store, self.path, self.port, self.running = store, path, 0, None
        self.start()

    def start(self):
        self.labelling = Labelling(self.store, Ledger(self.path), CONFIG)
        self.running = server(self.labelling, "127.0.0.1", self.port)
        self.port = self.running.server_address[1]
        threading.Thread(target=self.running.serve_forever, daemon=True).start()

    def stop(self):
        self.running.shutdown()
        self.running.server_close()
        for thread in threading.enumerate():  # films that are still being made
            if "process_request_thread" in thread.name:
                thread.join(60)

    def answers(self):
        return [(a.annotator, a.key, a.answer) for a in Ledger(self.path).answers]

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}/"

    def post(self, path, what, kind="application/json"):
        data = what if isinstance(what, bytes) else json.dumps(what).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.load(reply)


def said(shown, answer="left", number="1", annotator="ada"):
    sides = {name: shown[name] for name in ("key", "left", "right", "digests")}
    return {"id": number, "annotator": annotator, "answer": answer, "seconds": 2.5, **sides}
