"""Somebody at a terminal of their own, in which a program runs."""

import contextlib
import os
import pty
import signal
import threading
import time


class Terminal:
    """Keys that are `held` are repeated as a terminal does; `said` is what the program wrote."""

    def __init__(self, command, environment):
        self.child, self.end = pty.fork()
        if self.child == 0:
            os.execvpe(command[0], list(map(str, command)), os.environ | environment)
        self.held, self.said = "", b""
        for work in (self._press, self._listen):
            threading.Thread(target=work, daemon=True).start()

    def _press(self):
        while self.child:
            if self.held:
                self.press(self.held)
            time.sleep(0.03)

    def press(self, keys):
        os.write(self.end, keys.encode())

    def _listen(self):
        with contextlib.suppress(OSError):  # it has ended
            while True:
                self.said += os.read(self.end, 1000)

    def wait(self):
        """Its exit status, once it has ended by itself."""
        child, self.child = self.child, 0
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def kill(self):
        if self.child:
            os.kill(self.child, signal.SIGKILL)
            self.wait()
