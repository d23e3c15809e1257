"""Sessions as parameter types: who may do what is in the signature of the route."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Request

from chat_api.auth.dependencies import TheClock
from chat_api.auth.permissions import ChatReader, ChatWriter
from chat_api.kit.db import Db
from chat_api.sessions.errors import NotSessionOwner, SessionNotFound
from chat_api.sessions.hints import SessionHints
from chat_api.sessions.models import Session
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


async def load_visible(session_id: SessionId, actor: ChatReader, db: Db) -> Session:
    session = await SessionRepository(db).of_participant(session_id, actor.user_id)
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

OwnedSession = Annotated[Session, Depends(load_owned)]
"""A session the caller owns, locked, to change."""
