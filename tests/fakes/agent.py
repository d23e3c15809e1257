"""An agent service that a test writes the lines for, behind the HTTP transport of the chat API's client."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any

import httpx

from shared.contracts.chat import (
    ChatEvent,
    ChatRequest,
    CitationsEvent,
    DeltaEvent,
    DoneEvent,
    ErrorEvent,
    FinishReason,
    Provider,
    Usage,
    UsageEvent,
)
from shared.contracts.knowledge import CitationData
from shared.contracts.tools import ToolList, ToolRisk, ToolSpecRead
from shared.openai.embeddings import EmbeddingRequest, EncodingFormat
from shared.openai.models import OpenAIModel, OpenAIModelList
from shared.problems import ProblemDocument
from tests.fakes.collections import ScriptedCollections

USAGE = Usage(prompt_tokens=7, completion_tokens=5, total_tokens=12)
DONE = DoneEvent(
    finish_reason=FinishReason.STOP, provider=Provider.LOCAL, model="scripted", latency_ms=21, time_to_first_token_ms=3
)

_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"text": {"type": "string", "maxLength": 500}},
    "required": ["text"],
    "additionalProperties": False,
}
CALCULATOR = ToolSpecRead(
    name="calculator",
    title="Calculator",
    description="Works out an arithmetic expression.",
    source="builtin",
    risk=ToolRisk.SAFE,
    repeatable=True,
    parameters=_PARAMETERS,
    timeout_seconds=5,
)
FETCH_URL = CALCULATOR.model_copy(
    update={"name": "fetch_url", "title": "Fetch a page", "description": "Reads a page.", "risk": ToolRisk.RISKY}
)

Script = Callable[[ChatRequest], AsyncGenerator[ChatEvent, None]]


async def echo(request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
    """Says back what was said last, in two deltas."""
    for piece in ("You said: ", request.messages[-1].content):
        yield DeltaEvent(text=piece)
    yield UsageEvent(usage=USAGE)
    yield DONE


def saying(*pieces: str) -> Script:
    async def script(_: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        for piece in pieces:
            yield DeltaEvent(text=piece)
        yield UsageEvent(usage=USAGE)
        yield DONE

    return script


def citing(*citations: CitationData, text: str = "It says so [1].", end: ChatEvent = DONE) -> Script:
    """Says the text, then what it stands on."""

    async def script(_: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        yield DeltaEvent(text=text)
        yield CitationsEvent(citations=list(citations))
        yield end

    return script


def failing(problem: ProblemDocument, *pieces: str) -> Script:
    """Says the pieces, then reports a problem."""

    async def script(_: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        for piece in pieces:
            yield DeltaEvent(text=piece)
        yield ErrorEvent(problem=problem)

    return script


def breaking_off(*pieces: str) -> Script:
    """Says the pieces, then the connection breaks."""

    async def script(_: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        for piece in pieces:
            yield DeltaEvent(text=piece)
        raise httpx.ReadError("the agent died")

    return script


_ARRIVAL_SECONDS = 10.0


class Gate:
    """A turn that says its first piece (and what it stands on), then waits until the test opens the gate."""

    def __init__(self, first: str = "So", rest: str = " far.", citations: Sequence[CitationData] = ()) -> None:
        self.opened = asyncio.Event()
        self.reached = asyncio.Event()
        self._first = first
        self._rest = rest
        self._citations = list(citations)

    async def arrival(self) -> None:
        """Return when a turn stands before the gate. Raises `TimeoutError`, so that a hang shows where it hangs."""
        async with asyncio.timeout(_ARRIVAL_SECONDS):
            await self.reached.wait()

    async def __call__(self, _: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        if self._first:
            yield DeltaEvent(text=self._first)
        if self._citations:
            yield CitationsEvent(citations=self._citations)
        self.reached.set()
        await self.opened.wait()
        if self._rest:
            yield DeltaEvent(text=self._rest)
        yield UsageEvent(usage=USAGE)
        yield DONE


class ScriptedAgent(httpx.AsyncBaseTransport):
    """`script` answers every turn, unless `next_scripts` holds one for the next.

    `requests` are the turns that were asked for; `abandoned` counts those whose reader closed them early.
    """

    def __init__(self) -> None:
        self.script: Script = echo
        self.next_scripts: list[Script] = []
        self.requests: list[ChatRequest] = []
        self.headers: list[httpx.Headers] = []
        self.refusals: list[httpx.Response | httpx.TransportError] = []
        self.abandoned = 0
        self.collections = ScriptedCollections()
        self.tools = ToolList(items=[CALCULATOR, FETCH_URL], sources=[])
        self.tools_answer: httpx.Response | None = None
        """What `GET /v1/tools` is answered with, where it is not the list."""
        self.models = ["local:scripted", "openai:gpt-4o-mini"]
        self.embeddings: list[EmbeddingRequest] = []
        self.embeddings_answer: httpx.Response | None = None
        """What `POST /v1/embeddings` is answered with, where it is not a vector for each text."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = b"".join([chunk async for chunk in request.stream])  # type: ignore[union-attr]  # always async here
        match request.url.path:
            case "/health/live":
                answer = httpx.Response(200, json={"status": "ok"})
            case "/v1/tools":
                answer = self.tools_answer or httpx.Response(200, content=self.tools.model_dump_json())
            case "/v1/models":
                answer = _model_list(self.models)
            case "/v1/providers":
                answer = httpx.Response(200, json={"embedding": {"model": self.models[0], "dimensions": 2}})
            case "/v1/embeddings":
                self.embeddings.append(EmbeddingRequest.model_validate_json(body))
                answer = self.embeddings_answer or _vectors(self.embeddings[-1])
            case path if path.startswith("/v1/collections"):
                answer = await self.collections.handle(request)
            case _:
                answer = await self._chat(request, body)
        return answer

    async def _chat(self, request: httpx.Request, body: bytes) -> httpx.Response:
        self.requests.append(ChatRequest.model_validate_json(body))
        self.headers.append(request.headers)
        if self.refusals:
            refusal = self.refusals.pop(0)
            if isinstance(refusal, httpx.TransportError):
                raise refusal
            return refusal
        script = self.next_scripts.pop(0) if self.next_scripts else self.script
        stream = _Frames(script(self.requests[-1]), self)
        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=stream)


def _model_list(names: Sequence[str]) -> httpx.Response:
    data = [OpenAIModel(id=name, object="model", created=0, owned_by=name.partition(":")[0]) for name in names]
    return httpx.Response(200, content=OpenAIModelList(object="list", data=data).model_dump_json())


def _vectors(wanted: EmbeddingRequest) -> httpx.Response:
    texts = [wanted.input] if isinstance(wanted.input, str) else wanted.input
    floats = [1.0, 0.5]
    is_packed = wanted.encoding_format is EncodingFormat.BASE64
    vector = base64.b64encode(struct.pack("<2f", *floats)).decode() if is_packed else floats
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, _ in enumerate(texts)]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return httpx.Response(200, json={"object": "list", "data": data, "model": wanted.model, "usage": usage})


class _Frames(httpx.AsyncByteStream):
    def __init__(self, events: AsyncGenerator[ChatEvent, None], agent: ScriptedAgent) -> None:
        self._events = events
        self._agent = agent
        self._finished = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for event in self._events:
            yield f"event: {event.type}\ndata: {event.model_dump_json()}\n\n".encode()
            self._finished = event.type in ("done", "error")

    async def aclose(self) -> None:
        if not self._finished:
            self._agent.abandoned += 1
        await self._events.aclose()
