"""The agent's collections: documents put, deleted and searched."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol, TypeVar
from uuid import UUID

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from chat_api.clients.connection import EVENT_STREAM, AgentBrokeOff, AgentConnection, event_data
from chat_api.config import ApiSettings
from shared.contracts.knowledge import (
    ChunkPage,
    DocumentPut,
    IndexedDocument,
    IndexEvent,
    IndexFailed,
    RegenerationStep,
    SearchAnswer,
    SearchRequest,
)

_INDEX_EVENT: TypeAdapter[IndexEvent] = TypeAdapter(IndexEvent)
Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each kind of call may take, in seconds. A put only has to be heard of now and then."""

    search: float = 10
    read: float = 5
    delete: float = 5
    # It goes in batches that stay deleted, so a caller that gives up comes again and finds less.
    delete_collection: float = 30


class Collections(Protocol):
    """What the chat API needs of the agent's collections; a bot's documents are one, under the bot's id.

    Each call raises `AgentUnavailable`, `AgentBrokeOff` or `AgentRefused`. All may be repeated.
    """

    def put(self, collection_id: UUID, document_id: UUID, document: DocumentPut) -> AsyncGenerator[IndexEvent, None]:
        """Index a document as a whole. Ends with `IndexedDocument` or `IndexFailed`."""
        ...

    async def delete_document(self, collection_id: UUID, document_id: UUID, *, version: int) -> None:
        """From now on a put of this version or an older one is refused."""
        ...

    async def delete_collection(self, collection_id: UUID) -> None:
        """From now on every put into it is refused."""
        ...

    async def search(self, request: SearchRequest) -> SearchAnswer: ...

    async def chunks(self, collection_id: UUID, document_id: UUID, *, limit: int, cursor: str | None) -> ChunkPage: ...

    async def regenerate(self) -> RegenerationStep:
        """One step, of some seconds, of the change to the configured embedding model."""
        ...


class HttpCollections:
    """Speaks to the agent over HTTP. Closing the iterator of `put` stops the agent's work on it."""

    def __init__(
        self,
        settings: ApiSettings,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._connection = AgentConnection(settings, transport=transport)
        self._patience = patience or Patience()
        self._step_seconds = settings.agent_silence_seconds

    async def close(self) -> None:
        await self._connection.close()

    async def put(
        self, collection_id: UUID, document_id: UUID, document: DocumentPut
    ) -> AsyncGenerator[IndexEvent, None]:
        body = document.model_dump_json(exclude_none=True)
        path = _document_path(collection_id, document_id)
        async with (
            self._connection.exchange("PUT", path, accept=EVENT_STREAM, content=body) as response,
            aclosing(_index_events(response)) as events,
        ):
            async for event in events:
                yield event

    async def delete_document(self, collection_id: UUID, document_id: UUID, *, version: int) -> None:
        path = _document_path(collection_id, document_id)
        await self._connection.call("DELETE", path, params={"version": version}, seconds=self._patience.delete)

    async def delete_collection(self, collection_id: UUID) -> None:
        await self._connection.call(
            "DELETE", f"/v1/collections/{collection_id}", seconds=self._patience.delete_collection
        )

    async def search(self, request: SearchRequest) -> SearchAnswer:
        body = request.model_dump_json()
        answer = await self._connection.call(
            "POST", "/v1/collections/search", content=body, seconds=self._patience.search
        )
        return _read(SearchAnswer, answer)

    async def chunks(self, collection_id: UUID, document_id: UUID, *, limit: int, cursor: str | None) -> ChunkPage:
        params: dict[str, str | int] = {"limit": limit} if cursor is None else {"limit": limit, "cursor": cursor}
        path = f"{_document_path(collection_id, document_id)}/chunks"
        return _read(ChunkPage, await self._connection.call("GET", path, params=params, seconds=self._patience.read))

    async def regenerate(self) -> RegenerationStep:
        answer = await self._connection.call("POST", "/v1/embeddings/regenerate", seconds=self._step_seconds)
        return _read(RegenerationStep, answer)


def _document_path(collection_id: UUID, document_id: UUID) -> str:
    return f"/v1/collections/{collection_id}/documents/{document_id}"


async def _index_events(response: httpx.Response) -> AsyncGenerator[IndexEvent, None]:
    async with aclosing(event_data(response)) as arriving:
        async for arrived in arriving:
            for data in arrived:
                event = _index_event(data)
                yield event
                if isinstance(event, IndexedDocument | IndexFailed):
                    return
    raise AgentBrokeOff


def _index_event(data: bytes) -> IndexEvent:
    try:
        return _INDEX_EVENT.validate_json(data)
    except ValidationError:
        raise AgentBrokeOff("The agent service sent something that is not an event.") from None


def _read(model: type[Answer], body: bytes) -> Answer:
    try:
        return model.model_validate_json(body)
    except ValidationError:
        raise AgentBrokeOff("The agent service answered with something that is not in its contract.") from None
