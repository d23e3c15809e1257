"""Reactions: who has which, in which order, and what everybody is told of them."""

from __future__ import annotations

import asyncio
from urllib.parse import quote
from uuid import UUID

import asyncpg
import httpx
import pytest

from chat_api.kit.address import dsn
from chat_api.messages.service import MAX_REACTIONS
from tests.factories.chat import API, ChatApi, Json, Person, problem
from tests.fakes.agent import Gate

THUMB = "👍"
HEART = "❤️"


@pytest.fixture
async def session(chat: ChatApi, ann: Person, bob: Person) -> Json:
    session = await chat.session(ann, reply_policy="never")
    await chat.join(session, bob)
    return session


@pytest.fixture
async def message(chat: ChatApi, ann: Person, session: Json) -> Json:
    sent: Json = (await chat.said(ann, session, "First"))["message"]
    return sent


def path(message: Json, emoji: str) -> str:
    return f"{API}/sessions/{message['session_id']}/messages/{message['id']}/reactions/{quote(emoji, safe='')}"


async def react(chat: ChatApi, person: Person, message: Json, emoji: str = THUMB) -> httpx.Response:
    return await chat.client.put(path(message, emoji), headers=person.headers)


async def take_back(chat: ChatApi, person: Person, message: Json, emoji: str = THUMB) -> httpx.Response:
    return await chat.client.delete(path(message, emoji), headers=person.headers)


async def events(chat: ChatApi, session: Json) -> list[tuple[UUID | None, object]]:
    """What the log says of reactions: the message, and the data."""
    rows = await chat.rows(
        "SELECT message_id, data FROM chat.session_events WHERE session_id = $1 AND type = 'reaction.updated'"
        " ORDER BY event_seq",
        UUID(session["id"]),
    )
    return [tuple(row) for row in rows]


async def test_people_stand_behind_an_emoji_in_their_order(
    chat: ChatApi, ann: Person, bob: Person, session: Json, message: Json
) -> None:
    await react(chat, bob, message)
    await react(chat, bob, message, HEART)
    answer = await react(chat, ann, message)

    assert answer.status_code == 200
    assert answer.json() == message | {"reactions": {THUMB: [str(bob.id), str(ann.id)], HEART: [str(bob.id)]}}
    assert answer.json() in await chat.history(ann, session)
    assert await events(chat, session) == [(UUID(message["id"]), None)] * 3


async def test_twice_is_the_same_as_once(chat: ChatApi, ann: Person, session: Json, message: Json) -> None:
    first = await react(chat, ann, message)
    assert (await react(chat, ann, message)).json() == first.json()
    assert len(await events(chat, session)) == 1

    for _ in range(2):
        answer = await take_back(chat, ann, message)
        assert (answer.status_code, answer.json()) == (200, message)
    assert len(await events(chat, session)) == 2


async def test_one_takes_back_ones_own_only(
    chat: ChatApi, ann: Person, bob: Person, session: Json, message: Json
) -> None:
    await react(chat, ann, message)

    assert (await take_back(chat, bob, message)).json()["reactions"] == {THUMB: [str(ann.id)]}
    assert len(await events(chat, session)) == 1


async def test_the_same_sign_in_two_forms_is_one_reaction(
    chat: ChatApi, ann: Person, bob: Person, message: Json
) -> None:
    await react(chat, ann, message, "e\u0301")

    assert (await react(chat, bob, message, "é")).json()["reactions"] == {"é": [str(ann.id), str(bob.id)]}


async def test_twenty_people_at_once_are_all_there(chat: ChatApi, ann: Person, session: Json, message: Json) -> None:
    people = [await chat.person() for _ in range(20)]
    for person in people:
        await chat.join(session, person)

    answers = await asyncio.gather(*(react(chat, person, message) for person in people))

    assert {answer.status_code for answer in answers} == {200}
    [read] = [found for found in await chat.history(ann, session) if found["id"] == message["id"]]
    assert sorted(read["reactions"][THUMB]) == sorted(str(person.id) for person in people)
    assert len(await events(chat, session)) == 20


async def test_no_more_than_twenty_different_ones(chat: ChatApi, ann: Person, bob: Person, message: Json) -> None:
    for number in range(MAX_REACTIONS):
        assert (await react(chat, ann, message, f"+{number}")).status_code == 200

    assert problem(await react(chat, ann, message, THUMB)) == (409, "too-many-reactions")
    assert (await react(chat, bob, message, "+0")).status_code == 200
    await take_back(chat, ann, message, "+1")
    assert (await react(chat, ann, message, THUMB)).status_code == 200


@pytest.mark.parametrize("emoji", ["a b", "x" * 33, "\u202e", "\n"], ids=ascii)
async def test_what_is_no_emoji_is_refused(chat: ChatApi, ann: Person, message: Json, emoji: str) -> None:
    for answer in (await react(chat, ann, message, emoji), await take_back(chat, ann, message, emoji)):
        assert problem(answer) == (422, "validation-failed")
        assert answer.json()["errors"][0]["loc"] == ["path", "emoji"]


async def test_a_reply_may_be_reacted_to_while_it_is_written(chat: ChatApi, ann: Person) -> None:
    room = await chat.session(ann)
    gate = Gate()
    chat.agent.script = gate
    accepted = await chat.send_async(ann, room)
    await gate.arrival()
    [_, reply] = await chat.history(ann, room)

    assert (await react(chat, ann, reply)).status_code == 200
    gate.opened.set()
    await chat.run_ended(ann, accepted["run"]["id"])

    [_, read] = await chat.history(ann, room)
    assert (read["content"], read["reactions"]) == ("So far.", {THUMB: [str(ann.id)]})


async def test_a_deleted_message_has_none_and_takes_none(
    chat: ChatApi, ann: Person, session: Json, message: Json
) -> None:
    await react(chat, ann, message)
    await chat.client.delete(f"{API}/sessions/{session['id']}/messages/{message['id']}", headers=ann.headers)

    assert {found["id"]: found["reactions"] for found in await chat.history(ann, session)}[message["id"]] == {}
    assert problem(await react(chat, ann, message)) == (409, "message-deleted")
    assert problem(await take_back(chat, ann, message)) == (409, "message-deleted")


async def test_an_archived_session_takes_none(chat: ChatApi, ann: Person, session: Json, message: Json) -> None:
    await chat.client.post(f"{API}/sessions/{session['id']}/archive", headers=ann.headers)

    assert problem(await react(chat, ann, message)) == (409, "session-archived")


async def test_who_takes_no_part_reacts_to_nothing(chat: ChatApi, ann: Person, session: Json, message: Json) -> None:
    carl = await chat.person("carl")

    assert problem(await react(chat, carl, message)) == (404, "message-not-found")
    assert await events(chat, session) == []


async def test_who_is_removed_while_waiting_does_not_react(
    chat: ChatApi, ann: Person, bob: Person, session: Json, message: Json
) -> None:
    session_id = UUID(session["id"])
    assert chat.settings.database_url is not None
    connection = await asyncpg.connect(dsn(chat.settings.database_url.get_secret_value()))
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM chat.sessions WHERE id = $1 FOR UPDATE", session_id)
            waiting = asyncio.create_task(react(chat, bob, message))
            async with asyncio.timeout(30):
                while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                    await asyncio.sleep(0.01)
            await connection.execute(
                "DELETE FROM chat.participants WHERE session_id = $1 AND user_id = $2", session_id, bob.id
            )
    finally:
        await connection.close()

    assert problem(await waiting) == (404, "message-not-found")
    assert await events(chat, session) == []
