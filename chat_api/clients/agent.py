"""The one way to the agent service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Protocol

import httpx
import orjson
from pydantic import TypeAdapter

from chat_api.clients.connection import (
    EVENT_STREAM,
    AgentBrokeOff,
    AgentConnection,
    AgentRefused,
    AgentUnavailable,
    event_data,
)
from chat_api.config import ApiSettings
from shared.contracts.chat import LAST_EVENTS, ChatEvent, ChatRequest, DeltaEvent

__all__ = ["AGENT_RESTARTING", "Agent", "AgentBrokeOff", "AgentRefused", "AgentUnavailable", "HttpAgent"]

_CHAT_EVENT: TypeAdapter[ChatEvent] = TypeAdapter(ChatEvent)
AGENT_RESTARTING = "agent-restarting"
"""Code of the problem that an agent ends its turns with when it is told to stop."""


class Agent(Protocol):
    """What the chat API needs of the agent; tests inject a scripted one."""

    def chat(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """One turn. Ends with one of `LAST_EVENTS`, or raises one of the problems of `connection`."""
        ...


class HttpAgent:
    """Speaks to the agent over HTTP. Closing the iterator closes the connection, which stops the model."""

    def __init__(self, settings: ApiSettings, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._connection = AgentConnection(settings, transport=transport)

    async def close(self) -> None:
        await self._connection.close()

    async def ping(self) -> None:
        await self._connection.ping()

    async def chat(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        body = request.model_dump_json(exclude_none=True)
        async with (
            self._connection.exchange("POST", "/v1/chat", accept=EVENT_STREAM, content=body) as response,
            aclosing(_events(response)) as events,
        ):
            async for event in events:
                yield event


async def _events(response: httpx.Response) -> AsyncGenerator[ChatEvent, None]:
    async with aclosing(event_data(response)) as arriving:
        async for data in arriving:
            for event in _parse(data):
                yield event
                if isinstance(event, LAST_EVENTS):
                    return
    raise AgentBrokeOff


def _parse(arrived: list[bytes]) -> Iterator[ChatEvent]:
    """The events in some data, neighbouring deltas joined: what arrives together travels together."""
    texts: list[str] = []
    for data in arrived:
        try:
            raw = orjson.loads(data)
            # The hot path: one check instead of a model. Who answers is said once, with the first of them.
            if raw["type"] == "delta" and isinstance(raw["text"], str) and raw.get("provider") is None:
                texts.append(raw["text"])
                continue
            event = _CHAT_EVENT.validate_python(raw)
        except (ValueError, KeyError, TypeError):
            if texts:
                yield DeltaEvent(text="".join(texts))
            raise AgentBrokeOff("The agent service sent something that is not an event.") from None
        if texts:
            yield DeltaEvent(text="".join(texts))
            texts = []
        yield event
    if texts:
        yield DeltaEvent(text="".join(texts))
