"""The PostgreSQL and the Valkey of one test run, and the process that keeps them.

The pytest process that was started by hand (under xdist the controller) starts one keeper. The keeper
waits on a pipe from that process: when the pipe closes, by a clean end, Ctrl-C or kill -9, it stops the
servers and removes their folder. Servers start when the first test asks for them, so that a run of unit
tests pays for neither. All workers ask the same keeper, one after the other, over a socket file.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = "colloquy_template"
KEEPER_SECONDS = 90.0
# How thorough a run is: meant for tests, and therefore kept.
KNOBS = frozenset(
    {"COLLOQUY_FAULT_ROUNDS", "COLLOQUY_REQUIRE_BROWSER", "COLLOQUY_REQUIRE_NGINX", "COLLOQUY_SCHEMATHESIS_EXAMPLES"}
)


@dataclass(frozen=True)
class Stores:
    """Where the servers of this run are."""

    host: str
    postgres_port: int
    redis_port: int
    redis_password: str
    psql: str
    """Path of the matching psql; pg_dump and pgbench lie beside it."""

    def redis_url(self, database: int) -> str:
        return f"redis://:{self.redis_password}@{self.host}:{self.redis_port}/{database}"


@dataclass(frozen=True)
class Database:
    """One database as each role sees it; `superuser_url` is for looking behind the scenes only."""

    name: str
    owner_url: str
    api_url: str
    agent_url: str
    superuser_url: str
    seeded: tuple[str, ...]
    """Tables that migrations filled, which cleaning leaves alone."""

    @staticmethod
    def dsn(url: str) -> str:
        """The same address for asyncpg and psql, which know nothing of SQLAlchemy's drivers."""
        return url.replace("postgresql+asyncpg://", "postgresql://", 1)


class StoresFailed(Exception):
    """The keeper could not do what was asked; the message is its traceback."""


@dataclass(frozen=True)
class StoreClient:
    """Asks the keeper. Cheap to make; each request blocks until the servers are there."""

    socket_path: str

    def stores(self) -> Stores:
        return Stores(**self._ask({"what": "stores"}))

    def database(self, name: str, *, migrated: bool = True) -> Database:
        """Create the database `name`: a copy of the migrated template, or (`migrated=False`) roles and schemas only."""
        answer = self._ask({"what": "database", "name": name, "migrated": migrated})
        return Database(**{**answer, "seeded": tuple(answer["seeded"])})

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(KEEPER_SECONDS)
            connection.connect(self.socket_path)
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer: dict[str, Any] = json.loads(connection.makefile("rb").readline())
        if "error" in answer:
            raise StoresFailed(answer["error"])
        return answer


class StoreKeeper:
    """The keeper's process, seen from the pytest process that owns it."""

    def __init__(self) -> None:
        # Short, because socket paths must be; reachable by the user PostgreSQL runs as under root, closed inside.
        self.folder = Path(tempfile.mkdtemp(prefix="colloquy-tests-", dir="/tmp"))
        self.folder.chmod(0o711)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.socket_path))
        self._listener.listen(64)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stores", str(self.folder), str(self._listener.fileno())],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[self._listener.fileno()],
            start_new_session=True,
        )

    @property
    def socket_path(self) -> Path:
        return self.folder / "keeper.sock"

    def stop(self) -> None:
        self._listener.close()
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the servers notice and stop by themselves
            self._process.wait()


# -- in the keeper's own process ------------------------------------------------------------------------------


