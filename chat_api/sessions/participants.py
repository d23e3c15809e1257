"""Who comes into a session, and who goes.

Each change is one commit under the session row's lock: the row, the number of participants, a message of the system
that says it, and the events of both. Whoever goes hears of nothing after their own `participant.left`, so that is the
last of its commit.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.kit.models import new_id
from chat_api.sessions.access import AccessWatch, Membership
from chat_api.sessions.errors import (
    NotSessionOwner,
    OwnerCannotLeave,
    ParticipantNotFound,
    SessionArchived,
    SessionFull,
)
from chat_api.sessions.event_log import EventLog
from chat_api.sessions.hints import SessionHints
from chat_api.sessions.models import EventType, ParticipantRole, Session, SessionStatus
from chat_api.sessions.repository import ParticipantRepository
from chat_api.sessions.schemas import ParticipantRead
from chat_api.users.directory import UserDirectory
from chat_api.users.errors import UserNotFound
from shared.logging import get_logger

log = get_logger("sessions.participants")


class ParticipantService:
    """Works on sessions that the caller has locked."""

    def __init__(self, db: AsyncSession, hints: SessionHints, access: AccessWatch, *, max_participants: int) -> None:
        self._db = db
        self._repository = ParticipantRepository(db)
        self._users = UserDirectory(db)
        self._events = EventLog(db, hints)
        self._access = access
        self._max_participants = max_participants

    async def takes_part(self, session: Session, user_id: UUID) -> bool:
        return await self._repository.find(session.id, user_id) is not None

    async def add(self, session: Session, user_id: UUID) -> ParticipantRead:
        """Let somebody take part. Who does already is returned as they are, and nothing is written.

        Raises `SessionArchived`, `UserNotFound` (also for a closed account) and `SessionFull`.
        """
        _writable(session)
        found = await self._repository.find(session.id, user_id)
        if found is not None:
            return found
        user = await self._users.find(user_id)
        if user is None:
            raise UserNotFound
        if session.participant_count >= self._max_participants:
            raise SessionFull(f"There may be {self._max_participants}. Remove somebody first.")
        await self._repository.add(session.id, user_id)
        owner = await self._repository.username(session.owner_id)
        said = f"{owner} added {user.username}"
        await self._say(session.id, said, EventType.PARTICIPANT_JOINED, user_id)
        joined = {"user_id": str(user_id), "username": user.username, "role": ParticipantRole.MEMBER.value}
        await self._events.append(session.id, EventType.PARTICIPANT_JOINED, data=joined)
        log.info("participant.joined", session_id=str(session.id), user_id=str(user_id))
        # What was said before they came is theirs to read, and not to catch up with.
        return await self._repository.mark_all_read(session.id, user_id)

    async def remove(self, session: Session, user_id: UUID, *, by: UUID) -> None:
        """Let somebody take part no more: the owner removes others, members remove themselves.

        Archived or not: nobody is held in a session. Raises `NotSessionOwner`, `OwnerCannotLeave` and
        `ParticipantNotFound`.
        """
        if by not in (user_id, session.owner_id):
            raise NotSessionOwner
        if user_id == session.owner_id:
            raise OwnerCannotLeave
        if not await self._repository.remove(session.id, user_id):
            raise ParticipantNotFound
        username = await self._repository.username(user_id)
        said = f"{username} left"
        if by != user_id:
            said = f"{await self._repository.username(by)} removed {username}"
        await self._say(session.id, said, EventType.PARTICIPANT_LEFT, user_id)
        left = {"user_id": str(user_id), "username": username, "removed_by": None if by == user_id else str(by)}
        await self._events.append(session.id, EventType.PARTICIPANT_LEFT, data=left)
        self._access.end_after_commit(self._db, Membership(session.id, user_id))
        log.info("participant.left", session_id=str(session.id), user_id=str(user_id))

    async def _say(self, session_id: UUID, content: str, event: EventType, user_id: UUID) -> None:
        message_id = new_id()
        metadata: dict[str, Any] = {"event": event.value, "user_id": str(user_id)}
        await self._repository.say(session_id, message_id, content, metadata)
        await self._events.append(session_id, EventType.MESSAGE_CREATED, message_id=message_id)


def _writable(session: Session) -> None:
    if session.status == SessionStatus.ARCHIVED:
        raise SessionArchived
