"""What a database holds, as numbers that are the same for the same rows: on any server, in any order."""

from __future__ import annotations

from collections.abc import Mapping

import asyncpg

from chat_api.cli.archive import SCHEMAS, TableState

# How values are written as text must not depend on who asks.
SETTINGS: Mapping[str, str] = {
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmlbinary": "base64",
}
_TABLES = """
    SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY ($1::text[]) AND c.relkind = 'r' ORDER BY 1
"""
# sha256 is there wherever PostgreSQL is, and the same in every version; its own hashes promise neither.
_STATE = """
    SELECT count(*) AS rows, coalesce(sum(
        ('x' || left(encode(sha256(convert_to(whole_row::text, 'UTF8')), 'hex'), 16))::bit(64)::bigint::numeric
    ), 0)::text AS checksum
    FROM ONLY TABLE AS whole_row
"""


def state_query(table: str) -> str:
    """`table` with its schema, of a checked form. Columns `rows` and `checksum`."""
    return _STATE.replace("TABLE", table)


async def tables_of(connection: asyncpg.Connection) -> list[str]:
    return [row[0] for row in await connection.fetch(_TABLES, list(SCHEMAS))]


async def table_state(connection: asyncpg.Connection, table: str) -> TableState:
    """The connection must have `SETTINGS`."""
    row = await connection.fetchrow(state_query(table))
    return TableState(rows=row["rows"], checksum=row["checksum"])
