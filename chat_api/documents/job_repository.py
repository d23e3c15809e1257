"""Statements about documents that the worker writes: each is fenced by the job, in the unit that calls it.

Every one of them names the version that the job is about. A document that was deleted, whose bot was deleted, or
that is to be indexed anew matches none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.bots.models import Bot
from chat_api.documents.models import Document, DocumentStatus


@dataclass(frozen=True, slots=True)
class WantedDocument:
    """What indexing needs to know of a document."""

    id: UUID
    bot_id: UUID
    name: str
    content_type: str
    storage_key: str
    version: int


@dataclass(frozen=True, slots=True)
class DeletedDocument:
    """What is left to remove. `version` is the last that anybody may have put."""

    id: UUID
    bot_id: UUID
    storage_key: str
    version: int


class DocumentJobRepository:
    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def begin(self, document_id: UUID, version: int) -> WantedDocument | None:
        """Mark a document as being indexed. None when this version is not wanted any more.

        What was in the way of an earlier attempt is still told: nothing is better yet.
        """
        statement = (
            update(Document)
            .where(_wanted(document_id, version))
            .values(status=DocumentStatus.PROCESSING.value)
            .returning(Document.bot_id, Document.name, Document.content_type, Document.storage_key)
        )
        row = (await self._db.execute(statement)).one_or_none()
        if row is None:
            return None
        return WantedDocument(document_id, row.bot_id, row.name, row.content_type, row.storage_key, version)

    async def note_progress(self, document_id: UUID, version: int, done: int, total: int) -> bool:
        """Returns whether this version is still wanted."""
        return await self._write(document_id, version, progress_done=done, progress_total=total)

    async def finish(self, document_id: UUID, version: int, chunk_count: int) -> bool:
        return await self._write(
            document_id,
            version,
            status=DocumentStatus.READY.value,
            chunk_count=chunk_count,
            progress_done=chunk_count,
            progress_total=chunk_count,
            indexed_at=func.now(),
            error=None,
        )

    async def postpone(self, document_id: UUID, version: int, error: dict[str, Any]) -> bool:
        return await self._write(document_id, version, status=DocumentStatus.PENDING.value, error=error)

    async def fail(self, document_id: UUID, version: int, error: dict[str, Any]) -> bool:
        return await self._write(document_id, version, status=DocumentStatus.FAILED.value, error=error)

    async def deleted(self, document_id: UUID) -> DeletedDocument | None:
        query = select(Document).where(Document.id == document_id, Document.deleted_at.is_not(None))
        document = (await self._db.execute(query)).scalar_one_or_none()
        return None if document is None else _remains(document)

    async def of_bot(self, bot_id: UUID, limit: int) -> list[DeletedDocument]:
        """Documents of a bot, deleted or not."""
        query = select(Document).where(Document.bot_id == bot_id).order_by(Document.id).limit(limit)
        return [_remains(document) for document in (await self._db.execute(query)).scalars()]

    async def forget(self, document_ids: Sequence[UUID]) -> None:
        await self._db.execute(delete(Document).where(Document.id.in_(document_ids)))

    async def _write(self, document_id: UUID, version: int, **values: Any) -> bool:
        statement = update(Document).where(_wanted(document_id, version)).values(**values).returning(Document.id)
        return (await self._db.execute(statement)).scalar_one_or_none() is not None


def _wanted(document_id: UUID, version: int) -> ColumnElement[bool]:
    return and_(
        Document.id == document_id,
        Document.version == version,
        Document.deleted_at.is_(None),
        Document.bot_id.in_(select(Bot.id).where(Bot.deleted_at.is_(None))),
    )


def _remains(document: Document) -> DeletedDocument:
    return DeletedDocument(document.id, document.bot_id, document.storage_key, document.version)
