"""Every SELECT about sessions and participants."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.kit.pagination import decode_cursor, encode_cursor
from chat_api.sessions.models import Participant, Session, SessionStatus
from chat_api.sessions.schemas import ParticipantRead
from chat_api.users.models import User


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

    async def participants(self, session_ids: Iterable[UUID]) -> dict[UUID, list[ParticipantRead]]:
        query = (
            select(Participant, User.username)
            .join(User, User.id == Participant.user_id)
            .where(Participant.session_id.in_(list(session_ids)))
            .order_by(Participant.joined_at, Participant.user_id)
        )
        found: dict[UUID, list[ParticipantRead]] = defaultdict(list)
        for participant, username in await self._db.execute(query):
            found[participant.session_id].append(
                ParticipantRead(
                    user_id=participant.user_id,
                    username=username,
                    role=participant.role,
                    last_read_seq=participant.last_read_seq,
                )
            )
        return found


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
