"""`colloquy restore`: what `colloquy backup` wrote, back into a database and a storage.

Nothing is touched before every byte of the archive was compared with its checksum. The database changes in one
transaction, which commits only if every table has the rows that the backup counted: a restore that fails, or is
killed, leaves the database as it was. Files go first: without a row they mean nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import asyncpg
import click

from chat_api.cli.archive import DUMP, SCHEMAS, ArchiveReader, Manifest, NotABackup, object_name
from chat_api.cli.backup import FILE_ERRORS, stored_keys
from chat_api.cli.owner_database import owner_address
from chat_api.cli.postgres_tools import PostgresTools, ToolsMissing, connection, find_tools
from chat_api.cli.progress import Unit, progress
from chat_api.cli.table_state import SETTINGS, state_query
from chat_api.config import ApiSettings
from chat_api.kit.scratch import scratch_folder
from chat_api.kit.storage import Storage, StorageUnavailable, open_storage

_REVISIONS = Path(__file__).resolve().parents[2] / "migrations" / "versions"
_CONNECT_SECONDS = 10
# Everything in `chat` belongs to somebody, and every passage to a collection: without those there is nothing to lose.
_OWNERS = ("chat.users", "agent.collections")
_OTHERS_CONNECTED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND usename IN ('colloquy_api', 'colloquy_agent')
"""
_ROLES = "SELECT count(*) FROM pg_roles WHERE rolname IN ('colloquy_owner', 'colloquy_api', 'colloquy_agent')"
_VECTOR = "SELECT count(*) FROM pg_extension WHERE extname = 'vector'"
# Not psql's --single-transaction: that commits where its input ends, and it ends as well when we are killed.
_BEGIN = (
    f"\\o /dev/null\nBEGIN;\nSET LOCAL lock_timeout = '10s';\nDROP SCHEMA IF EXISTS {', '.join(SCHEMAS)} CASCADE;\n"
)
# Committed only when we have heard that all is well: what psql was given before, it goes on with when we are killed.
_CHECKED = b"checked\n"
_SAY_CHECKED = "\\echo checked\n"
_COMMIT = b"COMMIT;\n"
_CHECK = """
DO $check$ BEGIN
IF (SELECT (found.rows, found.checksum) FROM (QUERY) AS found) IS DISTINCT FROM (ROWS::bigint, 'SUM'::text) THEN
RAISE EXCEPTION 'TABLE has other rows than the backup'; END IF; END $check$;
"""


class CannotRestore(Exception):
    """The message says why in a line. The database is as it was."""


@dataclass(frozen=True)
class Restored:
    """`revision` is where the database's tables are now; `is_newest` whether there are no later migrations."""

    manifest: Manifest
    is_newest: bool


def restore(settings: ApiSettings, source: Path, *, clean: bool) -> Restored:
    """Restore for a person at a terminal. Raises `CannotRestore`, and what the database raises."""
    storage = open_storage(settings)
    try:
        with ArchiveReader(source) as archive:
            is_newest = _check_revision(archive.manifest)
            with progress("checking the archive", archive.size_bytes, unit=Unit.BYTES) as bar:
                archive.verify(bar.update)
            with owner_address(settings) as address:
                asyncio.run(Restore(address, storage).read(archive, clean=clean))
            return Restored(archive.manifest, is_newest)
    except (NotABackup, ToolsMissing) as error:
        raise CannotRestore(str(error)) from None
    except StorageUnavailable as problem:
        raise CannotRestore(str(problem.detail)) from None
    except OSError as error:
        if error.errno not in FILE_ERRORS:
            raise
        raise CannotRestore(f"a file cannot be read or written ({error.strerror})") from None
    except KeyboardInterrupt:
        raise CannotRestore("stopped; the database is as it was") from None


