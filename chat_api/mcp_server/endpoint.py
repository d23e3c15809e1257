"""Imports the protocol when it is first spoken."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Protocol

from chat_api.mcp_server.schemas import McpAnswer, McpMessage
from chat_api.mcp_server.tools import CallerTools

_PROTOCOL = "chat_api.mcp_server.protocol"


class Answer(Protocol):
    """`chat_api.mcp_server.protocol.answer`."""

    async def __call__(
        self, message: McpMessage, tools: CallerTools, *, spoken_version: str | None, server_version: str
    ) -> McpAnswer | None: ...


class McpEndpoint:
    """One per process."""

    def __init__(self) -> None:
        self._answer: Answer | None = None

    async def protocol(self) -> Answer:
        if self._answer is None:
            # In a thread, because it takes most of a second; whoever comes meanwhile waits for the same import.
            self._answer = (await asyncio.to_thread(import_module, _PROTOCOL)).answer
        return self._answer
