"""The agent's models and embeddings, in OpenAI's words."""

from __future__ import annotations

from typing import Protocol

import httpx
from pydantic import ValidationError

from chat_api.clients.connection import AgentBrokeOff, AgentConnection
from chat_api.config import ApiSettings
from shared.openai.embeddings import EmbeddingRequest
from shared.openai.models import OpenAIModelList

_LIST_SECONDS = 5.0
_EMBED_SECONDS = 120.0
"""The local model takes as long for two thousand long texts."""


class AgentModels(Protocol):
    """What the chat API hands on of the agent's OpenAI-compatible door.

    Each call raises `AgentUnavailable`, `AgentBrokeOff` or `AgentRefused`. All may be repeated.
    """

    async def listing(self) -> OpenAIModelList: ...

    async def embed(self, wanted: EmbeddingRequest) -> bytes:
        """The answer as the agent wrote it: thousands of vectors are not read again on their way."""
        ...


class HttpAgentModels:
    """Speaks to the agent over HTTP."""

    def __init__(self, settings: ApiSettings, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._connection = AgentConnection(settings, transport=transport)

    async def close(self) -> None:
        await self._connection.close()

    async def listing(self) -> OpenAIModelList:
        body = await self._connection.call("GET", "/v1/models", seconds=_LIST_SECONDS)
        try:
            return OpenAIModelList.model_validate_json(body)
        except ValidationError:
            raise AgentBrokeOff("The agent service answered with something that is not in its contract.") from None

    async def embed(self, wanted: EmbeddingRequest) -> bytes:
        body = wanted.model_dump_json(exclude_none=True)
        return await self._connection.call("POST", "/v1/embeddings", content=body, seconds=_EMBED_SECONDS)
