"""Searching a bot's documents: the agent finds, and what is not there any more is left out."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest

from shared.contracts.knowledge import MAX_TOP_K, SearchMode
from tests.factories.chat import API, ChatApi, Json, Person, problem
from tests.factories.documents import become, uploaded
from tests.fakes.collections import problem as agents_problem

TEXT = "The harbour closes at ten."


async def search(chat: ChatApi, person: Person, bot: Json, query: str = "harbour", **body: Any) -> httpx.Response:
    return await chat.client.post(
        f"{API}/bots/{bot['id']}/search", json={"query": query, **body}, headers=person.headers
    )


async def a_ready_document(chat: ChatApi, person: Person, bot: Json, name: str = "a.txt") -> Json:
    [document] = await uploaded(chat, person, bot, (name, name.encode()))
    await become(chat, document, "ready", chunk_count=1)
    chat.agent.collections.holds(UUID(bot["id"]), UUID(document["id"]), TEXT, name=name)
    return document


async def test_passages_with_their_scores(chat: ChatApi, ann: Person, bot: Json) -> None:
    document = await a_ready_document(chat, ann, bot)

    answer = await search(chat, ann, bot)

    assert answer.status_code == 200, answer.text
    [passage] = answer.json()["passages"]
    assert (passage["document_id"], passage["document_name"]) == (document["id"], "a.txt")
    assert (passage["text"], passage["page"], passage["score"]) == (TEXT, 1, 1.0)


async def test_what_is_left_out_is_as_the_bot_has_it(chat: ChatApi, ann: Person) -> None:
    retrieval = {"top_k": 7, "mode": "text", "min_score": 0.25}
    bot = await chat.bot(ann, configuration={"retrieval": retrieval})

    await search(chat, ann, bot)
    await search(chat, ann, bot, top_k=3, mode="dense", min_score=0)

    as_the_bot, as_asked = chat.agent.collections.searches
    assert (as_the_bot.top_k, as_the_bot.mode, as_the_bot.min_score) == (7, SearchMode.TEXT, 0.25)
    assert (as_asked.top_k, as_asked.mode, as_asked.min_score) == (3, SearchMode.DENSE, 0)
    assert as_asked.collections == [UUID(bot["id"])]


async def test_a_deleted_document_is_not_found_although_the_agent_still_has_it(
    chat: ChatApi, ann: Person, bot: Json
) -> None:
    kept, deleted = [await a_ready_document(chat, ann, bot, name) for name in ("kept.txt", "deleted.txt")]
    chat.agent.collections.refusals = [httpx.ConnectError("away")]
    await chat.client.delete(f"{API}/documents/{deleted['id']}", headers=ann.headers)
    assert (UUID(bot["id"]), UUID(deleted["id"])) in chat.agent.collections.documents

    found = (await search(chat, ann, bot)).json()["passages"]

    assert [passage["document_id"] for passage in found] == [kept["id"]]
    assert chat.agent.collections.searches[0].exclude_documents == [UUID(deleted["id"])]


async def test_passages_of_documents_that_are_not_the_bots_are_dropped(
    chat: ChatApi, ann: Person, bob: Person, bot: Json
) -> None:
    document = await a_ready_document(chat, ann, bot)
    other = await a_ready_document(chat, bob, await chat.bot(bob))
    for stray in (UUID(other["id"]), UUID(int=1)):
        chat.agent.collections.holds(UUID(bot["id"]), stray, TEXT)

    found = (await search(chat, ann, bot, top_k=10)).json()["passages"]

    assert [passage["document_id"] for passage in found] == [document["id"]]


async def test_a_document_deleted_while_the_agent_searches_is_not_found(chat: ChatApi, ann: Person, bot: Json) -> None:
    document = await a_ready_document(chat, ann, bot)
    chat.agent.collections.opened.clear()
    chat.agent.collections.requests.clear()

    searching = asyncio.create_task(search(chat, ann, bot))
    async with asyncio.timeout(30):
        while not chat.agent.collections.requests:
            await asyncio.sleep(0.01)
        while chat.app.state.database.connections_in_use():  # whoever looks for waiting runs has one for a moment
            await asyncio.sleep(0.01)
    await become(chat, document, "ready", deleted_at=chat.clock.now())
    chat.agent.collections.opened.set()

    assert (await searching).json() == {"passages": []}


async def test_a_bot_without_documents(chat: ChatApi, ann: Person, bot: Json) -> None:
    assert (await search(chat, ann, bot)).json() == {"passages": []}


async def test_who_may_use_the_bot_searches_it(chat: ChatApi, ann: Person, bob: Person, bot: Json) -> None:
    await a_ready_document(chat, ann, bot)
    assert problem(await search(chat, bob, bot)) == (404, "bot-not-found")

    await chat.client.patch(f"{API}/bots/{bot['id']}", json={"visibility": "shared"}, headers=ann.headers)
    await chat.share(ann, bot, bob)

    assert len((await search(chat, bob, bot)).json()["passages"]) == 1


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (httpx.ConnectError("away"), (503, "agent-unavailable")),
        (agents_problem(503, "anything"), (503, "agent-unavailable")),
        (agents_problem(409, "embedding-model-changed", "Run it."), (409, "embedding-model-changed")),
        (agents_problem(401, "not-authenticated"), (502, "agent-broke-off")),
        (agents_problem(403, "forbidden"), (502, "agent-broke-off")),
        (agents_problem(500, "internal-error"), (502, "agent-broke-off")),
        (httpx.Response(200, json={"passages": 1}), (502, "agent-broke-off")),
        (httpx.Response(418, content=b"tea"), (502, "agent-broke-off")),
    ],
)
async def test_while_the_agent_is_not_well(
    chat: ChatApi, ann: Person, bot: Json, refusal: Any, expected: tuple[int, str]
) -> None:
    chat.agent.collections.refusals = [refusal]

    answer = await search(chat, ann, bot)

    assert problem(answer) == expected
    assert ("retry-after" in answer.headers) is (expected[0] in (502, 503))
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    if expected[1] == "embedding-model-changed":
        assert answer.json()["detail"] == "Run it."


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (429, "embedder-rate-limited", (429, "embedder-rate-limited")),
        (503, "embedder-unavailable", (503, "agent-unavailable")),
    ],
)
async def test_what_the_agent_waits_for_itself_is_told(
    chat: ChatApi, ann: Person, bot: Json, status: int, code: str, expected: tuple[int, str]
) -> None:
    refusal = agents_problem(status, code, "The embedding model is busy.")
    refusal.headers["Retry-After"] = "17"
    chat.agent.collections.refusals = [refusal]

    answer = await search(chat, ann, bot)

    assert problem(answer) == expected
    assert (answer.headers["retry-after"], answer.json()["detail"]) == ("17", "The embedding model is busy.")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": ""},
        {"query": "x" * 10_001},
        {"query": "x", "top_k": 0},
        {"query": "x", "top_k": MAX_TOP_K + 1},
        {"query": "x", "top_k": "5"},
        {"query": "x", "mode": "magic"},
        {"query": "x", "min_score": 2},
        {"query": "x", "collections": []},
    ],
)
async def test_a_search_that_is_not_valid(chat: ChatApi, ann: Person, bot: Json, body: Json) -> None:
    answer = await chat.client.post(f"{API}/bots/{bot['id']}/search", json=body, headers=ann.headers)

    assert problem(answer) == (422, "validation-failed")
    assert chat.agent.collections.searches == []
