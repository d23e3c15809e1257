"""The deployment of `docker-compose.yml`, running: two APIs behind a real nginx, stores, agent, worker."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deploy.local.binaries import postgres_folder
from deploy.local.credentials import Credentials
from deploy.local.files import last_lines
from deploy.local.ports import free_port
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.processes import unprivileged_account
from deploy.local.services import Service
from tests.faults.compose import ROOT, Compose, nginx_path, programs

DATABASE = "colloquy"
_START_SECONDS = 80.0
_STOP_SECONDS = 15.0
_SECRETS = (
    "POSTGRES_PASSWORD", "COLLOQUY_OWNER_PASSWORD", "COLLOQUY_API_PASSWORD", "COLLOQUY_AGENT_PASSWORD",
    "VALKEY_PASSWORD", "COLLOQUY_SECRET_KEY", "COLLOQUY_SERVICE_KEY",
)  # fmt: skip


class Deployment:
    """Everything, in a new folder that is gone afterwards. Use it as a context manager, in the main thread.

    Every folder above it has to be open to whom PostgreSQL runs as when we are root.
    """

    def __init__(self, folder: Path) -> None:
        nginx = Path(nginx_path())
        self._folder = folder
        self._folder.mkdir()
        self._folder.chmod(0o711)
        self._logs = folder / "logs"
        model_port = free_port()
        self.variables = {name: secrets.token_hex(32) for name in _SECRETS} | {
            "COLLOQUY_DEFAULT_PROVIDER": "openai",
            "OPENAI_API_KEY": "nobody-checks-this-one",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{model_port}/v1",
        }
        tools = postgres_folder(unprivileged_account()) / "bin"
        # One person says more here than a plan lets people say.
        more = {"COLLOQUY_PLANS": '{"free": {}}'}
        self.compose = Compose(folder, self.variables, programs(tools, nginx.parent), more)
        self._postgres = EmbeddedPostgres(
            folder,
            Credentials(superuser=self.variables["POSTGRES_PASSWORD"]),
            port=self.compose.ports["postgres"],
            settings=self.compose.server_settings("postgres"),
        )
        model = [sys.executable, "-m", "tests.fakes.scripted_model", "--port", str(model_port)]
        self._model = Service(
            "model",
            model,
            log_path=self._logs / "model.log",
            env={"PATH": self.compose.path, "PYTHONPATH": str(ROOT)},
            stop_seconds=0.2,
            address=("127.0.0.1", model_port),
        )
        self._services: dict[str, Service] = {}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def url(self) -> str:
        """What people know of it: nginx."""
        return self.compose.url("nginx")

    @property
    def dsn(self) -> str:
        """The database as superuser, for looking behind the scenes."""
        return self._postgres.url("postgres", self.variables["POSTGRES_PASSWORD"], DATABASE, driver="postgresql")

    @property
    def secret_key(self) -> str:
        """What access tokens are signed with."""
        return self.variables["COLLOQUY_SECRET_KEY"]

    def log(self, service: str) -> str:
        return (self._logs / f"{service}.log").read_text(errors="replace")

    def requests(self) -> list[dict[str, Any]]:
        """What nginx has written of each request that has ended, in that order."""
        return [json.loads(line) for line in self.log("nginx").splitlines()]

    def ask_to_stop(self, service: str) -> None:
        """SIGTERM, as `docker compose stop` and `up` send it."""
        self._services[service].ask_to_stop()

    def exit_code(self, service: str) -> int | None:
        """None while it runs."""
        return self._services[service].poll()

    def start(self, *names: str) -> None:
        """Start services of the file again, or for the first time. They are not healthy yet."""
        for name in names:
            container = self.compose.container(name)
            service = Service(
                name,
                container.argv,
                log_path=self._logs / f"{name}.log",
                env=container.environment,
                stop_seconds=_STOP_SECONDS,
            )
            service.start()
            self._services[name] = service

    def wait_until_healthy(self, names: Iterable[str], seconds: float = _START_SECONDS) -> None:
        """Raises `AssertionError` with the end of its log for one that is not, or has ended."""
        give_up_at = time.monotonic() + seconds
        for name in names:
            # A look at the port is cheaper than the health check, which starts a process.
            while not (self.compose.listens(name) and self.compose.is_healthy(name)):
                ended = self._services[name].poll()
                late = time.monotonic() > give_up_at
                assert not late, f"{name} is not healthy: {last_lines(self._logs / f'{name}.log')}"
                assert ended is None, f"{name} ended with {ended}: {last_lines(self._logs / f'{name}.log')}"
                time.sleep(0.1)

    # -- in the order of `depends_on` ---------------------------------------------------------------------

    def _start(self) -> None:
        self.start("valkey")
        self._model.start()
        self._postgres.start()
        # Its image does so from POSTGRES_DB.
        made = self._postgres.psql(script=f"CREATE DATABASE {DATABASE}")
        assert made.returncode == 0, made.stderr
        assert self.compose.is_healthy("postgres")
        self.compose.run("roles")
        self.compose.run("migrate")
        self.start("agent", "api-1", "api-2", "worker")
        self.wait_until_healthy(("agent", "api-1", "api-2", "worker"))
        self.start("nginx")
        self.wait_until_healthy(("nginx",))

    def _stop(self) -> None:
        for service in self._services.values():
            # A graceful end is tested elsewhere; but nginx has children, which only it can end.
            if service.poll() is None and service.name != "nginx":
                os.kill(service.pid, signal.SIGKILL)
        for service in self._services.values():
            service.stop()
        self._model.stop()
        self._postgres.kill()  # what it would still write is thrown away
        self._postgres.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
