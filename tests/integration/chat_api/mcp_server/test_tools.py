"""What the tools find: the caller's own, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import httpx
import pytest

from shared.contracts.knowledge import MAX_COLLECTIONS
from tests.factories.chat import API, ChatApi, Json, Person
from tests.fakes.collections import problem as agents_problem

Say = Callable[..., Awaitable[httpx.Response]]

QUIET = {"reply_policy": "never"}


async def called(say: Say, person: Person, name: str, **arguments: object) -> Json:
    answer = await say(person, "tools/call", {"name": name, "arguments": arguments})
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()["result"]
    return found


async def found(say: Say, person: Person, name: str, **arguments: object) -> Json:
    result = await called(say, person, name, **arguments)
    assert result["isError"] is False, result
    structured: Json = result["structuredContent"]
    return structured


async def failure(say: Say, person: Person, name: str, **arguments: object) -> str:
    result = await called(say, person, name, **arguments)
    assert result["isError"] is True, result
    text: str = result["content"][0]["text"]
    return text


async def knowing(chat: ChatApi, person: Person, text: str, **fields: object) -> Json:
    """A bot with one document, that says this."""
    bot = await chat.bot(person, **fields)
    document = await chat.document_row(bot, name=f"{text}.md")
    chat.agent.collections.holds(UUID(bot["id"]), document, text, name=f"{text}.md")
    return bot


async def knowledge(say: Say, person: Person, query: str, **arguments: object) -> set[str]:
    passages = (await found(say, person, "search_knowledge", query=query, **arguments))["passages"]
    return {passage["text"] for passage in passages}


async def test_messages_of_ones_own(chat: ChatApi, ann: Person, bob: Person, say: Say) -> None:
    hers, his = await chat.session(ann, title="Port", **QUIET), await chat.session(bob, **QUIET)
    said = await chat.said(ann, hers, "The harbour fees of ann")
    await chat.said(bob, his, "The harbour fees of bob")

    [message] = (await found(say, ann, "search_messages", query="harbour fees"))["messages"]

    assert (message["message_id"], message["session_title"]) == (said["message"]["id"], "Port")
    assert message["snippet"] == "The harbour fees of ann"
    assert (message["role"], message["sender"], message["seq"]) == ("user", "ann", 1)


async def test_knowledge_of_all_ones_bots_and_of_one(chat: ChatApi, ann: Person, bob: Person, say: Say) -> None:
    own = await knowing(chat, ann, "harbour own")
    shared = await knowing(chat, bob, "harbour shared", visibility="shared")
    await chat.share(bob, shared, ann)
    public = await knowing(chat, bob, "harbour public", visibility="public")
    private = await knowing(chat, bob, "harbour private")
    await knowing(chat, bob, "harbour shared with others", visibility="shared")

    assert await knowledge(say, ann, "harbour") == {"harbour own", "harbour shared"}
    assert await knowledge(say, ann, "harbour", bot_id=own["id"]) == {"harbour own"}
    assert await knowledge(say, ann, "harbour", bot_id=public["id"]) == {"harbour public"}
    assert await failure(say, ann, "search_knowledge", query="harbour", bot_id=private["id"]) == (
        "Bot not found. There is no such bot, or it is not shared with you."
    )
    assert len(await knowledge(say, bob, "harbour", top_k=3)) == 3


async def test_what_a_passage_looks_like(chat: ChatApi, ann: Person, say: Say) -> None:
    bot = await knowing(chat, ann, "harbour")

    [passage] = (await found(say, ann, "search_knowledge", query="harbour"))["passages"]

    assert passage == {
        "bot_id": bot["id"],
        "document_id": passage["document_id"],
        "document_name": "harbour.md",
        "heading": None,
        "page": 1,
        "text": "harbour",
        "score": 1.0,
    }


async def test_nothing_to_search(chat: ChatApi, ann: Person, say: Say) -> None:
    assert await knowledge(say, ann, "harbour") == set()
    assert chat.agent.collections.searches == []


async def test_a_bot_has_its_own_way_to_search(chat: ChatApi, ann: Person, say: Say) -> None:
    bot = await chat.bot(ann, configuration={"retrieval": {"top_k": 7, "mode": "text"}})

    await knowledge(say, ann, "harbour", bot_id=bot["id"])
    await knowledge(say, ann, "harbour", bot_id=bot["id"], top_k=3)
    await knowledge(say, ann, "harbour")

    assert [(one.mode, one.top_k) for one in chat.agent.collections.searches] == [
        ("text", 7),
        ("text", 3),
        ("hybrid", 5),
    ]


async def test_no_more_bots_are_searched_than_one_search_takes(chat: ChatApi, ann: Person, say: Say) -> None:
    bots = [await chat.bot(ann) for _ in range(MAX_COLLECTIONS + 2)]

    await knowledge(say, ann, "harbour")

    [search] = chat.agent.collections.searches
    assert search.collections == [UUID(bot["id"]) for bot in bots[:1:-1]]


async def test_what_was_deleted_meanwhile_is_not_found(chat: ChatApi, ann: Person, bob: Person, say: Say) -> None:
    bot = await knowing(chat, ann, "harbour")
    gone = await chat.document_row(bot, name="gone.md", deleted=True)
    theirs = await knowing(chat, bob, "harbour of bob", visibility="shared")
    await chat.share(bob, theirs, ann)
    chat.agent.collections.holds(UUID(bot["id"]), gone, "harbour gone")
    stray = await chat.document_row(theirs)
    chat.agent.collections.holds(UUID(bot["id"]), stray, "harbour astray")
    chat.agent.collections.opened.clear()

    searching = asyncio.create_task(knowledge(say, ann, "harbour"))
    async with asyncio.timeout(30):
        while not chat.agent.collections.requests:
            await asyncio.sleep(0.01)
        while chat.app.state.database.connections_in_use():  # whoever looks for waiting runs has one for a moment
            await asyncio.sleep(0.01)
    answer = await chat.client.delete(f"{API}/bots/{theirs['id']}/shares/{ann.id}", headers=bob.headers)
    assert answer.status_code == 204
    chat.agent.collections.opened.set()

    assert await searching == {"harbour"}
    assert chat.agent.collections.searches[0].exclude_documents == [gone]


async def test_bots_that_one_may_use(chat: ChatApi, ann: Person, bob: Person, say: Say) -> None:
    await chat.bot(bob, name="private")
    public = await chat.bot(bob, name="public", visibility="public", description="For all")
    own = await chat.bot(ann, name="own")

    listed = (await found(say, ann, "list_bots"))["bots"]

    assert listed == [
        {"id": own["id"], "name": "own", "description": own["description"]},
        {"id": public["id"], "name": "public", "description": "For all"},
    ]


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (httpx.ConnectError("away"), "The agent service is unavailable. The agent service does not answer."),
        (agents_problem(409, "embedding-model-changed", "Run it."), "embedding-model-changed. Run it."),
        (agents_problem(500, "internal-error", "secret"), "The agent service broke off. The agent service did not"),
    ],
)
async def test_an_agent_that_does_not_help_is_a_failure_of_the_tool(
    chat: ChatApi, ann: Person, say: Say, refusal: httpx.Response | httpx.TransportError, expected: str
) -> None:
    await knowing(chat, ann, "harbour")
    chat.agent.collections.refusals = [refusal]

    text = await failure(say, ann, "search_knowledge", query="harbour")

    assert text.startswith(expected)
    assert "Traceback" not in text
