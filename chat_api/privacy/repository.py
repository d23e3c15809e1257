"""Runs the statements of an erasure, in the units of whoever calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.attachments.models import Attachment
from chat_api.bots.models import Bot
from chat_api.documents.models import Document
from chat_api.kit.outbox import OutboxEntry
from chat_api.privacy import statements as sql
from chat_api.sessions.models import EventType, Session
from chat_api.users.models import User

_LONGEST_MS = 600_000
"""A session may hold a hundred thousand messages; nobody waits for a worker's statement."""

_LIMIT_TIME = text("SELECT set_config('statement_timeout', :milliseconds, true)")
_FIND = text(sql.FIND_TRACES)
_HAS_OPEN_RUN = text(sql.HAS_OPEN_RUN)
_HEIR = text(sql.HEIR)
_HAND_OVER = text(sql.HAND_OVER)
_LEAVE = text(sql.LEAVE)
_DOOMED = text(sql.DOOMED)
_ENTOMB = text(sql.ENTOMB)
_FORGET_REVISIONS = text(sql.FORGET_REVISIONS)
_FORGET_ATTACHMENTS = text(sql.FORGET_ATTACHMENTS)
_FORGET_TOOL_TEXTS = text(sql.FORGET_TOOL_TEXTS)
_FORGET_DECISIONS = text(sql.FORGET_DECISIONS)
_FORGET_REQUESTS = tuple(text(statement) for statement in sql.FORGET_REQUESTS)
_TAKE_BACK_REACTIONS = text(sql.TAKE_BACK_REACTIONS)
_FORGET_QUOTES = text(sql.FORGET_QUOTES)
_UNNAME_LINES = text(sql.UNNAME_LINES)
_UNNAME_EVENTS = text(sql.UNNAME_EVENTS)
_FORGET_IN_SNAPSHOTS = tuple(text(statement) for statement in sql.FORGET_IN_SNAPSHOTS)
_APPEND_EVENTS = text(sql.APPEND_EVENTS)
_ALONE = text(sql.ALONE)
_DELETE_ALONE = text(sql.DELETE_ALONE)
_CLOSE_CREDENTIALS = tuple(text(statement) for statement in sql.CLOSE_CREDENTIALS)
_FORGET_PERSON = tuple(text(statement) for statement in sql.FORGET_PERSON)

_UNTITLED = "Conversation"


@dataclass(frozen=True, slots=True)
class Erased:
    """Whose traces are looked for. `documents` were theirs, and may be quoted elsewhere."""

    user_id: UUID
    stand_in: UUID
    documents: Sequence[UUID]

    @property
    def parameters(self) -> dict[str, Any]:
        return {"user": self.user_id, "id": str(self.user_id), "pattern": f"%{self.user_id}%"}

    @property
    def with_documents(self) -> dict[str, Any]:
        return self.parameters | {"documents": [str(document) for document in self.documents]}


@dataclass(frozen=True, slots=True)
class LookedAt:
    session_id: UUID
    is_touched: bool


