"""Starts the misbehaving MCP servers, and calls their tools."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from agent_service.adapters.mcp_config import HttpServer, StdioServer
from agent_service.adapters.mcp_source import McpSource
from agent_service.ports.tools import ToolContext
from shared.contracts.tools import ToolSourceState

Server = StdioServer | HttpServer

_PROGRAM = Path(__file__).with_name("mcp_server.py")
_BARE_PROGRAM = Path(__file__).with_name("mcp_bare_server.py")


def over_stdio(*arguments: str, **config: Any) -> StdioServer:
    return StdioServer.model_validate({"command": sys.executable, "args": ["-P", str(_PROGRAM), *arguments], **config})


def over_bare_stdio(*arguments: str, **config: Any) -> StdioServer:
    """The one that is there at once."""
    program = ["-S", "-P", str(_BARE_PROGRAM)]
    return StdioServer.model_validate({"command": sys.executable, "args": [*program, *arguments], **config})


class McpHttpProcess:
    """The server over HTTP. `url` is what the config wants."""

    def __init__(self, *arguments: str, port: int = 0) -> None:
        self._arguments = [sys.executable, "-P", str(_PROGRAM), "--port", str(port), *arguments]
        self.url = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        assert self.url, "the MCP server did not start"
        return self

    @property
    def port(self) -> int:
        return int(self.url.split(":")[2].split("/")[0])

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()


async def ready(source: McpSource, *, restarts: int = 0, seconds: float = 60.0) -> None:
    """Wait until its session is open, and was opened again at least so often."""
    async with asyncio.timeout(seconds):
        while source.state().state is not ToolSourceState.READY or source.state().restarts < restarts:
            await asyncio.sleep(0.01)


async def said(source: McpSource, tool: str, /, **arguments: Any) -> str:
    """What the tool answers. Raises `ToolFailed`."""
    found = {each.spec.name: each for each in source.tools()}[f"{source.server}__{tool}"]
    return (await found.call(arguments, ToolContext(run_id=uuid4()))).text
