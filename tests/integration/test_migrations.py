"""The migrations: one line of them, the same tables as the models, and a way back."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic.script import ScriptDirectory

from chat_api.cli.migrations import HISTORY, configuration, downgrade, upgrade
from chat_api.kit.models import Base
from chat_api.registry import MODELS
from tests.stores import Database

pytestmark = pytest.mark.timeout(400)

NewDatabase = Callable[..., Database]
TURNS = int.from_bytes(b"colloquy")
"""The advisory lock that an upgrade holds."""


async def look(database: Database, statement: str) -> list[Any]:
    connection = await asyncpg.connect(Database.dsn(database.owner_url))
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


async def shape(database: Database) -> dict[str, list[Any]]:
    """Everything the history makes: columns, indexes with their conditions, functions, who may do what."""
    connection = await asyncpg.connect(Database.dsn(database.owner_url))
    try:
        return {what: [tuple(row) for row in await connection.fetch(query)] for what, query in SHAPE.items()}
    finally:
        await connection.close()


_OURS = "IN (SELECT oid FROM pg_namespace WHERE nspname IN ('chat', 'agent'))"
SHAPE = {
    "columns": "SELECT table_schema, table_name, column_name, data_type, is_nullable, column_default"
    " FROM information_schema.columns WHERE table_schema IN ('chat', 'agent') ORDER BY 1, 2, 3",
    "indexes": "SELECT schemaname, indexname, indexdef FROM pg_indexes"
    " WHERE schemaname IN ('chat', 'agent') ORDER BY 1, 2",
    "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    f" WHERE connamespace {_OURS} ORDER BY 1, 2",
    "grants": "SELECT table_schema, table_name, grantee, privilege_type FROM information_schema.table_privileges"
    " WHERE table_schema IN ('chat', 'agent') ORDER BY 1, 2, 3, 4",
    "functions": "SELECT proname, pg_get_function_identity_arguments(oid), prosrc FROM pg_proc"
    f" WHERE pronamespace {_OURS} ORDER BY 1, 2",
    "triggers": "SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(t.oid) FROM pg_trigger t"
    f" JOIN pg_class c ON c.oid = tgrelid WHERE NOT tgisinternal AND relnamespace {_OURS} ORDER BY 1, 2",
}


def test_there_is_one_head_and_one_base() -> None:
    history = ScriptDirectory.from_config(configuration())
    assert len(history.get_heads()) == 1
    assert len(history.get_bases()) == 1


async def test_the_conditions_of_partial_indexes_are_those_of_the_models(database: Database) -> None:
    """Alembic compares an index's columns, not its condition."""
    assert MODELS
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


async def test_each_step_goes_down_and_up(new_database: NewDatabase) -> None:
    """Down to nothing and up again, and at each step the same on both ways."""
    database = new_database()
    revisions = [script.revision for script in ScriptDirectory.from_config(configuration()).walk_revisions()]
    shapes = [await shape(database)]
    assert shapes[0]["indexes"]
    for _ in revisions:
        await asyncio.to_thread(downgrade, database.owner_url, "-1")
        shapes.append(await shape(database))
    assert shapes.pop() == {what: [] for what in SHAPE}
    for revision in reversed(revisions):
        await asyncio.to_thread(upgrade, database.owner_url, revision)
        assert await shape(database) == shapes.pop(), revision


async def test_upgrading_twice_is_the_same_as_once(new_database: NewDatabase) -> None:
    database = new_database()
    before = await shape(database)
    await asyncio.to_thread(upgrade, database.owner_url)
    assert await shape(database) == before


async def test_two_upgrades_at_once_take_turns(new_database: NewDatabase) -> None:
    database = new_database(migrated=False)
    script = "import sys; from chat_api.cli.migrations import upgrade; upgrade(sys.argv[1])"
    first_turn = await asyncpg.connect(Database.dsn(database.owner_url))
    await first_turn.execute("SELECT pg_advisory_lock($1)", TURNS)
    # A process of its own for one of them: Alembic is not for threads.
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, database.owner_url)
    upgrading = asyncio.create_task(asyncio.to_thread(upgrade, database.owner_url))
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
    async with asyncio.timeout(200):
        while await first_turn.fetchval(waiting) < 2:
            await asyncio.sleep(0.05)
    await first_turn.close()
    await upgrading
    assert await process.wait() == 0
    assert (await shape(database))["indexes"]


async def test_the_models_are_what_the_migrations_make(database: Database, tmp_path: Path) -> None:
    """A new revision would have nothing to do, made by a process that has not loaded the models before.

    Those of `chat`: the agent has none, its statements are SQL, and its tests run them. Its tables stay.
    """
    history = tmp_path / "migrations"
    shutil.copytree(HISTORY, history, ignore=shutil.ignore_patterns("__pycache__"))
    before = set((history / "versions").iterdir())
    script = (
        "import sys; from pathlib import Path; from chat_api.cli.migrations import revise;"
        "revise(sys.argv[1], 'nothing', autogenerate=True, history=Path(sys.argv[2]))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, database.owner_url, str(history))
    assert await process.wait() == 0
    [written] = {path for path in (history / "versions").iterdir() if path.is_file()} - before
    text = written.read_text(encoding="utf-8")
    assert text.count("    pass\n") == 2, text
