"""How Alembic connects: with the URL that the caller puts into `config.attributes["url"]`.

Migrations must be safe while the services run: a statement waits at most `lock_timeout` for its lock, so
it fails and is tried again rather than stopping every writer behind it. The whole run holds an advisory
lock, so two deployments at once take turns.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

import asyncpg
from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from chat_api.kit.address import dsn
from chat_api.kit.models import Base

VERSION_SCHEMA = "migrations"
LOCK_ID = 0x636F6C6C6F717579  # "colloquy"

if context.config.attributes.get("compares"):
    # Every model, half a second of imports, which going up and down can do without.
    importlib.import_module("chat_api.registry")


def _has_models(name: str | None, kind: str, _: Any) -> bool:
    """The agent's tables have no models: compared with those that there are, they would all have to go."""
    return kind != "schema" or name == "chat"


def _migrate(connection: Connection) -> None:
    connection.execute(text(f"SELECT pg_advisory_lock({LOCK_ID})"))
    connection.execute(text("SET lock_timeout = '4s'"))
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {VERSION_SCHEMA}"))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_schemas=True,
        include_name=_has_models,
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
