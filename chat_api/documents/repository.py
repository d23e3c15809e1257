"""Every statement about documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.bots.models import Bot
from chat_api.documents.models import Document, DocumentStatus
from chat_api.kit.pagination import decode_cursor, encode_cursor


class DocumentSort(StrEnum):
    """A leading minus sorts from the latest to the earliest."""

    CREATED_DESC = "-created_at"
    CREATED = "created_at"


class DocumentRepository:
    """A document that is being deleted is not found by any of these, unless they say so."""

    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def find(self, document_id: UUID, *, lock: bool = False) -> Document | None:
        query = select(Document).where(Document.id == document_id, Document.deleted_at.is_(None))
        if lock:
            # What an earlier read of this unit left in memory may be older than the lock.
            query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
        return (await self._db.execute(query)).scalar_one_or_none()

    async def with_digests(self, bot_id: UUID, digests: Iterable[bytes], *, lock: bool = False) -> list[Document]:
        """The bot's documents with these bytes."""
        query = select(Document).where(
            Document.bot_id == bot_id, Document.sha256.in_(list(digests)), Document.deleted_at.is_(None)
        )
        if lock:
            query = query.order_by(Document.id).with_for_update(key_share=True)
            query = query.execution_options(populate_existing=True)
        return list((await self._db.execute(query)).scalars())

    async def insert(self, values: dict[str, Any]) -> Document | None:
        """Add a document; None when the bot has its bytes already."""
        statement = insert(Document).values(**values).on_conflict_do_nothing().returning(Document)
        return (await self._db.execute(statement)).scalar_one_or_none()

    async def refresh(self, document: Document) -> None:
        """Write what changed and read what the database made of it."""
        await self._db.flush()
        await self._db.refresh(document)

    async def page(
        self,
        bot_id: UUID,
        status: DocumentStatus | None,
        sort: DocumentSort,
        *,
        limit: int,
        cursor: str | None,
    ) -> tuple[list[Document], str | None]:
        """One page of a bot's documents, and the cursor of the next."""
        query = select(Document).where(Document.bot_id == bot_id, Document.deleted_at.is_(None))
        if status is not None:
            query = query.where(Document.status == status.value)
        descending = sort is DocumentSort.CREATED_DESC
        if cursor is not None:
            key = tuple_(Document.created_at, Document.id)
            position = tuple(decode_cursor(cursor, datetime, UUID))
            query = query.where(key < position if descending else key > position)
        order = (Document.created_at, Document.id)
        query = query.order_by(*(column.desc() if descending else column for column in order))
        documents = list((await self._db.execute(query.limit(limit + 1))).scalars())
        if len(documents) <= limit:
            return documents, None
        return documents[:limit], encode_cursor(documents[limit - 1].created_at, documents[limit - 1].id)

    async def of_ids(self, document_ids: Sequence[UUID]) -> list[Document]:
        query = select(Document).where(Document.id.in_(document_ids), Document.deleted_at.is_(None))
        return list((await self._db.execute(query)).scalars())

    async def live_ids(self, bot_id: UUID, document_ids: Iterable[UUID]) -> set[UUID]:
        """Which of these are documents of the bot."""
        query = select(Document.id).where(
            Document.bot_id == bot_id, Document.id.in_(list(document_ids)), Document.deleted_at.is_(None)
        )
        return set((await self._db.execute(query)).scalars())

    async def ids_being_deleted(self, bot_id: UUID, limit: int) -> list[UUID]:
        """Documents whose passages may still be with the agent; the latest first."""
        query = (
            select(Document.id)
            .where(Document.bot_id == bot_id, Document.deleted_at.is_not(None))
            .order_by(Document.deleted_at.desc())
            .limit(limit)
        )
        return list((await self._db.execute(query)).scalars())

    async def known_ids(self, document_ids: Iterable[UUID]) -> set[UUID]:
        """Which of these have a row, deleted or not."""
        query = select(Document.id).where(Document.id.in_(list(document_ids)))
        return set((await self._db.execute(query)).scalars())

    async def known_bot_ids(self, bot_ids: Iterable[UUID]) -> set[UUID]:
        """Which of these bots have a row, deleted or not."""
        query = select(Bot.id).where(Bot.id.in_(list(bot_ids)))
        return set((await self._db.execute(query)).scalars())
