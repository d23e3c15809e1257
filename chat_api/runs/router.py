"""Sending messages, and following and cancelling the runs that answer them."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from chat_api.attachments.errors import AttachmentNotFound
from chat_api.auth.actors import Scope
from chat_api.auth.answers import answers
from chat_api.auth.permissions import ChatReader, ChatWriter, Permission
from chat_api.kit.bound_route import bound_by, bound_router, json_body, path_uuid
from chat_api.kit.idempotency import KEY_HEADER, IdempotencyKey, IdempotencyKeyReused, idempotency_key
from chat_api.messages.errors import MessageNotFound
from chat_api.messages.router import MessageId
from chat_api.plans.errors import QuotaExceeded
from chat_api.runs.answer import Answers
from chat_api.runs.engine import RunEngine
from chat_api.runs.errors import Restarting, RunFinished, RunNotFound, TooManyMessages
from chat_api.runs.repository import RunRepository, Sent
from chat_api.runs.schemas import Accepted, Exchanged, MessageCreate, RunRead, SessionActivity
from chat_api.runs.service import RunService
from chat_api.sessions.access import Membership
from chat_api.sessions.dependencies import SessionId, TheAccess, get_access
from chat_api.sessions.errors import SessionArchived, SessionNotFound
from shared.problems import FieldError, ValidationFailed

router = APIRouter(tags=["Runs"])
busy = bound_router("Messages")

_MAY_WRITE = Permission(Scope.CHAT_WRITE)

RunId = Annotated[UUID, Path(description="Id of the run.")]

_SSE_EXAMPLE = (
    'id: 1\nevent: message.created\ndata: {"id": "0198f3a2-…", "role": "user", …}\n\n'
    'id: 2\nevent: run.started\ndata: {"id": "0198f3a2-…", "status": "running", …}\n\n'
    'id: 3\nevent: message.created\ndata: {"id": "0198f3a2-…", "role": "assistant", "content": "", …}\n\n'
    'id: 4\nevent: message.delta\ndata: {"message_id": "0198f3a2-…", "offset": 0, "text": "People"}\n\n'
    'id: 5\nevent: message.delta\ndata: {"message_id": "0198f3a2-…", "offset": 6, "text": " taking turns."}\n\n'
    'id: 6\nevent: message.updated\ndata: {"id": "0198f3a2-…", "content": "People taking turns.", …}\n\n'
    'id: 7\nevent: run.completed\ndata: {"id": "0198f3a2-…", "status": "completed", …}\n\n'
)
_STREAM: dict[str, Any] = {
    "description": "The run's events, ending with `run.completed`, `run.failed`, `run.cancelled` or"
    " `run.awaiting_approval`. The data of `run.*` is a `RunRead`, of `message.created` and `message.updated` a"
    " `MessageRead`, of `message.delta` a `MessageDelta`, of `message.citations` (after the last delta, where the"
    " reply stands on documents) a `MessageCitations`, of `tool.*` a `ToolExecutionRead`. After"
    " `run.awaiting_approval` the stream goes on, once it was decided, with the next number and `run.started`: ask for"
    " what comes after that event. Where the stream is no longer kept, one `message.updated` carries the whole reply.",
    "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _SSE_EXAMPLE}},
}
_REPLY_MODES: dict[int | str, dict[str, Any]] = {
    200: _STREAM,
    202: {"model": Accepted, "description": "With `Prefer: respond-async`: stored; follow the run by its events."},
}


async def get_engine(request: Request) -> RunEngine:
    engine: RunEngine = request.app.state.runs
    return engine


Engine = Annotated[RunEngine, Depends(get_engine)]


async def get_run_service(engine: Engine) -> RunService:
    return RunService(engine.repository, engine.executor, engine.streams, engine.sends, engine.quotas)


async def get_answers(engine: Engine, access: TheAccess) -> Answers:
    return Answers(engine.repository, engine.streams, access)


async def get_run_repository(engine: Engine) -> RunRepository:
    return engine.repository


Runs = Annotated[RunService, Depends(get_run_service)]
Replies = Annotated[Answers, Depends(get_answers)]
RunRows = Annotated[RunRepository, Depends(get_run_repository)]
Accept = Annotated[str, Header(alias="Accept", description="`text/event-stream` streams the reply.")]
Prefer = Annotated[str, Header(alias="Prefer", description="`respond-async` does not wait for the reply.")]


async def _bind_send(request: Request) -> dict[str, Any]:
    """The arguments of `send_message`, which is most of what a busy server does."""
    actor = await _MAY_WRITE(request)
    headers = request.headers
    engine = await get_engine(request)
    return {
        "session_id": path_uuid(request, "session_id"),
        "body": await json_body(request, MessageCreate),
        "actor": actor,
        "runs": await get_run_service(engine),
        "replies": await get_answers(engine, await get_access(request)),
        "accept": headers.get("accept", ""),
        "prefer": headers.get("prefer", ""),
        "key": idempotency_key(headers.get(KEY_HEADER)),
    }


@busy.post(
    "/sessions/{session_id}/messages",
    status_code=201,
    response_model=Exchanged,
    summary="Send a message",
    responses=_REPLY_MODES
    | answers(
        SessionNotFound,
        AttachmentNotFound,
        SessionArchived,
        IdempotencyKeyReused,
        TooManyMessages,
        QuotaExceeded,
        Restarting,
    ),
)
@bound_by(_bind_send)
async def send_message(
    session_id: SessionId,
    body: MessageCreate,
    actor: ChatWriter,
    runs: Runs,
    replies: Replies,
    accept: Accept = "application/json",
    prefer: Prefer = "",
    key: IdempotencyKey = None,
) -> Response:
    """Store the message, then answer in one of three ways.

    Plain JSON waits for the reply. `Accept: text/event-stream` streams it. `Prefer: respond-async` returns
    at once. Going away does not stop the run. A run that failed is still 201, with `run.status: failed`.
    """
    sent = await runs.send(session_id, actor.user_id, body, key)
    return await _reply(replies, sent, Membership(session_id, actor.user_id), accept, prefer)


@router.post(
    "/sessions/{session_id}/messages/{message_id}/regenerate",
    status_code=201,
    response_model=Exchanged,
    tags=["Messages"],
    summary="Ask for another reply",
    responses=_REPLY_MODES
    | answers(
        SessionNotFound,
        MessageNotFound,
        SessionArchived,
        IdempotencyKeyReused,
        TooManyMessages,
        QuotaExceeded,
        Restarting,
    ),
)
async def regenerate_message(
    session_id: SessionId,
    message_id: MessageId,
    actor: ChatWriter,
    runs: Runs,
    replies: Replies,
    accept: Accept = "application/json",
    prefer: Prefer = "",
    key: IdempotencyKey = None,
) -> Response:
    """Answer a message again, named by itself or by a reply to it. The earlier replies stay readable."""
    sent = await runs.regenerate(session_id, actor.user_id, message_id, key)
    return await _reply(replies, sent, Membership(session_id, actor.user_id), accept, prefer)


async def _reply(replies: Answers, sent: Sent, reader: Membership, accept: str, prefer: str) -> Response:
    if "text/event-stream" in accept.lower():
        return replies.stream(sent, reader)
    if "respond-async" in prefer.lower():
        return replies.accepted(sent)
    return await replies.whole(sent, reader)


@router.get(
    "/sessions/{session_id}/status",
    response_model=SessionActivity,
    tags=["Sessions"],
    summary="Read what a session is doing",
    responses=answers(SessionNotFound),
)
async def get_session_status(session_id: SessionId, actor: ChatReader, rows: RunRows) -> Response:
    """The model that answers (the session's own, else its bot's), the active run, what waits, the tokens so far."""
    activity = await rows.session_activity(session_id, actor.user_id)
    if activity is None:
        raise SessionNotFound
    return Response(activity, media_type="application/json")


@router.get("/runs/{run_id}", response_model=RunRead, summary="Read a run", responses=answers(RunNotFound))
async def get_run(run_id: RunId, actor: ChatReader, rows: RunRows) -> Response:
    """One run, with its error and usage once it has ended."""
    run = await rows.visible(run_id, actor.user_id)
    if run is None:
        raise RunNotFound
    return Response(run, media_type="application/json")


@router.post(
    "/runs/{run_id}/cancel",
    response_model=RunRead,
    summary="Cancel a run",
    responses=answers(RunNotFound, RunFinished),
)
async def cancel_run(run_id: RunId, actor: ChatWriter, runs: Runs) -> Response:
    """Stop a run. A waiting one is cancelled at once; a running one ends within a second, keeping what it said."""
    return Response(await runs.cancel(run_id, actor.user_id), media_type="application/json")


@router.get(
    "/runs/{run_id}/events",
    response_class=Response,
    summary="Follow a run",
    responses={
        200: _STREAM,
        204: {"description": "You have it all: the one you named was the last."},
        **answers(RunNotFound),
    },
)
async def follow_run(
    run_id: RunId,
    actor: ChatReader,
    rows: RunRows,
    replies: Replies,
    last_event_id: Annotated[
        str | None, Header(alias="Last-Event-ID", max_length=20, description="Number of the last event you have.")
    ] = None,
    after: Annotated[int | None, Query(ge=0, le=2**53, description="The same, for clients without headers.")] = None,
) -> Response:
    """Every event after the one you name, exactly once and in order, also after the run ended.

    204 when the one you name was the terminal one, or `run.awaiting_approval` and nobody has decided yet.
    """
    if await rows.visible(run_id, actor.user_id) is None:
        raise RunNotFound
    return await replies.resume(run_id, actor.user_id, _position(last_event_id, after))


def _position(last_event_id: str | None, after: int | None) -> int:
    if last_event_id is None:
        return after or 0
    # Only plain digits: `int` would take signs, spaces, underscores and digits of other scripts.
    if not (last_event_id.isascii() and last_event_id.isdigit()) or int(last_event_id) > 2**53:
        raise ValidationFailed(
            errors=[FieldError(loc=["header", "Last-Event-ID"], msg="Not the number of an event", type="int_parsing")]
        )
    return int(last_event_id)
