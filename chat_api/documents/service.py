"""What may be done with a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.bots.errors import BotNotFound
from chat_api.bots.service import BotService
from chat_api.documents.errors import DocumentNotFound
from chat_api.documents.models import INDEX_TOPIC, PURGE_TOPIC, Document, DocumentStatus
from chat_api.documents.repository import DocumentRepository, DocumentSort
from chat_api.documents.schemas import DocumentRead
from chat_api.documents.storage import storage_key
from chat_api.kit.clock import Clock
from chat_api.kit.outbox import Outbox
from chat_api.kit.pagination import Page


class BytesNeeded(Exception):
    """The document that had these bytes is gone since it was looked for: they have to be stored after all."""


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A file of an upload. `is_stored` says whether its bytes are in storage, under the key of its id."""

    id: UUID
    name: str
    content_type: str
    size: int
    sha256: bytes
    is_stored: bool


class DocumentService:
    def __init__(self, db: AsyncSession, clock: Clock) -> None:
        self._repository = DocumentRepository(db)
        self._bots = BotService(db, clock)
        self._outbox = Outbox(db)
        self._clock = clock

    async def visible(self, document_id: UUID, user_id: UUID) -> Document:
        """A document of a bot that the person may use. Raises `DocumentNotFound`."""
        document = await self._repository.find(document_id)
        if document is None:
            raise DocumentNotFound
        try:
            await self._bots.visible(document.bot_id, user_id)
        except BotNotFound:
            raise DocumentNotFound from None
        return document

    async def owned(self, document_id: UUID, user_id: UUID) -> Document:
        """A document of the person's own bot, both locked. Raises `DocumentNotFound` and `NotBotOwner`."""
        document = await self._repository.find(document_id)
        if document is None:
            raise DocumentNotFound
        try:
            await self._bots.owned(document.bot_id, user_id)
        except BotNotFound:
            raise DocumentNotFound from None
        locked = await self._repository.find(document_id, lock=True)
        if locked is None:
            raise DocumentNotFound
        return locked

    async def add(self, bot_id: UUID, uploader_id: UUID, files: Sequence[NewDocument]) -> list[Document]:
        """The documents of an upload, in its order, once the bot is locked.

        Bytes that the bot has already are not a new document; where those failed, they are tried again.
        Raises `BytesNeeded`.
        """
        digests = {file.sha256 for file in files}
        existing = await self._repository.with_digests(bot_id, digests, lock=True)
        known = {document.sha256: document for document in existing}
        for document in existing:
            if document.status == DocumentStatus.FAILED:
                await self.reindex(document)
        for file in files:
            if file.sha256 not in known:
                known[file.sha256] = await self._add(bot_id, uploader_id, file)
        return [known[file.sha256] for file in files]

    async def page(
        self,
        bot_id: UUID,
        status: DocumentStatus | None,
        sort: DocumentSort,
        *,
        limit: int,
        cursor: str | None,
    ) -> Page[DocumentRead]:
        documents, next_cursor = await self._repository.page(bot_id, status, sort, limit=limit, cursor=cursor)
        return Page(items=[DocumentRead.of(document) for document in documents], next_cursor=next_cursor)

    async def reindex(self, document: Document) -> Document:
        """Index a locked document again; one that waits for it already goes on waiting.

        What was indexed before is searched until the new passages are there.
        """
        if document.status == DocumentStatus.PENDING:
            return document
        document.version += 1
        document.status = DocumentStatus.PENDING.value
        document.progress_done = document.progress_total = 0
        document.error = None
        await self._repository.refresh(document)
        await self._outbox.put(INDEX_TOPIC, document.id, {"version": document.version})
        return document

    async def delete(self, document: Document) -> None:
        """Take a locked document away from everybody at once. What it left elsewhere is removed later."""
        document.deleted_at = self._clock.now()
        await self._repository.refresh(document)
        await self._outbox.put(PURGE_TOPIC, document.id)

    async def _add(self, bot_id: UUID, uploader_id: UUID, file: NewDocument) -> Document:
        if not file.is_stored:
            raise BytesNeeded
        document = await self._repository.insert(
            {
                "id": file.id,
                "bot_id": bot_id,
                "uploaded_by": uploader_id,
                "name": file.name,
                "content_type": file.content_type,
                "size_bytes": file.size,
                "sha256": file.sha256,
                "storage_key": storage_key(bot_id, file.id),
                "created_at": self._clock.now(),
            }
        )
        if document is None:
            # Cannot be while every upload locks the bot first; the index is there should one ever not.
            raise BytesNeeded
        await self._outbox.put(INDEX_TOPIC, document.id, {"version": document.version})
        return document
