"""Makes a database as it was after its migrations."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from tests.stores import Database


def emptying_statement(seeded: Collection[str], of: Collection[str] | None = None) -> str:
    """SQL that empties the tables of both schemas, but for those that migrations filled. For the superuser.

    `of` says which tables have rows, if that is known.

    Asking a table for one row is a hundred times cheaper than truncating it, and so is deleting a few rows. Whole
    tables are truncated where deleting leaves something behind: numbers, vectors in a graph, many dead rows.
    """
    kept = ", ".join(f"'{table}'" for table in seeded) or "''"
    known = "" if of is None else "AND n.nspname || '.' || c.relname IN ({})".format(", ".join(f"'{t}'" for t in of))
    return f"""
        DO $$
        DECLARE
            candidate record;
            has_rows boolean;
            to_truncate text[] := '{{}}';
        BEGIN
            SET LOCAL lock_timeout = '5s';
            SET LOCAL session_replication_role = replica;  -- without foreign keys the order does not matter
            FOR candidate IN
                SELECT format('%I.%I', n.nspname, c.relname) AS name,
                    c.relkind = 'p' OR pg_relation_size(c.oid) > 262144
                    OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attidentity <> '')
                    OR EXISTS (
                        SELECT FROM pg_index i JOIN pg_class o ON o.oid = i.indexrelid JOIN pg_am m ON m.oid = o.relam
                        WHERE i.indrelid = c.oid AND m.amname IN ('hnsw', 'ivfflat')
                    ) AS whole
                FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname IN ('chat', 'agent') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
                  AND n.nspname || '.' || c.relname NOT IN ({kept}) {known}
            LOOP
                EXECUTE 'SELECT EXISTS (SELECT FROM ' || candidate.name || ')' INTO has_rows;
                IF has_rows AND candidate.whole THEN
                    to_truncate := to_truncate || candidate.name;
                ELSIF has_rows THEN
                    EXECUTE 'DELETE FROM ' || candidate.name;
                END IF;
            END LOOP;
            IF to_truncate <> '{{}}' THEN
                EXECUTE 'TRUNCATE ' || array_to_string(to_truncate, ', ') || ' RESTART IDENTITY CASCADE';
            END IF;
        END
        $$
    """


class Cleaner:
    """Empties one database. Its connection stays, because making one costs more than the work.

    Most of the time there is little to do, or nothing: one statement that is planned once tells which tables have rows.
    Not for coroutines: it has an event loop of its own.
    """

    def __init__(self, database: Database) -> None:
        self._address = Database.dsn(database.superuser_url)
        self._seeded = database.seeded
        self._loop = asyncio.new_event_loop()
        self._connection: asyncpg.Connection | None = None
        self._filled: PreparedStatement | None = None

    def clean(self) -> None:
        self._loop.run_until_complete(self._clean())

    def close(self) -> None:
        if self._connection is not None:
            self._loop.run_until_complete(self._connection.close(timeout=5))
        self._loop.close()

    async def _clean(self) -> None:
        try:
            await self._empty()
        except (asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError, asyncpg.InterfaceError, OSError):
            # A test may end the connections of everybody.
            await self._empty()

    async def _empty(self) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self._address, timeout=30)
            self._filled = await self._connection.prepare(await self._connection.fetchval(_FILLED, self._seeded))
        assert self._filled is not None
        filled = await self._filled.fetchval()
        if filled:
            await self._connection.execute(emptying_statement(self._seeded, of=filled))


_FILLED = """
    SELECT 'SELECT array_remove(ARRAY[' || string_agg(
        format('CASE WHEN EXISTS (SELECT FROM %1$I.%2$I) THEN %3$L END', n.nspname, c.relname,
            n.nspname || '.' || c.relname), ', '
    ) || '], NULL)'
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('chat', 'agent') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND n.nspname || '.' || c.relname <> ALL ($1)
"""
"""Writes the statement that lists the tables with rows, but for those that migrations filled."""
