"""The tools that the agent offers."""

from __future__ import annotations

from typing import Protocol

import httpx
from pydantic import ValidationError

from chat_api.clients.connection import AgentBrokeOff, AgentConnection
from chat_api.config import ApiSettings
from shared.contracts.tools import ToolList

_SECONDS = 5.0


class AgentTools(Protocol):
    """What the chat API needs to know of the agent's tools; tests inject a scripted agent."""

    async def listing(self) -> ToolList:
        """All of them as they are now. Raises `AgentUnavailable`, `AgentBrokeOff` or `AgentRefused`."""
        ...


class HttpAgentTools:
    """Speaks to the agent over HTTP."""

    def __init__(self, settings: ApiSettings, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._connection = AgentConnection(settings, transport=transport)

    async def close(self) -> None:
        await self._connection.close()

    async def listing(self) -> ToolList:
        body = await self._connection.call("GET", "/v1/tools", seconds=_SECONDS)
        try:
            return ToolList.model_validate_json(body)
        except ValidationError:
            raise AgentBrokeOff("The agent service answered with something that is not in its contract.") from None
