"""The services of Colloquy as children: the chat API, its worker, the agent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local import processes
from deploy.local.files import open_log

_SETTLED_SECONDS = 3.0  # for a service without a port: alive for so long counts as working


class Service:
    """One process that writes to one log. `address` is where it listens, if it does."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log_path: Path,
        env: Mapping[str, str],
        stop_seconds: float,
        address: tuple[str, int] | None = None,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._argv = argv
        self._env = env
        self._stop_seconds = stop_seconds
        self._address = address
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._process.pid

    def start(self) -> None:
        log = open_log(self.log_path)
        try:
            # Death by SIGKILL: what a service had acknowledged is in PostgreSQL, and a hung one must not stay.
            self._process = processes.spawn(self._argv, env=self._env, output=log, death_signal=signal.SIGKILL)
        finally:
            os.close(log)
        self._started_at = time.monotonic()

    def poll(self) -> int | None:
        return 0 if self._process is None else self._process.poll()

    def answers(self) -> bool:
        if self._address is None:
            return time.monotonic() - self._started_at >= _SETTLED_SECONDS
        try:
            socket.create_connection(self._address, timeout=0.2).close()
        except OSError:
            return False
        return True

    def ask_to_stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def stop(self) -> None:
        if self._process is not None:
            processes.stop(self._process, [(signal.SIGTERM, self._stop_seconds)])
            self._process = None