class ErasureRepository:
    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def take_time(self) -> None:
        """Let the statements of this unit take longer than those of a request."""
        await self._db.execute(_LIMIT_TIME, {"milliseconds": str(_LONGEST_MS)})

    async def lock_person(self, user_id: UUID) -> User | None:
        """The account that is being erased. None once it is gone, and for one that nobody wants erased."""
        user = await self._db.get(User, user_id, with_for_update=True, populate_existing=True)
        return user if user is not None and user.erasure_requested_at is not None else None

    async def end_credentials(self, user_id: UUID) -> None:
        for statement in _CLOSE_CREDENTIALS:
            await self._db.execute(statement, {"user": user_id})

    # -- sessions of their own ----------------------------------------------------------------------------

    async def alone(self, user_id: UUID, limit: int) -> Sequence[UUID]:
        return (await self._db.execute(_ALONE, {"user": user_id, "limit": limit})).scalars().all()

    async def delete_alone(self, session_id: UUID, user_id: UUID) -> bool:
        """False when somebody else has come, or it is gone."""
        await self._db.execute(select(Session.id).where(Session.id == session_id).with_for_update())
        gone = await self._db.execute(_DELETE_ALONE, {"session": session_id, "user": user_id})
        return gone.scalar_one_or_none() is not None

    # -- sessions with others -----------------------------------------------------------------------------

    async def look(self, erased: Erased, after: UUID, limit: int) -> list[LookedAt]:
        rows = await self._db.execute(_FIND, erased.with_documents | {"after": after, "limit": limit})
        return [LookedAt(row.id, row.is_touched) for row in rows]

    async def lock_session(self, session_id: UUID) -> Session | None:
        query = select(Session).where(Session.id == session_id).with_for_update()
        return (await self._db.execute(query)).scalar_one_or_none()

    async def has_open_run(self, session_id: UUID, erased: Erased) -> bool:
        """Whether the assistant is still answering them there."""
        found = await self._db.execute(_HAS_OPEN_RUN, {"session": session_id, "user": erased.user_id})
        answer: bool = found.scalar_one()
        return answer

    async def hand_over(self, session_id: UUID, erased: Erased) -> UUID | None:
        """Make somebody else the owner. None where nobody else is there."""
        heir: UUID | None = (
            await self._db.execute(_HEIR, {"session": session_id, "user": erased.user_id})
        ).scalar_one_or_none()
        if heir is not None:
            passed = {"session": session_id, "user": erased.user_id, "heir": heir, "title": _UNTITLED}
            await self._db.execute(_HAND_OVER, passed)
        return heir

    async def leave(self, session_id: UUID, erased: Erased) -> bool:
        """False when they did not take part."""
        left = await self._db.execute(_LEAVE, {"session": session_id, "user": erased.user_id})
        return left.scalar_one_or_none() is not None

    async def entomb(self, session_id: UUID, erased: Erased, moment: datetime) -> list[UUID]:
        """Leave tombstones of what they said and of what was answered to it; returns those that are new."""
        about = {"session": session_id, "user": erased.user_id}
        doomed = (await self._db.execute(_DOOMED, about)).all()
        messages = [row.id for row in doomed]
        if messages:
            of_messages = {"session": session_id, "messages": messages}
            await self._db.execute(_ENTOMB, about | {"messages": messages, "moment": moment})
            await self._db.execute(_FORGET_REVISIONS, of_messages)
            await self._db.execute(_FORGET_ATTACHMENTS, of_messages)
        tools = {"session": session_id, "messages": messages, "documents": erased.with_documents["documents"]}
        await self._db.execute(_FORGET_TOOL_TEXTS, tools)
        await self._db.execute(_FORGET_DECISIONS, about)
        for statement in _FORGET_REQUESTS:
            await self._db.execute(statement, about)
        return [row.id for row in doomed if row.is_new]

    async def take_back_reactions(self, session_id: UUID, erased: Erased) -> Sequence[UUID]:
        """Returns the messages that had some."""
        about = {"session": session_id, "id": str(erased.user_id), "pattern": erased.parameters["pattern"]}
        return (await self._db.execute(_TAKE_BACK_REACTIONS, about)).scalars().all()

    async def unname(self, session_id: UUID, erased: Erased, *, owned: bool) -> list[UUID]:
        """Take their name out of what the system said, and their documents out of replies; returns the messages."""
        who = {"id": str(erased.user_id), "stand_in": str(erased.stand_in)}
        lines = await self._db.execute(_UNNAME_LINES, {"session": session_id, "owned": owned} | who)
        changed = list(lines.scalars())
        if erased.documents:
            quotes = {"session": session_id, "documents": erased.with_documents["documents"]}
            changed += (await self._db.execute(_FORGET_QUOTES, quotes)).scalars()
        await self._db.execute(_UNNAME_EVENTS, {"session": session_id, "pattern": erased.parameters["pattern"]} | who)
        return changed

    async def forget_in_snapshots(self, session_id: UUID, erased: Erased, moment: datetime, *, owned: bool) -> None:
        known = erased.with_documents | {
            "session": session_id,
            "moment": moment,
            "owned": owned,
            "stand_in": str(erased.stand_in),
        }
        for statement in _FORGET_IN_SNAPSHOTS:
            await self._db.execute(statement, {name: known[name] for name in statement.compile().params})

    async def append(self, session_id: UUID, events: Sequence[tuple[EventType, UUID | None]], data: str) -> int | None:
        """Number and store events in order; those without a message carry `data`. Returns the last number."""
        result = await self._db.execute(
            _APPEND_EVENTS,
            {
                "session": session_id,
                "types": [kind.value for kind, _ in events],
                "messages": [message for _, message in events],
                "data": data,
            },
        )
        number: int | None = result.scalar_one_or_none()
        return number

    # -- what is theirs alone -----------------------------------------------------------------------------

    async def documents(self, user_id: UUID) -> Sequence[UUID]:
        query = select(Document.id).where(Document.uploaded_by == user_id).order_by(Document.id)
        return (await self._db.execute(query)).scalars().all()

    async def bots(self, user_id: UUID) -> Sequence[UUID]:
        """Deleted ones too: they may still be on their way."""
        return (await self._db.execute(select(Bot.id).where(Bot.owner_id == user_id).order_by(Bot.id))).scalars().all()

    async def close_bots(self, user_id: UUID) -> None:
        """Take their bots away from everybody."""
        bots = await self._db.execute(select(Bot).where(Bot.owner_id == user_id, Bot.deleted_at.is_(None)))
        for bot in bots.scalars():
            bot.deleted_at = func.now()
        await self._db.flush()

    async def forget_bot(self, bot_id: UUID) -> None:
        await self._db.execute(delete(OutboxEntry).where(OutboxEntry.subject_id == bot_id))
        await self._db.execute(delete(Bot).where(Bot.id == bot_id))

    async def forget_jobs_of(self, subjects: Sequence[UUID]) -> None:
        await self._db.execute(delete(OutboxEntry).where(OutboxEntry.subject_id.in_(subjects)))

    async def attachments(self, user_id: UUID, limit: int) -> list[tuple[UUID, str]]:
        query = select(Attachment.id, Attachment.storage_key).where(Attachment.owner_id == user_id).limit(limit)
        return [(row.id, row.storage_key) for row in await self._db.execute(query)]

    async def forget_attachments(self, attachments: Sequence[UUID]) -> None:
        await self._db.execute(delete(Attachment).where(Attachment.id.in_(attachments)))

    async def forget_person(self, user_id: UUID) -> None:
        """The account itself, last: from now on nothing can be written for it."""
        for statement in _FORGET_PERSON:
            known = {"user": user_id, "id": str(user_id)}
            await self._db.execute(statement, {name: known[name] for name in statement.compile().params})
