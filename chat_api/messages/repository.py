"""Every statement about messages that exist."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.attachments.models import MessageAttachment
from chat_api.messages.documents import MESSAGE_TEXT
from chat_api.messages.models import Message, MessageRevision
from chat_api.sessions.models import Participant, Session

_DOCUMENT = text(MESSAGE_TEXT % {"session": ":session_id", "message": ":message_id"})

# Tools and runs live in later layers, hence plain SQL.
_FORGET_TOOLS = text("DELETE FROM chat.tool_executions WHERE session_id = :session_id")
_FORGET_TOOL_TEXTS = text(
    """
    UPDATE chat.tool_executions SET
        arguments = '{}', model_arguments = NULL, result = NULL, passages = '[]', reason = NULL,
        error = error - 'errors' || '{"detail": "The reply was deleted."}'
    WHERE session_id = :session_id AND message_id = :message_id
    """
)
_HAS_OPEN_RUN = text(
    """
    SELECT EXISTS (
        SELECT 1 FROM chat.runs
        WHERE session_id = :session_id AND status IN ('queued', 'running', 'awaiting_approval')
    )
    """
)


class MessageRepository:
    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def locked(self, session_id: UUID, message_id: UUID, user_id: UUID) -> tuple[Session, Message] | None:
        """A message and its session, both locked (session first), when the person takes part in it."""
        session = (
            await self._db.execute(
                select(Session)
                .join(Participant, Participant.session_id == Session.id)
                .where(Session.id == session_id, Participant.user_id == user_id)
                .with_for_update(of=Session)
            )
        ).scalar_one_or_none()
        if session is None:
            return None
        # The person once more: who waited for the session saw its participants as they were before.
        message = (
            await self._db.execute(
                select(Message)
                .join(Participant, Participant.session_id == Message.session_id)
                .where(Message.session_id == session_id, Message.id == message_id, Participant.user_id == user_id)
                .with_for_update(of=Message)
            )
        ).scalar_one_or_none()
        return None if message is None else (session, message)

    async def keep_revision(self, message: Message, replaced_at: datetime) -> None:
        """Store the current text of a message as its next revision."""
        number = (
            select(func.coalesce(func.max(MessageRevision.revision), 0) + 1)
            .where(MessageRevision.session_id == message.session_id, MessageRevision.message_id == message.id)
            .scalar_subquery()
        )
        await self._db.execute(
            insert(MessageRevision).values(
                session_id=message.session_id,
                message_id=message.id,
                revision=number,
                content=message.content,
                written_at=message.edited_at or message.created_at,
                replaced_at=replaced_at,
            )
        )

    async def revisions(self, session_id: UUID, message_id: UUID) -> Sequence[MessageRevision]:
        query = (
            select(MessageRevision)
            .where(MessageRevision.session_id == session_id, MessageRevision.message_id == message_id)
            .order_by(MessageRevision.revision)
        )
        return (await self._db.execute(query)).scalars().all()

    async def exists(self, session_id: UUID, message_id: UUID) -> bool:
        query = select(Message.seq).where(Message.session_id == session_id, Message.id == message_id)
        return (await self._db.execute(query)).scalar_one_or_none() is not None

    async def forget_revisions(self, session_id: UUID, message_id: UUID) -> None:
        await self._db.execute(
            delete(MessageRevision).where(
                MessageRevision.session_id == session_id, MessageRevision.message_id == message_id
            )
        )

    async def forget_attachments(self, session_id: UUID, message_id: UUID) -> None:
        """No longer name any file, so that this message lets nobody read one."""
        await self._db.execute(
            delete(MessageAttachment).where(
                MessageAttachment.session_id == session_id, MessageAttachment.message_id == message_id
            )
        )

    async def forget_tool_texts(self, session_id: UUID, message_id: UUID) -> None:
        """Empty what is on record of a reply's tools, but not that they were called."""
        await self._db.execute(_FORGET_TOOL_TEXTS, {"session_id": session_id, "message_id": message_id})

    async def clear(self, session_id: UUID) -> None:
        """Delete every message of a session, and what tools were told and answered for them.

        `seq` goes on: a number is never given twice.
        """
        await self._db.execute(delete(Message).where(Message.session_id == session_id))
        await self._db.execute(_FORGET_TOOLS, {"session_id": session_id})
        await self._db.execute(update(Session).where(Session.id == session_id).values(message_count=0))

    async def has_open_run(self, session_id: UUID) -> bool:
        """Whether a run of the session is queued, running or waiting for a decision."""
        found: bool = (await self._db.execute(_HAS_OPEN_RUN, {"session_id": session_id})).scalar_one()
        return found

    async def document(self, session_id: UUID, message_id: UUID) -> bytes:
        """The message as JSON, as this unit of work sees it."""
        found = await self._db.execute(_DOCUMENT, {"session_id": session_id, "message_id": message_id})
        document: str = found.scalar_one()
        return document.encode()

    async def flush(self) -> None:
        await self._db.flush()
