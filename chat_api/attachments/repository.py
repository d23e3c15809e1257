"""Every statement about attachments."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.attachments.models import Attachment, MessageAttachment
from chat_api.users.models import User

_IS_NAMED = exists().where(MessageAttachment.attachment_id == Attachment.id)


class AttachmentRepository:
    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def add(self, attachment: Attachment) -> None:
        self._db.add(attachment)
        await self._db.flush()

    async def lock_unnamed(self, before: datetime, limit: int) -> Sequence[UUID]:
        """Some that are older than that and in no message, locked: nobody names them from now on.

        A message that is being sent with one of them holds it already, and it is passed over.
        """
        query = (
            select(Attachment.id)
            .where(Attachment.created_at < before, ~_IS_NAMED)
            .order_by(Attachment.created_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return (await self._db.execute(query)).scalars().all()

    async def delete_unnamed(self, ids: Collection[UUID]) -> Sequence[str]:
        """Delete those of the locked ones that are still in no message; returns where their bytes are.

        A statement of its own, to see the message that was committed before the lock was there.
        """
        statement = delete(Attachment).where(Attachment.id.in_(ids), ~_IS_NAMED).returning(Attachment.storage_key)
        return (await self._db.execute(statement)).scalars().all()

    async def known_ids(self, ids: Collection[UUID]) -> set[UUID]:
        return set((await self._db.execute(select(Attachment.id).where(Attachment.id.in_(ids)))).scalars())

    async def known_owner_ids(self, ids: Collection[UUID]) -> set[UUID]:
        return set((await self._db.execute(select(User.id).where(User.id.in_(ids)))).scalars())
