"""Every SELECT about sessions and participants."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    bindparam,
    case,
    column,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    table,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.kit.pagination import decode_cursor, encode_cursor
from chat_api.sessions.models import Participant, ParticipantRole, Session, SessionStatus
from chat_api.sessions.schemas import ParticipantRead
from chat_api.users.models import User

MOST_UNREAD = 100
"""Unread messages are counted up to here."""

_UNREAD_AMONG = 1_000
"""Of a session's messages the latest so many are looked at: who only ever writes may have thousands unread."""

# Messages live in a later layer, hence their table by name.
_MESSAGES = table(
    "messages", *(column(name) for name in ("session_id", "seq", "sender_id", "deleted_at")), schema="chat"
)

_SAY = text(
    """
    WITH numbered AS (
        UPDATE chat.sessions SET
            last_seq = last_seq + 1, message_count = message_count + 1, last_activity_at = now(),
            participant_count = (SELECT count(*) FROM chat.participants WHERE session_id = :session_id)
        WHERE id = :session_id RETURNING id, last_seq
    )
    INSERT INTO chat.messages (session_id, seq, id, role, content, metadata, created_at)
    SELECT id, last_seq, :message_id, 'system', :content, :metadata, clock_timestamp() FROM numbered
    """
).bindparams(bindparam("metadata", type_=JSONB))


_REMOVE = text(
    """
    WITH gone AS (
        DELETE FROM chat.participants WHERE session_id = :session_id AND user_id = :user_id RETURNING session_id
    )
    UPDATE chat.sessions SET membership_version = membership_version + 1 FROM gone WHERE id = gone.session_id
    RETURNING id
    """
)


class SessionSort(StrEnum):
    """A leading minus sorts from the latest to the earliest."""

    ACTIVITY_DESC = "-last_activity_at"
    ACTIVITY = "last_activity_at"
    CREATED_DESC = "-created_at"
    CREATED = "created_at"


@dataclass(frozen=True, slots=True)
class SessionFilter:
    status: SessionStatus | None
    tag: str | None
    bot_id: UUID | None
    text: str | None


class SessionRepository:
    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def of_participant(self, session_id: UUID, user_id: UUID, *, lock: bool = False) -> Session | None:
        query = (
            select(Session)
            .join(Participant, Participant.session_id == Session.id)
            .where(Session.id == session_id, Participant.user_id == user_id)
        )
        if lock:
            query = query.with_for_update(of=Session)
        return (await self._db.execute(query)).scalar_one_or_none()

    def add(self, session: Session, owner: Participant) -> None:
        self._db.add(session)
        self._db.add(owner)

    async def refresh(self, session: Session) -> None:
        """Write what changed and read what the database made of it."""
        await self._db.flush()
        await self._db.refresh(session)

    async def delete(self, session: Session) -> None:
        await self._db.delete(session)
        await self._db.flush()

    async def page(
        self, user_id: UUID, wanted: SessionFilter, sort: SessionSort, *, limit: int, cursor: str | None
    ) -> tuple[list[Session], str | None]:
        """One page of the sessions a person takes part in, and the cursor of the next."""
        query = (
            select(Session)
            .join(Participant, Participant.session_id == Session.id)
            .where(Participant.user_id == user_id, *_conditions(wanted))
        )
        name = sort.value.removeprefix("-")
        query = _after(query, name, descending=sort.value.startswith("-"), cursor=cursor)
        sessions = list((await self._db.execute(query.limit(limit + 1))).scalars())
        if len(sessions) <= limit:
            return sessions, None
        last = sessions[limit - 1]
        return sessions[:limit], encode_cursor(getattr(last, name), last.id)

    async def attendance(self, session_ids: Iterable[UUID], reader_id: UUID) -> dict[UUID, Attendance]:
        """Who takes part in each session, and what the reader has not read of it: one statement."""
        query = (
            select(*_PARTICIPANT, case((Participant.user_id == reader_id, _unread(reader_id))).label("unread"))
            .join(User, User.id == Participant.user_id)
            .join(Session, Session.id == Participant.session_id)
            .where(Participant.session_id.in_(list(session_ids)))
            .order_by(Participant.joined_at, Participant.user_id)
        )
        found: dict[UUID, Attendance] = defaultdict(Attendance)
        for row in await self._db.execute(query):
            attendance = found[row.session_id]
            attendance.participants.append(ParticipantRead.model_validate(row))
            attendance.unread += row.unread or 0
        return found


