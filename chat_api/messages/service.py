"""What may be done with a message after it was sent."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.kit.clock import Clock
from chat_api.messages.errors import (
    MessageDeleted,
    MessageNotFound,
    MessageStreaming,
    NotYourMessage,
    TooManyReactions,
)
from chat_api.messages.models import Message, MessageStatus
from chat_api.messages.repository import MessageRepository
from chat_api.messages.schemas import MessagePatch, RevisionRead, Revisions
from chat_api.sessions.errors import RunActive, SessionArchived
from chat_api.sessions.event_log import EventLog
from chat_api.sessions.hints import SessionHints
from chat_api.sessions.models import EventType, Session, SessionStatus

MAX_REACTIONS = 20
"""Different ones on a message; any number of people may have the same."""


class MessageService:
    def __init__(self, db: AsyncSession, clock: Clock, hints: SessionHints) -> None:
        self._repository = MessageRepository(db)
        self._events = EventLog(db, hints)
        self._clock = clock

    async def edit(self, session_id: UUID, message_id: UUID, user_id: UUID, changes: MessagePatch) -> bytes:
        """Change the text or the metadata of one's own message; the earlier text stays as a revision.

        Returns the message as JSON.
        """
        _, message = await self._writable(session_id, message_id, user_id)
        if message.sender_id != user_id:
            raise NotYourMessage
        if message.deleted_at is not None:
            raise MessageDeleted
        now = self._clock.now()
        new_text = "content" in changes.model_fields_set and changes.content != message.content
        new_metadata = "metadata" in changes.model_fields_set and changes.metadata != message.metadata_
        if new_text:
            await self._repository.keep_revision(message, now)
            message.content = changes.content
            message.edited_at = now
        if new_metadata:
            message.metadata_ = changes.metadata
        if new_text or new_metadata:
            await self._repository.flush()
            await self._events.append(session_id, EventType.MESSAGE_UPDATED, message_id=message_id)
        return await self._repository.document(session_id, message_id)

    async def delete(self, session_id: UUID, message_id: UUID, user_id: UUID) -> None:
        """Leave a tombstone: text, revisions, metadata, attachments, reactions are gone, `seq` and sender stay.

        It stays on record which tools a reply called and who decided; not what they were told and said.

        The sender may do it, and the owner of the session. Deleting twice is the same as once.
        """
        session, message = await self._writable(session_id, message_id, user_id)
        if user_id not in (message.sender_id, session.owner_id):
            raise NotYourMessage
        if message.deleted_at is not None:
            return
        if message.status in (MessageStatus.STREAMING, MessageStatus.AWAITING_APPROVAL):
            raise MessageStreaming
        message.content = ""
        message.metadata_ = {}
        message.citations = []
        message.attachments = []
        message.reactions = {}
        message.deleted_at = self._clock.now()
        await self._repository.flush()
        await self._repository.forget_revisions(session_id, message_id)
        await self._repository.forget_attachments(session_id, message_id)
        await self._repository.forget_tool_texts(session_id, message_id)
        await self._events.append(session_id, EventType.MESSAGE_DELETED, message_id=message_id)

    async def react(self, session_id: UUID, message_id: UUID, user_id: UUID, emoji: str) -> bytes:
        """Add one's reaction. Doing it twice is the same as once. Returns the message as JSON.

        Raises `TooManyReactions` for one more emoji than a message may have.
        """
        message = await self._reactable(session_id, message_id, user_id)
        people = message.reactions.get(emoji, [])
        if not people and len(message.reactions) >= MAX_REACTIONS:
            raise TooManyReactions
        if str(user_id) in people:
            return await self._repository.document(session_id, message_id)
        return await self._with_reactions(message, message.reactions | {emoji: [*people, str(user_id)]})

    async def take_back_reaction(self, session_id: UUID, message_id: UUID, user_id: UUID, emoji: str) -> bytes:
        """Remove one's reaction, if there is one. Returns the message as JSON."""
        message = await self._reactable(session_id, message_id, user_id)
        people = message.reactions.get(emoji, [])
        if str(user_id) not in people:
            return await self._repository.document(session_id, message_id)
        reactions = dict(message.reactions)
        rest = [person for person in people if person != str(user_id)]
        if rest:
            reactions[emoji] = rest
        else:
            del reactions[emoji]
        return await self._with_reactions(message, reactions)

    async def _reactable(self, session_id: UUID, message_id: UUID, user_id: UUID) -> Message:
        _, message = await self._writable(session_id, message_id, user_id)
        if message.deleted_at is not None:
            raise MessageDeleted
        return message

    async def _with_reactions(self, message: Message, reactions: dict[str, list[str]]) -> bytes:
        message.reactions = reactions
        await self._repository.flush()
        await self._events.append(message.session_id, EventType.REACTION_UPDATED, message_id=message.id)
        return await self._repository.document(message.session_id, message.id)

    async def clear(self, session: Session) -> None:
        """Delete the whole history. The numbers go on, so no cursor or receipt ever means another message."""
        if session.status == SessionStatus.ARCHIVED:
            raise SessionArchived
        if await self._repository.has_open_run(session.id):
            raise RunActive
        await self._repository.clear(session.id)
        data = {"fields": ["messages"], "changes": {}, "cleared_through_seq": session.last_seq}
        await self._events.append(session.id, EventType.SESSION_UPDATED, data=data)

    async def revisions(self, session_id: UUID, message_id: UUID) -> Revisions:
        if not await self._repository.exists(session_id, message_id):
            raise MessageNotFound
        found = await self._repository.revisions(session_id, message_id)
        return Revisions(items=[RevisionRead.model_validate(revision) for revision in found])

    async def _writable(self, session_id: UUID, message_id: UUID, user_id: UUID) -> tuple[Session, Message]:
        found = await self._repository.locked(session_id, message_id, user_id)
        if found is None:
            raise MessageNotFound
        if found[0].status == SessionStatus.ARCHIVED:
            raise SessionArchived
        return found
