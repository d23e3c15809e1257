"""`POST /v1/chat`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Annotated, Any, assert_never

import orjson
from fastapi import APIRouter, Header, Request, Response
from starlette.requests import ClientDisconnect

from agent_service.api.auth import AUTH_PROBLEMS, AuthenticatedCaller
from agent_service.api.plain_turn import PlainTurnRoute
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
from agent_service.domain.tool_problems import DecisionWithoutCall
from shared.contracts.chat import (
    ChatAnswer,
    ChatEvent,
    ChatRequest,
    CitationsEvent,
    DeltaEvent,
    DoneEvent,
    ErrorEvent,
    FinishReason,
    Usage,
    UsageEvent,
)
from shared.contracts.knowledge import CitationData
from shared.contracts.tools import ApprovalRequiredEvent, PausedEvent, ToolCallEvent, ToolResultEvent
from shared.problems import PROBLEM_JSON, MalformedRequest, PayloadTooLarge, ValidationFailed
from shared.web.event_stream import CLIENT_CLOSED, EVENT_STREAM, EventStreamResponse, wants_json, while_connected
from shared.web.responses import problems

router = APIRouter(prefix="/v1", tags=["chat"], route_class=PlainTurnRoute)

PATH = "/v1/chat"

SaidEvent = DeltaEvent | CitationsEvent | ToolCallEvent | ApprovalRequiredEvent | ToolResultEvent | UsageEvent
"""Those that do not end a turn."""

_EXAMPLE_STREAM = """\
event: tool_call
data: {"type":"tool_call","call":{"id":"call_7f3c2a","name":"search_knowledge","arguments":{"query":"harbour hours"},\
"signature":null},"source":"builtin","risk":"safe","repeatable":true,"parameters":{"type":"object"},\
"redacted_arguments":[],"redact_result":false,"index":0,"count":1,"problem":null}

event: tool_result
data: {"type":"tool_result","call_id":"call_7f3c2a","outcome":"succeeded","content":"[1] harbour.md …",\
"passages":[],"problem":null,"attempts":1,"duration_ms":31}

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
    "tool_calls": [],
    "tool_results": [],
    "awaiting": [],
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
            DecisionWithoutCall,
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
    instructions, unless `ground` is false. What the answer stands on is worked out from them, and from what
    `search_knowledge` found, and sent as `citations`.

    The model may call what `tools` and `functions` name. Each call is a `tool_call` event. Calls that `approval_mode`
    does not ask about run at once, all at the same time; each is told as `tool_result` when it is over, and the model
    is asked again with the results, until it answers. Where a call waits for a person (`approval_required`) or for a
    function of yours, the turn ends `paused`. It goes on by the same request with the text and the calls of the
    assistant as the last of `messages`, a message of the role `tool` for each result that is known, and `decisions` on
    the others. A call without a result that is neither decided on nor asked about is run again.

    The answer is a stream of server-sent events: any number of `delta`, `tool_call`, `approval_required` and
    `tool_result`, at most one `citations`, at most one `usage`, then exactly one of `done`, `paused` or `error`. A
    comment line comes every 15 seconds while nothing else does. Closing the connection stops the model and the tools.
    Once the stream has begun, a failing search or model is an `error` event that holds the problem; with
    `Accept: application/json` the same problem is the answer, with its status. A tool that fails ends nothing: the
    model is told.
    """
    open_calls = state.turns.check(turn)
    events = state.turns.run(turn, owner_id=caller.user_id)
    if wants_json(accept):
        try:
            return await while_connected(_answer_at_once(events, open_calls), request.receive)
        except ClientDisconnect:
            return Response(status_code=CLIENT_CLOSED)
    return EventStreamResponse(_frames(events), heartbeat_seconds=state.heartbeat_seconds)


async def _frames(events: AsyncGenerator[ChatEvent]) -> AsyncGenerator[bytes]:
    held = b""
    async with aclosing(events):
        async for event in events:
            if isinstance(event, DeltaEvent):  # the hot path: one per batch of tokens
                said = {"type": "delta", "text": event.text}
                if event.provider is not None and event.model is not None:
                    said |= {"provider": event.provider.value, "model": event.model}
                frame = b"event: delta\ndata: " + orjson.dumps(said) + b"\n\n"
            else:
                body = event.model_dump_json(exclude_none=isinstance(event, ErrorEvent))
                frame = f"event: {event.type}\ndata: {body}\n\n".encode()
            if _is_followed_at_once(event):
                held += frame
            else:
                yield held + frame
                held = b""


def _is_followed_at_once(event: ChatEvent) -> bool:
    """Whether the turn has its next event ready. Together they are one write, and one read of the caller's."""
    if isinstance(event, ToolCallEvent):
        return event.index + 1 < event.count
    return isinstance(event, ApprovalRequiredEvent | CitationsEvent | UsageEvent)


async def _answer_at_once(events: AsyncGenerator[ChatEvent], open_calls: Iterable[str]) -> Response:
    gathered = _Gathered(open_calls)
    answer: Response | None = None
    async with aclosing(events):
        async for event in events:
            match event:
                case DoneEvent():
                    answer = gathered.answer(event, event.finish_reason)
                case PausedEvent():
                    answer = gathered.answer(event, FinishReason.TOOL_CALLS)
                case ErrorEvent():
                    answer = _refusal(event)
                case _:
                    gathered.add(event)
    assert answer is not None, "a turn ends with `done`, `paused` or `error`"
    return answer


class _Gathered:
    """What a turn has said so far. `open_calls` are those of `messages` that had no result when it began."""

    def __init__(self, open_calls: Iterable[str]) -> None:
        self._texts: list[str] = []
        self._citations: list[CitationData] = []
        self._usage: Usage | None = None
        self._calls: list[ToolCallEvent] = []
        self._results: list[ToolResultEvent] = []
        self._awaiting = dict.fromkeys(open_calls)

    def add(self, event: SaidEvent) -> None:
        match event:
            case DeltaEvent():
                self._texts.append(event.text)
            case CitationsEvent():
                self._citations = event.citations
            case UsageEvent():
                self._usage = event.usage
            case ToolCallEvent():
                self._calls.append(event)
                if event.problem is None:
                    self._awaiting[event.call.id] = None
            case ToolResultEvent():
                self._results.append(event)
                self._awaiting.pop(event.call_id, None)
            case ApprovalRequiredEvent():
                pass  # it awaits a result already, as calls of the caller's functions do
            case _:
                assert_never(event)

    def answer(self, last: DoneEvent | PausedEvent, reason: FinishReason) -> Response:
        body = ChatAnswer(
            text="".join(self._texts),
            citations=self._citations,
            tool_calls=self._calls,
            tool_results=self._results,
            awaiting=list(self._awaiting),
            finish_reason=reason,
            usage=self._usage,
            provider=last.provider,
            model=last.model,
            latency_ms=last.latency_ms,
            time_to_first_token_ms=last.time_to_first_token_ms,
        )
        return Response(body.model_dump_json(), media_type="application/json")


def _refusal(error: ErrorEvent) -> Response:
    return Response(
        error.problem.model_dump_json(exclude_none=True),
        status_code=error.problem.status,
        headers={} if error.retry_after is None else {"Retry-After": str(error.retry_after)},
        media_type=PROBLEM_JSON,
    )
