"""Looking for words in everybody's messages: what is found, page by page, and by which index."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api.admin.desk import Desk
from chat_api.admin.listing import Condition, Slice, Wanted
from chat_api.admin.message_walk import MessageWalk
from chat_api.messages.models import Message
from tests.factories.admin_pages import AdminBrowser
from tests.factories.chat import ChatApi, Person
from tests.stores import Database

IS_SEVENTH = Message.content.contains("number 7 ")


def wanted(text: str | None, *, condition: Condition | None = None, cursor: str | None = None, limit: int) -> Wanted:
    told = "" if condition is None else "filtered"
    return Wanted(text, condition, told, "created_at", descending=True, cursor=cursor, limit=limit)


@pytest.fixture
async def db(chat: ChatApi, ann: Person, bob: Person) -> AsyncIterator[AsyncSession]:
    """Twelve messages of two people in four sessions, each with `tide`, the oldest of them with `lighthouse`."""
    for session in range(4):
        await chat.rows(
            "WITH s AS (INSERT INTO chat.sessions (id, title, owner_id) VALUES (uuidv7(), 'tide', $1) RETURNING id)"
            " INSERT INTO chat.messages (session_id, seq, id, role, sender_id, content, created_at)"
            " SELECT s.id, n, uuidv7(), 'user', $1, 'The tide, number ' || $2::bigint + n || ' of them'"
            " || CASE WHEN $2 + n = 1 THEN ', at the lighthouse' ELSE '' END, now() - make_interval(hours => n::int)"
            " FROM s, generate_series(1, 3) AS n",
            (ann if session % 2 else bob).id,
            session * 3,
        )
    async with Desk(chat.app.state.database, chat.clock).unit() as db:
        yield db


async def all_pages(walk: MessageWalk, db: AsyncSession, text: str, condition: Condition | None = None) -> list[Slice]:
    pages = [await walk.page(db, wanted(text, condition=condition, limit=5))]
    while pages[-1].next_cursor is not None:
        cursor = pages[-1].next_cursor
        pages.append(await walk.page(db, wanted(text, condition=condition, cursor=cursor, limit=5)))
    return pages


@pytest.mark.parametrize("messages_a_page", [2, 6, 100])
async def test_pages_of_a_common_word_hold_everything_once(db: AsyncSession, messages_a_page: int) -> None:
    pages = await all_pages(MessageWalk(messages_a_page), db, "TIDE")

    assert [len(page.rows) for page in pages] == [5, 5, 2]
    places = [(row.session_id, row.created_at) for page in pages for row in page.rows]
    assert places == sorted(places, reverse=True)
    assert len(set(places)) == 12


async def test_a_rare_word_is_found_however_far_away(db: AsyncSession) -> None:
    [page] = await all_pages(MessageWalk(2), db, "lighthouses")

    assert [row.content for row in page.rows] == ["The tide, number 1 of them, at the lighthouse"]
    [none] = await all_pages(MessageWalk(2), db, "mountain")
    assert none.rows == []


async def test_of_a_common_word_a_filter_is_walked_for(db: AsyncSession) -> None:
    found = await all_pages(MessageWalk(7), db, "tide", IS_SEVENTH)
    assert [[row.content for row in page.rows] for page in found] == [["The tide, number 7 of them"], []]

    [rare] = await all_pages(MessageWalk(2), db, '"number 7"', IS_SEVENTH)
    assert len(rare.rows) == 1, "what is rare has to be found at once"


async def test_all_words_have_to_be_there(db: AsyncSession) -> None:
    walk = MessageWalk()
    for text, number in (("tide lighthouse", 1), ("tide -lighthouse", 11), ("light*", 1), ("-tide", 0), ("%", 0)):
        page = await walk.page(db, wanted(text, limit=25))
        assert len(page.rows) == number, text


async def test_deleted_messages_are_not_found(chat: ChatApi, ann: Person, pages: AdminBrowser) -> None:
    session = await chat.session(ann, reply_policy="never")
    await chat.said(ann, session, "At the harbour")
    assert await pages.keys("messages", q="harbour") == [f"{session['id']}.1"]
    await chat.rows("UPDATE chat.messages SET deleted_at = now()")
    assert await pages.keys("messages", q="harbour") == []


async def plans(db: AsyncSession, asked: Wanted, *, without: Sequence[str]) -> str:
    """Of the statements of a page, with ways out of the planner's reach that only a small table is worth."""
    sent: list[tuple[str, object]] = []

    def remember(_: object, __: object, statement: str, parameters: object, *others: object) -> None:
        sent.append((statement, parameters))

    connection = await db.connection()
    event.listen(connection.sync_connection, "before_cursor_execute", remember)
    try:
        await MessageWalk(2).page(db, asked)
    finally:
        event.remove(connection.sync_connection, "before_cursor_execute", remember)
    for way in without:
        await connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")
    found: list[str] = []
    for statement, parameters in sent:
        if "chat.messages" in statement or "chat.message_search" in statement:
            explained = await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)  # type: ignore[arg-type]  # as it was sent
            found += explained.scalars().all()
    return "\n".join(found)


async def counted(database: Database) -> None:
    """Have the planner know what is there, which autovacuum may not have told it yet."""
    owner = await asyncpg.connect(Database.dsn(database.owner_url))
    try:
        await owner.execute("ANALYZE chat.messages, chat.message_search")
    finally:
        await owner.close()


async def test_no_page_reads_a_whole_table(chat: ChatApi, db: AsyncSession, clean_database: Database) -> None:
    await chat.rows(
        "INSERT INTO chat.messages (session_id, seq, id, role, content)"
        " SELECT (SELECT max(id::text)::uuid FROM chat.sessions), n, uuidv7(), 'user', 'hay ' || n"
        " FROM generate_series(11, 800) AS n"
    )
    await counted(clean_database)
    first = await plans(db, wanted(None, limit=1), without=["seqscan"])
    assert "Scan Backward using pk_messages" in first
    assert "Seq Scan" not in first, first

    rare = await plans(db, wanted("lighthouse", limit=1), without=["seqscan", "indexscan"])
    assert "Bitmap Index Scan on ix_message_search_words" in rare, rare
