"""Units of work: all or nothing, and no connection is lost whatever happens inside."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import exc as sa_exc
from sqlalchemy import text

from chat_api.config import ApiSettings
from chat_api.kit.db import Database
from shared.settings import Environment
from tests.stores import Database as DatabaseOfTests

INSERT = "INSERT INTO chat.idempotency_keys (user_id, key, request_hash) VALUES (gen_random_uuid(), :key, '')"


async def opened(database: DatabaseOfTests, **fields: Any) -> Database:
    url = SecretStr(database.api_url)
    return await Database.open(ApiSettings(environment=Environment.TEST, database_url=url, **fields))


@pytest.fixture
async def db(clean_database: DatabaseOfTests) -> AsyncIterator[Database]:
    """Two connections for units, two for statements."""
    database = await opened(clean_database, db_pool_size=2, db_max_overflow=0, db_statement_pool_size=2)
    yield database
    await database.close()


async def keys(db: Database) -> list[str]:
    return [row["key"] for row in await db.fetch_rows("SELECT key FROM chat.idempotency_keys ORDER BY key")]


async def in_use(db: Database, connections: int) -> None:
    """Wait until so many connections are checked out."""
    async with asyncio.timeout(30):
        while True:
            if db.connections_in_use() == connections:
                return
            await asyncio.sleep(0.005)


async def settles(db: Database, clean_database: DatabaseOfTests) -> None:
    """Soon nothing is checked out, and PostgreSQL sees no transaction left open."""
    await in_use(db, 0)
    watcher = await asyncpg.connect(DatabaseOfTests.dsn(clean_database.superuser_url))
    try:
        async with asyncio.timeout(30):
            while True:
                busy = await watcher.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid() AND (state LIKE 'idle in transaction%' OR state = 'active')"
                )
                if not busy:
                    break
                await asyncio.sleep(0.01)
    finally:
        await watcher.close()


async def test_a_unit_commits_at_its_end(db: Database) -> None:
    async with db.unit() as work:
        await work.execute(text(INSERT), {"key": "a"})
        assert await keys(db) == []
        assert db.connections_in_use() == 1
    assert await keys(db) == ["a"]
    assert db.connections_in_use() == 0


async def test_a_unit_that_raises_leaves_nothing(db: Database, clean_database: DatabaseOfTests) -> None:
    async def write_and_raise() -> None:
        async with db.unit() as work:
            await work.execute(text(INSERT), {"key": "a"})
            raise LookupError

    with pytest.raises(LookupError):
        await write_and_raise()
    assert await keys(db) == []
    await settles(db, clean_database)


async def test_a_statement_that_fails_leaves_nothing(db: Database, clean_database: DatabaseOfTests) -> None:
    async def write_nonsense() -> None:
        async with db.unit() as work:
            await work.execute(text(INSERT), {"key": "a"})
            await work.execute(text("SELECT nonsense"))

    with pytest.raises(sa_exc.ProgrammingError):
        await write_nonsense()
    with pytest.raises(asyncpg.UndefinedColumnError):
        await db.fetch_row("SELECT nonsense")
    assert await keys(db) == []
    await settles(db, clean_database)


async def test_a_unit_that_does_nothing_takes_no_connection(db: Database) -> None:
    async with db.unit():
        assert db.connections_in_use() == 0


async def test_cancellation_while_a_statement_runs(db: Database, clean_database: DatabaseOfTests) -> None:
    async def wait() -> None:
        async with db.unit() as work:
            await work.execute(text(INSERT), {"key": "a"})
            await work.execute(text("SELECT pg_sleep(20)"))

    async def wait_bare() -> None:
        await db.fetch_row("SELECT pg_sleep(20)")

    for _ in range(3):
        waiting = [asyncio.create_task(wait()) for _ in range(2)] + [asyncio.create_task(wait_bare()) for _ in range(2)]
        await in_use(db, 4)
        await asyncio.sleep(0.05)
        for task in waiting:
            task.cancel()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(result) for result in results} == {asyncio.CancelledError}
        await settles(db, clean_database)
    assert await keys(db) == []


async def test_cancellation_between_statements(db: Database, clean_database: DatabaseOfTests) -> None:
    reached = asyncio.Event()

    async def wait() -> None:
        async with db.unit() as work:
            await work.execute(text(INSERT), {"key": "a"})
            reached.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settles(db, clean_database)
    assert await keys(db) == []


async def test_cancellation_at_any_step_loses_no_connection(db: Database, clean_database: DatabaseOfTests) -> None:
    """Cancelled after 0, 1, 2 … turns of the loop: before the connection, in a statement, in the commit, at the end."""

    async def write(key: str) -> None:
        async with db.unit() as work:
            await work.execute(text(INSERT), {"key": key})

    await write("warm")
    finished = 0
    for turns in range(60):
        task = asyncio.create_task(write(f"k{turns:02}"))
        for _ in range(turns):
            await asyncio.sleep(0.0001)
        task.cancel()
        try:
            await task
            finished += 1
        except asyncio.CancelledError:
            pass
    assert finished, "the last ones were let through"
    await settles(db, clean_database)
    kept = await keys(db)
    assert len(kept) == len(set(kept)) >= finished


async def test_cancellation_during_the_commit_is_a_cancellation(db: Database, clean_database: DatabaseOfTests) -> None:
    """The commit waits for a deferred lock, so that the cancellation finds it half way."""
    user_id, session_id = uuid4(), uuid4()
    owner = await asyncpg.connect(DatabaseOfTests.dsn(clean_database.owner_url))
    await owner.execute(
        "CREATE FUNCTION chat.slow_commit() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON chat.idempotency_keys DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION chat.slow_commit()"
    )
    written = asyncio.Event()

    async def write() -> None:
        async with db.unit() as work:
            await work.execute(text(INSERT), {"key": f"{user_id}{session_id}"})
            written.set()

    try:
        task = asyncio.create_task(write())
        await written.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settles(db, clean_database)
        assert len(await keys(db)) == 1, "what was being committed is committed"
    finally:
        await owner.execute("DROP TRIGGER slow ON chat.idempotency_keys; DROP FUNCTION chat.slow_commit()")
        await owner.close()


async def test_a_full_pool_gives_up_in_time(clean_database: DatabaseOfTests) -> None:
    db = await opened(clean_database, db_pool_size=2, db_max_overflow=0, db_statement_pool_size=2, db_pool_seconds=0.5)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(db.close)
        for _ in range(2):
            work = await stack.enter_async_context(db.unit())
            await work.execute(text("SELECT 1"))
        sleepers = [asyncio.create_task(db.fetch_row("SELECT pg_sleep(60)")) for _ in range(2)]
        async with asyncio.timeout(30):
            while db.connections_in_use() < 4:
                await asyncio.sleep(0.01)
        started = time.monotonic()

        async def unit() -> None:
            async with db.unit() as extra:
                await extra.execute(text("SELECT 1"))

        async with asyncio.timeout(20):
            results = await asyncio.gather(unit(), db.fetch_row("SELECT 1"), return_exceptions=True)
        assert [type(result) for result in results] == [sa_exc.TimeoutError, TimeoutError]
        assert time.monotonic() - started > 0.4
        for sleeper in sleepers:
            sleeper.cancel()
        await asyncio.gather(*sleepers, return_exceptions=True)


async def test_json_comes_as_bytes(db: Database) -> None:
    assert await db.fetch_json("""SELECT '{"a":  1}'::json""") == b'{"a":  1}'
    assert await db.fetch_json("SELECT '{}'::json WHERE false") is None
    row = await db.fetch_row("SELECT $1::jsonb AS value", {"ä": [1, None]})
    assert row is not None
    assert row["value"] == {"ä": [1, None]}


async def test_connections_carry_our_limits(db: Database) -> None:
    async with db.unit() as work:
        through_unit = (await work.execute(text("SHOW idle_in_transaction_session_timeout"))).scalar_one()
        zone = (await work.execute(text("SHOW timezone"))).scalar_one()
    row = await db.fetch_row("SELECT current_setting('statement_timeout') AS limit")
    assert row is not None
    assert (through_unit, zone, row["limit"]) == ("10s", "UTC", "15s")
    assert await db.ping() == (await db.fetch_rows("SELECT current_database() AS name"))[0]["name"]
