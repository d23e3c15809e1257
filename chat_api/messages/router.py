"""`/sessions/{id}/messages`: reading, editing and deleting what was said. Sending is in `runs`."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field, ValidationError

from chat_api.auth.actors import Scope
from chat_api.auth.answers import answers
from chat_api.auth.dependencies import TheClock
from chat_api.auth.permissions import ChatReader, ChatWriter, Permission
from chat_api.kit.bound_route import bound_by, bound_router, located, path_uuid
from chat_api.kit.dependencies import Db, Statements, get_database
from chat_api.kit.pagination import InvalidCursor
from chat_api.messages.documents import VISIBLE_MESSAGE, WINDOW_AFTER, WINDOW_BEFORE
from chat_api.messages.errors import (
    MessageDeleted,
    MessageNotFound,
    MessageStreaming,
    NotYourMessage,
    TooManyReactions,
)
from chat_api.messages.reactions import Emoji
from chat_api.messages.schemas import MessagePatch, MessageRead, MessageWindow, Revisions
from chat_api.messages.service import MessageService
from chat_api.sessions.dependencies import OwnedSession, SessionId, TheHints, VisibleSession
from chat_api.sessions.errors import NotSessionOwner, RunActive, SessionArchived, SessionNotFound
from shared.problems import FieldError, ValidationFailed

router = APIRouter(prefix="/sessions/{session_id}/messages", tags=["Messages"])
busy = bound_router("Messages")

_MAX_SEQ = 2**63 - 1
MessageId = Annotated[UUID, Path(description="Id of the message.")]
_MAY_READ = Permission(Scope.CHAT_READ)


async def get_message_service(db: Db, clock: TheClock, hints: TheHints) -> MessageService:
    return MessageService(db, clock, hints)


Messages = Annotated[MessageService, Depends(get_message_service)]


class WindowQuery(BaseModel):
    """Which window of history: the latest, or before or after a `seq`."""

    before_seq: int | None = Field(default=None, ge=0, le=_MAX_SEQ)
    after_seq: int | None = Field(default=None, ge=0, le=_MAX_SEQ)
    limit: int = Field(default=50, ge=1, le=100)
    cursor: str | None = Field(default=None, pattern=r"^[ab][0-9]{1,18}$", description="`next_cursor` of a window.")

    def bounds(self) -> tuple[int, int | None]:
        """(before, after): the latter wins where it is given. Raises `ValidationFailed` for more than one."""
        if sum(given is not None for given in (self.before_seq, self.after_seq, self.cursor)) > 1:
            raise ValidationFailed(
                errors=[FieldError(loc=["query"], msg="Give one of before_seq, after_seq and cursor", type="exclusive")]
            )
        if self.cursor is not None:
            position = int(self.cursor[1:])
            return (position, None) if self.cursor[0] == "b" else (0, position)
        return (_MAX_SEQ if self.before_seq is None else self.before_seq), self.after_seq


async def _bind_window(request: Request) -> dict[str, Any]:
    """The arguments of `list_messages`, which every client calls first."""
    actor = await _MAY_READ(request)
    try:
        window = WindowQuery.model_validate(request.query_params)
    except ValidationError as error:
        raise located(error, "query") from None
    return {
        "session_id": path_uuid(request, "session_id"),
        "actor": actor,
        "statements": await get_database(request),
        "window": window,
    }


@busy.get(
    "/sessions/{session_id}/messages",
    response_model=MessageWindow,
    summary="Read a window of history",
    responses=answers(SessionNotFound, InvalidCursor),
)
@bound_by(_bind_window)
async def list_messages(
    session_id: SessionId, actor: ChatReader, statements: Statements, window: Annotated[WindowQuery, Query()]
) -> Response:
    """The latest messages, or those just before or after a `seq`; always ascending by `seq`."""
    before, after = window.bounds()
    if after is not None:
        found = await statements.fetch_json(WINDOW_AFTER, session_id, actor.user_id, after, window.limit)
    else:
        found = await statements.fetch_json(WINDOW_BEFORE, session_id, actor.user_id, before, window.limit)
    if found is None:
        raise SessionNotFound
    return Response(found, media_type="application/json")


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


@router.put(
    "/{message_id}/reactions/{emoji}",
    response_model=MessageRead,
    summary="React to a message",
    responses=answers(MessageNotFound, SessionArchived, MessageDeleted, TooManyReactions),
)
async def put_reaction(
    session_id: SessionId, message_id: MessageId, emoji: Emoji, actor: ChatWriter, messages: Messages
) -> Response:
    """Add one's own reaction, and answer with the message. Doing it twice is the same as once."""
    document = await messages.react(session_id, message_id, actor.user_id, emoji)
    return Response(document, media_type="application/json")


@router.delete(
    "/{message_id}/reactions/{emoji}",
    response_model=MessageRead,
    summary="Take a reaction back",
    responses=answers(MessageNotFound, SessionArchived, MessageDeleted),
)
async def delete_reaction(
    session_id: SessionId, message_id: MessageId, emoji: Emoji, actor: ChatWriter, messages: Messages
) -> Response:
    """Remove one's own reaction, if there is one, and answer with the message."""
    document = await messages.take_back_reaction(session_id, message_id, actor.user_id, emoji)
    return Response(document, media_type="application/json")


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
