"""`colloquy up`: both services, the worker and their stores on this machine, until Ctrl-C."""

from __future__ import annotations

import contextlib
import http.client
import importlib
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType

from pydantic import SecretStr

from deploy.local import database
from deploy.local.credentials import Credentials
from deploy.local.embedded_env import write_embedded_env
from deploy.local.errors import CannotStart
from deploy.local.files import FileLock, last_lines, open_log
from deploy.local.migrated import is_migrated, remember_migrated
from deploy.local.ports import is_free
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.services import Service
from deploy.local.supervisor import LogFollower, Supervisor, follow
from deploy.local.valkey import EmbeddedValkey
from shared.settings import CommonSettings, Environment, configured_data_dir

READY_SECONDS = 60.0
# API and worker have `shutdown_seconds` (8) together, then the agent this, then the stores: 15 s at most in all.
_AGENT_STOP_SECONDS = 2.0


class LocalSettings(CommonSettings):
    """What `up` itself needs to know; the services read their own."""

    database_url: SecretStr | None = None
    migration_database_url: SecretStr | None = None
    redis_url: SecretStr | None = None


@dataclass(frozen=True)
class Commands:
    """How each part is started; tests put small stand-ins here."""

    agent: Sequence[str] = (sys.executable, "-m", "agent_service")
    api: Sequence[str] = (sys.executable, "-m", "chat_api", "api")
    worker: Sequence[str] = (sys.executable, "-m", "chat_api", "worker")
    migrate: Sequence[str] = (sys.executable, "-m", "chat_api", "migrate", "upgrade")


class StopRequested(Exception):
    """Somebody asked us to stop while we were still starting."""


