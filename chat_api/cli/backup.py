"""`colloquy backup`: the database as it was at one moment, and the files that its rows name, in one archive.

Rows are counted and hashed in the very snapshot that is dumped, so a restore can prove that it has them all. Files
are copied after it. They are never changed once they are stored; one whose row was deleted meanwhile may be gone,
and is named in the manifest.
"""

from __future__ import annotations

import asyncio
import errno
import importlib.metadata
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import click

from chat_api.cli.archive import (
    DUMP,
    FORMAT,
    SCHEMAS,
    ArchiveWriter,
    Manifest,
    StoredPart,
    TableState,
    new_archive,
    object_name,
)
from chat_api.cli.owner_database import owner_address
from chat_api.cli.postgres_tools import PostgresTools, ToolsMissing, connection, find_tools
from chat_api.cli.progress import Unit, progress
from chat_api.cli.table_state import SETTINGS, table_state, tables_of
from chat_api.config import ApiSettings
from chat_api.kit.scratch import scratch_folder
from chat_api.kit.storage import BytesMissing, Storage, StorageUnavailable, open_storage

FILE_ERRORS = frozenset(
    {errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EISDIR, errno.ENOENT, errno.ENOSPC, errno.EROFS}
)
"""What a file may have against being written; anything else that the system says is about the network."""
_READ_BYTES = 1024 * 1024
_CONNECT_SECONDS = 10
_STORED_KEYS = """
    SELECT format('SELECT storage_key FROM %I.%I', table_schema, table_name) FROM information_schema.columns
    WHERE table_schema = 'chat' AND column_name = 'storage_key' ORDER BY 1
"""
_SIZE = """
    SELECT coalesce(sum(pg_table_size(c.oid)), 0)::bigint
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY ($1::text[]) AND c.relkind = 'r'
"""


class CannotBackUp(Exception):
    """The message says why in a line."""


def backup(settings: ApiSettings, target: Path) -> Manifest:
    """Write the archive, for a person at a terminal. Raises `CannotBackUp`, and what the database raises."""
    storage = open_storage(settings)
    try:
        with owner_address(settings) as address, new_archive(target) as archive:
            manifest = asyncio.run(Backup(address, storage).write(archive))
    except (ToolsMissing, StorageUnavailable) as error:
        raise CannotBackUp(str(getattr(error, "detail", error))) from None
    except OSError as error:
        if error.errno not in FILE_ERRORS:
            raise
        raise CannotBackUp(f"{target} cannot be written ({error.strerror})") from None
    except KeyboardInterrupt:
        raise CannotBackUp("stopped; nothing was written") from None
    return manifest


class Backup:
    def __init__(self, address: str, storage: Storage, tools: PostgresTools | None = None) -> None:
        self._address = address
        self._storage = storage
        self._tools = tools

    async def write(self, archive: ArchiveWriter) -> Manifest:
        """Raises `CannotBackUp`, `ToolsMissing`, `StorageUnavailable`, and what the database raises."""
        async with _snapshot(self._address) as database:
            version = database.get_server_version()
            tools = self._tools or find_tools(version.major)
            snapshot: str = await database.fetchval("SELECT pg_export_snapshot()")
            size: int = await database.fetchval(_SIZE, list(SCHEMAS))
            with progress("the database", unit=Unit.BYTES) as bar:
                pieces = self._dump(tools, snapshot)
                dump = await asyncio.to_thread(archive.add, DUMP, _told(pieces, bar.update))
            tables = await _table_states(database, size)
            keys = await stored_keys(database)
            revision = await _revision(database)
        objects, missing = await self._copy(archive, keys)
        manifest = Manifest(
            format=FORMAT,
            created_at=datetime.now(UTC),
            colloquy=importlib.metadata.version("colloquy"),
            postgres=f"{version.major}.{version.minor}",
            revision=revision,
            tables=tables,
            dump=dump,
            objects=objects,
            missing=missing,
        )
        archive.finish(manifest)
        return manifest

    def _dump(self, tools: PostgresTools, snapshot: str) -> Iterator[bytes]:
        where, environment = connection(self._address)
        command = tools.command(
            "pg_dump",
            "--format=custom",
            f"--snapshot={snapshot}",
            *(f"--schema={schema}" for schema in SCHEMAS),
            f"--dbname={where}",
        )
        with tempfile.TemporaryFile() as said:
            with subprocess.Popen(  # noqa: S603 - pg_dump, found by us
                command, stdout=subprocess.PIPE, stderr=said, env=dict(environment)
            ) as process:
                assert process.stdout is not None
                try:
                    while piece := process.stdout.read(_READ_BYTES):
                        yield piece
                finally:
                    if process.poll() is None and process.stdout.read(1):
                        process.terminate()  # whoever reads has given up
            if process.returncode != 0:
                said.seek(0)
                raise CannotBackUp(f"pg_dump failed: {_last_line(said.read())}")

    async def _copy(self, archive: ArchiveWriter, keys: list[str]) -> tuple[dict[str, StoredPart], list[str]]:
        objects: dict[str, StoredPart] = {}
        missing: list[str] = []
        async with scratch_folder() as folder:
            path = folder / "object"
            with progress("stored files", len(keys)) as bar:
                for key in keys:
                    try:
                        await self._storage.download(key, path)
                    except BytesMissing:
                        missing.append(key)
                    else:
                        objects[key] = await asyncio.to_thread(archive.add, object_name(key), _pieces(path))
                    bar.update(1)
        return objects, missing


def report(manifest: Manifest, target: Path) -> None:
    rows = sum(state.rows for state in manifest.tables.values())
    size = target.stat().st_size / 1e6
    click.echo(
        f"{target} has {rows:,} rows of {len(manifest.tables)} tables and {len(manifest.objects):,} files,"
        f" {size:,.1f} MB"
    )
    if manifest.missing:
        click.echo(f"{len(manifest.missing)} files that rows name were not in the storage", err=True)


@asynccontextmanager
async def _snapshot(address: str) -> AsyncIterator[asyncpg.Connection]:
    """One moment of the database, for as long as the block lasts."""
    database = await asyncpg.connect(
        address,
        timeout=_CONNECT_SECONDS,
        # A large table takes its time, and so does the dump beside it, while this transaction is idle.
        server_settings={**SETTINGS, "statement_timeout": "0", "idle_in_transaction_session_timeout": "0"},
    )
    try:
        async with database.transaction(isolation="repeatable_read", readonly=True):
            yield database
    finally:
        await database.close()


async def _table_states(database: asyncpg.Connection, size: int) -> dict[str, TableState]:
    states: dict[str, TableState] = {}
    with progress("checksums of rows", size, unit=Unit.SHARE) as bar:
        for table in await tables_of(database):
            states[table] = await table_state(database, table)
            bar.update(await database.fetchval("SELECT pg_table_size($1::text::regclass)", table))
    return states


async def stored_keys(database: asyncpg.Connection) -> list[str]:
    """The keys of all files that rows name. A bucket may hold the files of others, which are not ours to copy."""
    keys: set[str] = set()
    for (query,) in await database.fetch(_STORED_KEYS):
        keys.update(row[0] for row in await database.fetch(query))
    return sorted(keys)


async def _revision(database: asyncpg.Connection) -> str | None:
    if await database.fetchval("SELECT to_regclass('migrations.alembic_version')") is None:
        raise CannotBackUp("there is nothing to back up: the database was never migrated")
    revision: str | None = await database.fetchval("SELECT max(version_num) FROM migrations.alembic_version")
    return revision


def _told(pieces: Iterator[bytes], tell: Callable[[int], None]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        tell(len(piece))


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            yield piece


def _last_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
