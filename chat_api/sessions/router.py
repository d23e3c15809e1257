"""`/sessions`: conversations and their settings."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from chat_api.auth.answers import answers
from chat_api.auth.permissions import ChatReader, ChatWriter
from chat_api.bots.errors import BotNotFound
from chat_api.kit.db import Db
from chat_api.kit.idempotency import IdempotencyKey, IdempotencyKeyReused, create_once
from chat_api.kit.pagination import Cursor, InvalidCursor, Limit, Page
from chat_api.sessions.dependencies import OwnedSession, Sessions, VisibleSession
from chat_api.sessions.errors import NotSessionOwner, SessionNotFound
from chat_api.sessions.models import SessionStatus
from chat_api.sessions.repository import SessionFilter, SessionSort
from chat_api.sessions.schemas import SessionCreate, SessionPatch, SessionRead

router = APIRouter(prefix="/sessions", tags=["Sessions"])


@router.post(
    "",
    status_code=201,
    response_model=SessionRead,
    summary="Start a session",
    responses=answers(BotNotFound, IdempotencyKeyReused),
)
async def create_session(
    request: Request, body: SessionCreate, actor: ChatWriter, sessions: Sessions, db: Db, key: IdempotencyKey = None
) -> Response:
    """Make a conversation. The caller owns it and is its first participant.

    With `bot_id`, a bot that the caller may use answers in it.
    """
    return await create_once(
        db,
        request,
        user_id=actor.user_id,
        key=key,
        body=body,
        create=lambda: sessions.create(actor.user_id, body),
    )


@router.get("", summary="List my sessions", responses=answers(InvalidCursor))
async def list_sessions(
    actor: ChatReader,
    sessions: Sessions,
    status: Annotated[SessionStatus | None, Query(description="Only these.")] = None,
    tag: Annotated[str | None, Query(min_length=1, max_length=50, description="Only those with this tag.")] = None,
    bot_id: Annotated[UUID | None, Query(description="Only those on this bot.")] = None,
    q: Annotated[str | None, Query(min_length=1, max_length=200, description="Part of the title.")] = None,
    sort: Annotated[SessionSort, Query(description="Order of the list.")] = SessionSort.ACTIVITY_DESC,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[SessionRead]:
    """Sessions that the caller takes part in, the latest activity first."""
    wanted = SessionFilter(status=status, tag=tag, bot_id=bot_id, text=q)
    return await sessions.page(actor.user_id, wanted, sort, limit=limit, cursor=cursor)


@router.get("/{session_id}", summary="Read a session", responses=answers(SessionNotFound))
async def get_session(session: VisibleSession, sessions: Sessions) -> SessionRead:
    """One session with its participants."""
    return await sessions.read(session)


_OWNER_ANSWERS = answers(SessionNotFound, NotSessionOwner)


@router.patch(
    "/{session_id}",
    summary="Change a session",
    responses=answers(SessionNotFound, NotSessionOwner, BotNotFound),
)
async def patch_session(session: OwnedSession, body: SessionPatch, sessions: Sessions) -> SessionRead:
    """Change the fields that are sent; the others stay. `settings` is merged, everything else replaced.

    Another bot has to be one that the caller may use; null takes the bot off.
    """
    return await sessions.patch(session, body)


@router.delete("/{session_id}", status_code=204, summary="Delete a session", responses=_OWNER_ANSWERS)
async def delete_session(session: OwnedSession, sessions: Sessions) -> None:
    """Delete the session with all its messages, runs and events. This cannot be undone."""
    await sessions.delete(session)


@router.post("/{session_id}/archive", summary="Archive a session", responses=_OWNER_ANSWERS)
async def archive_session(session: OwnedSession, sessions: Sessions) -> SessionRead:
    """Make the session read-only. Archiving twice is the same as once."""
    return await sessions.set_status(session, SessionStatus.ARCHIVED)


@router.post("/{session_id}/unarchive", summary="Unarchive a session", responses=_OWNER_ANSWERS)
async def unarchive_session(session: OwnedSession, sessions: Sessions) -> SessionRead:
    """Make an archived session writable again."""
    return await sessions.set_status(session, SessionStatus.ACTIVE)
