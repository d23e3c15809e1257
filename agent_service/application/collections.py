"""Looks at collections, and deletes."""

from __future__ import annotations

from uuid import UUID

from agent_service.domain.collection_names import stored_id
from agent_service.domain.index_problems import CollectionNotFound
from agent_service.ports.embedding_models import EmbeddingModels
from agent_service.ports.index import DocumentIndex, PassageIndex
from shared.contracts.knowledge import ChunkPage, ChunkRead, CollectionState
from shared.logging import get_logger

log = get_logger("index")


class Collections:
    """`owner_id` None is a service; a person's collections are those that they made themselves.

    `configured_model` is the name that an index without vectors goes by.
    """

    def __init__(
        self, documents: DocumentIndex, passages: PassageIndex, models: EmbeddingModels, *, configured_model: str
    ) -> None:
        self._documents = documents
        self._passages = passages
        self._models = models
        self._configured_model = configured_model

    async def state(self, collection_id: UUID, *, owner_id: UUID | None) -> CollectionState:
        """Raises `CollectionNotFound`, `IndexUnavailable`."""
        found = await self._passages.collections([stored_id(collection_id, owner_id)])
        if not found:
            raise CollectionNotFound
        model = await self._models.current()
        return CollectionState(
            collection_id=collection_id,
            document_count=found[0].document_count,
            chunk_count=found[0].chunk_count,
            embedding_model=self._configured_model if model is None else model.name,
        )

    async def chunks(
        self, collection_id: UUID, document_id: UUID, *, owner_id: UUID | None, after: int, limit: int
    ) -> ChunkPage:
        """Passages behind the position `after`; -1 begins. Raises `DocumentNotFound`, `IndexUnavailable`."""
        stored = stored_id(collection_id, owner_id)
        found = await self._passages.chunks(stored, document_id, after=after, limit=limit + 1)
        items = [
            ChunkRead(
                chunk_id=chunk.id,
                position=chunk.position,
                text=chunk.text,
                heading=chunk.heading,
                page=chunk.page,
                start=chunk.start,
                end=chunk.end,
            )
            for chunk in found[:limit]
        ]
        return ChunkPage(items=items, next_cursor=str(items[-1].position) if len(found) > limit else None)

    async def delete_document(
        self, collection_id: UUID, document_id: UUID, *, owner_id: UUID | None, version: int | None
    ) -> None:
        """Raises `StaleVersion`, `IndexUnavailable`."""
        await self._documents.delete_document(
            stored_id(collection_id, owner_id), document_id, version=version, owner_id=owner_id
        )
        log.info("document.deleted", collection_id=str(collection_id), document_id=str(document_id), version=version)

    async def delete_collection(self, collection_id: UUID, *, owner_id: UUID | None) -> None:
        """Raises `IndexUnavailable`; what was deleted until then is gone, and the rest is invisible."""
        await self._documents.delete_collection(stored_id(collection_id, owner_id), owner_id=owner_id)
        log.info("collection.deleted", collection_id=str(collection_id))
