"""`servers_config.json`: which MCP servers there are, and what their tools may do.

    {"mcpServers": {
        "time": {"command": "python", "args": ["-m", "mcp_server_time"], "safe": ["get_current_time"]},
        "wiki": {"url": "https://wiki.example/mcp", "headers": {"Authorization": "Bearer ${WIKI_TOKEN}"}}
    }}

A process gets `PATH`, so that commands are found, and what its `env` says; nothing else of the agent's environment,
and starts in the agent's working folder. `${NAME}` in a value of `env` or `headers` is the agent's own variable.

What a server says of its tools (`readOnlyHint` and the like) is its own claim, and is not heeded: a tool is risky and
not repeatable unless `safe` and `repeatable` name it. They, `tools`, `redact` and `redact_results` take the server's
own names of its tools.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    StringConstraints,
    Tag,
    ValidationError,
    model_validator,
)

from shared.settings import SettingsError

MAX_FILE_BYTES = 1024 * 1024
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_FORBIDDEN_IN_HEADER = re.compile(r"[^\t\x20-\x7e]")

_ServerName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
_Argument = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
_VariableName = Annotated[str, StringConstraints(pattern=r"^[^=\x00,]+$")]
_HeaderName = Annotated[str, StringConstraints(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]


class _Server(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    timeout_seconds: float | None = Field(
        default=None, gt=0, le=3600, description="Of one call; COLLOQUY_TOOL_SECONDS is the most."
    )
    tools: frozenset[str] | None = Field(default=None, description="The only ones that are offered. Unset: all.")
    safe: frozenset[str] = Field(default=frozenset(), description="Tools that run without asking, in mode `risky`.")
    repeatable: frozenset[str] = Field(default=frozenset(), description="Tools that may be run twice without harm.")
    redact: dict[str, frozenset[str]] = Field(default={}, description="Arguments that no log may show, by tool.")
    redact_results: frozenset[str] = Field(default=frozenset(), description="Tools whose results no log may show.")

    @model_validator(mode="after")
    def _named_tools_are_offered(self) -> _Server:
        if self.tools is not None:
            named = self.safe | self.repeatable | self.redact.keys() | self.redact_results
            for name in sorted(named - self.tools):
                raise ValueError(f"`{name}` is not among its `tools`")
        return self


class StdioServer(_Server):
    """A process of ours that speaks over its standard input and output."""

    command: Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\x00]*$")]
    args: list[_Argument] = []
    env: dict[_VariableName, SecretStr] = {}


class HttpServer(_Server):
    """A server somewhere, over streamable HTTP."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+\S*$")]
    headers: dict[_HeaderName, SecretStr] = {}


def _kind(value: Any) -> str:
    return "http" if isinstance(value, dict) and "url" in value else "stdio"


McpServer = Annotated[
    Annotated[StdioServer, Tag("stdio")] | Annotated[HttpServer, Tag("http")],
    Discriminator(_kind),
]


class _ServersFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    servers: dict[_ServerName, McpServer] = Field(alias="mcpServers", max_length=64)


def load_mcp_servers(path: Path, environment: Mapping[str, str] = os.environ) -> dict[str, StdioServer | HttpServer]:
    """The servers that the file names. Raises `SettingsError`, with one plain line per cause and no value in it."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{_where(path)}: the file cannot be read: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise SettingsError(f"{_where(path)}: the file is larger than {MAX_FILE_BYTES} bytes")
    try:
        found = _ServersFile.model_validate(orjson.loads(content))
    except orjson.JSONDecodeError as error:
        raise SettingsError(
            f"{_where(path)}: the file is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from None
    except ValidationError as error:
        raise SettingsError("\n".join(f"{_where(path)}: {cause}" for cause in _causes(error))) from None
    servers: dict[str, StdioServer | HttpServer] = {}
    for name, server in found.servers.items():
        try:
            servers[name] = _filled(server, environment)
        except ValueError as error:
            raise SettingsError(f"{_where(path)}: server `{name}`: {error}") from None
    return servers


def _where(path: Path) -> str:
    return f"COLLOQUY_MCP_CONFIG ({path})"


def _causes(error: ValidationError) -> list[str]:
    lines = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        place = [str(part) for part in item["loc"]]
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "there is no such key"
        if len(place) < 2 or place[0] != "mcpServers":
            lines.append(f"`{'.'.join(place)}`: {message}" if place else message)
            continue
        key = ".".join(place[3:])  # after the kind of server
        lines.append(f"server `{place[1]}`: `{key}`: {message}" if key else f"server `{place[1]}`: {message}")
    return lines


def _filled(server: StdioServer | HttpServer, environment: Mapping[str, str]) -> StdioServer | HttpServer:
    """With the references replaced. Raises `ValueError`, which names the key and never the value."""
    if isinstance(server, StdioServer):
        env = {name: _resolved(f"env.{name}", value, environment) for name, value in server.env.items()}
        for name, value in env.items():
            if "\x00" in value.get_secret_value():
                raise ValueError(f"`env.{name}` holds a NUL")
        return server.model_copy(update={"env": env})
    headers = {name: _resolved(f"headers.{name}", value, environment) for name, value in server.headers.items()}
    for name, value in headers.items():
        if _FORBIDDEN_IN_HEADER.search(value.get_secret_value()):
            raise ValueError(f"`headers.{name}` holds a character that no header may")
    return server.model_copy(update={"headers": headers})


def _resolved(key: str, value: SecretStr, environment: Mapping[str, str]) -> SecretStr:
    def look_up(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise ValueError(f"`{key}` refers to `{match[1]}`, which the agent's environment does not have")
        return environment[match[1]]

    return SecretStr(_REFERENCE.sub(look_up, value.get_secret_value()))
