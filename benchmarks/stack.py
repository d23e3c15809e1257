"""The servers and services that are measured: real processes, in a folder that is gone afterwards."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Self

from chat_api.cli.migrations import upgrade
from deploy.local import processes
from deploy.local.credentials import Credentials
from deploy.local.database import DATABASE, DatabaseUrls, prepare
from deploy.local.files import last_lines, open_log
from deploy.local.ports import free_port
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.valkey import EmbeddedValkey

_TEMPLATE = "colloquy_template"
_READY_SECONDS = 120.0
_FOREIGN = ("COLLOQUY_", "GOOGLE_", "GEMINI_", "OPENAI_", "PG", "PYTHON")


RAISED_LIMITS = {
    "COLLOQUY_USER_SENDS_PER_SECOND": "100000",
    "COLLOQUY_USER_SENDS_BURST": "100000",
    "COLLOQUY_PLANS": '{"free": {"messages_per_day": 1000000000, "tokens_per_day": 1000000000000,'
    ' "documents": 1000000, "storage_bytes": 1000000000000, "requests_per_minute": 10000000,'
    ' "key_requests_per_minute": 10000000}}',
    "COLLOQUY_WS_FRAMES_PER_SECOND": "100000",
    "COLLOQUY_WS_FRAMES_BURST": "100000",
}
"""The only settings that are not the defaults. A few people send what hundreds would: what one person may do would be
all that is measured."""


class DidNotStart(Exception):
    """A process of the benchmark is not there; the message is the end of its log."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user can enter, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="colloquy-bench-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stop_on_signals() -> None:
    """Ctrl-C, SIGTERM and SIGHUP end a benchmark in order: everything it started ends with it."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


def plain_environment(**variables: str) -> dict[str, str]:
    """Ours, without what a person has set for their own use: PYTHONDONTWRITEBYTECODE alone would double a start."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return {**kept, "PYTHONUNBUFFERED": "1", **variables}


@dataclass(frozen=True)
class Server:
    """A process that listens on a port of the loopback interface."""

    pid: int
    port: int


class Stack:
    """PostgreSQL and Valkey as `colloquy up` runs them, migrated, and whatever is started beside them.

    Use it in a `with` block; everything ends with the block, the last first.
    """

    def __init__(self) -> None:
        self._exits = ExitStack()
        self._template_is_there = False

    def __enter__(self) -> Self:
        try:
            self.folder = self._exits.enter_context(scratch_folder())
            self.credentials = Credentials.load_or_create(self.folder)
            self.postgres = EmbeddedPostgres(self.folder, self.credentials)
            self._exits.callback(self.postgres.stop)
            self.postgres.start()
            self.valkey = EmbeddedValkey(self.folder, self.credentials)
            self._exits.callback(self.valkey.stop)
            self.valkey.start()
            self.urls = self.new_database(DATABASE)
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def new_database(self, name: str) -> DatabaseUrls:
        """A migrated database on the same server: a copy, because to migrate each would take seconds."""
        if not self._template_is_there:
            upgrade(prepare(self.postgres, self.credentials, _TEMPLATE).owner)
            self._template_is_there = True
        copied = self.postgres.psql(script=f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        if copied.returncode != 0:
            raise DidNotStart(f"{name}: {copied.stderr}")
        return prepare(self.postgres, self.credentials, name)

    def superuser_dsn(self, name: str = DATABASE) -> str:
        return self.postgres.url("postgres", self.credentials.superuser, name, driver="postgresql")

    def api(self, urls: DatabaseUrls | None = None, *, agent_port: int | None = None) -> Server:
        """One process of the chat API, as in production."""
        variables = self.variables(urls or self.urls)
        if agent_port is not None:
            variables["COLLOQUY_AGENT_PORT"] = str(agent_port)
        return self._service("api", [sys.executable, "-m", "chat_api", "api"], "COLLOQUY_API_PORT", variables)

    def agent(self, model_url: str, **others: str) -> Server:
        """The agent service, with the model server at `model_url` (up to `/v1`) as its default provider."""
        variables = {
            **self.variables(self.urls),
            **others,
            "COLLOQUY_DEFAULT_PROVIDER": "openai",
            "COLLOQUY_DEFAULT_MODEL": "scripted",
            "OPENAI_BASE_URL": model_url,
            "OPENAI_API_KEY": "scripted",
        }
        return self._service("agent", [sys.executable, "-m", "agent_service"], "COLLOQUY_AGENT_PORT", variables)

    def local_agent(self) -> Server:
        """The agent service as it comes: the local embedder, and the local chat model."""
        variables = self.variables(self.urls)
        return self._service("agent", [sys.executable, "-m", "agent_service"], "COLLOQUY_AGENT_PORT", variables)

    def worker(self, urls: DatabaseUrls | None = None, *, agent_port: int) -> int:
        """The worker, as in production; its process id. It has no port: what it does shows in the database."""
        variables = self.variables(urls or self.urls) | {"COLLOQUY_AGENT_PORT": str(agent_port)}
        return self._spawn("worker", [sys.executable, "-m", "chat_api", "worker"], plain_environment(**variables)).pid

    def model(self) -> Server:
        """The scripted model server."""
        return self.serve("model", [sys.executable, "-m", "tests.fakes.scripted_model"], path="/v1/models")

    def serve(self, name: str, argv: Sequence[str], *, path: str, **variables: str) -> Server:
        """Any program that takes `--port` and answers a GET of `path` with 200 when it is ready."""
        port = free_port()
        return self._start(name, [*argv, "--port", str(port)], port, path, plain_environment(**variables))

    def variables(self, urls: DatabaseUrls) -> dict[str, str]:
        """The settings of every process that is started here, and of a command that is run beside them."""
        return {
            **RAISED_LIMITS,
            "COLLOQUY_DATA_DIR": str(self.folder),
            "COLLOQUY_DATABASE_URL": urls.api,
            "COLLOQUY_AGENT_DATABASE_URL": urls.agent,
            "COLLOQUY_REDIS_URL": self.valkey.url(),
            "COLLOQUY_SECRET_KEY": self.credentials.secret_key,
            "COLLOQUY_SERVICE_KEY": self.credentials.service_key,
        }

    def _service(self, name: str, argv: Sequence[str], port_variable: str, variables: Mapping[str, str]) -> Server:
        port = free_port()
        environment = plain_environment(**{**variables, port_variable: str(port)})
        return self._start(name, argv, port, "/health/ready", environment)

    def _start(self, name: str, argv: Sequence[str], port: int, path: str, environment: Mapping[str, str]) -> Server:
        process = self._spawn(f"{name}-{port}", argv, environment)
        _wait_until_ready(process, port, path, self._log_path(f"{name}-{port}"))
        return Server(process.pid, port)

    def _spawn(self, name: str, argv: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        log = open_log(self._log_path(name))
        try:
            process = processes.spawn(argv, env=environment, output=log)
        finally:
            os.close(log)
        self._exits.callback(processes.stop, process, [(signal.SIGTERM, 10.0)])
        return process

    def _log_path(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, path: str, log_path: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not answers(port, path):
        if process.poll() is not None or time.monotonic() > deadline:
            raise DidNotStart(f"{log_path.name}: {last_lines(log_path, 5)}")
        time.sleep(0.05)


def answers(port: int, path: str) -> bool:
    """Whether a GET of `path` is answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
