"""The jobs that remove deleted documents: their passages, their bytes, then their rows.

Each step may be repeated, and the row goes last, so whatever is cut short begins again. They are tried for as long
as it takes: nobody waits for them, and giving up would leave something behind that somebody wanted gone.
"""

from __future__ import annotations

from uuid import UUID

from chat_api.clients.collections import Collections
from chat_api.clients.connection import AgentBrokeOff, AgentRefused, AgentUnavailable
from chat_api.documents.job_repository import DeletedDocument, DocumentJobRepository
from chat_api.kit.db import Database
from chat_api.kit.jobs import Postponed
from chat_api.kit.outbox import Job, LeaseLost, hold, settle
from chat_api.kit.storage import Storage, StorageUnavailable
from shared.logging import get_logger

log = get_logger("purge")

_COLLECTION_DELETED = "collection-deleted"
_BATCH = 100


class PurgeDocument:
    """Handles `document.purge`."""

    limit = None

    def __init__(self, database: Database, storage: Storage, collections: Collections) -> None:
        self._database = database
        self._storage = storage
        self._collections = collections

    async def run(self, job: Job) -> None:
        document = await self._begin(job)
        if document is None:
            return
        await self._delete_passages(document)
        await delete_bytes(self._storage, document.storage_key)
        async with self._database.unit() as db:
            if not await settle(db, job):
                raise LeaseLost
            await DocumentJobRepository(db).forget([document.id])
        log.info("document.purged", document_id=str(document.id))

    async def _begin(self, job: Job) -> DeletedDocument | None:
        async with self._database.unit() as db:
            if not await hold(db, job):
                raise LeaseLost
            document = await DocumentJobRepository(db).deleted(job.subject_id)
            if document is None:
                await settle(db, job)  # gone with its bot
        return document

    async def _delete_passages(self, document: DeletedDocument) -> None:
        """With the last version there was: a put of it that is still under way is refused from now on."""
        try:
            await self._collections.delete_document(document.bot_id, document.id, version=document.version)
        except (AgentUnavailable, AgentBrokeOff) as problem:
            raise Postponed(problem) from None
        except AgentRefused as refusal:
            if refusal.problem.code != _COLLECTION_DELETED:
                raise Postponed(refusal) from None


class DocumentsOfBot:
    """`BotContents`: the documents of a bot whose collection is gone, in batches."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage

    async def remove(self, job: Job, bot_id: UUID) -> None:
        while documents := await self._next(job, bot_id):
            for document in documents:
                await delete_bytes(self._storage, document.storage_key)
            async with self._database.unit() as db:
                if not await hold(db, job):
                    raise LeaseLost
                await DocumentJobRepository(db).forget([document.id for document in documents])
        await self._remove_rest(bot_id)

    async def _remove_rest(self, bot_id: UUID) -> None:
        """Bytes without a row, of uploads that broke off. Once the bot is gone nobody would know them for ours."""
        try:
            async for batch in self._storage.objects(str(bot_id)):
                for stored in batch:
                    await self._storage.delete(stored.key)
        except StorageUnavailable as problem:
            raise Postponed(problem) from None

    async def _next(self, job: Job, bot_id: UUID) -> list[DeletedDocument]:
        async with self._database.unit() as db:
            if not await hold(db, job):
                raise LeaseLost
            return await DocumentJobRepository(db).of_bot(bot_id, _BATCH)


async def delete_bytes(storage: Storage, key: str) -> None:
    try:
        await storage.delete(key)
    except StorageUnavailable as problem:
        raise Postponed(problem) from None
