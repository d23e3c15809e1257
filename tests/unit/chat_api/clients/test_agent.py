"""How the agent's answers are read, however the network cuts them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any
from uuid import UUID

import httpx
import pytest
import respx
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_api.clients.agent import AgentBrokeOff, AgentRefused, AgentUnavailable, HttpAgent
from chat_api.config import ApiSettings
from shared.contracts.chat import ChatEvent, ChatMessage, ChatRequest, ChatRole, DeltaEvent, ErrorEvent, Provider
from shared.logging import request_id_var
from shared.problems import Problem, ProblemDocument
from shared.security import ServiceName, service_signer
from shared.settings import Environment
from tests.fakes.agent import DONE

URL = "http://agent.test"
TURN = ChatRequest(
    run_id=UUID("0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"), messages=[ChatMessage(role=ChatRole.USER, content="Hi")]
)
EVENT_STREAM = {"Content-Type": "text/event-stream"}


def frame(event: ChatEvent) -> bytes:
    return f"event: {event.type}\ndata: {event.model_dump_json()}\n\n".encode()


class Chunks(httpx.AsyncByteStream):
    """A body that comes in these pieces; an exception among them is raised in its place."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces = pieces
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def aclose(self) -> None:
        self.closed = True


class Scripted(httpx.AsyncBaseTransport):
    """Answers with what stands next in the list, then with the last of it."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = list(answers)
        self.calls = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def streamed(*pieces: bytes | Exception) -> httpx.Response:
    return httpx.Response(200, headers=EVENT_STREAM, stream=Chunks(*pieces))


def make_agent(transport: httpx.AsyncBaseTransport | None = None, **fields: Any) -> HttpAgent:
    loaded = ApiSettings(environment=Environment.TEST, agent_url=URL, **fields)
    return HttpAgent(loaded, transport=transport)


async def turn(agent: HttpAgent) -> list[ChatEvent]:
    async with aclosing(agent.chat(TURN)) as events:
        return [event async for event in events]


async def read(*pieces: bytes | Exception) -> list[ChatEvent]:
    agent = make_agent(Scripted(streamed(*pieces)))
    try:
        return await turn(agent)
    finally:
        await agent.close()


async def until_it_raises(events: AsyncGenerator[ChatEvent, None]) -> tuple[list[ChatEvent], Problem]:
    seen: list[ChatEvent] = []
    try:
        while True:
            seen.append(await anext(events))
    except Problem as problem:
        return seen, problem


def text_of(events: list[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, DeltaEvent))


@respx.mock(base_url=URL)
async def test_the_request_carries_token_and_request_id(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post("/v1/chat").respond(200, headers=EVENT_STREAM, content=frame(DONE))
    agent = make_agent(httpx.AsyncHTTPTransport())
    before = request_id_var.set("trace-1")
    try:
        assert await turn(agent) == [DONE]
    finally:
        request_id_var.reset(before)
        await agent.close()
    request = route.calls.last.request
    assert request.headers["x-request-id"] == "trace-1"
    assert request.headers["accept"] == "text/event-stream"
    assert ChatRequest.model_validate_json(request.content) == TURN
    signer = service_signer(
        ApiSettings(environment=Environment.TEST).service_key.get_secret_value(),
        issuer=ServiceName.CHAT_API,
        audience=ServiceName.AGENT_SERVICE,
    )
    scheme, token = request.headers["authorization"].split(" ")
    assert scheme == "Bearer"
    assert signer.verify(token).subject == ServiceName.CHAT_API


@respx.mock(base_url=URL)
async def test_without_a_request_no_id_is_made_up(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post("/v1/chat").respond(200, headers=EVENT_STREAM, content=frame(DONE))
    agent = make_agent(httpx.AsyncHTTPTransport())
    await turn(agent)
    await agent.close()
    assert "x-request-id" not in route.calls.last.request.headers


@respx.mock(base_url=URL)
async def test_ping_asks_for_life(respx_mock: respx.MockRouter) -> None:
    respx_mock.get("/health/live").mock(side_effect=[httpx.Response(200), httpx.Response(503)])
    agent = make_agent(httpx.AsyncHTTPTransport())
    await agent.ping()
    with pytest.raises(httpx.HTTPStatusError):
        await agent.ping()
    await agent.close()


TEXTS = ["Grüße ", "\n\n", "data: ", "\U0001f600", "\r\n: ", '{"type":"done"}', "", "end"]
WHOLE = b": hello\n\n" + b"".join(frame(DeltaEvent(text=text)) for text in TEXTS) + b": still here\n\n" + frame(DONE)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, len(WHOLE) - 1), max_size=12))
async def test_cuts_anywhere_change_nothing(cuts: list[int]) -> None:
    edges = [0, *sorted(set(cuts)), len(WHOLE)]
    events = await read(*(WHOLE[start:end] for start, end in itertools.pairwise(edges)))
    assert text_of(events) == "".join(TEXTS)
    assert [event for event in events if not isinstance(event, DeltaEvent)] == [DONE]


async def test_every_single_cut_changes_nothing() -> None:
    for cut in range(1, len(WHOLE)):
        events = await read(WHOLE[:cut], WHOLE[cut:])
        assert text_of(events) == "".join(TEXTS), cut
        assert events[-1] == DONE


async def test_byte_by_byte_changes_nothing() -> None:
    events = await read(*(WHOLE[index : index + 1] for index in range(len(WHOLE))))
    assert text_of(events) == "".join(TEXTS)
    assert events[-1] == DONE


async def test_deltas_that_arrive_together_travel_together() -> None:
    events = await read(WHOLE)
    assert events == [DeltaEvent(text="".join(TEXTS)), DONE]


async def test_who_answers_is_heard_with_the_first_word() -> None:
    said = DeltaEvent(text="A", provider=Provider.LOCAL, model="m")
    assert await read(frame(said) + WHOLE) == [said, DeltaEvent(text="".join(TEXTS)), DONE]


async def test_nothing_is_read_after_the_end() -> None:
    assert await read(frame(DONE) + frame(DeltaEvent(text="more")), httpx.ReadError("gone")) == [DONE]


async def test_an_error_event_ends_the_turn() -> None:
    event = ErrorEvent(problem=ProblemDocument(title="T", status=429, detail="D", code="rate-limited"), retry_after=7)
    assert await read(frame(event)) == [event]


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_an_agent_that_is_not_ready_is_unavailable(status: int) -> None:
    agent = make_agent(Scripted(httpx.Response(status, content=b"<html>bad gateway</html>")))
    seen, problem = await until_it_raises(agent.chat(TURN))
    assert (seen, type(problem), problem.status, problem.retry_after) == ([], AgentUnavailable, 503, 2)
    await agent.close()


async def test_a_problem_of_the_agents_own_is_shown_as_it_is() -> None:
    document = {"title": "Too long", "status": 422, "detail": "Say less.", "code": "context-too-long"}
    agent = make_agent(Scripted(httpx.Response(422, json=document)))
    _, problem = await until_it_raises(agent.chat(TURN))
    assert isinstance(problem, AgentRefused)
    shown = problem.as_json("trace-1")
    assert shown == {"type": "about:blank", **document, "request_id": "trace-1"}
    await agent.close()


@pytest.mark.parametrize("status", [201, 302, 400, 404, 500])
@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b"\xff\xfe", b"[1]"])
async def test_an_unreadable_refusal_is_a_broken_agent(status: int, body: bytes) -> None:
    agent = make_agent(Scripted(httpx.Response(status, content=body)))
    _, problem = await until_it_raises(agent.chat(TURN))
    assert (type(problem), problem.status) == (AgentBrokeOff, 502)
    assert str(status) in problem.detail
    await agent.close()


@pytest.mark.parametrize(
    "data",
    [
        b"data: nonsense",
        b"data: [1, 2]",
        b"data: 5",
        b'data: {"text": "no type"}',
        b'data: {"type": "surprise"}',
        b'data: {"type": "delta"}',
        b'data: {"type": "delta", "text": 5}',
        b'data: {"type": "delta", "text": null}',
        b'data: {"type": "done"}',
        b'data: {"type": "usage", "usage": {"prompt_tokens": -1}}',
        b'data: {"type": "delta", "text": "\\ud800"}',
        b"data: \xff",
    ],
)
async def test_garbage_breaks_off_after_what_was_said(data: bytes) -> None:
    agent = make_agent(Scripted(streamed(frame(DeltaEvent(text="So far")) + data + b"\n\n")))
    seen, problem = await until_it_raises(agent.chat(TURN))
    assert seen == [DeltaEvent(text="So far")]
    assert isinstance(problem, AgentBrokeOff)
    await agent.close()


CUT = httpx.ReadError("reset")


@pytest.mark.parametrize(
    "pieces",
    [(), (CUT,), (b": waiting\n\n", CUT), (b"data: {", httpx.ReadTimeout("silence")), (b"event: do",)],
)
async def test_a_stream_that_ends_early_broke_off(pieces: tuple[bytes | Exception, ...]) -> None:
    agent = make_agent(Scripted(streamed(frame(DeltaEvent(text="So")), *pieces)))
    seen, problem = await until_it_raises(agent.chat(TURN))
    assert (text_of(seen), type(problem)) == ("So", AgentBrokeOff)
    await agent.close()


async def test_a_stream_that_breaks_before_its_first_byte_broke_off() -> None:
    agent = make_agent(Scripted(streamed(CUT)))
    seen, problem = await until_it_raises(agent.chat(TURN))
    assert (seen, type(problem)) == ([], AgentBrokeOff)
    await agent.close()


@pytest.mark.parametrize(
    "error",
    [httpx.ConnectError("refused"), httpx.ConnectTimeout("slow"), httpx.ReadError("reset"), httpx.PoolTimeout("")],
)
async def test_an_agent_that_cannot_be_reached_is_unavailable(error: httpx.TransportError) -> None:
    agent = make_agent(Scripted(error))
    seen, problem = await until_it_raises(agent.chat(TURN))
    assert (seen, type(problem)) == ([], AgentUnavailable)
    await agent.close()


async def test_the_circuit_opens_and_recovers() -> None:
    transport = Scripted(httpx.ConnectError("refused"), httpx.Response(503), streamed(frame(DONE)))
    agent = make_agent(transport, breaker_failures=2, breaker_open_seconds=0.05)
    for _ in range(2):
        await until_it_raises(agent.chat(TURN))
    assert transport.calls == 2
    _, problem = await until_it_raises(agent.chat(TURN))
    assert (type(problem), problem.retry_after) == (AgentUnavailable, 1)
    assert transport.calls == 2, "an open circuit asks nobody"
    await asyncio.sleep(0.06)
    assert await turn(agent) == [DONE]
    assert transport.calls == 3
    await agent.close()


async def test_refusals_and_broken_streams_do_not_open_the_circuit() -> None:
    document = {"title": "T", "status": 429, "detail": "D", "code": "rate-limited"}
    transport = Scripted(httpx.Response(429, json=document), streamed(CUT), httpx.Response(500), streamed(frame(DONE)))
    agent = make_agent(transport, breaker_failures=1)
    for _ in range(3):
        await until_it_raises(agent.chat(TURN))
    assert await turn(agent) == [DONE]
    await agent.close()


async def test_closing_the_iterator_closes_the_response() -> None:
    body = Chunks(frame(DeltaEvent(text="So")), frame(DONE))
    agent = make_agent(Scripted(httpx.Response(200, headers=EVENT_STREAM, stream=body)))
    events = agent.chat(TURN)
    assert await anext(events) == DeltaEvent(text="So")
    closed_before = body.closed
    await events.aclose()
    assert (closed_before, body.closed) == (False, True)
    await agent.close()


async def test_a_turn_read_to_its_end_closes_the_response() -> None:
    body = Chunks(frame(DONE))
    agent = make_agent(Scripted(httpx.Response(200, headers=EVENT_STREAM, stream=body)))
    assert await turn(agent) == [DONE]
    assert body.closed
    await agent.close()


async def test_a_probe_that_is_cancelled_lets_the_next_one_try() -> None:
    class Hanging(Scripted):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if self.calls == 1:
                self.calls += 1
                await asyncio.Event().wait()
            return await super().handle_async_request(request)

    transport = Hanging(httpx.ConnectError("refused"), streamed(frame(DONE)))
    agent = make_agent(transport, breaker_failures=1, breaker_open_seconds=0.01)
    await until_it_raises(agent.chat(TURN))
    await asyncio.sleep(0.02)
    probe = asyncio.create_task(turn(agent))
    await asyncio.sleep(0.01)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert await turn(agent) == [DONE]
    await agent.close()
