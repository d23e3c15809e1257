"""`/sessions`: conversations and their settings."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response

from chat_api.auth.answers import answers
from chat_api.auth.permissions import ChatReader, ChatWriter
from chat_api.bots.errors import BotNotFound
from chat_api.kit.dependencies import Cursor, Db, Limit
from chat_api.kit.idempotency import IdempotencyKey, IdempotencyKeyReused, create_once
from chat_api.kit.pagination import InvalidCursor, Page
from chat_api.sessions.dependencies import (
    JoinedSession,
    OwnedSession,
    Participants,
    Receipts,
    Related,
    SessionId,
    Sessions,
    VisibleSession,
)
from chat_api.sessions.errors import (
    NotSessionOwner,
    OwnerCannotLeave,
    ParticipantNotFound,
    RelatedSessionNotFound,
    SessionArchived,
    SessionFull,
    SessionNotFound,
)
from chat_api.sessions.models import SessionStatus
from chat_api.sessions.repository import SessionFilter, SessionSort
from chat_api.sessions.schemas import (
    ApprovalModeChange,
    ApprovalModeRead,
    ParticipantAdd,
    ParticipantRead,
    ReadMark,
    RelatedContext,
    SessionCreate,
    SessionPatch,
    SessionRead,
)
from chat_api.users.errors import UserNotFound
from shared.contracts.tools import ApprovalMode

router = APIRouter(prefix="/sessions", tags=["Sessions"])

ParticipantId = Annotated[UUID, Path(alias="user_id", description="Id of the person.")]


@router.post(
    "",
    status_code=201,
    response_model=SessionRead,
    summary="Start a session",
    responses=answers(BotNotFound, RelatedSessionNotFound, IdempotencyKeyReused),
)
async def create_session(
    request: Request, body: SessionCreate, actor: ChatWriter, sessions: Sessions, db: Db, key: IdempotencyKey = None
) -> Response:
    """Make a conversation. The caller owns it and is its first participant.

    With `bot_id`, a bot that the caller may use answers in it. With `related_session_id`, what was said last in
    another session of the caller's goes to the model as context.
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
async def get_session(session: VisibleSession, actor: ChatReader, sessions: Sessions) -> SessionRead:
    """One session with its participants."""
    return await sessions.read(session, actor.user_id)


_OWNER_ANSWERS = answers(SessionNotFound, NotSessionOwner)


@router.patch(
    "/{session_id}",
    summary="Change a session",
    responses=answers(SessionNotFound, NotSessionOwner, BotNotFound, RelatedSessionNotFound),
)
async def patch_session(session: OwnedSession, body: SessionPatch, sessions: Sessions) -> SessionRead:
    """Change the fields that are sent; the others stay. `settings` is merged, everything else replaced.

    Another bot has to be one that the caller may use; null takes the bot off. The same goes for
    `related_session_id`: another session that the caller takes part in.
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


@router.get(
    "/{session_id}/related-context",
    summary="Read what a linked session adds to the prompt",
    responses=answers(SessionNotFound, RelatedSessionNotFound),
)
async def get_related_context(session: VisibleSession, actor: ChatReader, related: Related) -> RelatedContext:
    """The last messages of the session that `related_session_id` names, as the model is shown them.

    Only for who takes part in both. 404 also where nothing is linked, or the owner of this session takes part in the
    other no more: nothing is added to the prompt then.
    """
    return await related.for_reader(session.id, actor.user_id)


@router.get(
    "/{session_id}/approval-mode", summary="Read which tools wait for a person", responses=answers(SessionNotFound)
)
async def get_approval_mode(session: VisibleSession) -> ApprovalModeRead:
    """Which calls of tools wait for a person: none, those marked risky, or all."""
    return ApprovalModeRead(approval_mode=ApprovalMode(session.approval_mode))


@router.put("/{session_id}/approval-mode", summary="Choose which tools wait for a person", responses=_OWNER_ANSWERS)
async def put_approval_mode(session: OwnedSession, body: ApprovalModeChange, sessions: Sessions) -> ApprovalModeRead:
    """Set it for the calls to come, also of a run that is under way. What waits already keeps waiting."""
    return await sessions.set_approval_mode(session, body.approval_mode)


_ALREADY_THERE: dict[int | str, dict[str, Any]] = {
    200: {"model": ParticipantRead, "description": "They take part already, and nothing was changed."}
}


@router.post(
    "/{session_id}/participants",
    status_code=201,
    response_model=ParticipantRead,
    summary="Add somebody",
    responses=_ALREADY_THERE
    | answers(SessionNotFound, NotSessionOwner, SessionArchived, SessionFull, UserNotFound, IdempotencyKeyReused),
)
async def add_participant(
    request: Request,
    session: OwnedSession,
    body: ParticipantAdd,
    actor: ChatWriter,
    participants: Participants,
    db: Db,
    key: IdempotencyKey = None,
) -> Response:
    """Let somebody take part, as a member. They may read what was said before they came.

    A message of the system says so, and `participant.joined` is told. Adding somebody twice is the same as once.
    """
    return await create_once(
        db,
        request,
        user_id=actor.user_id,
        key=key,
        body=body,
        create=lambda: participants.add(session, body.user_id),
        status=200 if await participants.takes_part(session, body.user_id) else 201,
    )


@router.delete(
    "/{session_id}/participants/{user_id}",
    status_code=204,
    summary="Remove somebody, or leave",
    responses=answers(SessionNotFound, NotSessionOwner, ParticipantNotFound, OwnerCannotLeave),
)
async def remove_participant(
    session: JoinedSession, user_id: ParticipantId, actor: ChatWriter, participants: Participants
) -> None:
    """The owner removes others; members remove themselves, which is leaving. The owner cannot leave.

    Access ends at once, also on streams that are open. A message of the system says so, and `participant.left` is
    told: to the person it is about as their last event.
    """
    await participants.remove(session, user_id, by=actor.user_id)


@router.put(
    "/{session_id}/read",
    summary="Mark as read",
    responses=answers(SessionNotFound),
)
async def mark_read(session_id: SessionId, body: ReadMark, actor: ChatWriter, receipts: Receipts) -> ParticipantRead:
    """Say up to which message the caller has read. The mark never moves back; `read.updated` is told when it moves.

    A `seq` above the session's last stands for the last. An archived session can be marked too.
    """
    return await receipts.mark(session_id, actor.user_id, body.seq)
