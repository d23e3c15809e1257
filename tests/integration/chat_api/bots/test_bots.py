"""Bots: made, read, listed, changed and deleted, by those who may."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from shared.contracts.knowledge import MAX_TOP_K
from tests.factories.chat import API, ChatApi, Json, Person, problem

ALL_FIELDS: Json = {
    "name": "Harbour guide",
    "description": "Knows the harbour's rules.",
    "system_prompt": "You answer visitors.",
    "provider": "openai",
    "model": "gpt-test",
    "configuration": {
        "agent_type": "react",
        "temperature": 0.5,
        "max_tokens": 100,
        "chat_history_length": 7,
        "tools": ["calculator"],
        "retrieval": {"mode": "text", "top_k": 9, "min_score": 0.25},
    },
    "visibility": "shared",
}


def path(bot: Json, rest: str = "") -> str:
    return f"{API}/bots/{bot['id']}{rest}"


async def create(chat: ChatApi, person: Person, body: object, **headers: str) -> httpx.Response:
    return await chat.client.post(f"{API}/bots", json=body, headers=person.headers | headers)


async def get(chat: ChatApi, person: Person, bot: Json) -> httpx.Response:
    return await chat.client.get(path(bot), headers=person.headers)


async def patch(chat: ChatApi, person: Person, bot: Json, **fields: Any) -> httpx.Response:
    return await chat.client.patch(path(bot), json=fields, headers=person.headers)


async def delete(chat: ChatApi, person: Person, bot: Json) -> httpx.Response:
    return await chat.client.delete(path(bot), headers=person.headers)


async def page(chat: ChatApi, person: Person, **query: Any) -> Json:
    answer = await chat.client.get(f"{API}/bots", params=query, headers=person.headers)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def names(chat: ChatApi, person: Person, **query: Any) -> list[str]:
    return [bot["name"] for bot in (await page(chat, person, **query))["items"]]


async def test_a_name_is_enough(chat: ChatApi, ann: Person) -> None:
    created = await chat.bot(ann, name="Guide")
    assert created == {
        "id": created["id"],
        "owner_id": str(ann.id),
        "name": "Guide",
        "description": "",
        "system_prompt": None,
        "provider": None,
        "model": None,
        "configuration": {
            "agent_type": "rag",
            "temperature": None,
            "max_tokens": None,
            "chat_history_length": None,
            "tools": [],
            "retrieval": {"mode": "hybrid", "top_k": 5, "min_score": 0.0},
        },
        "visibility": "private",
        "created_at": created["created_at"],
        "updated_at": created["created_at"],
    }
    assert UUID(created["id"]).version == 7


async def test_every_field_is_kept(chat: ChatApi, ann: Person) -> None:
    created = await chat.bot(ann, **ALL_FIELDS)
    assert {name: created[name] for name in ALL_FIELDS} == ALL_FIELDS
    assert (await get(chat, ann, created)).json() == created


async def test_names_of_any_letters(chat: ChatApi, ann: Person) -> None:
    for name in ("x", "Ünïcödé", "港の案内", "Q&A (v2.1)", "Ann's bot", "x" * 64, "a b  c"):
        assert (await chat.bot(ann, name=name))["name"] == name


NONSENSE: list[object] = [
    {},
    {"name": ""},
    {"name": None},
    {"name": " x"},
    {"name": "x "},
    {"name": "a\nb"},
    {"name": "x\n"},
    {"name": "a\u2028b"},
    {"name": "me@home"},
    {"name": "x" * 65},
    {"name": "nul \x00"},
    {"name": "x", "owner_id": str(uuid4())},
    {"name": "x", "description": None},
    {"name": "x", "description": "x" * 2_001},
    {"name": "x", "system_prompt": "x" * 20_001},
    {"name": "x", "provider": "anthropic"},
    {"name": "x", "model": ""},
    {"name": "x", "visibility": "secret"},
    {"name": "x", "configuration": None},
    {"name": "x", "configuration": {"temprature": 1}},
    {"name": "x", "configuration": {"agent_type": "magic"}},
    {"name": "x", "configuration": {"temperature": 2.01}},
    {"name": "x", "configuration": {"max_tokens": 0}},
    {"name": "x", "configuration": {"chat_history_length": 201}},
    {"name": "x", "configuration": {"tools": "calculator"}},
    {"name": "x", "configuration": {"tools": [""]}},
    {"name": "x", "configuration": {"tools": ["x"] * 51}},
    {"name": "x", "configuration": {"retrieval": {"top_k": 0}}},
    {"name": "x", "configuration": {"retrieval": {"top_k": MAX_TOP_K + 1}}},
    {"name": "x", "configuration": {"retrieval": {"mode": "magic"}}},
    {"name": "x", "configuration": {"retrieval": {"min_score": 1.1}}},
    {"name": "x", "configuration": {"retrieval": {"exclude_documents": []}}},
    {"name": "x", "configuration": {"retrieval": None}},
    [],
]


async def test_nonsense_is_refused(chat: ChatApi, ann: Person) -> None:
    for body in NONSENSE:
        answer = await create(chat, ann, body)
        assert problem(answer) == (422, "validation-failed"), body
    assert await chat.rows("SELECT 1 FROM chat.bots") == []


async def test_the_same_key_makes_one_bot(chat: ChatApi, ann: Person) -> None:
    first = await create(chat, ann, {"name": "One"}, **{"Idempotency-Key": "k"})
    again = await create(chat, ann, {"name": "One"}, **{"Idempotency-Key": "k"})
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    other = await create(chat, ann, {"name": "Two"}, **{"Idempotency-Key": "k"})
    assert problem(other) == (422, "idempotency-key-reused")
    assert await names(chat, ann) == ["One"]


async def test_only_what_is_sent_changes_at_both_levels(chat: ChatApi, ann: Person) -> None:
    created = await chat.bot(ann, **ALL_FIELDS)
    answer = await patch(
        chat, ann, created, description="New", configuration={"temperature": None, "retrieval": {"top_k": 3}}
    )
    assert answer.status_code == 200
    wanted = ALL_FIELDS["configuration"] | {
        "temperature": None,
        "retrieval": {"mode": "text", "top_k": 3, "min_score": 0.25},
    }
    changed = answer.json()
    assert changed == created | {
        "description": "New",
        "configuration": wanted,
        "updated_at": changed["updated_at"],
    }
    assert changed["updated_at"] > created["updated_at"]
    assert (await get(chat, ann, created)).json() == changed
    assert (await patch(chat, ann, created)).json() == changed


async def test_every_field_can_change_and_null_resets(chat: ChatApi, ann: Person) -> None:
    created = await chat.bot(ann)
    changed = (await patch(chat, ann, created, **ALL_FIELDS)).json()
    assert {name: changed[name] for name in ALL_FIELDS} == ALL_FIELDS
    reset = (await patch(chat, ann, created, system_prompt=None, provider=None, model=None)).json()
    assert [reset[name] for name in ("system_prompt", "provider", "model")] == [None, None, None]


@pytest.mark.parametrize(
    "body",
    [
        {"name": None},
        {"name": "a@b"},
        {"visibility": None},
        {"description": None},
        {"configuration": None},
        {"configuration": {"agent_type": None}},
        {"configuration": {"retrieval": {"top_k": None}}},
        {"configuration": {"retrieval": {"unknown": 1}}},
        {"owner_id": "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"},
        {"deleted_at": None},
    ],
)
async def test_a_change_that_makes_no_sense_changes_nothing(chat: ChatApi, ann: Person, body: Json) -> None:
    created = await chat.bot(ann)
    assert problem(await patch(chat, ann, created, **body)) == (422, "validation-failed")
    assert (await get(chat, ann, created)).json() == created


async def test_a_deleted_bot_is_gone_at_once_and_its_purge_is_due(chat: ChatApi, ann: Person, bob: Person) -> None:
    created = await chat.bot(ann, visibility="public")
    assert (await delete(chat, ann, created)).status_code == 204
    for person in (ann, bob):
        assert problem(await get(chat, person, created)) == (404, "bot-not-found")
        assert await names(chat, person) == []
    assert problem(await delete(chat, ann, created)) == (404, "bot-not-found")
    assert problem(await patch(chat, ann, created, name="x")) == (404, "bot-not-found")
    rows = await chat.rows("SELECT topic, subject_id, payload FROM chat.outbox")
    assert [(row["topic"], row["subject_id"], row["payload"]) for row in rows] == [
        ("bot.purge", UUID(created["id"]), {})
    ]


async def test_strangers_find_no_private_bot(chat: ChatApi, ann: Person, bob: Person) -> None:
    created = await chat.bot(ann)
    not_found = (404, "bot-not-found")
    assert problem(await get(chat, bob, created)) == not_found
    assert problem(await patch(chat, bob, created, name="Mine")) == not_found
    assert problem(await delete(chat, bob, created)) == not_found
    assert problem(await chat.client.get(path(created, "/shares"), headers=bob.headers)) == not_found
    for method in ("PUT", "DELETE"):
        answer = await chat.client.request(method, path(created, f"/shares/{bob.id}"), headers=bob.headers)
        assert problem(answer) == not_found
    assert await names(chat, bob) == []
    assert (await get(chat, ann, created)).json() == created


async def test_everybody_may_use_a_public_bot_and_only_its_owner_change_it(
    chat: ChatApi, ann: Person, bob: Person
) -> None:
    created = await chat.bot(ann, visibility="public")
    forbidden = (403, "not-bot-owner")
    assert (await get(chat, bob, created)).json() == created
    assert problem(await patch(chat, bob, created, name="Mine")) == forbidden
    assert problem(await delete(chat, bob, created)) == forbidden
    assert problem(await chat.client.get(path(created, "/shares"), headers=bob.headers)) == forbidden
    for method in ("PUT", "DELETE"):
        answer = await chat.client.request(method, path(created, f"/shares/{bob.id}"), headers=bob.headers)
        assert problem(answer) == forbidden
    await patch(chat, ann, created, visibility="private")
    assert problem(await get(chat, bob, created)) == (404, "bot-not-found")


async def test_the_list_holds_mine_those_shared_with_me_and_public_ones(
    chat: ChatApi, ann: Person, bob: Person
) -> None:
    for visibility in ("private", "shared", "public"):
        await chat.bot(ann, name=f"Ann's {visibility}", visibility=visibility)
        theirs = await chat.bot(bob, name=f"Bob's {visibility}", visibility=visibility)
        await chat.share(bob, theirs, ann)
    await chat.bot(bob, name="Not for Ann", visibility="shared")
    everything = ["Bob's public", "Ann's public", "Bob's shared", "Ann's shared", "Ann's private"]
    assert await names(chat, ann) == everything
    assert await names(chat, ann, sort="created_at") == everything[::-1]
    assert await names(chat, ann, mine=True) == ["Ann's public", "Ann's shared", "Ann's private"]
    assert await names(chat, ann, visibility="shared") == ["Bob's shared", "Ann's shared"]
    assert await names(chat, ann, visibility="public") == ["Bob's public", "Ann's public"]
    assert await names(chat, ann, visibility="private") == ["Ann's private"]
    assert await names(chat, ann, visibility="public", mine=True, q="ANN") == ["Ann's public"]
    assert await names(chat, ann, q="%") == []


@pytest.mark.parametrize("sort", ["created_at", "-created_at"])
async def test_pages_lose_nothing_while_bots_are_made(chat: ChatApi, ann: Person, bob: Person, sort: str) -> None:
    for number in range(3):
        await chat.bot(ann, name=f"mine {number}")
        await chat.bot(bob, name=f"public {number}", visibility="public")
        await chat.share(bob, await chat.bot(bob, name=f"shared {number}", visibility="shared"), ann)
    before = await names(chat, ann, sort=sort)
    found: list[str] = []
    cursor: Json = {}
    while True:
        one = await page(chat, ann, sort=sort, limit=2, **cursor)
        found += [bot["name"] for bot in one["items"]]
        if sort.startswith("-"):
            await chat.bot(ann, name="made meanwhile")
        if one["next_cursor"] is None:
            break
        cursor = {"cursor": one["next_cursor"]}
    assert len(before) == 9
    assert found == before


async def test_a_cursor_of_another_list_is_refused(chat: ChatApi, ann: Person) -> None:
    for cursor in ("x", "W10", "!"):
        answer = await chat.client.get(f"{API}/bots", params={"cursor": cursor}, headers=ann.headers)
        assert problem(answer) == (422, "invalid-cursor")
