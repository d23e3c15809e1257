"""PostgreSQL as a child process: from an empty folder to a server that answers, and back.

The wheel's own launcher is not used: it trusts every local connection and creates system users.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from deploy.local import processes
from deploy.local.binaries import check_cpu, postgres_folder
from deploy.local.credentials import Credentials
from deploy.local.errors import CannotStart
from deploy.local.files import FileLock, last_lines, open_log
from deploy.local.orphans import end_orphan
from deploy.local.ports import free_port
from deploy.local.server import EmbeddedServer

SUPERUSER = "postgres"
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    # No socket file: a long data folder would exceed what a socket path may have.
    "unix_socket_directories": "",
    "max_connections": "200",
    # Vectors and words of 100,000 passages stay in it; memory is taken only as it fills.
    "shared_buffers": "512MB",
    "fsync": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_checkpoints": "off",
    "logging_collector": "off",
    # Recovery after a crash: one syncfs instead of one fsync for each of a thousand files.
    **({"recovery_init_sync_method": "syncfs"} if sys.platform == "linux" else {}),
}
# Where root keeps databases of data folders that the account it drops to cannot enter.
SHARED_STATE = Path("/var/lib/colloquy")

_START_SECONDS = 60.0  # recovery after a crash under load takes part of it
_STALE_LOCK_SECONDS = 10.0
_STATUS_LINE = 7  # of postmaster.pid, counted from 0


class EmbeddedPostgres(EmbeddedServer):
    """One server on one data folder. `start` and `stop` block; call them from the main thread.

    The server is our direct child and gets SIGINT (a fast, clean shutdown) should we die first.
    A port that is given is kept; otherwise a free one is chosen at the first start and kept from then on,
    so that clients find a restarted server again.
    """

    name = "postgres"
    title = "PostgreSQL"
    polite_signal = signal.SIGINT

    def __init__(
        self,
        data_dir: Path,
        credentials: Credentials,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        shared_state: Path = SHARED_STATE,
    ) -> None:
        super().__init__(port)
        self._data_dir = data_dir.absolute()
        self._folder = self._data_dir / "postgres"
        self._credentials = credentials
        self._shared_state = shared_state
        self._settings = {**SETTINGS, **(settings or {})}
        self._account = processes.unprivileged_account()
        self._lock = FileLock(self._data_dir / "postgres.lock")
        self._bin: Path | None = None
        self.log_path = self._data_dir / "logs" / "postgres.log"

    # -- life ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Return when the server answers: 0.1 s on a folder that has a database, 1 s on a new one.

        Raises `CannotStart`.
        """
        if self.poll() is None and self._process is not None:
            return
        check_cpu()
        self._data_dir.mkdir(parents=True, exist_ok=True)
        if not self._lock.acquire(seconds=1.0):
            raise CannotStart(f"process {self._lock.holder()} already runs PostgreSQL in {self._data_dir}")
        try:
            if not (self._folder / "PG_VERSION").exists():
                self._create()
            end_orphan(self._folder, self.bin / "pg_ctl", _environment())
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every connection, write a checkpoint, exit. Harmless when it is not running."""
        if self._process is not None:
            processes.stop(self._process, [(signal.SIGINT, 3.0), (signal.SIGQUIT, 1.0)])
            self._process = None
        self._lock.release()

    # -- addresses ----------------------------------------------------------------------------------------

    def url(self, role: str, password: str, database: str, *, driver: str = "postgresql+asyncpg") -> str:
        return f"{driver}://{quote(role)}:{quote(password)}@127.0.0.1:{self.port}/{quote(database)}"

    @property
    def bin(self) -> Path:
        """The folder with `psql`, `pg_dump`, `pgbench` and the server itself."""
        if self._bin is None:
            self._bin = postgres_folder(self._account) / "bin"
        return self._bin

    def psql(
        self, *arguments: str, database: str = "postgres", script: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run psql as the superuser, with `script` as its input. The password never shows in a process list."""
        secret = {
            "PGPASSWORD": self._credentials.superuser,
            "PGOPTIONS": "-c client_min_messages=warning",
        }
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", SUPERUSER, "-d", database]
        return subprocess.run(
            [str(self.bin / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *where, *arguments],
            input=script or "",
            env={**_environment(), **secret},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    # -- a new folder -------------------------------------------------------------------------------------

    def _create(self) -> None:
        """initdb into a scratch folder, then rename: a kill half-way leaves nothing that looks like a database."""
        home = self._reachable_home()
        for left_over in home.glob("initdb-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix="initdb-", dir=home))
        try:
            password_file = scratch / "password"
            password_file.touch(mode=0o600)
            password_file.write_text(self._credentials.superuser + "\n")
            if self._account is not None:
                for path in (scratch, password_file):
                    os.chown(path, self._account.uid, self._account.gid)
            self._run_initdb(scratch / "data", password_file)
            if self._folder.is_symlink():
                self._folder.unlink()  # its target was removed by hand
            if home == self._data_dir:
                (scratch / "data").rename(self._folder)
            else:
                kept = home / f"postgres-{scratch.name.removeprefix('initdb-')}"
                (scratch / "data").rename(kept)
                self._folder.symlink_to(kept)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _reachable_home(self) -> Path:
        """Where the database's files can live. As root, not below a folder that only root can enter."""
        if self._account is None or self._account.can_reach(self._data_dir):
            return self._data_dir
        self._shared_state.mkdir(parents=True, exist_ok=True, mode=0o755)
        print(
            f"{self._data_dir} is closed to the user {self._account.name}, as whom PostgreSQL runs here: "
            f"its files go to {self._shared_state}, linked from there",
            flush=True,
        )
        return self._shared_state

    def _run_initdb(self, target: Path, password_file: Path) -> None:
        methods = ["--auth-host=scram-sha-256", "--auth-local=scram-sha-256", f"--pwfile={password_file}"]
        # The builtin provider sorts by code point and knows Unicode's cases, whatever the machine has installed.
        locale = ["-E", "UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        made = subprocess.run(
            [str(self.bin / "initdb"), "-N", "-U", SUPERUSER, *methods, *locale, "-D", str(target)],
            cwd="/",
            env=_environment(),
            user=self._account.uid if self._account else None,
            group=self._account.gid if self._account else None,
            extra_groups=[] if self._account else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            lines = [line for line in made.stdout.splitlines() if "error" in line.lower() or "fatal" in line.lower()]
            raise CannotStart(
                f"PostgreSQL could not make its folder {target}: {'; '.join(lines) or made.stdout[-300:]}"
            )

    # -- a start ------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        chosen_here = self._port is None
        deadline = time.monotonic() + _STALE_LOCK_SECONDS
        while True:
            if self._port is None:
                self._port = free_port()
            log_end = self.log_path.stat().st_size if self.log_path.exists() else 0
            self._spawn()
            if self._wait_until_ready():
                return
            said = self._log_since(log_end)
            # After kill -9 its children may hold the shared memory for about a second more.
            stale = "lock file" in said or "shared memory block" in said
            taken = "Address already in use" in said
            if time.monotonic() > deadline or not (stale or taken):
                raise CannotStart(f"PostgreSQL does not start: {last_lines(self.log_path)} (see {self.log_path})")
            if taken and chosen_here:
                self._port = None
            time.sleep(0.1)

    def _spawn(self) -> None:
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        log = open_log(self.log_path)
        try:
            self._process = processes.spawn(
                [self.bin / "postgres", "-D", self._folder.resolve(), "-p", str(self._port), *options],
                env=_environment(),
                cwd=Path("/"),
                output=log,
                account=self._account,
                death_signal=signal.SIGINT,
            )
        finally:
            os.close(log)

    def _wait_until_ready(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + _START_SECONDS
        while self._process.poll() is None:
            lines = self._pid_file()
            if len(lines) > _STATUS_LINE and lines[0] == str(self._process.pid) and lines[_STATUS_LINE] == "ready":
                return True
            if time.monotonic() > deadline:
                raise CannotStart(f"PostgreSQL is not ready after {_START_SECONDS:.0f} s: see {self.log_path}")
            time.sleep(0.01)
        return False

    def _pid_file(self) -> list[str]:
        try:
            return [line.strip() for line in (self._folder / "postmaster.pid").read_text().splitlines()]
        except OSError:
            return []

    def _log_since(self, offset: int) -> str:
        with self.log_path.open("rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")


def _environment() -> dict[str, str]:
    """Ours without PGHOST, PGDATA and their like, which would lead the tools elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "COLLOQUY_"))}
    return {**kept, "LC_ALL": "C"}
