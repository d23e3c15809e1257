"""What the embedded servers have in common: one child process on one port."""

from __future__ import annotations

import signal
import subprocess


class EmbeddedServer:
    """`title` is what errors call it; `polite_signal` asks it to stop by itself."""

    title: str
    polite_signal: signal.Signals

    def __init__(self, port: int | None) -> None:
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def ask_to_stop(self) -> None:
        if self.answers() and self._process is not None:
            self._process.send_signal(self.polite_signal)

    def answers(self) -> bool:
        """True as long as it runs: `start` has waited for the first answer."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """kill -9, as tests do. The folder stays ours: `start` brings the server back on the same port."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def poll(self) -> int | None:
        """None while it runs, else its return code (0 if it never ran)."""
        return 0 if self._process is None else self._process.poll()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{self.title} is not running")
        return self._process.pid

    @property
    def port(self) -> int:
        if self._port is None:
            raise RuntimeError(f"{self.title} has not been started")
        return self._port
