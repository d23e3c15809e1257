"""What may be done with a session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.bots.service import BotService
from chat_api.kit.clock import Clock
from chat_api.kit.models import new_id
from chat_api.kit.pagination import Page
from chat_api.sessions.errors import RelatedSessionNotFound
from chat_api.sessions.event_log import EventLog
from chat_api.sessions.hints import SessionGone, SessionHints
from chat_api.sessions.models import EventType, Participant, ParticipantRole, ReplyPolicy, Session, SessionStatus
from chat_api.sessions.repository import Attendance, SessionFilter, SessionRepository, SessionSort
from chat_api.sessions.schemas import (
    ApprovalModeRead,
    SessionCreate,
    SessionPatch,
    SessionRead,
    SessionSettings,
)
from shared.contracts.tools import ApprovalMode


def effective_reply_policy(session: Session) -> ReplyPolicy:
    """What was chosen, else `always` for one participant and `mentioned` for more."""
    if session.reply_policy is not None:
        return ReplyPolicy(session.reply_policy)
    return ReplyPolicy.MENTIONED if session.participant_count > 1 else ReplyPolicy.ALWAYS


class SessionService:
    def __init__(self, db: AsyncSession, clock: Clock, hints: SessionHints) -> None:
        self._db = db
        self._hints = hints
        self._repository = SessionRepository(db)
        self._events = EventLog(db, hints)
        self._bots = BotService(db, clock)
        self._clock = clock

    async def create(self, owner_id: UUID, wanted: SessionCreate) -> SessionRead:
        """Raises `BotNotFound` and `RelatedSessionNotFound` for what the owner may not use."""
        if wanted.bot_id is not None:
            await self._bots.visible(wanted.bot_id, owner_id)
        if wanted.related_session_id is not None:
            await self._check_related(wanted.related_session_id, owner_id)
        now = self._clock.now()
        session = Session(
            id=new_id(),
            title=wanted.title,
            owner_id=owner_id,
            bot_id=wanted.bot_id,
            provider=wanted.provider,
            model=wanted.model,
            system_prompt=wanted.system_prompt,
            related_session_id=wanted.related_session_id,
            reply_policy=wanted.reply_policy,
            approval_mode=wanted.approval_mode.value,
            tags=wanted.tags,
            metadata_=wanted.metadata,
            settings=wanted.settings.model_dump(exclude_none=True),
            last_activity_at=now,
            created_at=now,
            updated_at=now,
        )
        owner = Participant(session_id=session.id, user_id=owner_id, role=ParticipantRole.OWNER.value)
        self._repository.add(session, owner)
        await self._repository.refresh(session)
        return await self.read(session, owner_id)

    async def read(self, session: Session, reader_id: UUID) -> SessionRead:
        """The session as one of its participants sees it."""
        return (await self._read_all([session], reader_id))[0]

    async def seen_by(self, session_id: UUID, reader_id: UUID) -> tuple[SessionRead, int] | None:
        """A session and the number of its last event, of one moment; None for who does not take part."""
        session = await self._repository.of_participant(session_id, reader_id)
        return None if session is None else (await self.read(session, reader_id), session.last_event_seq)

    async def page(
        self, user_id: UUID, wanted: SessionFilter, sort: SessionSort, *, limit: int, cursor: str | None
    ) -> Page[SessionRead]:
        sessions, next_cursor = await self._repository.page(user_id, wanted, sort, limit=limit, cursor=cursor)
        return Page(items=await self._read_all(sessions, user_id), next_cursor=next_cursor)

    async def patch(self, session: Session, changes: SessionPatch) -> SessionRead:
        """Raises `BotNotFound` and `RelatedSessionNotFound` for what the session's owner may not use."""
        if changes.bot_id is not None:
            await self._bots.visible(changes.bot_id, session.owner_id)
        if changes.related_session_id is not None:
            await self._check_related(changes.related_session_id, session.owner_id, session.id)
        for name in changes.model_fields_set:
            value = getattr(changes, name)
            if isinstance(value, SessionSettings):
                session.settings = session.settings | value.model_dump(exclude_unset=True)
                session.settings = {key: item for key, item in session.settings.items() if item is not None}
            elif name == "metadata":
                session.metadata_ = value
            else:
                setattr(session, name, value)
        if changes.model_fields_set:
            await self._note_update(session, changes.model_fields_set)
        return await self.read(session, session.owner_id)

    async def set_status(self, session: Session, status: SessionStatus) -> SessionRead:
        """Archive or unarchive. Doing it twice is the same as once."""
        if session.status != status:
            session.status = status.value
            await self._note_update(session, {"status"})
        return await self.read(session, session.owner_id)

    async def set_approval_mode(self, session: Session, mode: ApprovalMode) -> ApprovalModeRead:
        """Calls that wait already keep waiting. Setting it twice is the same as once."""
        if session.approval_mode != mode:
            session.approval_mode = mode.value
            await self._note_update(session, {"approval_mode"})
        return ApprovalModeRead(approval_mode=mode)

    async def delete(self, session: Session) -> None:
        await self._repository.delete(session)
        self._hints.tell_after_commit(self._db, session.id, SessionGone())

    async def _check_related(self, related_id: UUID, owner_id: UUID, session_id: UUID | None = None) -> None:
        if related_id == session_id or await self._repository.of_participant(related_id, owner_id) is None:
            raise RelatedSessionNotFound

    async def _note_update(self, session: Session, fields: set[str]) -> None:
        await self._repository.refresh(session)
        data: dict[str, Any] = {
            "fields": sorted(fields),
            "changes": _document(session, Attendance()).model_dump(mode="json", include=fields),
        }
        await self._events.append(session.id, EventType.SESSION_UPDATED, data=data)
        await self._repository.refresh(session)

    async def _read_all(self, sessions: Sequence[Session], reader_id: UUID) -> list[SessionRead]:
        attendance = await self._repository.attendance((session.id for session in sessions), reader_id)
        return [_document(session, attendance[session.id]) for session in sessions]


def _document(session: Session, attendance: Attendance) -> SessionRead:
    return SessionRead(
        id=session.id,
        title=session.title,
        owner_id=session.owner_id,
        participants=attendance.participants,
        bot_id=session.bot_id,
        provider=session.provider,
        model=session.model,
        system_prompt=session.system_prompt,
        related_session_id=session.related_session_id,
        reply_policy=effective_reply_policy(session),
        approval_mode=session.approval_mode,
        status=session.status,
        tags=session.tags,
        metadata=session.metadata_,
        settings=SessionSettings.model_validate(session.settings),
        message_count=session.message_count,
        last_seq=session.last_seq,
        unread_count=attendance.unread,
        last_activity_at=session.last_activity_at,
        created_at=session.created_at,
        updated_at=session.updated_at,
    )
