"""`POST /v1/chat`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, assert_never

import orjson
from fastapi import APIRouter, Header, Request, Response
from starlette.requests import ClientDisconnect

from agent_service.api.auth import AUTH_PROBLEMS, AuthenticatedCaller
from agent_service.api.event_stream import EVENT_STREAM, EventStreamResponse, wants_json, while_connected
from agent_service.api.state import State
from agent_service.domain.embedding_problems import EMBEDDER_PROBLEMS
from agent_service.domain.index_problems import CollectionNotFound, EmbeddingModelChanged, IndexUnavailable
from agent_service.domain.problems import (
    AgentRestarting,
    ContextTooLong,
    ModelNotConfigured,
    ModelNotFound,
    ModelRateLimited,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
)
from shared.contracts.chat import (
    ChatAnswer,
    ChatEvent,
    ChatRequest,
    CitationsEvent,
    DeltaEvent,
    DoneEvent,
    ErrorEvent,
    Usage,
    UsageEvent,
)
from shared.contracts.knowledge import CitationData
from shared.problems import PROBLEM_JSON, MalformedRequest, PayloadTooLarge, ValidationFailed
from shared.web.responses import problems

router = APIRouter(prefix="/v1", tags=["chat"])

PATH = "/v1/chat"

# What a client does that closes its connection before the answer: nobody reads this status but our own log.
_CLIENT_CLOSED = 499

_EXAMPLE_STREAM = """\
event: delta
data: {"type":"delta","text":"The harbour closes at ten [1]."}

event: citations
data: {"type":"citations","citations":[{"index":1,"document_id":"0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f",\
"document_name":"harbour.md","chunk_id":"0198f3a2-d11c-7a52-9b6c-0f4e5d6c7b8a","page":null,"score":0.87,\
"snippet":"The harbour closes at ten in the evening."}]}

event: usage
data: {"type":"usage","usage":{"prompt_tokens":21,"completion_tokens":5,"total_tokens":26}}

event: done
data: {"type":"done","finish_reason":"stop","provider":"local","model":"smollm2-135m-instruct","latency_ms":812,\
"time_to_first_token_ms":240}

"""
_EXAMPLE_ANSWER = {
    "text": "The harbour closes at ten [1].",
    "citations": [
        {
            "index": 1,
            "document_id": "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f",
            "document_name": "harbour.md",
            "chunk_id": "0198f3a2-d11c-7a52-9b6c-0f4e5d6c7b8a",
            "page": None,
            "score": 0.87,
            "snippet": "The harbour closes at ten in the evening.",
        }
    ],
    "finish_reason": "stop",
    "usage": {"prompt_tokens": 21, "completion_tokens": 5, "total_tokens": 26},
    "provider": "local",
    "model": "smollm2-135m-instruct",
    "latency_ms": 812,
    "time_to_first_token_ms": 240,
}
_OK: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ChatAnswer,
        "description": "The turn: as events, or at once with `Accept: application/json`. The `data` of each event is"
        " one `ChatEvent`.",
        "content": {
            "application/json": {"example": _EXAMPLE_ANSWER},
            EVENT_STREAM: {"schema": {"type": "string"}, "example": _EXAMPLE_STREAM},
        },
    }
}


@router.post(
    "/chat",
    operation_id="chat",
    summary="Run one turn of a conversation",
    responses={
        **_OK,
        **problems(
            MalformedRequest,
            *AUTH_PROBLEMS,
            CollectionNotFound,
            PayloadTooLarge,
            EmbeddingModelChanged,
            ValidationFailed,
            IndexUnavailable,
            *EMBEDDER_PROBLEMS,
            ModelNotConfigured,
            ModelNotFound,
            ContextTooLong,
            ModelRateLimited,
            ModelRejected,
            ModelUnavailable,
            AgentRestarting,
            ModelTimeout,
        ),
    },
)
async def chat(
    request: Request,
    turn: ChatRequest,
    state: State,
    caller: AuthenticatedCaller,
    accept: Annotated[
        str | None, Header(description="`application/json` for one answer; else events are streamed.")
    ] = None,
) -> Response:
    """Hand the whole conversation to a model and get its next message.

    Passages of `collections` that fit the last question are shown to the model, as quoted material and not as
    instructions. What the answer stands on is worked out from them, and sent as `citations`.

    The answer is a stream of server-sent events: any number of `delta`, at most one `citations`, at most one
    `usage`, then exactly one of `done` or `error`. A comment line comes every 15 seconds while the model is silent.
    Closing the connection stops the model. Once the stream has begun, a failing search or model is an `error` event
    that holds the problem; with `Accept: application/json` the same problem is the answer, with its status.
    """
    events = state.turns.run(turn, owner_id=caller.user_id)
    if wants_json(accept):
        try:
            return await while_connected(_answer_at_once(events), request.receive)
        except ClientDisconnect:
            return Response(status_code=_CLIENT_CLOSED)
    return EventStreamResponse(_frames(events), heartbeat_seconds=state.heartbeat_seconds)


async def _frames(events: AsyncGenerator[ChatEvent]) -> AsyncGenerator[bytes]:
    async with aclosing(events):
        async for event in events:
            if isinstance(event, DeltaEvent):  # the hot path: one per batch of tokens
                yield b"event: delta\ndata: " + orjson.dumps({"type": "delta", "text": event.text}) + b"\n\n"
            else:
                body = event.model_dump_json(exclude_none=isinstance(event, ErrorEvent))
                yield f"event: {event.type}\ndata: {body}\n\n".encode()


async def _answer_at_once(events: AsyncGenerator[ChatEvent]) -> Response:
    texts: list[str] = []
    citations: list[CitationData] = []
    usage: Usage | None = None
    answer: Response | None = None
    async with aclosing(events):
        async for event in events:
            match event:
                case DeltaEvent():
                    texts.append(event.text)
                case CitationsEvent():
                    citations = event.citations
                case UsageEvent():
                    usage = event.usage
                case DoneEvent():
                    answer = _answer("".join(texts), citations, usage, event)
                case ErrorEvent():
                    answer = _refusal(event)
                case _:
                    assert_never(event)
    assert answer is not None, "a turn ends with `done` or `error`"
    return answer


def _answer(text: str, citations: list[CitationData], usage: Usage | None, done: DoneEvent) -> Response:
    body = ChatAnswer(
        text=text,
        citations=citations,
        finish_reason=done.finish_reason,
        usage=usage,
        provider=done.provider,
        model=done.model,
        latency_ms=done.latency_ms,
        time_to_first_token_ms=done.time_to_first_token_ms,
    )
    return Response(body.model_dump_json(), media_type="application/json")


def _refusal(error: ErrorEvent) -> Response:
    return Response(
        error.problem.model_dump_json(exclude_none=True),
        status_code=error.problem.status,
        headers={} if error.retry_after is None else {"Retry-After": str(error.retry_after)},
        media_type=PROBLEM_JSON,
    )
