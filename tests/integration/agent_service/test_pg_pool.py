"""Connections to the agent's schema: a database that is away is one problem, whatever the driver makes of it."""

from __future__ import annotations

import asyncio
import socket
from array import array
from collections.abc import AsyncIterator

import asyncpg
import pytest

from agent_service.adapters.pg_pool import IndexPool
from agent_service.adapters.pg_vectors import encode_halfvecs
from agent_service.domain.index_problems import IndexUnavailable
from tests.stores import Database


@pytest.fixture
async def pool(clean_database: Database) -> AsyncIterator[IndexPool]:
    pool = IndexPool(clean_database.agent_url, size=2)
    yield pool
    await pool.aclose()


async def test_without_an_address_there_is_no_index() -> None:
    with pytest.raises(IndexUnavailable, match="COLLOQUY_AGENT_DATABASE_URL"):
        await IndexPool(None, size=2).probe()


async def test_nobody_listening_is_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        pool = IndexPool(f"postgresql+asyncpg://a:b@127.0.0.1:{unused.getsockname()[1]}/c", size=2)
        with pytest.raises(IndexUnavailable):
            await pool.probe()
        await pool.aclose()


async def test_a_connection_that_was_ended_is_unavailable_once(pool: IndexPool, clean_database: Database) -> None:
    superuser = await asyncpg.connect(Database.dsn(clean_database.superuser_url))

    async def is_ended() -> None:
        async with pool.connection() as connection:
            await superuser.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
            await connection.fetchval("SELECT 1")

    with pytest.raises(IndexUnavailable):
        await is_ended()
    await pool.probe()
    await superuser.close()


async def test_who_finds_no_connection_free_is_told_in_time(pool: IndexPool) -> None:
    async with pool.connection(), pool.connection():
        began = asyncio.get_running_loop().time()
        with pytest.raises(IndexUnavailable):
            await pool.probe()
        assert 1.5 < asyncio.get_running_loop().time() - began < 30
    await pool.probe()


async def test_a_wait_that_is_cut_short_takes_no_place(pool: IndexPool) -> None:
    async with pool.connection(), pool.connection():
        waiting = [asyncio.create_task(pool.probe()) for _ in range(5)]
        await asyncio.sleep(0.05)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
    async with pool.connection(), pool.connection():
        pass


async def test_transactions_that_wait_for_locks_leave_connections_to_searches(pool: IndexPool) -> None:
    async with pool.transaction():
        second = asyncio.create_task(_hold_a_transaction(pool))
        for _ in range(3):
            await pool.probe()  # raises where it finds no connection free
        assert not second.done()
    await second


async def test_a_wait_for_a_transaction_that_is_cut_short_takes_no_place(pool: IndexPool) -> None:
    async with pool.transaction():
        waiting = [asyncio.create_task(_hold_a_transaction(pool)) for _ in range(3)]
        await asyncio.sleep(0.05)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
    await _hold_a_transaction(pool)


async def _hold_a_transaction(pool: IndexPool) -> None:
    async with pool.transaction() as connection:
        await connection.fetchval("SELECT 1")


async def test_mistakes_of_our_own_are_not_taken_for_an_absence(pool: IndexPool) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        async with pool.connection() as connection:
            await connection.execute("SELECT * FROM agent.nothing")
    with pytest.raises(asyncpg.DataError):
        async with pool.connection() as connection:
            await connection.fetchval("SELECT $1::uuid", "no uuid")


async def test_a_transaction_that_fails_leaves_nothing(pool: IndexPool) -> None:
    async def fails() -> None:
        async with pool.transaction() as connection:
            await connection.execute("INSERT INTO agent.embedding_models (name, dimensions) VALUES ('x:y:1', 1)")
            raise LookupError

    with pytest.raises(LookupError):
        await fails()
    async with pool.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM agent.embedding_models") == 0


async def test_vectors_travel_as_numbers(pool: IndexPool) -> None:
    vector = array("f", [0.5, -0.25, 0.0, 1.0])
    async with pool.connection() as connection:
        assert await connection.fetchval("SELECT $1::halfvec", vector) == vector
        many = encode_halfvecs([vector, vector[::-1]])
        assert await connection.fetchval("SELECT ($1::halfvec[])[2]", many) == vector[::-1]
        assert await connection.fetchval("SELECT $1::halfvec::text", vector) == "[0.5,-0.25,0,1]"
