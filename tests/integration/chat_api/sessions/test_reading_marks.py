"""Read receipts, and how many messages somebody has not read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from sqlalchemy import event

from chat_api.kit.models import new_id
from chat_api.sessions.errors import SessionNotFound
from chat_api.sessions.receipts import ReadReceipts
from tests.factories.chat import API, ChatApi, Json, Person, problem
from tests.stores import Database


async def mark(chat: ChatApi, person: Person, session: Json, seq: object) -> httpx.Response:
    return await chat.client.put(f"{API}/sessions/{session['id']}/read", json={"seq": seq}, headers=person.headers)


async def unread(chat: ChatApi, person: Person, session: Json) -> int:
    one = (await chat.client.get(f"{API}/sessions/{session['id']}", headers=person.headers)).json()
    listed = (await chat.client.get(f"{API}/sessions", headers=person.headers)).json()["items"]
    [found] = [item for item in listed if item["id"] == session["id"]]
    assert found == one
    count: int = one["unread_count"]
    return count


async def receipts(chat: ChatApi, session: Json) -> list[tuple[int, Any]]:
    rows = await chat.rows(
        "SELECT event_seq, data FROM chat.session_events WHERE session_id = $1 AND type = 'read.updated'"
        " ORDER BY event_seq",
        UUID(session["id"]),
    )
    return [(row["event_seq"], row["data"]) for row in rows]


async def fill(chat: ChatApi, session: Json, sender: Person | None, count: int) -> None:
    """Messages as rows, after those that are there."""
    await chat.rows(
        "INSERT INTO chat.messages (session_id, seq, id, role, sender_id, content) SELECT s.id, s.last_seq + n,"
        " uuidv7(), 'user', $2, 'x' FROM chat.sessions s, generate_series(1, $3::bigint) n WHERE s.id = $1",
        UUID(session["id"]),
        None if sender is None else sender.id,
        count,
    )
    await chat.rows(
        "UPDATE chat.sessions SET last_seq = last_seq + $2, message_count = message_count + $2 WHERE id = $1",
        UUID(session["id"]),
        count,
    )


@pytest.fixture
async def room(chat: ChatApi, ann: Person, bob: Person) -> Json:
    """Ann and bob, and three messages of ann's after the one that says that he came."""
    room = await chat.session(ann, reply_policy="never")
    await chat.join(room, bob)
    for number in range(3):
        await chat.said(ann, room, f"Message {number}")
    return room


