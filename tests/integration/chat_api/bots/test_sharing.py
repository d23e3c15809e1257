"""Sharing a bot: with whom, once each, and only while it is `shared`."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.factories.chat import API, ChatApi, Json, Person, problem


@pytest.fixture
async def bot(chat: ChatApi, ann: Person) -> Json:
    return await chat.bot(ann, visibility="shared")


async def share(chat: ChatApi, person: Person, bot: Json, user_id: UUID) -> httpx.Response:
    return await chat.client.put(f"{API}/bots/{bot['id']}/shares/{user_id}", headers=person.headers)


async def unshare(chat: ChatApi, person: Person, bot: Json, user_id: UUID) -> httpx.Response:
    return await chat.client.delete(f"{API}/bots/{bot['id']}/shares/{user_id}", headers=person.headers)


async def sees(chat: ChatApi, person: Person, bot: Json) -> bool:
    answer = await chat.client.get(f"{API}/bots/{bot['id']}", headers=person.headers)
    assert answer.status_code in (200, 404), answer.text
    return answer.status_code == 200


async def shares(chat: ChatApi, person: Person, bot: Json, **query: Any) -> Json:
    answer = await chat.client.get(f"{API}/bots/{bot['id']}/shares", params=query, headers=person.headers)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def test_who_is_named_may_use_it_until_it_is_taken_back(
    chat: ChatApi, ann: Person, bob: Person, bot: Json
) -> None:
    assert not await sees(chat, bob, bot)
    answer = await share(chat, ann, bot, bob.id)
    assert answer.status_code == 200
    assert answer.json() == {
        "user_id": str(bob.id),
        "username": "bob",
        "created_at": answer.json()["created_at"],
    }
    assert await sees(chat, bob, bot)
    assert (await shares(chat, ann, bot))["items"] == [answer.json()]
    assert (await unshare(chat, ann, bot, bob.id)).status_code == 204
    assert not await sees(chat, bob, bot)
    assert problem(await unshare(chat, ann, bot, bob.id)) == (404, "share-not-found")


async def test_a_share_counts_while_the_bot_is_shared(chat: ChatApi, ann: Person, bob: Person, bot: Json) -> None:
    await share(chat, ann, bot, bob.id)
    for visibility, visible in (("private", False), ("public", True), ("shared", True)):
        await chat.client.patch(f"{API}/bots/{bot['id']}", json={"visibility": visibility}, headers=ann.headers)
        assert await sees(chat, bob, bot) is visible, visibility


async def test_sharing_at_once_and_again_makes_one_share(chat: ChatApi, ann: Person, bob: Person, bot: Json) -> None:
    answers = await asyncio.gather(*(share(chat, ann, bot, bob.id) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len(await chat.rows("SELECT 1 FROM chat.bot_shares")) == 1


async def test_sharing_and_deleting_at_once_leaves_a_deleted_bot(
    chat: ChatApi, ann: Person, bob: Person, bot: Json
) -> None:
    deleting = chat.client.delete(f"{API}/bots/{bot['id']}", headers=ann.headers)
    answers = await asyncio.gather(deleting, *(share(chat, ann, bot, bob.id) for _ in range(4)))
    assert answers[0].status_code == 204
    assert {answer.status_code for answer in answers[1:]} <= {200, 404}
    assert not await sees(chat, bob, bot)
    assert len(await chat.rows("SELECT 1 FROM chat.outbox WHERE topic = 'bot.purge'")) == 1


async def test_only_with_others_who_exist(chat: ChatApi, ann: Person, bob: Person, bot: Json) -> None:
    assert problem(await share(chat, ann, bot, uuid4())) == (404, "user-not-found")
    assert problem(await share(chat, ann, bot, ann.id)) == (409, "owner-needs-no-share")
    await chat.rows("UPDATE chat.users SET is_active = false WHERE id = $1", bob.id)
    assert problem(await share(chat, ann, bot, bob.id)) == (404, "user-not-found")
    assert (await shares(chat, ann, bot))["items"] == []


async def test_who_may_use_it_may_not_share_it_on(chat: ChatApi, ann: Person, bob: Person, bot: Json) -> None:
    carol = await chat.person("carol")
    await share(chat, ann, bot, bob.id)
    forbidden = (403, "not-bot-owner")
    assert problem(await share(chat, bob, bot, carol.id)) == forbidden
    assert problem(await unshare(chat, bob, bot, bob.id)) == forbidden
    listed = await chat.client.get(f"{API}/bots/{bot['id']}/shares", headers=bob.headers)
    assert problem(listed) == forbidden


async def test_the_list_of_shares_has_pages(chat: ChatApi, ann: Person, bot: Json) -> None:
    for number in range(5):
        await share(chat, ann, bot, (await chat.person(f"friend-{number}")).id)
    found: list[str] = []
    cursor: Json = {}
    while True:
        page = await shares(chat, ann, bot, limit=2, **cursor)
        found += [item["username"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == [f"friend-{number}" for number in range(5)]
