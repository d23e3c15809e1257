"""Reading and listing documents and their passages, and who may."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from shared.contracts.knowledge import ChunkRead
from tests.factories.chat import API, ChatApi, Json, Person, problem
from tests.factories.documents import HARBOUR, become, outbox, stored_files, uploaded
from tests.fakes.collections import problem as agents_problem


async def get(chat: ChatApi, person: Person, path: str, **query: Any) -> httpx.Response:
    return await chat.client.get(f"{API}{path}", params=query, headers=person.headers)


async def listed(chat: ChatApi, person: Person, bot: Json, **query: Any) -> Json:
    answer = await get(chat, person, f"/bots/{bot['id']}/documents", **query)
    assert answer.status_code == 200, answer.text
    page: Json = answer.json()
    return page


async def test_a_document(chat: ChatApi, ann: Person, bot: Json) -> None:
    [document] = await uploaded(chat, ann, bot)
    error = {"title": "No", "status": 503, "detail": "The agent is away.", "code": "agent-unavailable"}
    await become(chat, document, "processing", progress_done=4, progress_total=12, error=error)

    read = (await get(chat, ann, f"/documents/{document['id']}")).json()

    assert read == document | {
        "status": "processing",
        "progress": {"done": 4, "total": 12},
        "error": {"type": "about:blank", "request_id": None, "errors": None, **error},
    }


async def test_a_list_is_the_newest_first_in_pages_that_hold_while_more_come(
    chat: ChatApi, ann: Person, bot: Json
) -> None:
    items = await uploaded(chat, ann, bot, *((f"{at}.txt", str(at).encode()) for at in range(5)))
    newest_first = [item["name"] for item in reversed(items)]

    first = await listed(chat, ann, bot, limit=2)
    await uploaded(chat, ann, bot, ("later.txt", b"later"))
    second = await listed(chat, ann, bot, limit=2, cursor=first["next_cursor"])
    third = await listed(chat, ann, bot, limit=2, cursor=second["next_cursor"])

    assert [item["name"] for page in (first, second, third) for item in page["items"]] == newest_first
    assert third["next_cursor"] is None
    oldest = await listed(chat, ann, bot, sort="created_at", limit=3)
    assert [item["name"] for item in oldest["items"]] == newest_first[::-1][:3]


async def test_a_list_by_status(chat: ChatApi, ann: Person, bot: Json) -> None:
    ready, failed, waiting = await uploaded(chat, ann, bot, ("a.txt", b"a"), ("b.txt", b"b"), ("c.txt", b"c"))
    await become(chat, ready, "ready")
    await become(chat, failed, "failed")

    for status, document in (("ready", ready), ("failed", failed), ("pending", waiting)):
        assert [item["id"] for item in (await listed(chat, ann, bot, status=status))["items"]] == [document["id"]]
    assert (await listed(chat, ann, bot, status="processing"))["items"] == []
    assert (await get(chat, ann, f"/bots/{bot['id']}/documents", status="lost")).status_code == 422


async def test_who_may_use_a_bot_reads_its_documents_and_changes_none(
    chat: ChatApi, ann: Person, bob: Person, bot: Json
) -> None:
    [document] = await uploaded(chat, ann, bot)
    chat.agent.collections.holds(UUID(bot["id"]), UUID(document["id"]), "The harbour closes at ten.")
    await become(chat, document, "ready")
    paths = (f"/documents/{document['id']}", f"/documents/{document['id']}/chunks", f"/bots/{bot['id']}/documents")
    changes = (
        ("DELETE", f"/documents/{document['id']}"),
        ("POST", f"/documents/{document['id']}/reindex"),
    )

    for path in paths:
        assert (await get(chat, bob, path)).status_code == 404, path
    for method, path in changes:
        answer = await chat.client.request(method, f"{API}{path}", headers=bob.headers)
        assert problem(answer) == (404, "document-not-found")

    await chat.client.patch(f"{API}/bots/{bot['id']}", json={"visibility": "public"}, headers=ann.headers)
    for path in paths:
        assert (await get(chat, bob, path)).status_code == 200, path
    for method, path in changes:
        answer = await chat.client.request(method, f"{API}{path}", headers=bob.headers)
        assert problem(answer) == (403, "not-bot-owner")
    assert (await get(chat, ann, f"/documents/{document['id']}")).json()["version"] == 1


async def test_the_documents_of_a_deleted_bot_are_gone(chat: ChatApi, ann: Person, bot: Json) -> None:
    [document] = await uploaded(chat, ann, bot)
    await chat.client.delete(f"{API}/bots/{bot['id']}", headers=ann.headers)

    assert problem(await get(chat, ann, f"/documents/{document['id']}")) == (404, "document-not-found")
    assert problem(await get(chat, ann, f"/bots/{bot['id']}/documents")) == (404, "bot-not-found")


async def test_chunks_come_in_pages_from_the_agent(chat: ChatApi, ann: Person, bot: Json) -> None:
    [document] = await uploaded(chat, ann, bot)
    chunks = chat.agent.collections.holds(UUID(bot["id"]), UUID(document["id"]), "one", "two", "three")
    path = f"/documents/{document['id']}/chunks"

    first = (await get(chat, ann, path, limit=2)).json()
    second = (await get(chat, ann, path, limit=2, cursor=first["next_cursor"])).json()

    assert [ChunkRead.model_validate(item) for page in (first, second) for item in page["items"]] == chunks
    assert second["next_cursor"] is None


async def test_chunks_before_there_are_any(chat: ChatApi, ann: Person, bot: Json) -> None:
    [document] = await uploaded(chat, ann, bot)

    page = (await get(chat, ann, f"/documents/{document['id']}/chunks")).json()

    assert page == {"items": [], "next_cursor": None}


async def test_a_cursor_that_is_not_the_agents(chat: ChatApi, ann: Person, bot: Json) -> None:
    [document] = await uploaded(chat, ann, bot)

    assert problem(await get(chat, ann, f"/documents/{document['id']}/chunks", cursor="x")) == (422, "invalid-cursor")


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (httpx.ConnectError("away"), (503, "agent-unavailable")),
        (agents_problem(503, "agent-restarting"), (503, "agent-unavailable")),
        (agents_problem(401, "not-authenticated"), (502, "agent-broke-off")),
        (agents_problem(500, "internal-error"), (502, "agent-broke-off")),
        (httpx.Response(200, content=b"no JSON"), (502, "agent-broke-off")),
    ],
)
async def test_chunks_while_the_agent_is_not_well(
    chat: ChatApi, ann: Person, bot: Json, refusal: Any, expected: tuple[int, str]
) -> None:
    [document] = await uploaded(chat, ann, bot)
    chat.agent.collections.refusals = [refusal]

    answer = await get(chat, ann, f"/documents/{document['id']}/chunks")

    assert problem(answer) == expected
    assert answer.headers["retry-after"] == "2"


async def test_reindexing(chat: ChatApi, ann: Person, bot: Json) -> None:
    [document] = await uploaded(chat, ann, bot)
    error = {"title": "No", "status": 422, "detail": "It failed.", "code": "document-unreadable"}
    await become(chat, document, "failed", error=error, progress_done=3, progress_total=3, chunk_count=3)
    path = f"{API}/documents/{document['id']}/reindex"

    answer = await chat.client.post(path, headers=ann.headers)

    assert answer.status_code == 202, answer.text
    assert answer.json() == document | {"status": "pending", "version": 2, "chunk_count": 3}
    assert (await outbox(chat, document))[1:] == [("document.index", {"version": 2})]
    # What waits already need not be asked for twice.
    again = await chat.client.post(path, headers=ann.headers)
    assert (again.status_code, again.json()) == (202, answer.json())
    assert len(await outbox(chat, document)) == 2


async def test_reindexing_while_it_is_indexed(chat: ChatApi, ann: Person, bot: Json) -> None:
    [document] = await uploaded(chat, ann, bot)
    await become(chat, document, "processing", progress_done=1, progress_total=9)

    answer = await chat.client.post(f"{API}/documents/{document['id']}/reindex", headers=ann.headers)

    assert (answer.json()["version"], answer.json()["status"]) == (2, "pending")
    assert (await outbox(chat, document))[1:] == [("document.index", {"version": 2})]


async def test_a_document_of_nothing(chat: ChatApi, ann: Person, bot: Json) -> None:
    for method, path in (
        ("GET", f"/documents/{uuid4()}"),
        ("GET", f"/documents/{bot['id']}/chunks"),
        ("GET", f"/documents/{uuid4()}/events"),
        ("POST", f"/documents/{uuid4()}/reindex"),
        ("DELETE", f"/documents/{uuid4()}"),
    ):
        answer = await chat.client.request(method, f"{API}{path}", headers=ann.headers)
        assert problem(answer) == (404, "document-not-found"), path


async def delete(chat: ChatApi, person: Person, document: Json) -> httpx.Response:
    return await chat.client.delete(f"{API}/documents/{document['id']}", headers=person.headers)


async def test_deleting_takes_it_away_at_once(chat: ChatApi, ann: Person, bot: Json) -> None:
    kept, deleted = await uploaded(chat, ann, bot, ("kept.txt", b"kept"), HARBOUR)
    await become(chat, deleted, "ready", version=3)

    answer = await delete(chat, ann, deleted)

    assert (answer.status_code, answer.content) == (204, b"")
    assert problem(await get(chat, ann, f"/documents/{deleted['id']}")) == (404, "document-not-found")
    assert [item["id"] for item in (await listed(chat, ann, bot))["items"]] == [kept["id"]]
    assert (await outbox(chat, deleted))[1:] == [("document.purge", {})]
    assert chat.agent.collections.deleted == [(UUID(bot["id"]), UUID(deleted["id"]), 3)]
    # The job takes the bytes, once the agent has forgotten the passages for certain.
    assert len(stored_files(chat)) == 2
    assert problem(await delete(chat, ann, deleted)) == (404, "document-not-found")


@pytest.mark.parametrize("refusal", [httpx.ConnectError("away"), agents_problem(409, "stale-version")])
async def test_deleting_does_not_need_the_agent(chat: ChatApi, ann: Person, bot: Json, refusal: Any) -> None:
    [document] = await uploaded(chat, ann, bot)
    chat.agent.collections.refusals = [refusal]

    assert (await delete(chat, ann, document)).status_code == 204
    assert (await outbox(chat, document))[1:] == [("document.purge", {})]


async def test_deleting_waits_for_the_agent_a_second_at_most(chat: ChatApi, ann: Person, bot: Json) -> None:
    [document] = await uploaded(chat, ann, bot)
    chat.agent.collections.delay_seconds = 30

    answer = await delete(chat, ann, document)

    assert answer.status_code == 204
    assert answer.elapsed.total_seconds() < 15
