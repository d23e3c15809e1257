"""Taking files in, and handing them out to who may read them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.attachments.errors import AttachmentNotFound
from chat_api.attachments.models import Attachment
from chat_api.attachments.repository import AttachmentRepository
from chat_api.attachments.schemas import AttachmentRead
from chat_api.attachments.statements import READABLE
from chat_api.kit.clock import Clock
from chat_api.kit.db import Database
from chat_api.kit.models import new_id
from chat_api.kit.storage import Storage, StorageUnavailable
from chat_api.kit.upload import ReceivedFile
from chat_api.plans.people import PlansOfPeople
from chat_api.plans.storage import StorageQuota
from shared.logging import get_logger
from shared.problems import Problem

log = get_logger("attachments")

PREFIX = "attachments"
"""Beside the documents, whose keys begin with the id of a bot."""

Answer = TypeVar("Answer")
Create = Callable[[], Awaitable[AttachmentRead]]
Commit = Callable[[AsyncSession, Create], Awaitable[Answer]]
"""Runs `Create` in a unit of work; or answers without it, where the same was asked before."""


def storage_key(owner_id: UUID, attachment_id: UUID) -> str:
    return f"{PREFIX}/{owner_id}/{attachment_id}"


@dataclass(frozen=True, slots=True)
class OpenedFile:
    name: str
    content_type: str
    size_bytes: int
    pieces: AsyncGenerator[bytes]


class AttachmentService:
    def __init__(self, database: Database, storage: Storage, clock: Clock, plans: PlansOfPeople) -> None:
        self._plans = plans
        self._database = database
        self._storage = storage
        self._clock = clock

    async def accept(self, owner_id: UUID, file: ReceivedFile, commit: Commit[Answer]) -> Answer:
        """Store a file's bytes, then its row: a row without bytes cannot be.

        Bytes without a row are deleted here where it is certain that nothing was committed, and by
        `remove_orphans` where it is not. Raises what `commit` does, `StorageUnavailable`, and `StorageQuotaExceeded`.
        """
        attachment_id = new_id()
        key = storage_key(owner_id, attachment_id)
        is_used = False

        async def create(db: AsyncSession) -> AttachmentRead:
            nonlocal is_used
            attachment = Attachment(
                id=attachment_id,
                owner_id=owner_id,
                name=file.name,
                content_type=file.content_type,
                size_bytes=file.size,
                sha256=file.sha256,
                storage_key=key,
                created_at=self._clock.now(),
            )
            quota = StorageQuota(db, self._plans, owner_id)
            await quota.lock()
            await AttachmentRepository(db).add(attachment)
            await quota.check_bytes()
            is_used = True
            return AttachmentRead.of(attachment)

        try:
            await self._storage.put(key, file.path)
            async with self._database.unit() as db:
                answer = await commit(db, lambda: create(db))
        except (Problem, NoConnectionFree):
            # Raised before anything was committed.
            await self._discard(key, attachment_id)
            raise
        if not is_used:
            await self._discard(key, attachment_id)
        return answer

    async def open(self, attachment_id: UUID, user_id: UUID) -> OpenedFile:
        """A file that the person may read. No connection to the database is held while it is.

        Raises `AttachmentNotFound`, `BytesMissing` and `StorageUnavailable`.
        """
        found = await self._database.fetch_row(READABLE, attachment_id, user_id)
        if found is None:
            raise AttachmentNotFound
        pieces = await self._storage.read(found["storage_key"])
        return OpenedFile(found["name"], found["content_type"], found["size_bytes"], pieces)

    async def _discard(self, key: str, attachment_id: UUID) -> None:
        try:
            await self._storage.delete(key)
        except StorageUnavailable:
            log.warning("attachment.bytes_left", attachment_id=str(attachment_id))
