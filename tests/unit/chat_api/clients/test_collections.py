"""How the agent's collections are called, and what their answers mean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import BaseModel

from chat_api.clients.agent import AgentBrokeOff, AgentRefused, AgentUnavailable
from chat_api.clients.collections import HttpCollections, Patience
from chat_api.config import ApiSettings
from shared.contracts.knowledge import (
    Block,
    ChunkPage,
    DocumentPut,
    IndexedDocument,
    IndexEvent,
    IndexFailed,
    IndexProgress,
    RegenerationStep,
    SearchAnswer,
    SearchRequest,
)
from shared.logging import request_id_var
from shared.problems import Problem, ProblemDocument
from shared.settings import Environment

COLLECTION = UUID("0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f")
DOCUMENT = UUID("0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e70")
PUT = DocumentPut(name="a.md", version=3, blocks=[Block(text="The harbour closes at ten.", heading="Hours")])
PATH = f"/v1/collections/{COLLECTION}/documents/{DOCUMENT}"
PROGRESS = IndexProgress(done=1, total=2)
INDEXED = IndexedDocument(document_id=DOCUMENT, version=3, chunk_count=2, embedded=1)
STALE = ProblemDocument(title="Stale", status=409, detail="Newer.", code="stale-version")
FAILED = IndexFailed(problem=STALE, retry_after=2)
EMPTY_PAGE = ChunkPage(items=[], next_cursor=None)
STEP = RegenerationStep(done=1, total=4, embedding_model="local:x")


class Pieces(httpx.AsyncByteStream):
    def __init__(self, *pieces: bytes | Exception | asyncio.Event) -> None:
        self._pieces = pieces
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, asyncio.Event):
                await piece.wait()
            else:
                yield piece

    async def aclose(self) -> None:
        self.closed = True


class Recorder(httpx.AsyncBaseTransport):
    """Gives the same answer to every call, and keeps the calls."""

    def __init__(self, answer: httpx.Response | Exception) -> None:
        self._answer = answer
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def client(
    answer: httpx.Response | Exception, patience: Patience | None = None, **fields: Any
) -> tuple[HttpCollections, Recorder]:
    recorder = Recorder(answer)
    settings = ApiSettings(environment=Environment.TEST, agent_url="http://agent.test", **fields)
    return HttpCollections(settings, transport=recorder, patience=patience), recorder


def frame(event: IndexEvent) -> bytes:
    return f"event: {event.type}\ndata: {event.model_dump_json()}\n\n".encode()


def streamed(*pieces: bytes | Exception) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Pieces(*pieces))


def answered(model: BaseModel) -> httpx.Response:
    return httpx.Response(200, json=model.model_dump(mode="json"))


async def put(collections: HttpCollections) -> list[IndexEvent]:
    async with aclosing(collections.put(COLLECTION, DOCUMENT, PUT)) as events:
        return [event async for event in events]


async def test_a_put_carries_the_document_and_is_answered_with_events() -> None:
    whole = b": still here\n\n" + frame(PROGRESS) + frame(INDEXED)
    collections, recorder = client(streamed(whole[:20], whole[20:47], whole[47:]))
    before = request_id_var.set("trace-1")
    try:
        assert await put(collections) == [PROGRESS, INDEXED]
    finally:
        request_id_var.reset(before)
        await collections.close()
    request = recorder.requests[0]
    assert (request.method, request.url.path) == ("PUT", PATH)
    assert DocumentPut.model_validate_json(request.content) == PUT
    assert request.headers["accept"] == "text/event-stream"
    assert request.headers["x-request-id"] == "trace-1"
    assert request.headers["authorization"].startswith("Bearer ")


async def test_a_put_that_failed_ends_with_its_problem() -> None:
    collections, _ = client(streamed(frame(PROGRESS), frame(FAILED), frame(INDEXED)))
    assert await put(collections) == [PROGRESS, FAILED]


@pytest.mark.parametrize(
    "pieces",
    [
        (frame(PROGRESS),),
        (frame(PROGRESS), httpx.ReadError("cut")),
        (frame(PROGRESS), b'data: {"type": "unheard-of"}\n\n'),
        (frame(INDEXED)[:-3],),
        (b"data: \xff\n\n",),
    ],
    ids=["no end", "cut", "not an event", "half an event", "not text"],
)
async def test_a_put_without_its_last_event_is_broken_off(pieces: tuple[bytes | Exception, ...]) -> None:
    collections, _ = client(streamed(*pieces))
    with pytest.raises(AgentBrokeOff):
        await put(collections)


async def test_leaving_a_put_closes_the_connection() -> None:
    body = Pieces(frame(PROGRESS), asyncio.Event())
    collections, _ = client(httpx.Response(200, stream=body))
    async with aclosing(collections.put(COLLECTION, DOCUMENT, PUT)) as events:
        assert await anext(events) == PROGRESS
    assert body.closed


async def test_search_sends_every_option() -> None:
    collections, recorder = client(answered(SearchAnswer(passages=[])))
    wanted = SearchRequest(collections=[COLLECTION], query="harbour", top_k=7, exclude_documents=[DOCUMENT])
    assert await collections.search(wanted) == SearchAnswer(passages=[])
    request = recorder.requests[0]
    assert (request.method, request.url.path) == ("POST", "/v1/collections/search")
    assert SearchRequest.model_validate_json(request.content) == wanted


async def test_deletes_name_what_goes() -> None:
    collections, recorder = client(httpx.Response(204))
    await collections.delete_document(COLLECTION, DOCUMENT, version=3)
    await collections.delete_collection(COLLECTION)
    assert [(request.method, request.url.raw_path.decode()) for request in recorder.requests] == [
        ("DELETE", f"{PATH}?version=3"),
        ("DELETE", f"/v1/collections/{COLLECTION}"),
    ]


async def test_chunks_are_read_page_by_page() -> None:
    collections, recorder = client(answered(EMPTY_PAGE))
    assert await collections.chunks(COLLECTION, DOCUMENT, limit=5, cursor=None) == EMPTY_PAGE
    assert await collections.chunks(COLLECTION, DOCUMENT, limit=5, cursor="a&b") == EMPTY_PAGE
    assert [dict(request.url.params) for request in recorder.requests] == [
        {"limit": "5"},
        {"limit": "5", "cursor": "a&b"},
    ]
    assert recorder.requests[0].url.path == f"{PATH}/chunks"


async def test_regenerating_answers_how_far_it_came() -> None:
    collections, recorder = client(answered(STEP))
    assert await collections.regenerate() == STEP
    assert (recorder.requests[0].method, recorder.requests[0].url.path) == ("POST", "/v1/embeddings/regenerate")


CALLS: dict[str, Callable[[HttpCollections], Awaitable[object]]] = {
    "put": put,
    "delete document": lambda collections: collections.delete_document(COLLECTION, DOCUMENT, version=1),
    "delete collection": lambda collections: collections.delete_collection(COLLECTION),
    "search": lambda collections: collections.search(SearchRequest(collections=[COLLECTION], query="x")),
    "chunks": lambda collections: collections.chunks(COLLECTION, DOCUMENT, limit=1, cursor=None),
    "regenerate": lambda collections: collections.regenerate(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.ConnectError("refused"), AgentUnavailable),
        (httpx.ReadTimeout("silent"), AgentUnavailable),
        (httpx.Response(503), AgentUnavailable),
        (httpx.Response(409, json=STALE.model_dump()), AgentRefused),
        (httpx.Response(500, content=b"<html>"), AgentBrokeOff),
    ],
    ids=["refused", "silent", "503", "problem", "not a problem"],
)
async def test_each_failure_has_one_meaning(call: str, answer: httpx.Response | Exception, kind: type[Problem]) -> None:
    collections, _ = client(answer)
    with pytest.raises(kind) as caught:
        await CALLS[call](collections)
    if isinstance(caught.value, AgentRefused):
        assert caught.value.problem == STALE


@pytest.mark.parametrize("call", ["search", "chunks", "regenerate"])
async def test_an_answer_outside_the_contract_is_a_broken_agent(call: str) -> None:
    collections, _ = client(httpx.Response(200, json={"surprise": True}))
    with pytest.raises(AgentBrokeOff):
        await CALLS[call](collections)


async def test_a_search_that_takes_too_long_is_given_up_and_counts() -> None:
    body = Pieces(asyncio.Event())
    collections, recorder = client(httpx.Response(200, stream=body), Patience(search=0.01), breaker_failures=1)
    with pytest.raises(AgentUnavailable):
        await CALLS["search"](collections)
    assert body.closed
    with pytest.raises(AgentUnavailable):
        await CALLS["search"](collections)
    assert len(recorder.requests) == 1, "the circuit is open"


async def test_a_dead_agent_is_not_called_again_and_again() -> None:
    collections, recorder = client(httpx.ConnectError("refused"), breaker_failures=2)
    for _ in range(5):
        with pytest.raises(AgentUnavailable):
            await CALLS["search"](collections)
    assert len(recorder.requests) == 2