class Restore:
    def __init__(self, address: str, storage: Storage, tools: PostgresTools | None = None) -> None:
        self._address = address
        self._storage = storage
        self._tools = tools

    async def read(self, archive: ArchiveReader, *, clean: bool) -> None:
        """Raises `CannotRestore`, `ToolsMissing`, `StorageUnavailable`, and what the database raises."""
        database = await asyncpg.connect(self._address, timeout=_CONNECT_SECONDS)
        try:
            tools = self._tools or find_tools(database.get_server_version().major)
            await _check_target(database, clean=clean)
            old_keys = await stored_keys(database)
        finally:
            await database.close()
        await self._put_objects(archive)
        with progress("the database", archive.manifest.dump.bytes, unit=Unit.BYTES) as bar:
            await asyncio.to_thread(self._restore_database, tools, archive, bar.update)
        await self._analyze(list(archive.manifest.tables))
        # Only now: until the commit they belonged to rows. One that the backup did not find may be there again.
        named = archive.manifest.objects.keys() | set(archive.manifest.missing)
        for key in old_keys:
            if key not in named:
                await self._storage.delete(key)

    async def _put_objects(self, archive: ArchiveReader) -> None:
        async with scratch_folder() as folder:
            path = folder / "object"
            with progress("stored files", len(archive.manifest.objects)) as bar:
                for key in archive.manifest.objects:
                    await asyncio.to_thread(_write, path, archive.pieces(object_name(key)))
                    await self._storage.put(key, path)
                    bar.update(1)

    def _restore_database(self, tools: PostgresTools, archive: ArchiveReader, tell: Callable[[int], None]) -> None:
        """pg_restore makes a script of the dump, and psql runs it with ours around it, all in one transaction."""
        where, environment = connection(self._address)
        psql = tools.command("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-", f"--dbname={where}")
        with (
            tempfile.TemporaryFile() as said,
            subprocess.Popen(  # noqa: S603 - psql, found by us
                psql, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, env=dict(environment)
            ) as runs,
        ):
            assert runs.stdin is not None
            assert runs.stdout is not None
            is_checked = False
            with _closing(runs.stdin) as script:
                script.write(_BEGIN.encode())
                script.flush()
                self._feed(tools, archive, script.fileno(), tell)
                script.write((_checks(archive.manifest) + _SAY_CHECKED).encode())
                script.flush()
                is_checked = runs.stdout.readline() == _CHECKED
                if is_checked:
                    script.write(_COMMIT)
            if runs.wait() != 0 or not is_checked:
                said.seek(0)
                raise CannotRestore(f"the database refused: {_error_line(said.read())}")

    def _feed(self, tools: PostgresTools, archive: ArchiveReader, target: int, tell: Callable[[int], None]) -> None:
        command = tools.command("pg_restore", "--file=-", "--exit-on-error")
        with (
            tempfile.TemporaryFile() as said,
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=target, stderr=said) as reads,  # noqa: S603
        ):
            assert reads.stdin is not None
            with _closing(reads.stdin) as dump:
                for piece in archive.pieces(DUMP):
                    dump.write(piece)
                    tell(len(piece))
            if reads.wait() != 0:
                said.seek(0)
                message = said.read()
                if b"write" in message or not message:
                    raise BrokenPipeError  # psql stopped first: what it said is the reason
                raise CannotRestore(f"pg_restore failed: {_error_line(message)}")

    async def _analyze(self, tables: list[str]) -> None:
        """A dump has no statistics, and until there are some the planner guesses."""
        database = await asyncpg.connect(self._address, timeout=_CONNECT_SECONDS)
        try:
            with progress("statistics for the planner", len(tables)) as bar:
                for table in tables:
                    await database.execute(f"ANALYZE {table}")
                    bar.update(1)
        finally:
            await database.close()


def report(restored: Restored) -> None:
    manifest = restored.manifest
    rows = sum(state.rows for state in manifest.tables.values())
    click.echo(
        f"{rows:,} rows of {len(manifest.tables)} tables and {len(manifest.objects):,} files are back,"
        f" as of {manifest.created_at:%Y-%m-%d %H:%M} UTC; every table has the backup's checksum"
    )
    if not restored.is_newest:
        click.echo("the backup is of an earlier version: run `colloquy migrate upgrade`")


def _check_revision(manifest: Manifest) -> bool:
    """Whether the backup is of the newest revision. Raises `CannotRestore` for one that is not known here."""
    known = sorted(path.name.partition("_")[0] for path in _REVISIONS.glob("[0-9]*_*.py"))
    if manifest.revision not in known:
        raise CannotRestore(
            f"the backup is of revision {manifest.revision}, which this version does not know: "
            f"it was made by Colloquy {manifest.colloquy} or newer"
        )
    return manifest.revision == known[-1]


async def _check_target(database: asyncpg.Connection, *, clean: bool) -> None:
    if await database.fetchval(_ROLES) != 3 or await database.fetchval(_VECTOR) != 1:
        raise CannotRestore("the roles or the extension vector are missing: run deploy/roles.sql in the database first")
    if others := await database.fetchval(_OTHERS_CONNECTED):
        raise CannotRestore(f"services use the database over {others} connections: stop API, agent and worker first")
    if clean:
        return
    for table in _OWNERS:
        is_there = await database.fetchval("SELECT to_regclass($1)", table) is not None
        if is_there and await database.fetchval(f"SELECT EXISTS (SELECT FROM {table})"):  # noqa: S608 - ours
            raise CannotRestore(f"the database is not empty ({table} has rows): --clean replaces what it holds")


def _checks(manifest: Manifest) -> str:
    settings = "".join(f"SET LOCAL {name} = '{value}';\n" for name, value in SETTINGS.items())
    return settings + "".join(
        _CHECK.replace("QUERY", state_query(table))
        .replace("ROWS", str(state.rows))
        .replace("SUM", state.checksum)
        .replace("TABLE", table)
        for table, state in manifest.tables.items()
    )


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece)


@contextlib.contextmanager
def _closing(pipe: IO[bytes]) -> Iterator[IO[bytes]]:
    """The input of a program, which may stop reading at any time. Why it did is for its exit code to tell."""
    try:
        yield pipe
        pipe.close()
    except BrokenPipeError:
        with contextlib.suppress(BrokenPipeError):
            pipe.close()  # what it had not taken yet breaks once more


def _error_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    errors = [line for line in lines if "ERROR" in line or "error" in line]
    return (errors or lines or ["it said nothing"])[0]
