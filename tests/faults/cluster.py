"""A whole Colloquy as real processes: two chat APIs, agent, worker, PostgreSQL (fsync on), Valkey, a scripted model.

Within `mcp_servers` the agent has two that count executions in a file: `desk`, its own process, and `mail`, over HTTP.

A supervisor starts again what dies, as `colloquy up` does; tests kill by process id and look what happens.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import orjson
import psutil

from chat_api.cli.migrations import upgrade
from deploy.local import database
from deploy.local.credentials import Credentials
from deploy.local.errors import CannotStart
from deploy.local.files import last_lines
from deploy.local.ports import free_port
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.services import Service
from deploy.local.supervisor import Child, Supervisor
from deploy.local.valkey import EmbeddedValkey

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 90.0
_TEND_SECONDS = 0.02
_TROUBLE = re.compile(r"\[error|\"error\"|Traceback|exception")
_LINES_BELOW = 60
_MCP_SERVER = ROOT / "tests" / "fakes" / "mcp_server.py"


class Process(Child, Protocol):
    """A child whose process can be named."""

    @property
    def pid(self) -> int: ...


@dataclass(frozen=True)
class Exit:
    """How a process ended. `at` is seconds since the epoch; a signal is a negative code."""

    pid: int
    code: int
    at: float


class Part:
    """One process of the cluster as the supervisor sees it: it can be kept from coming back."""

    def __init__(self, child: Process) -> None:
        self._child = child
        self._kept_away = False
        self.exits: list[Exit] = []

    @property
    def name(self) -> str:
        return self._child.name

    @property
    def log_path(self) -> Path:
        return self._child.log_path

    @property
    def pid(self) -> int:
        return self._child.pid

    def send(self, number: signal.Signals) -> float:
        """Send a signal; returns when, in seconds since the epoch."""
        os.kill(self._child.pid, number)
        return time.time()

    def kill(self) -> float:
        """kill -9; returns when, in seconds since the epoch."""
        return self.send(signal.SIGKILL)

    @contextlib.contextmanager
    def away(self) -> Iterator[float]:
        """kill -9, and no restart before the block ends. Gives the time of the kill."""
        self._kept_away = True
        try:
            yield self.kill()
        finally:
            self._kept_away = False

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """SIGSTOP, and SIGCONT when the block ends."""
        pid = self._child.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def wait_for_exit(self, pid: int, seconds: float) -> Exit:
        """How process `pid` of this part ended. Raises `TimeoutError`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for known in self.exits:
                if known.pid == pid:
                    return known
            time.sleep(0.01)
        raise TimeoutError(f"{self.name} (process {pid}) did not end within {seconds} s")

    def wait_until_back(self, old_pid: int, seconds: float = 60.0) -> None:
        """Return when another process than `old_pid` does its work. Raises `TimeoutError`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(RuntimeError):
                if self._child.pid != old_pid and self._child.poll() is None and self._child.answers():
                    return
            time.sleep(0.02)
        raise TimeoutError(f"{self.name} is not back after {seconds} s: {last_lines(self.log_path)}")

    # -- as the supervisor's child ------------------------------------------------------------------------

    def start(self) -> None:
        self._child.start()

    def poll(self) -> int | None:
        code = self._child.poll()
        if code is None:
            return None
        pid = self._child.pid
        if not any(known.pid == pid for known in self.exits):
            self.exits.append(Exit(pid, code, time.time()))
        return None if self._kept_away else code

    def answers(self) -> bool:
        return self._kept_away or self._child.answers()

    def ask_to_stop(self) -> None:
        self._child.ask_to_stop()

    def stop(self) -> None:
        self._child.stop()


class Cluster:
    """Everything, in a new folder that is gone afterwards. Use it as a context manager.

    Every folder above it has to be open to whom PostgreSQL runs as when we are root.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir()
        self._folder.chmod(0o711)
        self._credentials = Credentials.load_or_create(self._folder)
        self._postgres = EmbeddedPostgres(self._folder, self._credentials)
        self._valkey = EmbeddedValkey(self._folder, self._credentials)
        self._ports = {name: free_port() for name in ("api-a", "api-b", "agent", "worker", "model", "mail")}
        self.executions_path = self._folder / "executions.jsonl"
        self._mcp_config = self._folder / "servers_config.json"
        self._mcp_config.write_text('{"mcpServers": {}}')
        # Shared by the services, which read it when they start: the stores' addresses are added before.
        self._environment = self._addresses_and_keys()
        self._environment_of_b = self._environment | {"COLLOQUY_API_PORT": str(self._ports["api-b"])}
        self.postgres = Part(self._postgres)
        self.valkey = Part(self._valkey)
        self.model = Part(self._service("model", "tests.fakes.scripted_model", "--port", str(self._ports["model"])))
        self.mail = Part(self._service("mail", "tests.fakes.mcp_server", "--port", str(self._ports["mail"])))
        self.agent = Part(self._service("agent", "agent_service"))
        self.api_a = Part(self._service("api-a", "chat_api", "api"))
        self.api_b = Part(self._service("api-b", "chat_api", "api"))
        self.worker = Part(self._service("worker", "chat_api", "worker"))
        self.supervisor_said: list[str] = []
        self._supervisor = Supervisor(self.supervisor_said.append)
        self._failure: BaseException | None = None
        self._ready = threading.Event()
        self._stop = threading.Event()
        # Children die with the thread that started them, so one thread starts them all and lives as long.
        self._thread = threading.Thread(target=self._live, name="cluster", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(START_SECONDS) or self._failure is not None:
            failure = self._failure
            self.__exit__(None, None, None)
            raise CannotStart(f"the cluster did not start: {failure}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(30)
        shutil.rmtree(self._folder, ignore_errors=True)

    # -- addresses ----------------------------------------------------------------------------------------

    @property
    def urls(self) -> tuple[str, str]:
        """The two replicas of the chat API."""
        return self.url("api-a"), self.url("api-b")

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"

    def port(self, name: str) -> int:
        return self._ports[name]

    @contextlib.contextmanager
    def mcp_servers(self) -> Iterator[None]:
        """The agent is started again before and after: with them it takes longer to come back when it was killed."""
        without = self._mcp_config.read_bytes()
        self._restart_agent_with(orjson.dumps({"mcpServers": self._mcp_servers()}))
        try:
            yield
        finally:
            self._restart_agent_with(without)

    def _restart_agent_with(self, mcp_config: bytes) -> None:
        self._mcp_config.write_bytes(mcp_config)
        pid = self.agent.pid
        self.agent.kill()
        self.agent.wait_until_back(pid)

    def kill_desk(self) -> float:
        """kill -9 of the MCP server that the agent has started; returns when, in seconds since the epoch."""
        for process in psutil.Process(self.agent.pid).children(recursive=True):
            if process.cmdline()[1:] == ["-P", str(_MCP_SERVER)]:
                process.kill()
                return time.time()
        raise AssertionError("the agent has no MCP server of its own now")

    @property
    def dsn(self) -> str:
        """The database as superuser, for looking behind the scenes."""
        return self._postgres.url("postgres", self._credentials.superuser, database.DATABASE, driver="postgresql")

    @property
    def redis_url(self) -> str:
        return self._valkey.url()

    @property
    def secret_key(self) -> str:
        """What access tokens are signed with."""
        return self._credentials.secret_key

    @property
    def service_key(self) -> str:
        """What the services show each other."""
        return self._credentials.service_key

    def check(self) -> None:
        """Raise what the supervisor gave up with, if it did."""
        if self._failure is not None:
            raise self._failure

    def log_sizes(self) -> dict[Path, int]:
        return {path: path.stat().st_size for path in (self._folder / "logs").iterdir()}

    def troubles_since(self, sizes: dict[Path, int]) -> Iterator[str]:
        """Lines of the services' logs that tell of an error, with what stands below them."""
        for path in sorted((self._folder / "logs").glob("*.log")):
            with path.open("rb") as log:
                log.seek(sizes.get(path, 0))
                lines = log.read().decode(errors="replace").splitlines()
            below = 0
            for line in lines:
                below = _LINES_BELOW if _TROUBLE.search(line) else below - 1
                if below > 0:
                    yield f"{path.stem}: {line}"

    # -- the supervising thread ---------------------------------------------------------------------------

    def _live(self) -> None:
        try:
            self._start()
            self._ready.set()
            while not self._stop.is_set():
                self._supervisor.tend()
                self._stop.wait(_TEND_SECONDS)
        except BaseException as error:  # noqa: BLE001 - the thread's boundary: `check` raises it in the test
            self._failure = error
            self._ready.set()
        finally:
            for part in (self.model, self.mail, self.agent, self.api_a, self.api_b, self.worker):
                with contextlib.suppress(RuntimeError, ProcessLookupError):
                    part.kill()  # a graceful end is tested elsewhere
            self._supervisor.stop()

    def _start(self) -> None:
        self._supervisor.add(self.valkey)
        self._supervisor.add(self.postgres)
        urls = database.prepare(self._postgres, self._credentials)
        for environment in (self._environment, self._environment_of_b):
            environment |= {
                "COLLOQUY_REDIS_URL": self._valkey.url(),
                "COLLOQUY_DATABASE_URL": urls.api,
                "COLLOQUY_AGENT_DATABASE_URL": urls.agent,
            }
        upgrade(urls.owner)
        services = (self.model, self.mail, self.agent, self.api_a, self.api_b, self.worker)
        self._supervisor.add(*services)
        deadline = time.monotonic() + START_SECONDS - 10
        for part in services:
            while not part.answers():
                self._supervisor.tend()
                if time.monotonic() > deadline or self._stop.is_set():
                    raise CannotStart(f"{part.name} does not answer: {last_lines(part.log_path)}")
                time.sleep(_TEND_SECONDS)

    def _service(self, name: str, module: str, *arguments: str) -> Service:
        port = self._ports.get(name)
        return Service(
            name,
            [sys.executable, "-m", module, *arguments],
            log_path=self._folder / "logs" / f"{name}.log",
            env=self._environment_of_b if name == "api-b" else self._environment,
            stop_seconds=0.5,
            address=None if port is None else ("127.0.0.1", port),
        )

    def _mcp_servers(self) -> dict[str, Any]:
        """Both take notes: `record` must not be run twice, `record_again` may be."""
        tools = {"tools": ["record", "record_again"], "repeatable": ["record_again"]}
        environment = {"MCP_RECORD_FILE": str(self.executions_path)}
        return {
            "desk": {"command": sys.executable, "args": ["-P", str(_MCP_SERVER)], "env": environment, **tools},
            "mail": {"url": f"{self.url('mail')}/mcp", **tools},
        }

    def _addresses_and_keys(self) -> dict[str, str]:
        """Nothing but addresses and keys: what is tested are the defaults that are shipped."""
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "COLLOQUY_DATA_DIR": str(self._folder),
            "COLLOQUY_SECRET_KEY": self._credentials.secret_key,
            "COLLOQUY_SERVICE_KEY": self._credentials.service_key,
            "COLLOQUY_API_PORT": str(self._ports["api-a"]),
            "COLLOQUY_API_URL": self.url("api-a"),
            "COLLOQUY_WORKER_PORT": str(self._ports["worker"]),
            "COLLOQUY_AGENT_PORT": str(self._ports["agent"]),
            "COLLOQUY_AGENT_URL": self.url("agent"),
            "COLLOQUY_DEFAULT_PROVIDER": "openai",
            "OPENAI_API_KEY": "nobody-checks-this-one",
            "OPENAI_BASE_URL": f"{self.url('model')}/v1",
            "COLLOQUY_MCP_CONFIG": str(self._mcp_config),
            "MCP_RECORD_FILE": str(self.executions_path),
        }
