"""Both sides of `shared/contracts` hold to the same examples: what one service writes, the other reads."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

import agent_service.main
from agent_service.adapters.chat_api_keys import ChatApiKeys
from agent_service.adapters.wiring import Parts, assemble
from agent_service.application.run_turn import TurnRunner
from agent_service.config import AgentSettings
from chat_api.clients.agent import AgentBrokeOff, AgentRefused, AgentUnavailable, HttpAgent
from chat_api.config import ApiSettings
from shared.contracts.chat import (
    MAX_BASE64_CHARACTERS,
    ChatEvent,
    ChatMessage,
    ChatRequest,
    ChatRole,
    CitationsEvent,
    DeltaEvent,
    DoneEvent,
    ErrorEvent,
    FinishReason,
    ImageType,
    Provider,
    Usage,
    UsageEvent,
)
from shared.contracts.introspection import KeyIntrospection
from shared.contracts.knowledge import CitationData
from shared.problems import Problem, ProblemDocument
from shared.security import ServiceName, service_signer
from shared.settings import Environment
from tests.factories.chat import API, chat_api
from tests.stores import Database

DONE = DoneEvent(
    finish_reason=FinishReason.STOP,
    provider=Provider.LOCAL,
    model="smollm2",
    latency_ms=812,
    time_to_first_token_ms=240,
)
DONE_DATA = (
    '{"type":"done","finish_reason":"stop","provider":"local","model":"smollm2","latency_ms":812,'
    '"time_to_first_token_ms":240}'
)
SILENT = DONE.model_copy(update={"finish_reason": FinishReason.CONTENT_FILTER, "time_to_first_token_ms": None})
CITATIONS = CitationsEvent(
    citations=[
        CitationData(
            index=2,
            document_id=uuid.UUID("0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"),
            document_name="harbour.md",
            chunk_id=uuid.UUID("0198f3a2-d11c-7a52-9b6c-0f4e5d6c7b8a"),
            page=None,
            score=0.5,
            snippet="It closes at ten.",
        )
    ]
)
CITATIONS_DATA = (
    '{"type":"citations","citations":[{"index":2,"document_id":"0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f",'
    '"document_name":"harbour.md","chunk_id":"0198f3a2-d11c-7a52-9b6c-0f4e5d6c7b8a","page":null,"score":0.5,'
    '"snippet":"It closes at ten."}]}'
)
USAGE = UsageEvent(usage=Usage(prompt_tokens=21, completion_tokens=5, total_tokens=26))
REFUSED = ErrorEvent(
    problem=ProblemDocument(title="T", status=429, detail="Später.", code="model-rate-limited", request_id="r1"),
    retry_after=10,
)
# What text may hold and a line-based protocol must not stumble over.
AWKWARD = 'data: x\n\nevent: done\r\n\r\n: comment\u2028\u2029\x0b\x0c\x1c\x85 "quoted" \\ \t 🙂 ünï e\u0301'
AWKWARD_DATA = json.dumps({"type": "delta", "text": AWKWARD}, ensure_ascii=False, separators=(",", ":"))
SILENT_DATA = DONE_DATA.replace('"stop"', '"content_filter"').replace("240", "null")
REFUSED_DATA = (
    '{"type":"error","problem":{"type":"about:blank","title":"T","status":429,"detail":"Später.",'
    '"code":"model-rate-limited","request_id":"r1"},"retry_after":10}'
)

EXAMPLES: dict[str, list[tuple[ChatEvent, str]]] = {
    "a turn": [
        (DeltaEvent(text="An exchange of words."), '{"type":"delta","text":"An exchange of words."}'),
        (USAGE, '{"type":"usage","usage":{"prompt_tokens":21,"completion_tokens":5,"total_tokens":26}}'),
        (DONE, DONE_DATA),
    ],
    "a turn that stands on documents": [
        (DeltaEvent(text="At ten [2]."), '{"type":"delta","text":"At ten [2]."}'),
        (CITATIONS, CITATIONS_DATA),
        (DONE, DONE_DATA),
    ],
    "a turn without a word": [(SILENT, SILENT_DATA)],
    "a turn that failed": [(DeltaEvent(text="So"), '{"type":"delta","text":"So"}'), (REFUSED, REFUSED_DATA)],
    "awkward text": [(DeltaEvent(text=AWKWARD), AWKWARD_DATA), (DONE, DONE_DATA)],
}
"""Events, and how they are written. Change one, and the two services of one installation no longer agree."""

REQUEST = ChatRequest(run_id=uuid.uuid4(), messages=[ChatMessage(role=ChatRole.USER, content="Hello")])


def events_of(name: str) -> list[ChatEvent]:
    return [event for event, _ in EXAMPLES[name]]


def written_as(name: str) -> str:
    return "".join(f"event: {event.type}\ndata: {data}\n\n" for event, data in EXAMPLES[name])


class ScriptedTurns(TurnRunner):
    """Turns that go as the test says, and remember what was asked."""

    def __init__(self, events: Sequence[ChatEvent]) -> None:
        self._events = events
        self.requests: list[ChatRequest] = []

    def stop(self) -> None:
        return None

    async def run(self, request: ChatRequest, *, owner_id: uuid.UUID | None = None) -> AsyncGenerator[ChatEvent]:
        self.requests.append(request)
        for event in self._events:
            yield event


@asynccontextmanager
async def agent_saying(turns: ScriptedTurns, **settings: Any) -> AsyncIterator[httpx.ASGITransport]:
    def parts(settings: AgentSettings) -> Parts:
        return replace(assemble(settings), turns=turns)

    loaded = AgentSettings(_env_file=None, environment=Environment.TEST, openai_api_key=SecretStr("a key"), **settings)
    app = agent_service.main.create_app(loaded, parts)
    async with app.router.lifespan_context(app):
        yield httpx.ASGITransport(app)


@asynccontextmanager
async def agent_client(transport: httpx.AsyncBaseTransport, **settings: Any) -> AsyncIterator[HttpAgent]:
    client = HttpAgent(ApiSettings(environment=Environment.TEST, **settings), transport=transport)
    try:
        yield client
    finally:
        await client.close()


def streaming(body: bytes, size: int = 100_000) -> httpx.MockTransport:
    """An agent whose answer arrives in pieces of `size` bytes."""

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    return httpx.MockTransport(lambda _: httpx.Response(200, content=pieces()))


@pytest.mark.parametrize("name", EXAMPLES)
async def test_the_agent_writes_what_the_example_says(name: str) -> None:
    signer = service_signer(
        ApiSettings().service_key.get_secret_value(), issuer=ServiceName.CHAT_API, audience=ServiceName.AGENT_SERVICE
    )
    headers = {"Authorization": f"Bearer {signer.mint('chat_api')}"}

    async with (
        agent_saying(ScriptedTurns(events_of(name))) as transport,
        httpx.AsyncClient(transport=transport, base_url="http://agent.test", headers=headers) as client,
    ):
        answer = await client.post("/v1/chat", json=REQUEST.model_dump(mode="json"))

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.content.decode() == written_as(name)


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("name", EXAMPLES)
async def test_the_chat_api_reads_what_the_example_says(name: str, size: int) -> None:
    """However the network cuts it: between events, within one, within a character."""
    async with agent_client(streaming(b": keep-alive\n\n" + written_as(name).encode(), size)) as client:
        assert [event async for event in client.chat(REQUEST)] == events_of(name)


async def test_neighbouring_deltas_may_travel_together() -> None:
    body = b"".join(b'data: {"type":"delta","text":"%d"}\n\n' % number for number in range(5))

    async with agent_client(streaming(body + f"data: {DONE_DATA}\n\n".encode())) as client:
        assert [event async for event in client.chat(REQUEST)] == [DeltaEvent(text="01234"), DONE]


@pytest.mark.parametrize("name", EXAMPLES)
async def test_the_two_together(name: str) -> None:
    """The chat API's own client, its own token, its own request, at the agent's own door."""
    turns = ScriptedTurns(events_of(name))
    images = [{"media_type": kind.value, "data": "iVBORw0KGgo="} for kind in ImageType]
    request = ChatRequest.model_validate(
        {
            "run_id": str(uuid.uuid4()),
            "model": {"provider": "local", "name": "smollm2", "temperature": 0.5, "max_tokens": 10},
            "system_prompt": AWKWARD,
            "messages": [
                {"role": "user", "content": AWKWARD, "name": "ann", "images": images},
                {"role": "assistant", "content": ""},
            ],
            "collections": [str(uuid.uuid4())],
            "retrieval": {"top_k": 3, "mode": "text", "min_score": 0.25, "exclude_documents": [str(uuid.uuid4())]},
            "user": {"id": str(uuid.uuid4())},
        }
    )

    async with agent_saying(turns) as transport, agent_client(transport) as client:
        assert [event async for event in client.chat(request)] == events_of(name)

    assert turns.requests == [request]


async def test_the_largest_pictures_pass_the_door() -> None:
    """With more text beside them than any other route takes."""
    turns = ScriptedTurns([DONE])
    half = {"media_type": "image/png", "data": "A" * (MAX_BASE64_CHARACTERS // 2)}
    limit = 100_000
    message = {"role": "user", "content": "x" * (limit - 1_000), "images": [half, half]}
    request = ChatRequest.model_validate({"run_id": str(uuid.uuid4()), "messages": [message]})

    async with agent_saying(turns, max_body_bytes=limit) as transport, agent_client(transport) as client:
        assert [event async for event in client.chat(request)] == [DONE]

    assert turns.requests == [request]


async def test_a_turn_without_pictures_is_written_as_before_there_were_any() -> None:
    """An agent of an earlier version would refuse a field that it does not know."""
    bodies: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(422, json=Problem().as_json("r1"))

    async with agent_client(httpx.MockTransport(answer)) as client:
        with pytest.raises(AgentRefused):
            [event async for event in client.chat(REQUEST)]

    assert bodies[0]["messages"] == [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'data: {"type":"delta","text":"So"}\n\n',
        b"data: nothing\n\n",
        b'data: {"type":"surprise"}\n\n',
        b'data: {"type":"delta"}\n\n',
        b'data: {"type":"delta","text":5}\n\n',
        b'data: {"type":"delta","text":null}\n\ndata: {"type":"delta","text":"x"}\n\n',
        b'data: ["delta"]\n\n',
        b'data: {"type":"usage","usage":{"prompt_tokens":-1,"completion_tokens":0,"total_tokens":0}}\n\n',
        b"data: \xff\xfe\n\n",
        f"data: {DONE_DATA}".encode(),
    ],
)
async def test_a_stream_that_is_not_whole_is_no_answer(body: bytes) -> None:
    async with agent_client(streaming(body)) as client:
        with pytest.raises(AgentBrokeOff):
            [event async for event in client.chat(REQUEST)]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (httpx.Response(503, json={"status": 503}), AgentUnavailable),
        (httpx.Response(502, content=b"<html>"), AgentUnavailable),
        (httpx.Response(422, json=Problem().as_json("r1")), AgentRefused),
        (httpx.Response(500, content=b"<html>"), AgentBrokeOff),
        (httpx.Response(404, json={"detail": "Not Found"}), AgentBrokeOff),
    ],
)
async def test_a_refusal_becomes_a_problem(answer: httpx.Response, problem: type[Problem]) -> None:
    async with agent_client(httpx.MockTransport(lambda _: answer)) as client:
        with pytest.raises(problem):
            [event async for event in client.chat(REQUEST)]


async def test_a_chat_api_with_another_key_is_refused() -> None:
    stranger = {"service_key": SecretStr("another service key that is long enough to sign")}

    async with agent_saying(ScriptedTurns([DONE])) as transport, agent_client(transport, **stranger) as client:
        with pytest.raises(AgentRefused) as refused:
            [event async for event in client.chat(REQUEST)]

    assert refused.value.problem.code == "not-authenticated"


async def test_the_agent_learns_whom_a_key_belongs_to(clean_database: Database, redis_url: str) -> None:
    async with chat_api(clean_database.api_url, redis_url) as chat:
        ann = await chat.person("ann")
        body = {"name": "a key", "scopes": ["chat:read", "agent:invoke"]}
        made = (await chat.client.post(f"{API}/api-keys", json=body, headers=ann.headers)).json()
        signer = service_signer(
            chat.settings.service_key.get_secret_value(),
            issuer=ServiceName.AGENT_SERVICE,
            audience=ServiceName.CHAT_API,
        )
        keys = ChatApiKeys(
            chat.client, base_url="http://colloquy.test", service_token=lambda: signer.mint("agent_service")
        )

        known = await keys.introspect(made["key"])
        unknown = await keys.introspect("cq_" + "0" * 32 + "_" + "A" * 43)

    assert known == KeyIntrospection(active=True, user_id=ann.id, scopes=["agent:invoke", "chat:read"])
    assert unknown == KeyIntrospection(active=False, user_id=None, scopes=[])
