"""A message that waits for its session while people come and go."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from tests.factories.chat import API, ChatApi, Json, Person, problem
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
            asked = asyncio.create_task(
                chat.client.post(f"{API}/sessions/{session['id']}{path}", json=body, headers=person.headers)
            )
            async with asyncio.timeout(5):
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
    path, body = (f"/messages/{said['message']['id']}/regenerate", None) if again else ("/messages", {"content": "Hm"})
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
        "/messages",
        {"content": "Still here"},
        (_GONE, session_id, bob.id),
        (_CHANGED, session_id),
    )
    assert answer.status_code == 201, answer.text


async def test_joining_and_leaving_raise_the_version(chat: ChatApi, ann: Person, bob: Person) -> None:
    session = await chat.session(ann)

    async def version() -> int:
        [row] = await chat.rows("SELECT membership_version FROM chat.sessions WHERE id = $1", UUID(session["id"]))
        found: int = row["membership_version"]
        return found

    seen = [await version()]
    await chat.join(session, bob)
    seen.append(await version())
    left = await chat.client.delete(f"{API}/sessions/{session['id']}/participants/{bob.id}", headers=bob.headers)
    assert left.status_code == 204
    seen.append(await version())
    assert seen == sorted(set(seen))
