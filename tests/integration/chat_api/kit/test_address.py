"""The database's address: what PostgreSQL's own clients understand in it, both doors understand."""

from __future__ import annotations

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from chat_api.config import ApiSettings
from chat_api.kit.db import Database, is_store_down
from tests import stores


async def open_with(address: str) -> Database:
    return await Database.open(ApiSettings(database_url=SecretStr(address)))


async def test_tls_that_is_not_wanted_is_not_asked_for(database: stores.Database) -> None:
    opened = await open_with(f"{database.api_url}?sslmode=disable")
    try:
        async with opened.unit() as db:
            assert (await db.execute(text("SELECT 1"))).scalar_one() == 1
        assert await opened.fetch_json("SELECT to_json(1)") == b"1"
    finally:
        await opened.close()


async def test_tls_that_is_demanded_is_not_done_without(database: stores.Database) -> None:
    """The embedded server speaks no TLS, so a connection would be a silent downgrade."""
    opened = await open_with(f"{database.api_url}?sslmode=require")
    try:
        with pytest.raises(ConnectionError) as by_unit:
            async with opened.unit() as db:
                await db.execute(text("SELECT 1"))
        with pytest.raises(ConnectionError) as by_statement:
            await opened.fetch_json("SELECT to_json(1)")
        assert is_store_down(by_unit.value)
        assert is_store_down(by_statement.value)
    finally:
        await opened.close()
