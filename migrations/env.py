"""How Alembic connects: with the URL that the caller puts into `config.attributes["url"]`.

Migrations must be safe while the services run: a statement waits at most `lock_timeout` for its lock, so
it fails and is tried again rather than stopping every writer behind it. The whole run holds an advisory
lock, so two deployments at once take turns.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from chat_api.kit.db import dsn
from chat_api.kit.models import Base
from chat_api.registry import MODELS

VERSION_SCHEMA = "migrations"
LOCK_ID = 0x636F6C6C6F717579  # "colloquy"
assert MODELS, "the registry must import every model before the metadata is compared"


def _migrate(connection: Connection) -> None:
    connection.execute(text(f"SELECT pg_advisory_lock({LOCK_ID})"))
    connection.execute(text("SET lock_timeout = '4s'"))
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {VERSION_SCHEMA}"))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_schemas=True,
        version_table_schema=VERSION_SCHEMA,
        transaction_per_migration=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def _run() -> None:
    address = dsn(context.config.attributes["url"])

    async def connect(*_: Any, **__: Any) -> asyncpg.Connection:
        return await asyncpg.connect(address, timeout=10)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(_migrate)
        await connection.commit()
    await engine.dispose()


asyncio.run(_run())
