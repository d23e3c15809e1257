"""The fixtures other tests stand on."""

from __future__ import annotations

import asyncpg
import pytest
import redis

from tests.conftest import NetworkBlocked
from tests.stores import Database


async def test_roles_reach_the_workers_database(database: Database) -> None:
    for url in (database.owner_url, database.api_url, database.agent_url):
        connection = await asyncpg.connect(Database.dsn(url))
        assert await connection.fetchval("SELECT current_database()") == database.name
        await connection.close()


async def test_clean_database_is_empty(clean_database: Database) -> None:
    connection = await asyncpg.connect(Database.dsn(clean_database.owner_url))
    await connection.close()


def test_redis_is_empty(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "over")


def test_redis_is_empty_again(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


async def test_other_machines_are_out_of_reach() -> None:
    with pytest.raises(NetworkBlocked):
        await asyncpg.connect("postgresql://nobody@192.0.2.1/x", timeout=1)
