"""The heartbeat renews leases and stores what was said, and waits for nobody who holds a lock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg

from tests.factories.chat import API, ChatApi, Json, Person
from tests.fakes.agent import Gate
from tests.stores import Database


@asynccontextmanager
async def another(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else's connection, in a transaction that commits at the end."""
    connection = await asyncpg.connect(Database.dsn(database.api_url))
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


async def speaking(chat: ChatApi, person: Person) -> tuple[Json, UUID, Gate]:
    """A session whose run has said something, and waits."""
    gate = Gate(first="Well")
    chat.agent.next_scripts = [gate]
    session = await chat.session(person)
    run_id = UUID((await chat.send_async(person, session))["run"]["id"])
    await gate.arrival()
    await chat.told(str(run_id), "message.delta")
    return session, run_id, gate


async def beat(chat: ChatApi) -> None:
    async with asyncio.timeout(30):
        await chat.engine.executor.beat()


async def lease_end(chat: ChatApi, run_id: UUID) -> Any:
    [row] = await chat.rows("SELECT lease_expires_at FROM chat.runs WHERE id = $1", run_id)
    return row["lease_expires_at"]


async def test_a_beat_does_not_stand_in_a_circle_with_a_delete(
    chat: ChatApi, ann: Person, clean_database: Database
) -> None:
    await chat.engine.recovery.stop()
    session, _, gate = await speaking(chat, ann)
    session_id = UUID(session["id"])
    async with another(clean_database) as deleting:
        # What deleting a session does, step by step: the session, its messages, then its runs.
        await deleting.execute("SELECT 1 FROM chat.sessions WHERE id = $1 FOR UPDATE", session_id)
        await deleting.execute("DELETE FROM chat.messages WHERE session_id = $1", session_id)
        await beat(chat)
        await deleting.execute("DELETE FROM chat.sessions WHERE id = $1", session_id)
    assert chat.engine.executor.active_count == 1
    await beat(chat)
    async with asyncio.timeout(30):
        while chat.engine.executor.active_count:
            await asyncio.sleep(0.01)
    gate.opened.set()


async def test_a_locked_run_keeps_no_other_from_being_renewed_and_is_not_given_up(
    chat: ChatApi, ann: Person, clean_database: Database
) -> None:
    await chat.engine.recovery.stop()
    session, locked_run, locked_gate = await speaking(chat, ann)
    _, free_run, free_gate = await speaking(chat, ann)
    before = await lease_end(chat, locked_run), await lease_end(chat, free_run)
    async with another(clean_database) as deleting:
        await deleting.execute("SELECT 1 FROM chat.runs WHERE id = $1 FOR UPDATE", locked_run)
        await beat(chat)
        assert await lease_end(chat, locked_run) == before[0]
        assert await lease_end(chat, free_run) > before[1]
    await beat(chat)
    assert await lease_end(chat, locked_run) > before[0]
    locked_gate.opened.set()
    free_gate.opened.set()
    assert (await chat.run_ended(ann, str(locked_run)))["status"] == "completed"
    assert (await chat.history(ann, session))[1]["content"] == "Well far."


async def test_a_beat_stores_what_was_said_and_hears_of_a_cancel(chat: ChatApi, ann: Person) -> None:
    await chat.engine.recovery.stop()
    session, run_id, _ = await speaking(chat, ann)
    await beat(chat)
    reply = (await chat.history(ann, session))[1]
    assert (reply["content"], reply["status"]) == ("Well", "streaming")
    await chat.rows("UPDATE chat.runs SET cancel_requested_at = now() WHERE id = $1", run_id)
    await beat(chat)
    assert (await chat.run_ended(ann, str(run_id)))["status"] == "cancelled"


async def test_a_beat_gives_up_what_another_has_taken(chat: ChatApi, ann: Person) -> None:
    await chat.engine.recovery.stop()
    _, run_id, _ = await speaking(chat, ann)
    await chat.rows("UPDATE chat.runs SET lease_owner = 'another' WHERE id = $1", run_id)
    await beat(chat)
    async with asyncio.timeout(30):
        while chat.engine.executor.active_count:
            await asyncio.sleep(0.01)
    [row] = await chat.rows("SELECT status, lease_owner FROM chat.runs WHERE id = $1", run_id)
    assert (row["status"], row["lease_owner"]) == ("running", "another")


async def test_deletes_and_beats_at_once(chat: ChatApi, ann: Person) -> None:
    await chat.engine.recovery.stop()
    started = [await speaking(chat, ann) for _ in range(8)]
    beating = asyncio.gather(*(beat(chat) for _ in range(8)))
    deletes = (chat.client.delete(f"{API}/sessions/{session['id']}", headers=ann.headers) for session, _, _ in started)
    answers = await asyncio.gather(*deletes)
    assert {answer.status_code for answer in answers} == {204}
    await beating
    await beat(chat)
    async with asyncio.timeout(30):
        while chat.engine.executor.active_count:
            await asyncio.sleep(0.01)