class ParticipantRepository:
    """All of it under the lock of the session's row."""

    def __init__(self, db: AsyncSession) -> None:
        self._db = db

    async def find(self, session_id: UUID, user_id: UUID) -> ParticipantRead | None:
        query = (
            select(*_PARTICIPANT)
            .join(User, User.id == Participant.user_id)
            .where(Participant.session_id == session_id, Participant.user_id == user_id)
        )
        row = (await self._db.execute(query)).one_or_none()
        return None if row is None else ParticipantRead.model_validate(row)

    async def add(self, session_id: UUID, user_id: UUID) -> None:
        row = {"session_id": session_id, "user_id": user_id, "role": ParticipantRole.MEMBER.value}
        await self._db.execute(insert(Participant).values(row))

    async def remove(self, session_id: UUID, user_id: UUID) -> bool:
        """False when the person did not take part."""
        gone = await self._db.execute(_REMOVE, {"session_id": session_id, "user_id": user_id})
        return gone.one_or_none() is not None

    async def mark_all_read(self, session_id: UUID, user_id: UUID) -> ParticipantRead:
        last_seq = select(Session.last_seq).where(Session.id == session_id).scalar_subquery()
        mark = update(Participant).where(Participant.session_id == session_id, Participant.user_id == user_id)
        await self._db.execute(mark.values(last_read_seq=last_seq))
        found = await self.find(session_id, user_id)
        assert found is not None
        return found

    async def username(self, user_id: UUID) -> str:
        name: str = (await self._db.execute(select(User.username).where(User.id == user_id))).scalar_one()
        return name

    async def say(self, session_id: UUID, message_id: UUID, content: str, metadata: dict[str, Any]) -> None:
        """Store a message of the system, and count the participants again."""
        said = {"session_id": session_id, "message_id": message_id, "content": content, "metadata": metadata}
        await self._db.execute(_SAY, said)


_PARTICIPANT = (
    Participant.session_id,
    Participant.user_id,
    User.username,
    Participant.role,
    Participant.last_read_seq,
)


@dataclass(slots=True)
class Attendance:
    participants: list[ParticipantRead] = field(default_factory=list)
    unread: int = 0


def _unread(reader_id: UUID) -> ColumnElement[int]:
    """How many messages a participant of a session, both as rows, has not read: a short walk along the primary key."""
    message = _MESSAGES.c
    # By number and not by LIMIT, so that no plan can read more.
    after = func.greatest(Participant.last_read_seq, Session.last_seq - _UNREAD_AMONG)
    unread = (
        select(literal(1))
        .where(message.session_id == Participant.session_id, message.seq > after, message.deleted_at.is_(null()))
        .where(or_(message.sender_id.is_(null()), message.sender_id != reader_id))
        # In the key's order, so that no other index does as well.
        .order_by(message.seq.desc())
        .limit(MOST_UNREAD)
        .correlate(Participant, Session)
        .subquery()
    )
    return select(func.count()).select_from(unread).scalar_subquery()


def _conditions(wanted: SessionFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.status is not None:
        conditions.append(Session.status == wanted.status.value)
    if wanted.tag is not None:
        conditions.append(Session.tags.contains([wanted.tag]))
    if wanted.bot_id is not None:
        conditions.append(Session.bot_id == wanted.bot_id)
    if wanted.text is not None:
        conditions.append(Session.title.icontains(wanted.text, autoescape=True))
    return conditions


def _after(query: Select[Any], name: str, *, descending: bool, cursor: str | None) -> Select[Any]:
    column = getattr(Session, name)
    order = (column.desc(), Session.id.desc()) if descending else (column, Session.id)
    if cursor is not None:
        key = tuple_(column, Session.id)
        position = tuple(decode_cursor(cursor, datetime, UUID))
        query = query.where(key < position if descending else key > position)
    return query.order_by(*order)