async def test_a_mark_moves_and_is_told(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    answer = await mark(chat, bob, room, 3)

    assert answer.status_code == 200
    assert answer.json() == {"user_id": str(bob.id), "username": "bob", "role": "member", "last_read_seq": 3}
    assert await receipts(chat, room) == [(6, {"user_id": str(bob.id), "seq": 3})]
    seen = (await chat.client.get(f"{API}/sessions/{room['id']}", headers=ann.headers)).json()
    assert [one["last_read_seq"] for one in seen["participants"]] == [0, 3]


async def test_a_mark_never_moves_back(chat: ChatApi, bob: Person, room: Json) -> None:
    await mark(chat, bob, room, 3)
    for seq in (3, 2, 0):
        answer = await mark(chat, bob, room, seq)
        assert (answer.status_code, answer.json()["last_read_seq"]) == (200, 3)
    assert len(await receipts(chat, room)) == 1


async def test_more_than_there_is_stands_for_the_last(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    answer = await mark(chat, bob, room, 2**63 - 1)
    assert answer.json()["last_read_seq"] == 4
    await chat.said(ann, room, "One more")
    assert await unread(chat, bob, room) == 1


async def test_marks_at_once_are_told_in_order_without_gaps(
    chat: ChatApi, ann: Person, bob: Person, room: Json
) -> None:
    await fill(chat, room, ann, 20)
    answers = await asyncio.gather(
        *(mark(chat, bob, room, seq) for seq in (*range(1, 25), *range(24, 0, -1), *[24] * 9))
    )

    assert {answer.status_code for answer in answers} == {200}
    told = await receipts(chat, room)
    assert [number for number, _ in told] == list(range(6, 6 + len(told)))
    seqs = [data["seq"] for _, data in told]
    assert seqs == sorted(set(seqs))
    assert seqs[-1] == 24


async def test_a_mark_that_waited_for_another_moves_nothing_twice(chat: ChatApi, bob: Person, room: Json) -> None:
    """Both saw the old mark; the second waited for the session's row behind the first."""
    database = chat.app.state.database
    marks = ReadReceipts(database, chat.app.state.hints)
    async with database.engine.connect() as connection:
        await connection.exec_driver_sql(f"SELECT 1 FROM chat.sessions WHERE id = '{room['id']}' FOR UPDATE")
        waiting = [asyncio.create_task(marks.mark(UUID(room["id"]), bob.id, 4)) for _ in range(3)]
        async with asyncio.timeout(30):
            while (await chat.rows("SELECT count(*) AS n FROM pg_locks WHERE NOT granted"))[0]["n"] < 3:
                await asyncio.sleep(0.01)
        await connection.commit()
        found = await asyncio.gather(*waiting)

    assert [one.last_read_seq for one in found] == [4, 4, 4]
    assert await receipts(chat, room) == [(6, {"user_id": str(bob.id), "seq": 4})]
    [row] = await chat.rows("SELECT last_event_seq FROM chat.sessions WHERE id = $1", UUID(room["id"]))
    assert row["last_event_seq"] == 6


async def test_who_was_removed_meanwhile_marks_nothing(chat: ChatApi, bob: Person, room: Json) -> None:
    database = chat.app.state.database
    marks = ReadReceipts(database, chat.app.state.hints)
    async with database.engine.connect() as connection:
        await connection.exec_driver_sql(f"SELECT 1 FROM chat.sessions WHERE id = '{room['id']}' FOR UPDATE")
        waiting = asyncio.create_task(marks.mark(UUID(room["id"]), bob.id, 4))
        async with asyncio.timeout(30):
            while not (await chat.rows("SELECT count(*) AS n FROM pg_locks WHERE NOT granted"))[0]["n"]:
                await asyncio.sleep(0.01)
        await connection.exec_driver_sql(f"DELETE FROM chat.participants WHERE user_id = '{bob.id}'")
        await connection.commit()
        with pytest.raises(SessionNotFound):
            await waiting

    assert await receipts(chat, room) == []


async def test_nonsense_is_refused(chat: ChatApi, bob: Person, room: Json) -> None:
    for seq in (-1, 2**63, 1.5, "3", None, True):
        assert problem(await mark(chat, bob, room, seq)) == (422, "validation-failed"), seq


async def test_strangers_mark_nothing(chat: ChatApi, room: Json) -> None:
    carl = await chat.person("carl")
    for there in (room, {"id": str(new_id())}):
        assert problem(await mark(chat, carl, there, 1)) == (404, "session-not-found")


async def test_an_archived_session_can_be_marked(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    await chat.client.post(f"{API}/sessions/{room['id']}/archive", headers=ann.headers)
    assert (await mark(chat, bob, room, 4)).json()["last_read_seq"] == 4


async def test_what_others_said_is_unread(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    assert await unread(chat, bob, room) == 3
    # Her own are not counted, but that bob came is.
    assert await unread(chat, ann, room) == 1
    await mark(chat, bob, room, 2)
    assert await unread(chat, bob, room) == 2
    await mark(chat, bob, room, 4)
    assert await unread(chat, bob, room) == 0


async def test_what_was_deleted_is_not_unread(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    last = (await chat.history(ann, room))[-1]
    await chat.client.delete(f"{API}/sessions/{room['id']}/messages/{last['id']}", headers=ann.headers)
    assert await unread(chat, bob, room) == 2
    await chat.client.delete(f"{API}/sessions/{room['id']}/messages", headers=ann.headers)
    assert await unread(chat, bob, room) == 0


async def test_the_assistants_words_are_unread(chat: ChatApi, ann: Person) -> None:
    session = await chat.session(ann)
    await chat.said(ann, session)
    assert await unread(chat, ann, session) == 1


async def test_unread_is_counted_up_to_a_hundred(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    await fill(chat, room, None, 96)
    assert await unread(chat, bob, room) == 99
    await fill(chat, room, ann, 500)
    assert await unread(chat, bob, room) == 100


async def test_only_the_latest_thousand_are_looked_at(chat: ChatApi, ann: Person, bob: Person, room: Json) -> None:
    await fill(chat, room, bob, 999)
    assert await unread(chat, bob, room) == 1
    await fill(chat, room, bob, 1)
    assert await unread(chat, bob, room) == 0


async def test_a_list_is_two_statements_that_read_little(
    chat: ChatApi, ann: Person, bob: Person, room: Json, clean_database: Database
) -> None:
    """However many messages there are."""
    for number in range(6):
        await fill(chat, await chat.session(bob, title=str(number)), ann if number % 2 else bob, 10_000)
    owner = await asyncpg.connect(Database.dsn(clean_database.owner_url))
    await owner.execute("ANALYZE chat.messages, chat.participants, chat.sessions, chat.users")
    await owner.close()
    engine = chat.app.state.database.engine
    statements: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, ___: Any, ____: Any) -> None:
        statements.append((statement, parameters))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    listed = await chat.client.get(f"{API}/sessions", headers=bob.headers)
    event.remove(engine.sync_engine, "before_cursor_execute", note)

    assert sorted(item["unread_count"] for item in listed.json()["items"]) == [0] * 3 + [3] + [100] * 3
    assert len(statements) == 2
    async with engine.connect() as connection:
        statement, parameters = statements[-1]
        found = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS OFF, FORMAT JSON) {statement}", parameters)
    [plan] = found.scalar_one()
    nodes = list(scans(plan["Plan"]))
    assert not any(node["Node Type"] == "Seq Scan" and node["Relation Name"] == "messages" for node in nodes)
    walks = [node for node in nodes if node.get("Index Name") == "pk_messages"]
    read = sum(node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) for node in walks)
    assert 0 < read <= 7 * 1_000, plan


def scans(node: Json) -> Iterator[Json]:
    yield node
    for below in node.get("Plans", []):
        yield from scans(below)
