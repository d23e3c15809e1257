"""`/sessions/{id}/messages`: reading, editing and deleting what was said. Sending is in `runs`."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Response

from chat_api.auth.answers import answers
from chat_api.auth.dependencies import TheClock
from chat_api.auth.permissions import ChatReader, ChatWriter
from chat_api.kit.db import Db, Statements
from chat_api.kit.pagination import InvalidCursor
from chat_api.messages.documents import VISIBLE_MESSAGE, WINDOW_AFTER, WINDOW_BEFORE
from chat_api.messages.errors import MessageDeleted, MessageNotFound, MessageStreaming, NotYourMessage
from chat_api.messages.schemas import MessagePatch, MessageRead, MessageWindow, Revisions
from chat_api.messages.service import MessageService
from chat_api.sessions.dependencies import OwnedSession, SessionId, VisibleSession
from chat_api.sessions.errors import NotSessionOwner, RunActive, SessionArchived, SessionNotFound
from shared.problems import FieldError, ValidationFailed

router = APIRouter(prefix="/sessions/{session_id}/messages", tags=["Messages"])

_MAX_SEQ = 2**63 - 1
MessageId = Annotated[UUID, Path(description="Id of the message.")]
Seq = Annotated[int | None, Query(ge=0, le=_MAX_SEQ)]


async def get_message_service(db: Db, clock: TheClock) -> MessageService:
    return MessageService(db, clock)


Messages = Annotated[MessageService, Depends(get_message_service)]


@router.get(
    "",
    response_model=MessageWindow,
    summary="Read a window of history",
    responses=answers(SessionNotFound, InvalidCursor),
)
async def list_messages(
    session_id: SessionId,
    actor: ChatReader,
    statements: Statements,
    before_seq: Seq = None,
    after_seq: Seq = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: Annotated[str | None, Query(pattern=r"^[ab][0-9]{1,18}$", description="`next_cursor` of a window.")] = None,
) -> Response:
    """The latest messages, or those just before or after a `seq`; always ascending by `seq`."""
    if sum(given is not None for given in (before_seq, after_seq, cursor)) > 1:
        raise ValidationFailed(
            errors=[FieldError(loc=["query"], msg="Give one of before_seq, after_seq and cursor", type="exclusive")]
        )
    if cursor is not None:
        position = int(cursor[1:])
        before_seq, after_seq = (position, None) if cursor[0] == "b" else (None, position)
    if after_seq is not None:
        window = await statements.fetch_json(WINDOW_AFTER, session_id, actor.user_id, after_seq, limit)
    else:
        before = _MAX_SEQ if before_seq is None else before_seq
        window = await statements.fetch_json(WINDOW_BEFORE, session_id, actor.user_id, before, limit)
    if window is None:
        raise SessionNotFound
    return Response(window, media_type="application/json")


@router.get("/{message_id}", response_model=MessageRead, summary="Read a message", responses=answers(MessageNotFound))
async def get_message(
    session_id: SessionId, message_id: MessageId, actor: ChatReader, statements: Statements
) -> Response:
    """One message. A deleted one is a tombstone: its content is empty and `deleted_at` is set."""
    document = await statements.fetch_json(VISIBLE_MESSAGE, session_id, message_id, actor.user_id)
    if document is None:
        raise MessageNotFound
    return Response(document, media_type="application/json")


_CHANGE_ANSWERS = answers(MessageNotFound, NotYourMessage, SessionArchived, MessageDeleted, MessageStreaming)


@router.patch("/{message_id}", response_model=MessageRead, summary="Edit a message", responses=_CHANGE_ANSWERS)
async def patch_message(
    session_id: SessionId,
    message_id: MessageId,
    body: MessagePatch,
    actor: ChatWriter,
    messages: Messages,
) -> Response:
    """Change one's own message. Its earlier text stays readable under `/revisions`."""
    document = await messages.edit(session_id, message_id, actor.user_id, body)
    return Response(document, media_type="application/json")


@router.delete("/{message_id}", status_code=204, summary="Delete a message", responses=_CHANGE_ANSWERS)
async def delete_message(session_id: SessionId, message_id: MessageId, actor: ChatWriter, messages: Messages) -> None:
    """Leave a tombstone in its place. The sender may do it, and the session's owner."""
    await messages.delete(session_id, message_id, actor.user_id)


@router.get("/{message_id}/revisions", summary="Read earlier texts", responses=answers(MessageNotFound))
async def list_revisions(session: VisibleSession, message_id: MessageId, messages: Messages) -> Revisions:
    """The texts that a message had before its edits, the first one first."""
    return await messages.revisions(session.id, message_id)


@router.delete(
    "",
    status_code=204,
    summary="Clear the history",
    responses=answers(SessionNotFound, NotSessionOwner, SessionArchived, RunActive),
)
async def clear_messages(session: OwnedSession, messages: Messages) -> None:
    """Delete every message of the session. `seq` goes on where it was."""
    await messages.clear(session)
