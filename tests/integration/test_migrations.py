"""The migrations: one line of them, the same tables as the models, and a way back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import asyncpg
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from chat_api.cli.migrations import configuration, downgrade, upgrade
from chat_api.kit.models import Base
from chat_api.registry import MODELS
from tests.stores import Database

NewDatabase = Callable[..., Database]


async def look(database: Database, statement: str) -> list[Any]:
    connection = await asyncpg.connect(Database.dsn(database.owner_url))
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


async def shape(database: Database) -> dict[str, list[Any]]:
    """Everything the history makes: columns, indexes with their conditions, constraints, who may do what."""
    schemas = "('chat', 'agent')"
    return {
        "columns": await look(
            database,
            "SELECT table_schema, table_name, column_name, data_type, is_nullable, column_default"
            f" FROM information_schema.columns WHERE table_schema IN {schemas} ORDER BY 1, 2, 3",
        ),
        "indexes": await look(
            database,
            f"SELECT schemaname, indexname, indexdef FROM pg_indexes WHERE schemaname IN {schemas} ORDER BY 1, 2",
        ),
        "constraints": await look(
            database,
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
            f" WHERE connamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN {schemas}) ORDER BY 1, 2",
        ),
        "grants": await look(
            database,
            "SELECT table_schema, table_name, grantee, privilege_type FROM information_schema.table_privileges"
            f" WHERE table_schema IN {schemas} ORDER BY 1, 2, 3, 4",
        ),
    }


def test_there_is_one_head_and_one_base() -> None:
    history = ScriptDirectory.from_config(configuration())
    assert len(history.get_heads()) == 1
    assert len(history.get_bases()) == 1


async def test_the_models_are_what_the_migrations_make(database: Database) -> None:
    """Of `chat`. The agent has no models: its statements are SQL, and its tests run them."""
    assert MODELS
    schema = "chat"

    def compare(connection: Connection) -> list[Any]:
        def wanted(name: str | None, kind: str, parents: Any) -> bool:
            return kind != "schema" or name == schema

        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "include_name": wanted,
                "include_object": lambda item, *_: getattr(item, "schema", schema) == schema,
                "compare_type": True,
                "compare_server_default": True,
            },
        )
        differences: list[Any] = compare_metadata(context, Base.metadata)
        return differences

    engine = create_async_engine(database.owner_url, poolclass=NullPool)
    async with engine.connect() as connection:
        assert await connection.run_sync(compare) == []
    await engine.dispose()


async def test_the_conditions_of_partial_indexes_are_those_of_the_models(database: Database) -> None:
    """Alembic compares an index's columns, not its condition."""
    rows = await look(
        database,
        "SELECT i.relname, x.indisunique, pg_get_expr(x.indpred, x.indrelid) FROM pg_index x"
        " JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace"
        " WHERE n.nspname = 'chat' AND x.indpred IS NOT NULL",
    )
    made = {name: (unique, _plain(condition)) for name, unique, condition in rows}
    declared = {
        str(index.name): (index.unique, _plain(str(index.dialect_options["postgresql"]["where"])))
        for table in Base.metadata.tables.values()
        for index in table.indexes
        if index.dialect_options["postgresql"]["where"] is not None
    }
    assert made == declared
    assert "uq_runs_session_id_active" in made


def _plain(condition: str) -> str:
    """`(status = ANY (ARRAY['a'::text, 'b'::text]))` and `status IN ('a', 'b')` alike."""
    plain = condition.replace("::text", "").replace("= ANY (ARRAY[", "IN (").replace("])", ")")
    return plain.removeprefix("(").removesuffix(")") if plain.startswith("(") else plain


async def test_down_to_nothing_and_up_again(new_database: NewDatabase) -> None:
    database = new_database()
    before = await shape(database)
    assert before["indexes"]
    await asyncio.to_thread(downgrade, database.owner_url, "base")
    emptied = await shape(database)
    assert emptied == {"columns": [], "indexes": [], "constraints": [], "grants": []}
    await asyncio.to_thread(upgrade, database.owner_url)
    assert await shape(database) == before


async def test_each_step_goes_down_and_up(new_database: NewDatabase) -> None:
    database = new_database()
    revisions = [script.revision for script in ScriptDirectory.from_config(configuration()).walk_revisions()]
    for revision in revisions:
        after = await shape(database)
        await asyncio.to_thread(downgrade, database.owner_url, "-1")
        await asyncio.to_thread(upgrade, database.owner_url, revision)
        assert await shape(database) == after, revision
        await asyncio.to_thread(downgrade, database.owner_url, "-1")


async def test_upgrading_twice_is_the_same_as_once(new_database: NewDatabase) -> None:
    database = new_database()
    before = await shape(database)
    await asyncio.to_thread(upgrade, database.owner_url)
    assert await shape(database) == before


async def test_two_upgrades_at_once_take_turns(new_database: NewDatabase) -> None:
    database = new_database(migrated=False)
    script = (
        "import sys; from chat_api.cli.migrations import upgrade; upgrade(sys.argv[1])"  # alembic is not for threads
    )
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", script, database.owner_url) for _ in range(2)
    ]
    assert [await process.wait() for process in processes] == [0, 0]
    assert (await shape(database))["indexes"]
