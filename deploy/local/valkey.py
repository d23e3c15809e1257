"""Valkey as a child process, with an append-only file so that a kill loses nothing acknowledged."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

from deploy.local import processes
from deploy.local.binaries import valkey_server
from deploy.local.credentials import Credentials
from deploy.local.errors import CannotStart
from deploy.local.files import FileLock, last_lines, open_log, write_secret
from deploy.local.ports import free_port
from deploy.local.server import EmbeddedServer

_START_SECONDS = 30.0  # loading a long append-only file takes part of it
_ORPHAN_SECONDS = 5.0
_SILENCE = "silence"  # no word of the protocol
DATABASES = 64


class EmbeddedValkey(EmbeddedServer):
    """One server on one data folder; the same manners as `EmbeddedPostgres`."""

    name = "valkey"
    title = "Valkey"
    polite_signal = signal.SIGTERM

    def __init__(self, data_dir: Path, credentials: Credentials, *, port: int | None = None) -> None:
        super().__init__(port)
        self._data_dir = data_dir.absolute()
        self._folder = self._data_dir / "valkey"
        self._configuration = self._folder / "valkey.conf"
        self._password = credentials.valkey
        self._lock = FileLock(self._data_dir / "valkey.lock")
        self.log_path = self._data_dir / "logs" / "valkey.log"

    def start(self) -> None:
        """Return when the server answers, after about 20 ms. Raises `CannotStart`."""
        if self.poll() is None and self._process is not None:
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._lock.acquire(seconds=1.0):
            raise CannotStart(f"process {self._lock.holder()} already runs Valkey in {self._data_dir}")
        try:
            self._end_orphan()
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Write what is left to the append-only file and exit. Harmless when it is not running."""
        if self._process is not None:
            processes.stop(self._process, [(signal.SIGTERM, 1.5)])
            self._process = None
        self._lock.release()

    def url(self, database: int = 0) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self.port}/{database}"

    # -- a start ------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        chosen_here = self._port is None
        for attempt in range(3):
            if self._port is None:
                self._port = free_port()
            self._spawn()
            if self._wait_until_ready():
                return
            said = last_lines(self.log_path)
            if "Address already in use" not in said or attempt == 2:
                break
            if chosen_here:
                self._port = None
            time.sleep(0.2)
        raise CannotStart(f"Valkey does not start: {last_lines(self.log_path)} (see {self.log_path})")

    def _spawn(self) -> None:
        write_secret(self._configuration, self._configuration_text())
        log = open_log(self.log_path)
        try:
            self._process = processes.spawn(
                [valkey_server(), self._configuration],
                cwd=self._folder,
                output=log,
                death_signal=signal.SIGTERM,
            )
        finally:
            os.close(log)

    def _configuration_text(self) -> str:
        folder = str(self._folder).replace("\\", "\\\\").replace('"', '\\"')
        lines = [
            f"port {self._port}",
            "bind 127.0.0.1",
            f'dir "{folder}"',
            f"requirepass {self._password}",
            "appendonly yes",
            'save ""',
            "maxmemory-policy noeviction",
            f"databases {DATABASES}",
            "daemonize no",
            'logfile ""',
        ]
        return "\n".join(lines) + "\n"

    def _wait_until_ready(self) -> bool:
        assert self._process is not None
        assert self._port is not None
        deadline = time.monotonic() + _START_SECONDS
        while self._process.poll() is None:
            if _ask(self._port, self._password, "PING") == "+PONG":
                return True
            if time.monotonic() > deadline:
                raise CannotStart(f"Valkey is not ready after {_START_SECONDS:.0f} s: see {self.log_path}")
            time.sleep(0.005)
        return False

    def _end_orphan(self) -> None:
        """Ask a server that outlived its supervisor to go. Only ours accepts our password."""
        port = self._recorded_port()
        if port is None:
            return
        deadline = time.monotonic() + _ORPHAN_SECONDS
        while (answer := _ask(port, self._password, "PING")) in ("+PONG", "-LOADING", _SILENCE):
            is_late = time.monotonic() > deadline
            if answer == _SILENCE:
                # Ours on a busy machine, which answers in the end; or somebody else's.
                if is_late:
                    return
                continue
            _ask(port, self._password, "SHUTDOWN")
            if is_late:
                raise CannotStart(f"an earlier Valkey on port {port} does not stop: end it by hand")
            time.sleep(0.05)

    def _recorded_port(self) -> int | None:
        try:
            first_line = self._configuration.read_text().splitlines()[0]
            return int(first_line.removeprefix("port "))
        except (OSError, IndexError, ValueError):
            return None


def _ask(port: int, password: str, command: str) -> str | None:
    """The first word of the server's answer to one command, None if there is no such server."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5) as connection:
            connection.sendall(f"AUTH {password}\r\n{command}\r\n".encode())
            answers = connection.makefile("rb")
            if answers.readline().strip() != b"+OK":
                return None
            return answers.readline().decode(errors="replace").split(" ")[0].strip() or None
    except TimeoutError:
        return _SILENCE
    except OSError:
        return None
