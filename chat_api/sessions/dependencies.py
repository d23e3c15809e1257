"""Sessions as parameter types: who may do what is in the signature of the route."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Request

from chat_api.auth.dependencies import TheClock, TheSettings
from chat_api.auth.permissions import ChatReader, ChatWriter
from chat_api.kit.dependencies import Db, Statements
from chat_api.sessions.access import AccessWatch
from chat_api.sessions.errors import NotSessionOwner, SessionNotFound
from chat_api.sessions.hints import SessionHints
from chat_api.sessions.models import Session
from chat_api.sessions.participants import ParticipantService
from chat_api.sessions.receipts import ReadReceipts
from chat_api.sessions.related import RelatedContexts
from chat_api.sessions.repository import SessionRepository
from chat_api.sessions.service import SessionService

SessionId = Annotated[UUID, Path(description="Id of the session.")]


async def get_hints(request: Request) -> SessionHints:
    hints: SessionHints = request.app.state.hints
    return hints


TheHints = Annotated[SessionHints, Depends(get_hints)]


async def get_session_service(db: Db, clock: TheClock, hints: TheHints) -> SessionService:
    return SessionService(db, clock, hints)


Sessions = Annotated[SessionService, Depends(get_session_service)]


async def get_access(request: Request) -> AccessWatch:
    access: AccessWatch = request.app.state.access
    return access


TheAccess = Annotated[AccessWatch, Depends(get_access)]


async def get_participant_service(
    db: Db, hints: TheHints, access: TheAccess, settings: TheSettings
) -> ParticipantService:
    return ParticipantService(db, hints, access, max_participants=settings.max_participants)


async def get_receipts(database: Statements, hints: TheHints) -> ReadReceipts:
    return ReadReceipts(database, hints)


async def get_related_contexts(database: Statements, settings: TheSettings) -> RelatedContexts:
    return RelatedContexts(database, messages=settings.related_messages)


Participants = Annotated[ParticipantService, Depends(get_participant_service)]
Receipts = Annotated[ReadReceipts, Depends(get_receipts)]
Related = Annotated[RelatedContexts, Depends(get_related_contexts)]


async def load_visible(session_id: SessionId, actor: ChatReader, db: Db) -> Session:
    session = await SessionRepository(db).of_participant(session_id, actor.user_id)
    if session is None:
        raise SessionNotFound
    return session


async def load_joined(session_id: SessionId, actor: ChatWriter, db: Db) -> Session:
    session = await SessionRepository(db).of_participant(session_id, actor.user_id, lock=True)
    if session is None:
        raise SessionNotFound
    return session


async def load_owned(session_id: SessionId, actor: ChatWriter, db: Db) -> Session:
    session = await SessionRepository(db).of_participant(session_id, actor.user_id, lock=True)
    if session is None:
        raise SessionNotFound
    if session.owner_id != actor.user_id:
        raise NotSessionOwner
    return session


VisibleSession = Annotated[Session, Depends(load_visible)]
"""A session the caller takes part in, to read."""

JoinedSession = Annotated[Session, Depends(load_joined)]
"""A session the caller takes part in, locked, to change what is the caller's own in it.

The caller may have been removed while this waited for the lock: who writes asks again.
"""

OwnedSession = Annotated[Session, Depends(load_owned)]
"""A session the caller owns, locked, to change."""