class _Servers:
    """Starts the servers and makes databases. Imports its weight when it is first asked."""

    def __init__(self, folder: Path) -> None:
        from deploy.local.credentials import Credentials
        from deploy.local.postgres import EmbeddedPostgres
        from deploy.local.valkey import EmbeddedValkey

        data_dir = folder / "stores"
        data_dir.mkdir()
        self._credentials = Credentials.load_or_create(data_dir)
        # Nothing here has to outlive the run. What survives a crash is tested on servers of the tests' own.
        fast = {"fsync": "off", "full_page_writes": "off", "scram_iterations": "1", "max_connections": "300"}
        self._postgres = EmbeddedPostgres(data_dir, self._credentials, settings=fast)
        self._valkey = EmbeddedValkey(data_dir, self._credentials)
        self._template_ready = False
        self._template_failure: str | None = None
        self._seeded: tuple[str, ...] = ()
        self._postgres.start()
        self._valkey.start()

    def stop(self) -> None:
        self._valkey.stop()
        self._postgres.stop()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request:
            case {"what": "stores"}:
                return asdict(self._stores())
            case {"what": "database", "name": str(name), "migrated": bool(migrated)}:
                return asdict(self._database(name, migrated=migrated))
            case _:
                raise ValueError("unknown request")

    def _stores(self) -> Stores:
        return Stores(
            host="127.0.0.1",
            postgres_port=self._postgres.port,
            redis_port=self._valkey.port,
            redis_password=self._credentials.valkey,
            psql=str(self._postgres.bin / "psql"),
        )

    def _database(self, name: str, *, migrated: bool) -> Database:
        from deploy.local.database import prepare

        if migrated:
            self._build_template_once()
            self._sql(f'CREATE DATABASE "{name}" TEMPLATE {TEMPLATE};')
        urls = prepare(self._postgres, self._credentials, name)
        return Database(
            name=name,
            owner_url=urls.owner,
            api_url=urls.api,
            agent_url=urls.agent,
            superuser_url=self._postgres.url("postgres", self._credentials.superuser, name),
            seeded=self._seeded if migrated else (),
        )

    def _build_template_once(self) -> None:
        if self._template_failure is not None:
            raise RuntimeError(self._template_failure)
        if not self._template_ready:
            try:
                self._build_template()
            except Exception as error:  # whatever it was: every test that needs the template has to see it
                self._template_failure = f"the migrations failed: {error}"
                raise
            self._template_ready = True

    def _build_template(self) -> None:
        from chat_api.cli.migrations import upgrade
        from deploy.local.database import prepare

        urls = prepare(self._postgres, self._credentials, TEMPLATE)
        upgrade(urls.owner)
        filled = self._sql(
            "SELECT format('SELECT %L WHERE EXISTS (SELECT FROM %I.%I)', schemaname || '.' || tablename, "
            "schemaname, tablename) FROM pg_tables WHERE schemaname IN ('chat', 'agent') \\gexec\n",
            database=TEMPLATE,
        )
        self._seeded = tuple(filled.split())

    def _sql(self, script: str, *, database: str = "postgres") -> str:
        done = self._postgres.psql(database=database, script=script)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return done.stdout


def _keep(folder: Path, listener: socket.socket) -> None:
    """Serve until standard input closes."""
    servers: _Servers | None = None
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(listener, selectors.EVENT_READ)
        try:
            while True:
                ready = {key.fd for key, _ in selector.select()}
                if 0 in ready:
                    return
                connection, _ = listener.accept()
                with connection:
                    try:
                        request = json.loads(connection.makefile("rb").readline())
                        servers = servers or _Servers(folder)
                        answer = servers.answer(request)
                    except Exception:  # noqa: BLE001 - whatever it was, the test that asked has to see it
                        answer = {"error": traceback.format_exc(limit=-8, chain=False)}
                    connection.sendall(json.dumps(answer).encode() + b"\n")
        finally:
            if servers is not None:
                servers.stop()
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    folder, descriptor = Path(sys.argv[1]), int(sys.argv[2])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the pipe alone says when to go
    _keep(folder, socket.socket(fileno=descriptor))


def without_developers_environment(environment: dict[str, str] | None = None) -> None:
    """Take away what a person has set for their own use, so that tests mean the same everywhere."""
    variables = cast("dict[str, str]", os.environ) if environment is None else environment
    prefixes = ("COLLOQUY_", "GOOGLE_", "GEMINI_", "OPENAI_", "LANGCHAIN_", "LANGSMITH_", "PG")
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    for name in list(variables):
        if name not in KNOBS and (name.startswith(prefixes) or name.upper() in proxies):
            del variables[name]


if __name__ == "__main__":
    main()
