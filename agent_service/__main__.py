"""`python -m agent_service` serves; with `--openapi` it prints the OpenAPI document instead.

Exit code 2 for settings that cannot work, 1 when it cannot serve.
"""

from __future__ import annotations

import json
import socket
import sys

from agent_service.adapters.mcp_config import load_mcp_servers
from agent_service.config import AgentSettings
from shared.logging import configure_logging
from shared.settings import SettingsError


def _port_trouble(host: str, port: int) -> str | None:
    """Why the address cannot be served on. Tried here because the server would answer with a trace."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return f"The agent service cannot listen on {host}:{port}: {error.strerror or error}."
    return None


def _print_openapi(settings: AgentSettings) -> int:
    from agent_service.main import create_app  # noqa: PLC0415 - heavy

    json.dump(create_app(settings).openapi(), sys.stdout)
    return 0


def _cannot_work(error: SettingsError) -> int:
    sys.stderr.write(f"The settings cannot work: {'; '.join(str(error).splitlines())}\n")
    return 2


def main() -> int:
    try:
        settings = AgentSettings.load()
        if settings.mcp_config is not None:
            load_mcp_servers(settings.mcp_config)
    except SettingsError as error:
        return _cannot_work(error)
    if sys.argv[1:] == ["--openapi"]:
        return _print_openapi(settings)
    trouble = _port_trouble(settings.agent_host, settings.agent_port)
    if trouble is not None:
        sys.stderr.write(trouble + "\n")
        return 1
    configure_logging(settings.log_level, service="agent")
    from agent_service.main import run  # noqa: PLC0415 - a wrong setting should be told before the heavy imports

    try:
        return run(settings)
    except SettingsError as error:  # of a file that they name
        return _cannot_work(error)


if __name__ == "__main__":
    sys.exit(main())