class Signals:
    """Wakes the main loop when a child ends, and remembers that we were asked to stop."""

    def __init__(self) -> None:
        self.stop_requested = False
        self._read, self._write = os.pipe()
        for descriptor in (self._read, self._write):
            os.set_blocking(descriptor, False)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._note)
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._read)
            os.close(self._write)

    def wait(self, seconds: float) -> None:
        """Sleep, but not through a signal."""
        if select.select([self._read], [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self._read, 4096)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.stop_requested = True


def say(line: str) -> None:
    """Print, unless the terminal is gone: then what runs still has to be stopped in order."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


def up(*, verbose: bool = False, commands: Commands | None = None) -> None:
    """Run everything until SIGINT, SIGTERM or SIGHUP. Raises `CannotStart` and `SettingsError`."""
    signals = Signals()
    with signals.listening():
        data_dir = configured_data_dir().absolute()
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotStart(f"{data_dir} cannot be made ({error.strerror}): set COLLOQUY_DATA_DIR") from None
        lock = FileLock(data_dir / "up.lock")
        if not _lock(lock):
            raise CannotStart(f"Colloquy already runs on {data_dir} (process {lock.holder()})")
        try:
            _Run(data_dir, signals, commands or Commands(), verbose=verbose).until_stopped()
        finally:
            lock.release()


def _lock(lock: FileLock) -> bool:
    try:
        return lock.acquire(seconds=0.5)
    except OSError as error:
        raise CannotStart(f"the data folder cannot be written ({error.strerror}): set COLLOQUY_DATA_DIR") from None


class _Run:
    """One life of `colloquy up`, in the order things happen."""

    def __init__(self, data_dir: Path, signals: Signals, commands: Commands, *, verbose: bool) -> None:
        self._data_dir = data_dir
        self._signals = signals
        self._commands = commands
        self._started_at = time.monotonic()
        self._credentials = Credentials.load_or_create(data_dir)
        # Only the keys: the addresses of an earlier life must not be taken for a person's own servers.
        write_embedded_env(data_dir, self._credentials, {})
        os.environ["COLLOQUY_DATA_DIR"] = str(data_dir)
        self._settings = LocalSettings.load()
        self._addresses: dict[str, str] = {}
        self._places: list[tuple[str, str]] = []
        self._supervisor = Supervisor(say)
        self._log_names = ("postgres", "valkey", "agent", "api", "worker") if verbose else ()
        self._postgres: EmbeddedPostgres | None = None
        self._follower: LogFollower | None = None

    def until_stopped(self) -> None:
        self._check_ports()
        self._check_own_stores()
        try:
            self._live()
            say("stopping …")
        finally:
            self._supervisor.stop()
            self._follow()
            write_embedded_env(self._data_dir, self._credentials, {})
        say("stopped")

    def _live(self) -> None:
        self._follower = follow([self._log(name) for name in self._log_names])
        try:
            self._start()
        except StopRequested:
            return
        self._announce()
        while not self._signals.stop_requested:
            self._tend()

    # -- starting -----------------------------------------------------------------------------------------

    def _check_ports(self) -> None:
        wanted = {
            "COLLOQUY_API_PORT": (self._settings.api_host, self._settings.api_port),
            "COLLOQUY_AGENT_PORT": (self._settings.agent_host, self._settings.agent_port),
        }
        deadline = time.monotonic() + 1.5  # a service of a killed supervisor may still be ending
        for variable, (host, port) in wanted.items():
            while not is_free(host, port):
                if time.monotonic() > deadline:
                    raise CannotStart(f"port {port} on {host} is taken: free it, or set {variable} to another")
                time.sleep(0.05)
        if wanted["COLLOQUY_API_PORT"] == wanted["COLLOQUY_AGENT_PORT"]:
            raise CannotStart(f"COLLOQUY_API_PORT and COLLOQUY_AGENT_PORT are both {self._settings.api_port}")

    def _check_own_stores(self) -> None:
        """Servers that a person named in the settings must answer now; later they are waited for."""
        settings = self._settings
        databases = {
            "COLLOQUY_DATABASE_URL": settings.database_url,
            "COLLOQUY_MIGRATION_DATABASE_URL": settings.migration_database_url if settings.database_url else None,
        }
        for variable, url in databases.items():
            if url is not None:
                _own_stores().check_postgres(variable, url.get_secret_value())
        if settings.redis_url is not None:
            _own_stores().check_redis("COLLOQUY_REDIS_URL", settings.redis_url.get_secret_value())

    def _start(self) -> None:
        self._start_valkey()
        self._start_postgres()
        write_embedded_env(self._data_dir, self._credentials, self._addresses)
        self._continue()
        commands = self._commands
        # The agent loads while the migrations run: it needs no table to start.
        self._supervisor.add(self._service("agent", commands.agent, _AGENT_STOP_SECONDS, self._agent_address))
        self._migrate()
        self._continue()
        seconds = self._settings.shutdown_seconds
        self._supervisor.add(self._service("api", commands.api, seconds, self._api_address))
        self._wait_until_ready()
        # Last, so that it does not take the processor from those that somebody waits for.
        self._supervisor.add(self._service("worker", commands.worker, seconds, None), with_last=True)

    def _start_valkey(self) -> None:
        if self._settings.redis_url is not None:
            self._places.append(("Redis", "yours (COLLOQUY_REDIS_URL)"))
            return
        valkey = EmbeddedValkey(self._data_dir, self._credentials)
        self._supervisor.add(valkey)
        self._addresses["COLLOQUY_REDIS_URL"] = valkey.url()
        self._places.append(("Valkey", f"127.0.0.1:{valkey.port}"))

    def _start_postgres(self) -> None:
        if self._settings.database_url is not None:
            self._places.append(("PostgreSQL", "yours (COLLOQUY_DATABASE_URL)"))
            return
        postgres = self._postgres = EmbeddedPostgres(self._data_dir, self._credentials)
        self._supervisor.add(postgres)
        urls = database.prepare(postgres, self._credentials)
        self._addresses["COLLOQUY_DATABASE_URL"] = urls.api
        self._addresses["COLLOQUY_MIGRATION_DATABASE_URL"] = urls.owner
        self._addresses["COLLOQUY_AGENT_DATABASE_URL"] = urls.agent
        self._places.append(("PostgreSQL", f"127.0.0.1:{postgres.port}"))

    def _migrate(self) -> None:
        if self._postgres is not None and is_migrated(self._postgres, self._data_dir):
            return
        log_path = self._log("migrate")
        with os.fdopen(open_log(log_path), "ab") as log:
            done = subprocess.run(
                list(self._commands.migrate),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                check=False,
            )
        if done.returncode != 0:
            raise CannotStart(f"the migrations failed: {last_lines(log_path, 1)} (see {log_path})")
        if self._postgres is not None:
            remember_migrated(self._postgres, self._data_dir)

    def _wait_until_ready(self) -> None:
        waiting = {"agent": self._agent_address, "api": self._api_address}
        deadline = time.monotonic() + READY_SECONDS
        while waiting:
            self._tend()
            self._continue()
            waiting = {name: address for name, address in waiting.items() if not _is_ready(address)}
            if time.monotonic() > deadline:
                name = next(iter(waiting))
                raise CannotStart(f"{name} is not ready after {READY_SECONDS:.0f} s: see {self._log(name)}")

    def _continue(self) -> None:
        if self._signals.stop_requested:
            raise StopRequested

    # -- running ------------------------------------------------------------------------------------------

    def _tend(self) -> None:
        wait = self._supervisor.tend()
        self._follow()
        self._signals.wait(min(wait, 0.1) if self._log_names else wait)

    def _follow(self) -> None:
        if self._follower is not None:
            for line in self._follower.lines():
                say(line)

    def _announce(self) -> None:
        api, agent = self._url(self._api_address), self._url(self._agent_address)
        seconds = time.monotonic() - self._started_at
        say(f"Colloquy is ready after {seconds:.1f} s; Ctrl-C stops it")
        services = [("chat API", f"{api} (docs at {api}/docs)"), ("agent", agent)]
        if self._settings.environment is not Environment.PRODUCTION:
            services.insert(1, ("playground", f"{api}/playground"))
        for name, place in [*services, *self._places, ("logs", str(self._data_dir / "logs"))]:
            say(f"  {name:<12} {place}")
        say("Try it, in another terminal:")
        command = _command_path()
        say(f"  {command} check --api-url {api} --agent-url {agent}")

    # -- parts --------------------------------------------------------------------------------------------

    @property
    def _api_address(self) -> tuple[str, int]:
        return _reachable(self._settings.api_host), self._settings.api_port

    @property
    def _agent_address(self) -> tuple[str, int]:
        return _reachable(self._settings.agent_host), self._settings.agent_port

    @staticmethod
    def _url(address: tuple[str, int]) -> str:
        host, port = address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def _log(self, name: str) -> Path:
        return self._data_dir / "logs" / f"{name}.log"

    def _service(
        self, name: str, command: Sequence[str], stop_seconds: float, address: tuple[str, int] | None
    ) -> Service:
        return Service(
            name,
            command,
            log_path=self._log(name),
            env=self._environment(),
            stop_seconds=stop_seconds,
            address=address,
        )

    @staticmethod
    def _environment() -> dict[str, str]:
        return {**os.environ, "PYTHONUNBUFFERED": "1"}


def _own_stores() -> ModuleType:
    # The drivers take a third of a second to load, which embedded stores need not pay.
    return importlib.import_module("deploy.local.own_stores")


def _reachable(host: str) -> str:
    """Where to reach a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound


def _is_ready(address: tuple[str, int]) -> bool:
    connection = http.client.HTTPConnection(*address, timeout=2.0)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _command_path() -> str:
    """How to call `colloquy` from another terminal in this folder."""
    script = Path(sys.executable).parent / "colloquy"
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m chat_api"
    with contextlib.suppress(ValueError):
        script = script.relative_to(Path.cwd())
    return shlex.quote(str(script))
