"""From the files of an upload to documents: bytes first, then one commit for all of them.

The order leaves two ways to fail. Bytes without a row are deleted here where it is certain that nothing was
committed, and by `remove_orphans` where it is not: a connection that broke during the commit, a process that died.
A row without bytes cannot be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.documents.models import Document
from chat_api.documents.repository import DocumentRepository
from chat_api.documents.service import BytesNeeded, DocumentService, NewDocument
from chat_api.documents.storage import storage_key
from chat_api.kit.clock import Clock
from chat_api.kit.db import Database
from chat_api.kit.models import new_id
from chat_api.kit.storage import Storage, StorageUnavailable
from chat_api.kit.upload import ReceivedFile
from chat_api.plans.people import PlansOfPeople
from chat_api.plans.storage import StorageQuota
from shared.logging import get_logger
from shared.problems import Problem

log = get_logger("documents")

ORPHAN_AGE = timedelta(hours=1)
"""Longer than an upload takes from its first stored byte to its commit."""

_COMMITS_AT_ONCE = 4
"""Uploads to one bot wait for each other at its row. The rest waits here, where it holds no connection."""

Answer = TypeVar("Answer")
Create = Callable[[], Awaitable[list[Document]]]
Commit = Callable[[AsyncSession, Create], Awaitable[Answer]]
"""Runs `Create` in a unit of work once the bot is locked and known to be the caller's; or answers without it."""


@dataclass(slots=True)
class _Staged:
    file: ReceivedFile
    document: NewDocument


class Intake:
    """One per process."""

    def __init__(self, database: Database, storage: Storage, clock: Clock, plans: PlansOfPeople) -> None:
        self._plans = plans
        self._turns = asyncio.Semaphore(_COMMITS_AT_ONCE)
        self._database = database
        self._storage = storage
        self._clock = clock

    async def accept(
        self, bot_id: UUID, uploader_id: UUID, files: Sequence[ReceivedFile], commit: Commit[Answer]
    ) -> Answer:
        """Store what the bot does not have yet, and commit.

        Raises what `commit` does, `StorageUnavailable`, and `DocumentQuotaExceeded` or `StorageQuotaExceeded` where the
        uploader's plan allows no more.
        """
        staged = [_Staged(file, _new_document(file)) for file in files]
        needed = await self._unknown(bot_id, files)
        used: set[UUID] = set()

        async def create(db: AsyncSession) -> list[Document]:
            service = DocumentService(db, self._clock)
            quota = StorageQuota(db, self._plans, uploader_id)
            await quota.lock()
            documents = await service.add(bot_id, uploader_id, [one.document for one in staged])
            added = {document.id for document in documents}
            if not added.isdisjoint(one.document.id for one in staged):
                # Who sends what is there already is told so, however full it is.
                await quota.check()
            used.update(added)
            return documents

        try:
            answer = await self._commit(bot_id, staged, needed, commit, create)
        except (Problem, NoConnectionFree):
            # Raised before anything was committed.
            await self._discard(bot_id, staged, set())
            raise
        await self._discard(bot_id, staged, used)
        return answer

    async def _commit(
        self,
        bot_id: UUID,
        staged: list[_Staged],
        needed: set[bytes],
        commit: Commit[Answer],
        create: Callable[[AsyncSession], Awaitable[list[Document]]],
    ) -> Answer:
        await self._store(bot_id, staged, needed)
        try:
            async with self._turns, self._database.unit() as db:
                return await commit(db, lambda: create(db))
        except BytesNeeded:
            await self._store(bot_id, staged, {one.file.sha256 for one in staged})
        async with self._turns, self._database.unit() as db:
            return await commit(db, lambda: create(db))

    async def _unknown(self, bot_id: UUID, files: Sequence[ReceivedFile]) -> set[bytes]:
        digests = {file.sha256 for file in files}
        async with self._database.unit() as db:
            known = await DocumentRepository(db).with_digests(bot_id, digests)
        return digests - {document.sha256 for document in known}

    async def _store(self, bot_id: UUID, staged: list[_Staged], needed: set[bytes]) -> None:
        """Put each of the needed bytes into storage once."""
        done = {one.file.sha256 for one in staged if one.document.is_stored}
        for one in staged:
            if one.file.sha256 in needed - done:
                # Before, not after: should it fail in the middle, what is there is discarded too.
                one.document = replace(one.document, is_stored=True)
                await self._storage.put(storage_key(bot_id, one.document.id), one.file.path)
                done.add(one.file.sha256)

    async def _discard(self, bot_id: UUID, staged: list[_Staged], used: set[UUID]) -> None:
        """Delete the bytes that became no document: another upload was faster, or this one failed."""
        for one in staged:
            if one.document.is_stored and one.document.id not in used:
                try:
                    await self._storage.delete(storage_key(bot_id, one.document.id))
                except StorageUnavailable:
                    log.warning("document.bytes_left", document_id=str(one.document.id))


async def remove_orphans(database: Database, storage: Storage, clock: Clock) -> int:
    """Delete stored bytes older than `ORPHAN_AGE` that belong to no document; returns how many objects.

    Touches only what is stored under a bot that this database knows: a bucket may be shared, with another
    installation too. Raises `StorageUnavailable`.
    """
    oldest = clock.now() - ORPHAN_AGE
    removed = await storage.remove_unfinished(oldest)
    async for batch in storage.objects():
        old = {stored.key: ids for stored in batch if stored.modified_at < oldest and (ids := _ids_of(stored.key))}
        if not old:
            continue
        async with database.unit() as db:
            documents = DocumentRepository(db)
            bots = await documents.known_bot_ids({bot_id for bot_id, _ in old.values()})
            known = await documents.known_ids({document_id for _, document_id in old.values()})
        for key, (bot_id, document_id) in old.items():
            if bot_id in bots and document_id not in known:
                await storage.delete(key)
                removed += 1
    return removed


def _new_document(file: ReceivedFile) -> NewDocument:
    return NewDocument(new_id(), file.name, file.content_type, file.size, file.sha256, is_stored=False)


def _ids_of(key: str) -> tuple[UUID, UUID] | None:
    """The bot and the document of a key of ours; None for any other."""
    bot, _, document = key.partition("/")
    try:
        ids = (UUID(bot), UUID(document))
    except ValueError:
        return None
    return ids if storage_key(*ids) == key else None
