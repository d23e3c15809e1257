"""A message that waits for its session while people come and go."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from tests.factories.chat import API, ChatApi, Json, Person, problem
from tests.fakes.agent import Gate
from tests.stores import Database

_GONE = "DELETE FROM chat.participants WHERE session_id = $1 AND user_id = $2"
_CHANGED = "UPDATE chat.sessions SET membership_version = membership_version + 1 WHERE id = $1"


async def while_waiting(
    chat: ChatApi, database: Database, person: Person, session: Json, path: str, body: Any, *statements: tuple[Any, ...]
) -> httpx.Response:
    """Ask while somebody else holds the session's row, who does `statements` and commits once we wait for it."""
    connection = await asyncpg.connect(Database.dsn(database.api_url))
    try:
        async with connection.transaction():
            await connection.fetch("SELECT id FROM chat.sessions WHERE id = $1 FOR UPDATE", UUID(session["id"]))
            asked = asyncio.create_task(chat.client.post(f"{API}{path}", json=body, headers=person.headers))
            async with asyncio.timeout(30):
                while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                    await asyncio.sleep(0.01)
            for statement, *values in statements:
                await connection.execute(statement, *values)
    finally:
        await connection.close()
    return await asked


@pytest.mark.parametrize("again", [False, True])
async def test_who_was_removed_meanwhile_says_nothing(
    chat: ChatApi, clean_database: Database, ann: Person, bob: Person, again: bool
) -> None:
    session = await chat.session(ann)
    await chat.join(session, bob)
    said = await chat.said(ann, session, "@assistant hello")
    path, body = f"/sessions/{session['id']}/messages", {"content": "Hm"}
    if again:
        path, body = f"{path}/{said['message']['id']}/regenerate", {}
    before = len(await chat.history(ann, session))
    session_id = UUID(session["id"])
    answer = await while_waiting(
        chat, clean_database, bob, session, path, body, (_GONE, session_id, bob.id), (_CHANGED, session_id)
    )
    assert problem(answer) == (404, "session-not-found")
    assert len(await chat.history(ann, session)) == before


async def test_who_stays_is_heard_though_others_went(
    chat: ChatApi, clean_database: Database, ann: Person, bob: Person
) -> None:
    session = await chat.session(ann, reply_policy="never")
    await chat.join(session, bob)
    session_id = UUID(session["id"])
    answer = await while_waiting(
        chat,
        clean_database,
        ann,
        session,
        f"/sessions/{session['id']}/messages",
        {"content": "Still here"},
        (_GONE, session_id, bob.id),
        (_CHANGED, session_id),
    )
    assert answer.status_code == 201, answer.text


async def test_who_was_removed_meanwhile_cancels_nothing(
    chat: ChatApi, clean_database: Database, ann: Person, bob: Person
) -> None:
    session = await chat.session(ann)
    await chat.join(session, bob)
    chat.agent.script = gate = Gate()
    run = (await chat.send_async(ann, session, "@assistant hello"))["run"]
    session_id = UUID(session["id"])

    answer = await while_waiting(
        chat,
        clean_database,
        bob,
        session,
        f"/runs/{run['id']}/cancel",
        None,
        (_GONE, session_id, bob.id),
        (_CHANGED, session_id),
    )

    assert problem(answer) == (404, "run-not-found")
    gate.opened.set()
    assert (await chat.run_ended(ann, run["id"]))["status"] == "completed"


async def test_a_run_can_be_cancelled_though_others_went(
    chat: ChatApi, clean_database: Database, ann: Person, bob: Person
) -> None:
    session = await chat.session(ann)
    await chat.join(session, bob)
    chat.agent.script = Gate()
    run = (await chat.send_async(ann, session, "@assistant hello"))["run"]
    session_id = UUID(session["id"])

    answer = await while_waiting(
        chat,
        clean_database,
        ann,
        session,
        f"/runs/{run['id']}/cancel",
        None,
        (_GONE, session_id, bob.id),
        (_CHANGED, session_id),
    )

    assert answer.status_code == 200, answer.text
    assert (await chat.run_ended(ann, run["id"]))["status"] == "cancelled"


@pytest.mark.parametrize("going", [False, True])
async def test_everything_is_heard_while_many_come_or_go(chat: ChatApi, ann: Person, going: bool) -> None:
    session = await chat.session(ann, reply_policy="never")
    people = [await chat.person() for _ in range(30)]
    if going:
        for person in people:
            await chat.join(session, person)

    async def move(person: Person) -> None:
        if not going:
            await chat.join(session, person)
            return
        path = f"{API}/sessions/{session['id']}/participants/{person.id}"
        answer = await chat.client.delete(path, headers=person.headers)
        assert answer.status_code == 204, answer.text

    talk = [chat.send(ann, session, f"{number}") for number in range(10)]
    answers = (await asyncio.gather(*map(move, people), *talk))[len(people) :]

    assert [answer.status_code for answer in answers if answer is not None] == [201] * len(talk)


async def test_leaving_raises_the_version(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann)

    async def version() -> int:
        [row] = await chat.rows("SELECT membership_version FROM chat.sessions WHERE id = $1", UUID(session["id"]))
        found: int = row["membership_version"]
        return found

    await chat.join(session, bob)
    before = await version()
    left = await chat.client.delete(f"{API}/sessions/{session['id']}/participants/{bob.id}", headers=bob.headers)
    assert left.status_code == 204
    assert await version() == before + 1
