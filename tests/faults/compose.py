"""`docker-compose.yml` as processes of this machine: the same commands, settings, roles, health checks and nginx.

What a container would bring is put in its place: names of services become 127.0.0.1 and a port, volumes become folders.
The only service that is not started by its very command is PostgreSQL, whose image prepares its folder.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.binaries import valkey_server
from deploy.local.ports import is_free

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
NGINX_CONF = ROOT / "deploy" / "nginx" / "nginx.conf"
REQUIRED = "COLLOQUY_REQUIRE_NGINX"
"""Set to 1 where tests must fail, rather than be skipped, without nginx."""

_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?:(?P<how>:[-?])(?P<word>[^}]*))?\})")
_PORTS = {
    "postgres": 5432, "valkey": 6379, "agent": 8001, "api-1": 8000, "api-2": 8000, "worker": 8002, "nginx": 8080,
}  # fmt: skip
_JOB_SECONDS = 60


def nginx_path() -> str:
    """Where nginx is. Skips the test without one, or fails it where one is required."""
    # Debian puts it where only root's PATH leads.
    found = shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin")))
    if found is None:
        reason = "there is no nginx: `make nginx` installs it on Debian"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{reason}, and {REQUIRED} is set")
        pytest.skip(reason)
    return found


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """What Compose makes of `${NAME}`, `${NAME:-default}`, `${NAME:?message}` and `$$`. Raises `KeyError`."""
    match value:
        case str():
            return _VARIABLE.sub(lambda found: _replacement(found, variables), value)
        case list():
            return [interpolated(item, variables) for item in value]
        case dict():
            return {key: interpolated(item, variables) for key, item in value.items()}
        case _:
            return value


def _replacement(found: re.Match[str], variables: Mapping[str, str]) -> str:
    if found["dollar"]:
        return "$"
    value = variables.get(found["name"], "")
    if not value and found["how"] == ":?":
        raise KeyError(found["name"])
    return value or (found["word"] or "")


@dataclass(frozen=True)
class Container:
    """A service of the file, as a process."""

    argv: list[str]
    environment: dict[str, str]
    health_check: list[str]


@dataclass
class Compose:
    """The file with its variables filled in. `folder` takes the place of volumes; `more` is `deploy/settings.env`."""

    folder: Path
    variables: Mapping[str, str]
    path: str
    """Where programs are looked for, as in PATH."""
    more: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        document = yaml.safe_load(COMPOSE_FILE.read_text())
        self._services: dict[str, dict[str, Any]] = interpolated(document["services"], self.variables)
        self.ports = dict(zip(_PORTS, _own_ports(len(_PORTS)), strict=True))
        self._places = {f"{name}:{port}": f"127.0.0.1:{self.ports[name]}" for name, port in _PORTS.items()}
        self._configuration = self.folder / "nginx"
        self._configuration.mkdir()
        (self._configuration / "nginx.conf").write_text(self._rendered(NGINX_CONF.read_text()))

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.ports[service]}"

    def container(self, name: str) -> Container:
        service = self._services[name]
        own_port = _PORTS.get(name)
        places = self._places | self._folders(service)
        if own_port is not None:
            port = str(self.ports[name])
            places |= {
                f"127.0.0.1:{own_port}": f"127.0.0.1:{port}",
                f"--port {own_port}": f"--port {port} --bind 127.0.0.1",
            }
        environment = {
            "PATH": self.path,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            # Of the image: see deploy/Dockerfile.
            "COLLOQUY_DATA_DIR": str(self.folder / "data"),
            # What a health check does not say, because it is PostgreSQL's own.
            "PGPORT": str(self.ports["postgres"]),
            **self.more,
        }
        for variable, value in service.get("environment", {}).items():
            if variable.endswith("_HOST") and value == "0.0.0.0":  # noqa: S104 - it is what containers listen on
                environment[variable] = "127.0.0.1"
            elif variable.endswith("_PORT") and value == str(own_port):
                environment[variable] = str(self.ports[name])
            else:
                environment[variable] = _put(value, places)
        kind, *check = service.get("healthcheck", {}).get("test", ["NONE"])
        return Container(
            argv=[_put(part, places) for part in service["command"]],
            environment=environment,
            health_check=[_put(part, places) for part in (["sh", "-c", *check] if kind == "CMD-SHELL" else check)],
        )

    def run(self, name: str) -> None:
        """Run a job to its end, as `service_completed_successfully` asks for."""
        container = self.container(name)
        done = subprocess.run(
            container.argv,
            env=container.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=_JOB_SECONDS,
        )
        assert done.returncode == 0, f"{name}: {shlex.join(container.argv)}: {done.stdout}{done.stderr}"

    def listens(self, name: str) -> bool:
        """Whether anybody takes connections on the service's port."""
        try:
            socket.create_connection(("127.0.0.1", self.ports[name]), timeout=1).close()
        except OSError:
            return False
        return True

    def is_healthy(self, name: str) -> bool:
        """What the health check of the service says."""
        container = self.container(name)
        asked = subprocess.run(
            container.health_check,
            env=container.environment,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=_JOB_SECONDS,
        )
        return asked.returncode == 0

    def server_settings(self, name: str) -> dict[str, str]:
        """The `-c name=value` of PostgreSQL's command."""
        return dict(part.split("=", 1) for part in self._services[name]["command"] if "=" in part)

    def _folders(self, service: Mapping[str, Any]) -> dict[str, str]:
        """Container path → path here."""
        folders = {}
        for volume in service.get("volumes", []):
            source, target = volume.split(":")[:2]
            if source == "./deploy/nginx":
                folders[target] = str(self._configuration)
            elif source.startswith("."):
                folders[target] = str(ROOT / source)
            else:
                folders[target] = str(self._made("volumes", source))
        for mount in service.get("tmpfs", []):
            target = mount.split(":")[0]
            folders[target] = str(self._made("tmpfs", target.strip("/").replace("/", "-")))
        return folders

    def _made(self, *parts: str) -> Path:
        folder = self.folder.joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _rendered(self, configuration: str) -> str:
        listens = f"listen {_PORTS['nginx']};"
        assert listens in configuration
        configuration = configuration.replace(listens, f"listen 127.0.0.1:{self.ports['nginx']};")
        return _put(configuration, self._places)


def _own_ports(count: int) -> set[int]:
    """Below those that the kernel hands out, or somebody else would have one while its process is away."""
    ports: set[int] = set()
    while len(ports) < count:
        if is_free("127.0.0.1", port := random.randrange(20_000, 32_000)):
            ports.add(port)
    return ports


def _put(text: str, places: Mapping[str, str]) -> str:
    for there, here in places.items():
        text = text.replace(there, here)
    return text


def programs(*folders: Path | str) -> str:
    """A PATH with our own interpreter, the embedded Valkey and `folders` in front."""
    own = [Path(sys.executable).parent, Path(valkey_server()).parent, *folders]
    return os.pathsep.join([*map(str, own), os.environ.get("PATH", os.defpath)])
