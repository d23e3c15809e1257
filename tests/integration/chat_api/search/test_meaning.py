"""Vectors made in the background, and what is found by them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from chat_api.search.service import MessageSearch
from chat_api.search.vectors import MessageVectors
from tests.factories.chat import API, ChatApi, Json, Person, problem
from tests.fakes.text_embedder import TopicEmbedder, away

QUIET = {"reply_policy": "never", "title": "-"}
SEA, MONEY = {"harbour", "ship", "port"}, {"fees", "price", "costs"}


@pytest.fixture
def embedder(chat: ChatApi) -> Iterator[TopicEmbedder]:
    """In the place of the agent's."""
    embedder, real = TopicEmbedder(SEA, MONEY), chat.app.state.text_embedder
    chat.app.state.text_embedder = embedder
    yield embedder
    chat.app.state.text_embedder = real


@pytest.fixture
async def vectors(chat: ChatApi, embedder: TopicEmbedder) -> MessageVectors:
    vectors = MessageVectors(chat.app.state.database, embedder)
    await vectors.step()
    return vectors


async def embed_all(vectors: MessageVectors) -> int:
    embedded = 0
    while made := await vectors.step():
        embedded += made
    return embedded


async def found(chat: ChatApi, person: Person, q: str, mode: str, **query: Any) -> list[Json]:
    answer = await chat.client.get(f"{API}/search", params={"q": q, "mode": mode, **query}, headers=person.headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["next_cursor"] is None
    items: list[Json] = answer.json()["items"]
    return items


def text_of(item: Json) -> str:
    return "".join(part["text"] for part in item["snippet"])


async def test_what_means_the_same_is_found_without_its_words(
    chat: ChatApi, ann: Person, bob: Person, vectors: MessageVectors
) -> None:
    session, his = await chat.session(ann, title="ship", reply_policy="never"), await chat.session(bob, **QUIET)
    for text in ("the ship", "the price", "something else"):
        await chat.said(ann, session, text)
    await chat.said(bob, his, "his port")
    await embed_all(vectors)

    near = await found(chat, ann, "port", "semantic", limit=3)
    assert [(text_of(item), round(item["score"], 2)) for item in near] == [
        ("the ship", 1.0),
        ("ship", 1.0),
        ("something else", 0.0),
    ]
    assert [text_of(item) for item in await found(chat, bob, "ship", "semantic")] == ["his port", "-"]
    assert [text_of(item) for item in await found(chat, ann, "port", "semantic", role="user", limit=1)] == ["the ship"]
    assert await found(chat, bob, "ship", "semantic", session_id=session["id"]) == []
    assert await found(chat, ann, " ", "semantic") == []


async def test_both_together_are_better_than_either(chat: ChatApi, ann: Person, vectors: MessageVectors) -> None:
    session = await chat.session(ann, **QUIET)
    for text in ("the ship today", "fees today", "the ship is late", "price list", "no more"):
        await chat.said(ann, session, text)
    await embed_all(vectors)

    best, *others = await found(chat, ann, "port late", "hybrid", limit=3)

    assert (text_of(best), best["score"]) == ("the ship is late", 1.0)
    assert text_of(others[0]) == "the ship today"
    assert best["snippet"][1] == {"text": "late", "matched": True}


async def test_edits_are_embedded_again_and_what_is_gone_leaves_nothing(
    chat: ChatApi, ann: Person, vectors: MessageVectors, embedder: TopicEmbedder
) -> None:
    session = await chat.session(ann, **QUIET)
    path = f"{API}/sessions/{session['id']}"
    edited, deleted, cleared = [(await chat.said(ann, session, "the ship"))["message"] for _ in range(3)]
    await embed_all(vectors)
    assert len(await chat.rows("SELECT FROM chat.message_vectors")) == 4

    await chat.client.patch(f"{path}/messages/{edited['id']}", json={"content": "the price"}, headers=ann.headers)
    await chat.client.delete(f"{path}/messages/{deleted['id']}", headers=ann.headers)
    embedder.texts.clear()
    assert await embed_all(vectors) == 1
    assert embedder.texts == ["the price"]
    [nearest, *_] = await found(chat, ann, "fees", "semantic")
    assert nearest["message_id"] == edited["id"]
    seqs = await chat.rows("SELECT seq FROM chat.message_vectors ORDER BY seq")
    assert [row["seq"] for row in seqs] == [0, edited["seq"], cleared["seq"]]

    await chat.client.patch(f"{path}/messages/{edited['id']}", json={"content": "queued"}, headers=ann.headers)
    await chat.client.delete(f"{path}/messages", headers=ann.headers)
    await chat.client.delete(path, headers=ann.headers)
    for table in ("message_search", "message_vectors", "message_vector_queue"):
        assert await chat.rows(f"SELECT FROM chat.{table}") == [], table


@pytest.mark.parametrize("change", ["edit", "delete"])
async def test_what_changes_while_it_is_embedded_is_not_stored_as_it_was(
    chat: ChatApi, ann: Person, vectors: MessageVectors, embedder: TopicEmbedder, change: str
) -> None:
    session = await chat.session(ann, **QUIET)
    await embed_all(vectors)
    message = (await chat.said(ann, session, "the ship"))["message"]
    embedder.gate = asyncio.Event()
    step = asyncio.create_task(vectors.step())
    await asyncio.wait_for(embedder.is_held.wait(), 30)
    path = f"{API}/sessions/{session['id']}/messages/{message['id']}"
    if change == "edit":
        await chat.client.patch(path, json={"content": "the price"}, headers=ann.headers)
    else:
        await chat.client.delete(path, headers=ann.headers)
    embedder.gate.set()
    await step

    assert await chat.rows("SELECT FROM chat.message_vectors WHERE seq > 0") == []
    assert await embed_all(vectors) == (change == "edit")
    assert len(await chat.rows("SELECT FROM chat.message_vectors WHERE seq > 0")) == (change == "edit")


@pytest.mark.parametrize("gone", ["message", "session"])
async def test_no_vector_is_kept_of_what_is_gone(
    chat: ChatApi, ann: Person, vectors: MessageVectors, embedder: TopicEmbedder, gone: str
) -> None:
    """Also where it was queued anew while it was being deleted."""
    session = await chat.session(ann, **QUIET)
    await embed_all(vectors)
    message = (await chat.said(ann, session, "the ship"))["message"]
    [queued] = await chat.rows("SELECT session_id, seq, version FROM chat.message_vector_queue")
    embedder.gate = asyncio.Event()
    step = asyncio.create_task(vectors.step())
    await asyncio.wait_for(embedder.is_held.wait(), 30)
    path = f"{API}/sessions/{session['id']}"
    await chat.client.delete(path if gone == "session" else f"{path}/messages/{message['id']}", headers=ann.headers)
    await chat.rows("INSERT INTO chat.message_vector_queue VALUES ($1, $2, $3)", *queued.values())
    embedder.gate.set()
    await step

    assert await chat.rows("SELECT FROM chat.message_vectors WHERE seq > 0") == []
    assert await chat.rows("SELECT FROM chat.message_vector_queue") == []


async def test_a_text_that_cannot_be_embedded_does_not_hold_up_the_others(
    chat: ChatApi, ann: Person, vectors: MessageVectors, embedder: TopicEmbedder
) -> None:
    session = await chat.session(ann, **QUIET)
    for text in ("the ship", "poison", "the price"):
        await chat.said(ann, session, text)
    embedder.refused = "poison"
    await embed_all(vectors)

    stored = await chat.rows("SELECT seq FROM chat.message_vectors WHERE seq > 0 ORDER BY seq")
    assert [row["seq"] for row in stored] == [1, 3]
    assert await chat.rows("SELECT FROM chat.message_vector_queue") == []


async def test_what_was_there_before_and_another_model_are_taken_up(
    chat: ChatApi, ann: Person, embedder: TopicEmbedder
) -> None:
    session = await chat.session(ann, **QUIET)
    await chat.said(ann, session, "the ship")
    assert await chat.rows("SELECT FROM chat.message_vector_queue") == []  # nobody embeds here yet

    first = MessageVectors(chat.app.state.database, embedder)
    assert await embed_all(first) == 2
    other = TopicEmbedder(MONEY, SEA, {"oak"}, name="fake:other")
    chat.app.state.text_embedder = other
    assert await found(chat, ann, "port", "semantic") == []  # nothing of the new model's yet
    assert await embed_all(MessageVectors(chat.app.state.database, other)) == 2
    assert [text_of(item) for item in await found(chat, ann, "port", "semantic", limit=1)] == ["the ship"]


async def test_one_works_at_a_time_and_another_goes_on(
    chat: ChatApi, ann: Person, vectors: MessageVectors, embedder: TopicEmbedder
) -> None:
    other = MessageVectors(chat.app.state.database, embedder)
    await chat.said(ann, await chat.session(ann, **QUIET), "the ship")

    assert await other.step() == 0
    await vectors.release()
    assert await other.step() == 2


async def test_with_the_agent_away(
    chat: ChatApi, ann: Person, vectors: MessageVectors, embedder: TopicEmbedder
) -> None:
    session = await chat.session(ann, **QUIET)
    await chat.said(ann, session, "the ship")
    embedder.problem = away()

    with pytest.raises(type(embedder.problem)):
        await vectors.step()
    answer = await chat.client.get(f"{API}/search?q=ship&mode=semantic", headers=ann.headers)
    assert problem(answer) == (503, "agent-unavailable")
    assert [text_of(item) for item in await found(chat, ann, "ship", "hybrid")] == ["the ship"]

    embedder.problem = None
    assert await embed_all(vectors) == 2


async def test_switched_off(chat: ChatApi, ann: Person, vectors: MessageVectors) -> None:
    chat.settings.message_embeddings = False
    session = await chat.session(ann, **QUIET)
    await vectors.forget()
    await chat.said(ann, session, "the ship")

    assert await chat.rows("SELECT FROM chat.message_vector_queue") == []
    answer = await chat.client.get(f"{API}/search?q=ship&mode=semantic", headers=ann.headers)
    assert problem(answer) == (409, "semantic-search-off")
    assert [text_of(item) for item in await found(chat, ann, "ship", "hybrid")] == ["the ship"]
    cursor = await chat.client.get(f"{API}/search?q=ship&mode=hybrid&cursor=x", headers=ann.headers)
    assert problem(cursor) == (422, "invalid-cursor")


async def test_tools_are_not_told_by_vectors(chat: ChatApi, ann: Person) -> None:
    assert await MessageSearch(chat.app.state.database).find(UUID(int=1), "ship", limit=5) == []
